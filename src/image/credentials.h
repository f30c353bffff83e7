#pragma once
#include <optional>
#include <string>
#include <string_view>

#include "base/result.h"
#include "image/auth.h"
#include "image/http.h"
#include "image/www_authenticate.h"

namespace berth::image {

/// What of an Auth is used against one registry.
struct Credentials {
  std::string username;
  std::string password;
  std::string identity_token;
  std::string registry_token;
  [[nodiscard]] bool has_password() const { return !username.empty(); }
  [[nodiscard]] bool empty() const { return username.empty() && identity_token.empty() && registry_token.empty(); }
};

/// The registry that an address or a key of a configuration file means: lower case, without scheme and path;
/// "https://index.docker.io/v1/" and "registry-1.docker.io" are docker.io.
[[nodiscard]] std::string server_host(std::string_view address);

/// Picks `auth` apart for `registry`; empty credentials when auth.server_address names another registry.
/// kInvalid: auth.auth is no base64 of "user:password".
[[nodiscard]] Result<Credentials> credentials_for(const Auth& auth, std::string_view registry);

/// The value of an Authorization header that answers `challenges`: Basic, or a Bearer token fetched from the realm for
/// "repository:<repository>:pull". `plain_allowed` says whether the realm's host may be given credentials over http.
/// Errors: kDenied refused or no usable scheme; kUnavailable the token service; kCorrupt its answer.
/// Source: distribution spec/auth/token.md and oauth.md.
struct TokenRequest {
  const Credentials* credentials = nullptr;
  std::string repository;
  bool registry_is_https = true;
  std::function<bool(const Url&)> plain_allowed;
  TlsFiles tls{};                                ///< for the token service; client certificates for `own_host` alone
  std::string own_host{};                        ///< of the registry, without the port
  std::chrono::milliseconds connect_timeout{0};  ///< to the token service; 0: the session's
  std::stop_token stop;
};
[[nodiscard]] Result<std::string> answer_challenges(HttpSession& session, const std::vector<Challenge>& challenges,
                                                    const TokenRequest& request);

}  // namespace berth::image
