#pragma once
#include <string>
#include <string_view>
#include <utility>
#include <vector>

#include "base/result.h"

namespace berth::image {

/// One challenge of a WWW-Authenticate header: `Bearer realm="https://a/token",service="r"`.
struct Challenge {
  std::string scheme;                                       ///< lower case: "basic", "bearer"
  std::vector<std::pair<std::string, std::string>> params;  ///< names lower case, values unquoted, in order

  /// The value of `name`, or empty.
  [[nodiscard]] std::string_view param(std::string_view name) const;
};

/// All challenges of one header value. At most 8 KiB, 16 challenges, 32 parameters each.
/// Errors: kInvalid when it is not of that form. Source: RFC 9110 sections 11.2 to 11.6.
[[nodiscard]] Result<std::vector<Challenge>> parse_www_authenticate(std::string_view header);

}  // namespace berth::image
