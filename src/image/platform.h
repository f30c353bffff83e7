#pragma once
#include <string>
#include <string_view>

#include "base/result.h"
#include "spec/image.h"

namespace berth::image {

/// "os/arch[/variant]" in Go's words, normalised: "linux/amd64", "linux/arm64/v8", "linux/arm/v7".
struct TargetPlatform {
  std::string os;
  std::string architecture;
  std::string variant;
  [[nodiscard]] std::string text() const;
};

/// Parses `text`; empty: this machine's. kInvalid: not two or three parts.
[[nodiscard]] Result<TargetPlatform> target_platform(std::string_view text);

/// Whether an image for `os`/`architecture`/`variant` runs on `target`. Empty architecture or os match anything. A
/// lower variant runs on a higher one of the same architecture (amd64 v2 on v3, arm v6 on v7).
[[nodiscard]] bool runs_on(const TargetPlatform& target, std::string_view os, std::string_view architecture,
                           std::string_view variant);

/// The entry of `index` that suits `target` best: the same variant first, then the highest one that runs. Attestations
/// and entries without a platform beside ones with are left out. kNotFound names the platforms that there are.
[[nodiscard]] Result<spec::Descriptor> choose_manifest(const spec::Index& index, const TargetPlatform& target);

}  // namespace berth::image
