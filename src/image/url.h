#pragma once
#include <string>
#include <string_view>

#include "base/result.h"

namespace berth::image {

/// An absolute http or https address. Values copy.
struct Url {
  std::string text;    ///< the whole of it, normalised, without user and fragment
  std::string scheme;  ///< "http" or "https"
  std::string host;    ///< lower case, without brackets
  unsigned port = 0;   ///< never 0

  /// Scheme, host and port: what credentials belong to.
  [[nodiscard]] bool same_origin(const Url& other) const {
    return scheme == other.scheme && host == other.host && port == other.port;
  }
  /// "host" or "host:port" when the port is not the scheme's; v6 in brackets. For messages and certificate folders.
  [[nodiscard]] std::string authority() const;
};

/// Parses `text`; with `base`, relative to it (a Location header). At most 8 KiB.
/// Errors: kInvalid no address, another scheme, or a user name in it.
[[nodiscard]] Result<Url> parse_url(std::string_view text, const Url* base = nullptr);
/// `text` for a query string: everything but unreserved characters as %XX. Source: RFC 3986.
[[nodiscard]] std::string url_escape(std::string_view text);

}  // namespace berth::image
