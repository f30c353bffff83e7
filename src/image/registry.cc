#include "image/registry.h"

#include <curl/curl.h>

#include <algorithm>
#include <condition_variable>
#include <ctime>
#include <set>
#include <utility>

#include "base/strings.h"
#include "image/printable.h"
#include "spec/json_text.h"

namespace berth::image {
namespace {

constexpr unsigned kMaxRedirects = 10;
constexpr unsigned kMaxTries = 5;        // without a byte of progress in between
constexpr unsigned kMaxBlobTries = 100;  // in all: a link that breaks every megabyte is still given up
constexpr std::chrono::seconds kMaxRetryAfter{30};
constexpr std::chrono::milliseconds kMaxDelay{8000};
constexpr std::size_t kMaxManifest = 4U << 20;
constexpr std::chrono::seconds kDocumentTimeout{300};
constexpr std::uint64_t kSlowestBytesPerSecond = 4096;  // a whole blob slower than this on average is an attack

using Kind = HttpFailure::Kind;

std::unexpected<HttpFailure> refused(Error error) {
  return std::unexpected(HttpFailure{Kind::kRefused, std::move(error)});
}

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

/// "CODE: message" of a registry's error body, or empty.
std::string registry_message(const std::string& body) {
  const auto json = spec::parse_json(body, {.max_bytes = 64U << 10, .max_depth = 16});
  const spec::Json* errors = json ? json->get("errors") : nullptr;
  if (errors == nullptr || errors->items().empty()) return {};
  const spec::Json& first = errors->items().front();
  return printable(first.string_or("code"), 60) + ": " + printable(first.string_or("message"), 200);
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

Registry::Registry(RegistryOptions options, const Reference& reference, Credentials credentials)
    : options_(std::move(options)),
      repository_(reference.repository),
      registry_(reference.registry),
      host_(reference.registry == "docker.io" ? "registry-1.docker.io" : reference.registry),
      credentials_(std::move(credentials)) {
  const HostPort host = split_host_port(host_);
  scheme_ = "https";
  if (host.port != 443 && is_loopback_host(host.host)) {
    scheme_ = "http";
    other_scheme_ = "https";
  } else if (host.port != 443 && plain_allowed(host.host, host.port)) {
    other_scheme_ = "http";
  }
  if (!credentials_.registry_token.empty()) authorization_ = "Bearer " + credentials_.registry_token;
}

Result<std::unique_ptr<Registry>> Registry::open(RegistryOptions options, const Reference& reference,
                                                 const Auth& auth) {
  BERTH_ASSIGN(Credentials credentials, credentials_for(auth, reference.registry),
               "credentials for " + reference.registry);
  return std::unique_ptr<Registry>(new Registry(std::move(options), reference, std::move(credentials)));
}

Result<std::unique_ptr<HttpSession>> Registry::session() const {
  return HttpSession::open({.stall_timeout = options_.stall_timeout, .certs_dir = options_.certs_dir});
}

bool Registry::plain_allowed(const std::string& host, unsigned port) const {
  if (is_loopback_host(host)) return true;
  return std::any_of(options_.insecure_registries.begin(), options_.insecure_registries.end(),
                     [&](const std::string& entry) { return registry_pattern_matches(entry, host, port); });
}

Result<Url> Registry::address(const std::string& path) {
  std::string scheme;
  {
    const MutexLock lock(mutex_);
    scheme = scheme_;
  }
  return parse_url(scheme + "://" + host_ + "/v2/" + repository_ + "/" + path);
}

/// Whether what came, while nothing has answered yet, shows that the other scheme may be spoken here; if so it is next.
bool Registry::switch_scheme(const Outcome& outcome) {
  const MutexLock lock(mutex_);
  if (other_scheme_.empty()) return false;
  bool wrong = false;
  if (outcome) {
    // TLS servers that are met in plain text say so in words with status 400.
    wrong = scheme_ == "http" && outcome->status == 400 && to_lower(outcome->body).find("https") != std::string::npos;
  } else {
    const Kind kind = outcome.error().kind;
    // One broken connection is an accident; TLS servers that are met in plain text break every one, or send an alert.
    if (scheme_ == "http")
      wrong = kind == Kind::kProtocol || (kind == Kind::kBroken && std::exchange(broke_once_, true));
    if (scheme_ == "https") wrong = kind == Kind::kConnect || kind == Kind::kTls || kind == Kind::kStalled;
  }
  if (!wrong) {
    if (outcome) other_scheme_.clear();
    return false;
  }
  scheme_.swap(other_scheme_);
  return true;
}

/// One request with its redirects. `at_registry`: the last answer came from the registry itself.
Registry::Outcome Registry::follow(HttpSession& session, const HttpRequest& request, const std::string& authorization,
                                   bool& at_registry) {
  HttpRequest hop = request;
  std::set<std::string> seen;
  for (unsigned count = 0;; ++count) {
    at_registry = hop.url.same_origin(request.url);
    hop.headers = request.headers;
    if (at_registry && !authorization.empty()) hop.headers.push_back("Authorization: " + authorization);
    if (!seen.insert(hop.url.text).second) {
      return refused(Error(Code::kUnavailable, "the registry redirects in circles, back to " + hop.url.authority()));
    }
    auto response = session.perform(hop);
    if (!response) return response;
    const int status = response->status;
    if (status != 301 && status != 302 && status != 303 && status != 307 && status != 308) return response;
    const std::string location(response->header("location"));
    if (location.empty()) return refused(Error(Code::kUnavailable, "the registry redirects to nowhere"));
    if (count >= kMaxRedirects) {
      return refused(Error(Code::kUnavailable, "more than " + std::to_string(kMaxRedirects) + " redirects"));
    }
    auto next = parse_url(location, &hop.url);
    if (!next) return refused(std::move(next).error().as(Code::kUnavailable).in("redirect"));
    if (hop.url.scheme == "https" && next->scheme == "http") {
      return refused(Error(Code::kDenied, "a redirect from https to http (" + next->authority() + ") is refused"));
    }
    hop.url = std::move(*next);
  }
}

Registry::Outcome Registry::attempt(HttpSession& session, HttpRequest& request) {
  for (bool logged_in = false;; logged_in = true) {
    std::string authorization;
    {
      const MutexLock lock(mutex_);
      authorization = authorization_;
    }
    bool at_registry = true;
    auto response = follow(session, request, authorization, at_registry);
    if (!response || response->status != 401) return response;
    if (!at_registry)
      return refused(Error(Code::kDenied, "the host that the registry redirects to asks for credentials"));
    if (logged_in) {
      const std::string message = registry_message(response->body);
      return refused(
          Error(Code::kDenied, "the registry does not accept the login" + (message.empty() ? "" : ": " + message)));
    }
    if (auto done = authenticate(session, *response, authorization, request.stop); !done) {
      return refused(std::move(done).error());
    }
  }
}

Result<> Registry::authenticate(HttpSession& session, const HttpResponse& response, const std::string& used,
                                std::stop_token stop) {
  const MutexLock login(login_mutex_);
  TokenRequest request{.credentials = &credentials_,
                       .repository = repository_,
                       .registry_is_https = true,
                       .plain_allowed = {},
                       .stop = std::move(stop)};
  {
    const MutexLock lock(mutex_);
    if (authorization_ != used) return {};  // another thread has logged in meanwhile
    request.registry_is_https = scheme_ == "https";
  }
  request.plain_allowed = [this](const Url& url) { return plain_allowed(url.host, url.port); };
  std::vector<Challenge> challenges;
  for (const auto& [name, value] : response.headers) {
    if (name != "www-authenticate") continue;
    auto parsed = parse_www_authenticate(value);
    if (!parsed) return fail(std::move(parsed).error().as(Code::kUnavailable));
    challenges.insert(challenges.end(), parsed->begin(), parsed->end());
  }
  if (!credentials_.registry_token.empty())
    return fail(Code::kDenied, "the registry does not accept the registry token");
  BERTH_ASSIGN(std::string authorization, answer_challenges(session, challenges, request), "log in to " + registry_);
  const MutexLock lock(mutex_);
  authorization_ = std::move(authorization);
  return {};
}

Error Registry::failure_of(const HttpResponse& response, const std::string& what) const {
  const std::string message = registry_message(response.body);
  const std::string detail = message.empty() ? std::string() : ": " + message;
  const std::string status = " (status " + std::to_string(response.status) + detail + ")";
  switch (response.status) {
    case 403:
      return Error(Code::kDenied, registry_ + " denies " + what + status);
    case 404:
      return Error(Code::kNotFound, registry_ + " has no " + what + status);
    case 416:
      return Error(Code::kCorrupt, registry_ + " has less of " + what + " than the manifest says" + status);
    case 429:
      return Error(Code::kUnavailable, registry_ + " limits the rate of requests" + status);
    default:
      return Error(Code::kUnavailable, registry_ + " cannot give " + what + status);
  }
}

Result<> Registry::before_retry(const Outcome& outcome, unsigned tries, std::stop_token stop,
                                const std::string& what) const {
  const Error error = outcome ? failure_of(*outcome, what) : outcome.error().error.in(what);
  if (!worth_another_try(outcome)) return fail(error);
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
  return wait_for(delay, std::move(stop));
}

Result<Document> Registry::manifest(HttpSession& session, const std::string& which, std::stop_token stop) {
  const bool by_digest = which.starts_with("sha256:");
  const std::string what = "manifest " + repository_ + (by_digest ? "@" : ":") + which;
  for (unsigned tries = 1;; ++tries) {
    HttpRequest request;
    BERTH_ASSIGN(request.url, address("manifests/" + which), what);
    std::string accept = "Accept: ";
    for (const std::string_view type :
         {spec::kOciIndexType, spec::kDockerListType, spec::kOciManifestType, spec::kDockerManifestType}) {
      accept.append(type).append(", ");
    }
    // Registries that know schema 1 alone answer with it when any type will do, and the error can say so.
    request.headers = {accept + "*/*;q=0.1"};
    request.max_body = kMaxManifest;
    request.total_timeout = kDocumentTimeout;
    request.stop = stop;
    Outcome outcome = attempt(session, request);
    // The first change costs no wait; more of them mean that neither scheme works just now.
    if (switch_scheme(outcome) && tries < kMaxTries) {
      if (tries > 1) BERTH_TRY(wait_for(options_.first_retry_delay, stop), what);
      continue;
    }
    if (outcome && outcome->status == 200) {
      Document out{std::move(outcome->body), std::string(outcome->header("content-type")), {}};
      BERTH_ASSIGN(out.digest, sha256_of(out.body), what);
      const std::string_view stated = outcome->header("docker-content-digest");
      const bool lies = valid_digest(stated) && stated != out.digest;
      if ((by_digest && which != out.digest) || lies) {
        return fail(Code::kCorrupt, what + ": digest mismatch: the registry sent " + out.digest);
      }
      return out;
    }
    BERTH_TRY(before_retry(outcome, tries, stop, what), registry_);
  }
}

Result<> Registry::blob(HttpSession& session, const spec::Descriptor& descriptor, const ByteSink& sink,
                        std::stop_token stop) {
  const std::string what = "blob " + descriptor.digest;
  std::uint64_t offset = 0;
  unsigned tries = 0;
  for (unsigned total = 0;; ++total) {
    HttpRequest request;
    BERTH_ASSIGN(request.url, address("blobs/" + descriptor.digest), what);
    request.headers = {"Accept: */*", "Accept-Encoding: identity"};
    if (offset != 0) request.headers.push_back("Range: bytes=" + std::to_string(offset) + "-");
    request.stop = stop;
    request.total_timeout = std::chrono::seconds(3600 + (descriptor.size - offset) / kSlowestBytesPerSecond);
    std::uint64_t skip = 0;
    const std::uint64_t before = offset;
    request.on_head = [&](const HttpResponse& response) {
      return check_blob_head(response, offset, descriptor.size, skip);
    };
    request.sink = [&](Bytes bytes) -> Result<> {
      const std::size_t leave_out = static_cast<std::size_t>(std::min<std::uint64_t>(skip, bytes.size()));
      skip -= leave_out;
      bytes = bytes.subspan(leave_out);
      if (bytes.size() > descriptor.size - offset) {
        return fail(Code::kCorrupt, "the registry sends more than the " + std::to_string(descriptor.size) +
                                        " bytes that the manifest says");
      }
      offset += bytes.size();
      return bytes.empty() ? Result<>{} : sink(bytes);
    };
    Outcome outcome = attempt(session, request);
    const bool answered = outcome && (outcome->status == 200 || outcome->status == 206);
    if (answered && offset == descriptor.size) return {};
    if (answered) {  // it ended early and in good order: no length was announced
      outcome = std::unexpected(HttpFailure{
          Kind::kBroken, Error(Code::kCorrupt, "the registry sent " + std::to_string(offset) + " of the " +
                                                   std::to_string(descriptor.size) + " bytes that the manifest says")});
    }
    tries = offset > before ? 1 : tries + 1;
    if (total >= kMaxBlobTries) tries = kMaxTries;
    BERTH_TRY(before_retry(outcome, tries, stop, what), registry_);
  }
}

}  // namespace berth::image
