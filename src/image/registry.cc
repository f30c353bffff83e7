#include "image/registry.h"

#include <curl/curl.h>

#include <algorithm>
#include <atomic>
#include <condition_variable>
#include <ctime>
#include <optional>
#include <utility>

#include "base/clock.h"
#include "base/log.h"
#include "base/strings.h"
#include "image/printable.h"

namespace berth::image {
namespace {

constexpr unsigned kMaxTries = 5;        // without a byte of progress in between
constexpr unsigned kMaxBlobTries = 100;  // in all: a link that breaks every megabyte is still given up
constexpr std::chrono::seconds kMaxRetryAfter{30};
constexpr std::chrono::milliseconds kMaxDelay{8000};
constexpr std::chrono::milliseconds kMirrorConnect{2000};  // with another host to go to
constexpr std::size_t kMaxManifest = 4U << 20;
constexpr std::chrono::seconds kDocumentTimeout{300};
constexpr std::uint64_t kSlowestBytesPerSecond = 4096;  // a whole blob slower than this on average is an attack

using Kind = HttpFailure::Kind;

bool temporary_status(int status) {
  return status == 429 || status == 500 || status == 502 || status == 503 || status == 504;
}

bool worth_another_try(const std::expected<HttpResponse, HttpFailure>& outcome) {
  if (outcome) return temporary_status(outcome->status);
  const Kind kind = outcome.error().kind;
  return kind == Kind::kConnect || kind == Kind::kBroken || kind == Kind::kTls;
}

std::optional<std::chrono::seconds> retry_after(const HttpResponse& response) {
  const std::string value(response.header("retry-after"));
  if (value.empty()) return std::nullopt;
  if (const auto seconds = parse_number<unsigned>(value)) return std::chrono::seconds(*seconds);
  const std::time_t when = curl_getdate(value.c_str(), nullptr);
  if (when < 0) return std::nullopt;
  return std::chrono::seconds(std::max<std::time_t>(0, when - std::time(nullptr)));
}

Result<> wait_for(std::chrono::milliseconds delay, std::stop_token stop) {
  std::mutex mutex;
  std::condition_variable_any wake;
  std::unique_lock lock(mutex);
  wake.wait_for(lock, stop, delay, [] { return false; });
  if (stop.stop_requested()) return fail(Code::kCancelled, "the pull was cancelled");
  return {};
}

/// Checks that the answer to a (ranged) blob request carries the bytes that are wanted. `skip`: bytes to leave out.
Result<> check_blob_head(const HttpResponse& response, std::uint64_t offset, std::uint64_t size, std::uint64_t& skip) {
  skip = 0;
  std::uint64_t expected = size - offset;
  if (response.status == 206) {
    const std::string range(response.header("content-range"));
    const std::string wanted = "bytes " + std::to_string(offset) + "-";
    if (!range.starts_with(wanted))
      return fail(Code::kCorrupt, "the registry answered another range: " + printable(range, 80));
  } else if (offset != 0) {  // it does not know ranges and starts again
    skip = offset;
    expected = size;
  }
  const std::string_view stated = response.header("content-length");
  if (stated.empty()) return {};
  const auto length = parse_number<std::uint64_t>(stated);
  if (!length || *length != expected) {
    return fail(Code::kCorrupt, "the registry announces " + printable(stated, 40) + " bytes, the manifest says " +
                                    std::to_string(expected));
  }
  return {};
}

}  // namespace

struct Registry::Host {
  Endpoint endpoint;
  bool is_last = false;               ///< the registry itself, or what stands for it
  std::atomic<bool> left_out{false};  ///< for the rest of this pull
  std::atomic<bool> gave_bytes{false};
};

struct Registry::Candidate {
  Host* host = nullptr;
  bool is_out = false;  ///< what it said will not change
  std::optional<Error> error{};
};

/// One thing that is asked for, of whatever host.
struct Registry::Request {
  std::string path;
  std::string what;
  bool by_tag = false;  ///< it takes a host that may resolve names
  std::function<HttpRequest()> make;
  /// Whether the whole of it is there, after 200 or 206.
  std::function<std::expected<void, HttpFailure>(HttpResponse&)> accept;
  std::uint64_t done_bytes = 0;  ///< that need not be asked for again
  bool own_failure = false;      ///< what went wrong is on our side
  unsigned tries = 0;            ///< rounds without progress
  unsigned total = 0;
  std::stop_token stop;
};

Registry::Registry(const RegistryOptions& options, const Reference& reference)
    : options_(options), repository_(reference.repository), registry_(reference.registry) {}
Registry::~Registry() = default;

Result<std::unique_ptr<Registry>> Registry::open(const RegistryOptions& options, const Reference& reference,
                                                 const Auth& auth) {
  BERTH_ASSIGN(const Credentials own, credentials_for(auth, reference.registry),
               "credentials for " + reference.registry);
  BERTH_ASSIGN(HostsConfig config, load_hosts(options.hosts_dir, reference.registry), "hosts of " + reference.registry);
  for (const std::string& warning : config.warnings) log_warn("pull: hosts.toml", {{"what", warning}});
  std::unique_ptr<Registry> out(new Registry(options, reference));
  const auto add = [&](HostConfig host, bool is_last) -> Result<> {
    EndpointOptions endpoint{.registry = reference.registry,
                             .repository = reference.repository,
                             .host = std::move(host),
                             .insecure_registries = options.insecure_registries,
                             .auth_file = options.auth_file};
    if (is_home(endpoint.host, reference.registry)) {
      endpoint.credentials = own;
    } else if (!auth.server_address.empty()) {  // without it the login is the registry's
      BERTH_ASSIGN(endpoint.credentials, credentials_for(auth, endpoint.host.authority), "credentials");
    }
    out->hosts_.push_back(std::unique_ptr<Host>(new Host{Endpoint(std::move(endpoint)), is_last}));
    return {};
  };
  for (HostConfig& mirror : config.mirrors) {
    if (auto added = add(std::move(mirror), false); !added) return fail(std::move(added).error());
  }
  if (auto added = add(std::move(config.server), true); !added) return fail(std::move(added).error());
  return out;
}

Result<std::unique_ptr<HttpSession>> Registry::session() const {
  return HttpSession::open({.stall_timeout = options_.stall_timeout, .hosts_dir = options_.hosts_dir});
}

bool Registry::distrust_mirrors() {
  bool any = false;
  for (const auto& host : hosts_) {
    if (host->is_last || !host->gave_bytes || host->left_out.exchange(true)) continue;
    any = true;
    log_warn("pull: what came does not verify, going on without the mirror",
             {{"mirror", host->endpoint.name()}, {"repository", registry_ + "/" + repository_}});
    if (options_.health != nullptr) options_.health->failed(host->endpoint.name(), std::chrono::steady_clock::now());
  }
  return any;
}

std::vector<Registry::Candidate> Registry::candidates(bool resolve) const {
  std::vector<Candidate> out;
  for (const auto& host : hosts_) {
    const HostConfig& config = host->endpoint.host();
    if (host->left_out || !config.can_pull || (resolve && !config.can_resolve)) continue;
    out.push_back({.host = host.get()});
  }
  return out;
}

/// Those that may still give it, the ones that did not answer lately behind the others.
std::vector<Registry::Candidate*> Registry::in_order(std::vector<Candidate>& all) const {
  const SteadyTime now = std::chrono::steady_clock::now();
  std::vector<Candidate*> well;
  std::vector<Candidate*> ill;
  for (Candidate& one : all) {
    if (one.is_out) continue;
    const bool is_ill = options_.health != nullptr && options_.health->is_ill(one.host->endpoint.name(), now);
    (is_ill ? ill : well).push_back(&one);
  }
  well.insert(well.end(), ill.begin(), ill.end());
  return well;
}

void Registry::note(Host& host, const Outcome& outcome) const {
  const std::string& name = host.endpoint.name();
  if (!outcome && outcome.error().kind == Kind::kRefused && outcome.error().error.code() == Code::kDenied) {
    if (!host.is_last) host.left_out = true;  // each further request would log in again
  }
  if (options_.health == nullptr || hosts_.size() < 2) return;
  if (outcome) return options_.health->answered(name);
  const Kind kind = outcome.error().kind;
  if (kind != Kind::kConnect && kind != Kind::kStalled && kind != Kind::kTimeout) return;
  if (options_.health->failed(name, std::chrono::steady_clock::now())) {
    log_warn("pull: a host does not answer, it is tried after the others for some time",
             {{"host", name}, {"registry", registry_}, {"error", outcome.error().error.text()}});
  }
}

/// Asks `host` until it gives all, or gives no more bytes.
Registry::Outcome Registry::ask_host(HttpSession& session, Request& request, Host& host, bool has_others) {
  const bool patient =
      !has_others || (host.is_last && !(options_.health != nullptr && options_.health->was_ill(host.endpoint.name())));
  const std::chrono::milliseconds connect_timeout = patient ? std::chrono::milliseconds(0) : kMirrorConnect;
  for (;;) {
    const std::uint64_t before = request.done_bytes;
    Outcome outcome = host.endpoint.ask(session, request.path, request.make, connect_timeout);
    ++request.total;
    note(host, outcome);
    if (outcome && (outcome->status == 200 || outcome->status == 206)) {
      if (auto accepted = request.accept(*outcome); !accepted) outcome = std::unexpected(std::move(accepted).error());
    }
    const bool progress = request.done_bytes > before;
    if (progress || (outcome && outcome->status == 200)) host.gave_bytes = true;
    if (!progress || !worth_another_try(outcome) || request.total >= kMaxBlobTries) return outcome;
    request.tries = 1;
    if (!wait_for(options_.first_retry_delay, request.stop)) return outcome;
  }
}

/// `last` with what the other hosts had said.
Error Registry::failure(const std::vector<Candidate>& all, Error last) const {
  std::string before;
  for (const Candidate& one : all) {
    if (!one.error || one.host == all.back().host) continue;
    before += (before.empty() ? "; mirrors: " : "; ") + one.host->endpoint.name() + ": " + one.error->text();
  }
  Error out = std::move(last).in(registry_);
  return before.empty() ? out : Error(out.code(), out.text() + before, out.errno_value());
}

Result<> Registry::fetch(HttpSession& session, Request& request) {
  std::vector<Candidate> all = candidates(request.by_tag);
  if (all.empty()) {
    return fail(Code::kUnavailable, registry_ + ": no host that hosts.toml names may give " + request.what);
  }
  for (;;) {
    Outcome last;
    std::vector<Candidate*> order = in_order(all);
    for (Candidate* one : order) {
      Host& host = *one->host;
      Outcome outcome = ask_host(session, request, host, order.size() > 1);
      if (outcome && (outcome->status == 200 || outcome->status == 206)) return {};
      Error error = outcome ? host.endpoint.failure_of(*outcome, request.what) : outcome.error().error.in(request.what);
      if (request.own_failure || request.stop.stop_requested()) return fail(failure({}, std::move(error)));
      one->is_out = !worth_another_try(outcome);
      one->error = std::move(error);
      if (one == &all.back()) {
        last = std::move(outcome);
      } else {
        log_debug("pull: next host", {{"host", host.endpoint.name()}, {"error", one->error->text()}});
      }
    }
    ++request.tries;
    if (request.total >= kMaxBlobTries) request.tries = kMaxTries;
    if (auto waited = before_retry(last, *all.back().host, request); !waited) {
      return fail(failure(all, std::move(waited).error()));
    }
  }
}

Result<> Registry::before_retry(const Outcome& outcome, const Host& host, const Request& request) const {
  const Error error =
      outcome ? host.endpoint.failure_of(*outcome, request.what) : outcome.error().error.in(request.what);
  if (!worth_another_try(outcome)) return fail(error);
  const unsigned tries = request.tries;
  if (tries >= kMaxTries) return fail(error.in("after " + std::to_string(tries) + " tries"));
  std::chrono::milliseconds delay = std::min(kMaxDelay, options_.first_retry_delay * (1U << std::min(tries - 1, 10U)));
  if (outcome) {
    if (const auto wanted = retry_after(*outcome)) {
      if (*wanted > kMaxRetryAfter) {
        return fail(error.in("the registry asks to come back in " + std::to_string(wanted->count()) + " s"));
      }
      delay = std::max<std::chrono::milliseconds>(delay, *wanted);
    }
  }
  return wait_for(delay, request.stop);
}

Result<Document> Registry::manifest(HttpSession& session, const std::string& which, std::stop_token stop) {
  const bool by_digest = which.starts_with("sha256:");
  Request request;
  request.path = "manifests/" + which;
  request.by_tag = !by_digest;
  request.what = "manifest " + repository_ + (by_digest ? "@" : ":") + which;
  request.stop = stop;
  request.make = [&stop] {
    HttpRequest http;
    std::string accept = "Accept: ";
    for (const std::string_view type :
         {spec::kOciIndexType, spec::kDockerListType, spec::kOciManifestType, spec::kDockerManifestType}) {
      accept.append(type).append(", ");
    }
    // Registries that know schema 1 alone answer with it when any type will do, and the error can say so.
    http.headers = {accept + "*/*;q=0.1"};
    http.max_body = kMaxManifest;
    http.total_timeout = kDocumentTimeout;
    http.stop = stop;
    return http;
  };
  Document out;
  request.accept = [&](HttpResponse& response) -> std::expected<void, HttpFailure> {
    out = {std::move(response.body), std::string(response.header("content-type")), {}};
    auto digest = sha256_of(out.body);
    if (!digest) return std::unexpected(HttpFailure{Kind::kRefused, std::move(digest).error()});
    out.digest = std::move(*digest);
    const std::string_view stated = response.header("docker-content-digest");
    const bool lies = valid_digest(stated) && stated != out.digest;
    if ((!by_digest || which == out.digest) && !lies) return {};
    return std::unexpected(
        HttpFailure{Kind::kRefused, Error(Code::kCorrupt, "digest mismatch: the registry sent " + out.digest)});
  };
  if (auto done = fetch(session, request); !done) return fail(std::move(done).error());
  return out;
}

Result<> Registry::blob(HttpSession& session, const spec::Descriptor& descriptor, const ByteSink& sink,
                        std::stop_token stop) {
  Request request;
  request.path = "blobs/" + descriptor.digest;
  request.what = "blob " + descriptor.digest;
  request.stop = stop;
  std::uint64_t& offset = request.done_bytes;
  std::uint64_t skip = 0;
  request.make = [&] {
    HttpRequest http;
    http.headers = {"Accept: */*", "Accept-Encoding: identity"};
    if (offset != 0) http.headers.push_back("Range: bytes=" + std::to_string(offset) + "-");
    http.stop = stop;
    http.total_timeout = std::chrono::seconds(3600 + (descriptor.size - offset) / kSlowestBytesPerSecond);
    http.on_head = [&](const HttpResponse& response) {
      return check_blob_head(response, offset, descriptor.size, skip);
    };
    http.sink = [&](Bytes bytes) -> Result<> {
      const std::size_t leave_out = static_cast<std::size_t>(std::min<std::uint64_t>(skip, bytes.size()));
      skip -= leave_out;
      bytes = bytes.subspan(leave_out);
      if (bytes.size() > descriptor.size - offset) {
        return fail(Code::kCorrupt, "the registry sends more than the " + std::to_string(descriptor.size) +
                                        " bytes that the manifest says");
      }
      offset += bytes.size();
      if (bytes.empty()) return {};
      auto taken = sink(bytes);
      request.own_failure = !taken;
      return taken;
    };
    return http;
  };
  request.accept = [&](HttpResponse& /*response*/) -> std::expected<void, HttpFailure> {
    if (offset == descriptor.size) return {};
    // It ended early and in good order: no length was announced.
    return std::unexpected(HttpFailure{
        Kind::kBroken, Error(Code::kCorrupt, "the registry sent " + std::to_string(offset) + " of the " +
                                                 std::to_string(descriptor.size) + " bytes that the manifest says")});
  };
  return fetch(session, request);
}

}  // namespace berth::image
