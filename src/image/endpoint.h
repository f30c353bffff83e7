#pragma once
#include <chrono>
#include <expected>
#include <functional>
#include <memory>
#include <stop_token>
#include <string>
#include <vector>

#include "base/result.h"
#include "base/thread_annotations.h"
#include "image/credentials.h"
#include "image/hosts_config.h"
#include "image/http.h"

namespace berth::image {

/// Whether `host` is the registry `name` itself.
[[nodiscard]] bool is_home(const HostConfig& host, const std::string& name);

struct EndpointOptions {
  std::string registry{};    ///< as in names
  std::string repository{};  ///< in that registry
  HostConfig host{};
  std::vector<std::string> insecure_registries{};
  Credentials credentials{};  ///< for this host
  std::string auth_file{};    ///< Docker's config.json, asked when the host wants a login and there is none; or empty
};

/// One host that serves a repository: the registry itself, or a mirror. Speaks http or https as it finds, logs in and
/// follows redirects; tries nothing again. Thread-safe: each thread brings its own session; the token and the scheme
/// are shared. Source: OCI distribution-spec 1.1; distribution spec/auth/token.md.
///
/// The registry without an address in hosts.toml: https always, except: this machine is spoken to over http first and
/// over https when it does not answer http; hosts in insecure_registries over https first and over http when there is
/// no TLS. With an address: its scheme; http with TLS settings means https first. An untrusted certificate is never a
/// reason for http. Redirects: at most 10, none twice, none from https to http; the Authorization header, the header
/// table and client certificates go to the host alone, what it trusts holds for where it leads to, too.
class Endpoint final {
 public:
  using Outcome = std::expected<HttpResponse, HttpFailure>;

  explicit Endpoint(EndpointOptions options);

  /// "host[:port]", or the registry as in names.
  [[nodiscard]] const std::string& name() const { return name_; }
  [[nodiscard]] const HostConfig& host() const { return options_.host; }

  /// One GET of "<api>/<repository>/<path>". `make` gives everything but the address; it is called again for a second
  /// try with the other scheme. `connect_timeout`: unless the host has one of its own; 0: the session's.
  Outcome ask(HttpSession& session, const std::string& path, const std::function<HttpRequest()>& make,
              std::chrono::milliseconds connect_timeout);

  /// The error that an answer which is none of 200 and 206 means. `what`: what was asked for.
  [[nodiscard]] Error failure_of(const HttpResponse& response, const std::string& what) const;

 private:
  [[nodiscard]] bool plain_allowed(const std::string& host, unsigned port) const;
  [[nodiscard]] Result<Url> address(const std::string& path);
  [[nodiscard]] TlsFiles tls_for(bool own) const;
  bool switch_scheme(const Outcome& outcome);
  Outcome attempt(HttpSession& session, HttpRequest& request);
  Outcome follow(HttpSession& session, const HttpRequest& request, const std::string& authorization, bool& at_own);
  std::expected<void, HttpFailure> authenticate(HttpSession& session, const HttpResponse& response,
                                                const std::string& used, const HttpRequest& request);
  void look_up_login(std::stop_token stop) BERTH_REQUIRES(login_mutex_);

  EndpointOptions options_;
  bool is_registry_ = false;
  bool only_header_ = false;  ///< the login is an Authorization header of hosts.toml and nothing else
  std::string authority_;     ///< as spoken to
  std::string name_;
  Mutex mutex_;
  std::string scheme_ BERTH_GUARDED_BY(mutex_);
  std::string other_scheme_ BERTH_GUARDED_BY(mutex_);  ///< may be tried instead while nothing has answered
  bool broke_once_ BERTH_GUARDED_BY(mutex_) = false;
  std::string authorization_ BERTH_GUARDED_BY(mutex_);
  Mutex login_mutex_;  ///< one login at a time; taken before mutex_
  Credentials credentials_ BERTH_GUARDED_BY(login_mutex_);
  bool looked_up_ BERTH_GUARDED_BY(login_mutex_) = false;
  std::string login_note_ BERTH_GUARDED_BY(login_mutex_);  ///< why auth_file gave no login
};

}  // namespace berth::image
