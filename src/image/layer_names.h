#pragma once
#include <cstddef>
#include <string>
#include <string_view>

#include "base/result.h"
#include "image/tar_entry.h"

/// What the names in a layer's archive mean, whatever form the layer is kept in. Source: image-spec layer.md.
namespace berth::image {

inline constexpr std::string_view kWhiteoutPrefix = ".wh.";      ///< + name: hides the lower layers' `name`
inline constexpr std::string_view kOpaqueName = ".wh..wh..opq";  ///< hides all that lower layers have in this folder
inline constexpr std::string_view kAufsPrefix = ".wh..wh.";      ///< AUFS' own bookkeeping, to be passed over
inline constexpr std::size_t kMaxDepth = 400;                    ///< folders above one another

/// "./a//b/" and "/a/b" are "a/b"; "" is the root. kCorrupt: "..", which no honest archive needs, or a component of
/// more than 255 bytes; kExhausted: deeper than kMaxDepth.
[[nodiscard]] Result<std::string> clean_layer_path(std::string_view path);

/// Whether a container gets the extended attribute: user.*, file capabilities and POSIX ACLs; never those by which
/// overlayfs and security modules are steered.
[[nodiscard]] bool keep_xattr(std::string_view name);

/// The failure of an entry that says it is larger than a whole layer may be.
[[nodiscard]] std::unexpected<Error> too_large(const TarEntry& entry, std::uint64_t max_bytes);

}  // namespace berth::image
