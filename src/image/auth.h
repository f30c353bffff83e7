#pragma once
#include <string>

namespace berth::image {

/// Credentials for one registry, as CRI AuthConfig has them. Never formatted or logged; empty members are absent.
struct Auth {
  std::string username;
  std::string password;
  std::string auth;  ///< base64("user:password")
  std::string server_address;
  std::string identity_token;
  std::string registry_token;
};

}  // namespace berth::image
