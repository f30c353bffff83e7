#include "image/endpoint.h"

#include <algorithm>
#include <set>
#include <utility>

#include "base/log.h"
#include "base/strings.h"
#include "image/docker_config.h"
#include "image/printable.h"
#include "image/reference.h"
#include "spec/json_text.h"

namespace berth::image {
namespace {

constexpr unsigned kMaxRedirects = 10;

using Kind = HttpFailure::Kind;

std::unexpected<HttpFailure> refused(Error error) {
  return std::unexpected(HttpFailure{Kind::kRefused, std::move(error)});
}

/// "CODE: message" of a registry's error body, or empty.
std::string registry_message(const std::string& body) {
  const auto json = spec::parse_json(body, {.max_bytes = 64U << 10, .max_depth = 16});
  const spec::Json* errors = json ? json->get("errors") : nullptr;
  if (errors == nullptr || errors->items().empty()) return {};
  const spec::Json& first = errors->items().front();
  return printable(first.string_or("code"), 60) + ": " + printable(first.string_or("message"), 200);
}

/// Takes the value of the Authorization header out of `headers`; empty when there is none.
std::string take_authorization(std::vector<std::string>& headers) {
  const auto line = std::find_if(headers.begin(), headers.end(), [](const std::string& entry) {
    return to_lower(entry).starts_with("authorization:");
  });
  if (line == headers.end()) return {};
  std::string value(trim(std::string_view(*line).substr(line->find(':') + 1)));
  headers.erase(line);
  return value;
}

/// User and password of "Basic <base64>", or nothing.
Credentials basic_login(const std::string& authorization) {
  constexpr std::string_view kBasic = "basic ";
  if (to_lower(authorization.substr(0, kBasic.size())) != kBasic) return {};
  Auth auth;
  auth.auth = trim(std::string_view(authorization).substr(kBasic.size()));
  return credentials_for(auth, {}).value_or(Credentials{});
}

}  // namespace

bool is_home(const HostConfig& host, const std::string& name) {
  if (host.scheme.empty()) return true;
  if (name == "docker.io") return host.authority == "registry-1.docker.io";
  const auto url = parse_url(host.scheme + "://" + name);
  return url && url->authority() == host.authority;
}

Endpoint::Endpoint(EndpointOptions options) : options_(std::move(options)), credentials_(options_.credentials) {
  const std::string& registry = options_.registry;
  const HostConfig& host = options_.host;
  is_registry_ = is_home(host, registry);
  authority_ = host.scheme.empty() ? (registry == "docker.io" ? "registry-1.docker.io" : registry) : host.authority;
  name_ = is_registry_ ? registry : authority_;
  const HostPort parts = split_host_port(authority_);
  scheme_ = "https";
  if (host.scheme == "http") {
    scheme_ = host.scheme;
    if (!host.tls.empty() && parts.port != 0 && parts.port != 80) {
      scheme_ = "https";
      other_scheme_ = "http";
    }
  } else if (host.scheme.empty() && parts.port != 443 && is_loopback_host(parts.host)) {
    scheme_ = "http";
    other_scheme_ = "https";
  } else if (host.scheme.empty() && parts.port != 443 && plain_allowed(parts.host, parts.port)) {
    other_scheme_ = "http";
  }
  // An Authorization header of the header table is a login like another one: a user and password answer the token
  // service, too. A login from the caller goes before it.
  const std::string header = take_authorization(options_.host.headers);
  if (credentials_.empty() && !header.empty()) {
    authorization_ = header;
    credentials_ = basic_login(header);
    only_header_ = credentials_.empty();
  }
  if (!credentials_.registry_token.empty()) authorization_ = "Bearer " + credentials_.registry_token;
}

bool Endpoint::plain_allowed(const std::string& host, unsigned port) const {
  if (is_loopback_host(host)) return true;
  // Who writes http:// into hosts.toml has listed the host as insecure.
  if (options_.host.scheme == "http" && split_host_port(authority_).host == host) return true;
  return std::any_of(options_.insecure_registries.begin(), options_.insecure_registries.end(),
                     [&](const std::string& entry) { return registry_pattern_matches(entry, host, port); });
}

Result<Url> Endpoint::address(const std::string& path) {
  std::string scheme;
  {
    const MutexLock lock(mutex_);
    scheme = scheme_;
  }
  std::string text = scheme + "://" + authority_ + options_.host.path + "/" + options_.repository + "/" + path;
  // A mirror of several registries is told whose repository is meant.
  if (!is_registry_) text += "?ns=" + url_escape(options_.registry);
  return parse_url(text);
}

TlsFiles Endpoint::tls_for(bool own) const {
  TlsFiles out = options_.host.tls;
  if (!own) out.clients.clear();
  return out;
}

/// Whether what came, while nothing has answered yet, shows that the other scheme may be spoken here; if so it is next.
bool Endpoint::switch_scheme(const Outcome& outcome) {
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

Endpoint::Outcome Endpoint::ask(HttpSession& session, const std::string& path, const std::function<HttpRequest()>& make,
                                std::chrono::milliseconds connect_timeout) {
  for (bool switched = false;; switched = true) {
    HttpRequest request = make();
    auto url = address(path);
    if (!url) return refused(std::move(url).error());
    request.url = std::move(*url);
    request.connect_timeout = options_.host.dial_timeout.count() != 0 ? options_.host.dial_timeout : connect_timeout;
    Outcome outcome = attempt(session, request);
    // More than one change means that neither scheme works just now.
    if (!switch_scheme(outcome) || switched || request.stop.stop_requested()) return outcome;
  }
}

/// One request with its redirects. `at_own`: the last answer came from the host itself.
Endpoint::Outcome Endpoint::follow(HttpSession& session, const HttpRequest& request, const std::string& authorization,
                                   bool& at_own) {
  HttpRequest hop = request;
  std::set<std::string> seen;
  for (unsigned count = 0;; ++count) {
    at_own = hop.url.same_origin(request.url);
    hop.headers = request.headers;
    hop.tls = tls_for(at_own);
    if (at_own) hop.headers.insert(hop.headers.end(), options_.host.headers.begin(), options_.host.headers.end());
    if (at_own && !authorization.empty()) hop.headers.push_back("Authorization: " + authorization);
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

Endpoint::Outcome Endpoint::attempt(HttpSession& session, HttpRequest& request) {
  for (bool logged_in = false;; logged_in = true) {
    std::string authorization;
    {
      const MutexLock lock(mutex_);
      authorization = authorization_;
    }
    bool at_own = true;
    auto response = follow(session, request, authorization, at_own);
    if (!response || response->status != 401) return response;
    {
      const MutexLock lock(mutex_);
      other_scheme_.clear();  // it has answered: what the token service does says nothing about the scheme
    }
    if (!at_own) return refused(Error(Code::kDenied, "the host that the registry redirects to asks for credentials"));
    if (logged_in) {
      const std::string message = registry_message(response->body);
      return refused(
          Error(Code::kDenied, "the registry does not accept the login" + (message.empty() ? "" : ": " + message)));
    }
    if (auto done = authenticate(session, *response, authorization, request); !done) {
      return std::unexpected(std::move(done).error());
    }
  }
}

/// The node's own login is looked for when it is first needed: a helper program may take seconds.
void Endpoint::look_up_login(std::stop_token stop) {
  if (looked_up_ || !credentials_.empty() || options_.auth_file.empty()) return;
  looked_up_ = true;
  auto auth = docker_login(options_.auth_file, name_, options_.repository, std::move(stop));
  if (auth) {
    auth->server_address.clear();
    auto found = credentials_for(*auth, name_);
    if (found) {
      credentials_ = std::move(*found);
      return;
    }
    auth = fail(std::move(found).error());
  }
  login_note_ = " (auth_file gave no login: " + auth.error().text() + ")";
  log_warn("pull: no login from auth_file, going on without", {{"host", name_}, {"error", auth.error().text()}});
}

std::expected<void, HttpFailure> Endpoint::authenticate(HttpSession& session, const HttpResponse& response,
                                                        const std::string& used, const HttpRequest& request) {
  const MutexLock login(login_mutex_);
  TokenRequest token{.credentials = &credentials_,
                     .repository = options_.repository,
                     .registry_is_https = true,
                     .plain_allowed = {},
                     .tls = tls_for(true),
                     .own_host = request.url.host,
                     .connect_timeout = request.connect_timeout,
                     .stop = request.stop};
  {
    const MutexLock lock(mutex_);
    if (authorization_ != used) return {};  // another thread has logged in meanwhile
    token.registry_is_https = scheme_ == "https";
  }
  token.plain_allowed = [this](const Url& url) { return plain_allowed(url.host, url.port); };
  std::vector<Challenge> challenges;
  for (const auto& [name, value] : response.headers) {
    if (name != "www-authenticate") continue;
    auto parsed = parse_www_authenticate(value);
    if (!parsed) return refused(std::move(parsed).error().as(Code::kUnavailable));
    challenges.insert(challenges.end(), parsed->begin(), parsed->end());
  }
  if (!credentials_.registry_token.empty())
    return refused(Error(Code::kDenied, "the registry does not accept the registry token"));
  if (only_header_) {
    return refused(Error(Code::kDenied, "the registry does not accept the Authorization header of hosts.toml"));
  }
  look_up_login(request.stop);
  auto authorization = answer_challenges(session, challenges, token);
  if (!authorization) {
    Error error = std::move(authorization).error();
    const Code code = error.code();
    if (code == Code::kDenied && !login_note_.empty()) error = Error(code, error.text() + login_note_);
    // A token service that is overloaded or out of reach may answer the next time.
    const bool temporary = code == Code::kUnavailable || code == Code::kTimeout;
    return std::unexpected(
        HttpFailure{temporary ? Kind::kBroken : Kind::kRefused, std::move(error).in("log in to " + name_)});
  }
  const MutexLock lock(mutex_);
  authorization_ = std::move(*authorization);
  return {};
}

Error Endpoint::failure_of(const HttpResponse& response, const std::string& what) const {
  const std::string message = registry_message(response.body);
  const std::string detail = message.empty() ? std::string() : ": " + message;
  const std::string status = " (status " + std::to_string(response.status) + detail + ")";
  switch (response.status) {
    case 403:
      return Error(Code::kDenied, name_ + " denies " + what + status);
    case 404:
      return Error(Code::kNotFound, name_ + " has no " + what + status);
    case 416:
      return Error(Code::kCorrupt, name_ + " has less of " + what + " than the manifest says" + status);
    case 429:
      return Error(Code::kUnavailable, name_ + " limits the rate of requests" + status);
    default:
      return Error(Code::kUnavailable, name_ + " cannot give " + what + status);
  }
}

}  // namespace berth::image
