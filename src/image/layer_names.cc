#include "image/layer_names.h"

#include "base/strings.h"
#include "image/printable.h"

namespace berth::image {

Result<std::string> clean_layer_path(std::string_view path) {
  std::string out;
  std::size_t depth = 0;
  for (const std::string_view part : split(path, '/')) {
    if (part.empty() || part == ".") continue;
    if (part == "..") return fail(Code::kCorrupt, "\"" + printable(path) + "\" leaves the layer by \"..\"");
    if (part.size() > 255) return fail(Code::kCorrupt, "a component is longer than 255 bytes");
    if (++depth > kMaxDepth) return fail(Code::kExhausted, "deeper than " + std::to_string(kMaxDepth) + " directories");
    if (!out.empty()) out += '/';
    out += part;
  }
  return out;
}

bool keep_xattr(std::string_view name) {
  if (name.starts_with("user.")) return !name.starts_with("user.overlay.");
  return name == "security.capability" || name == "system.posix_acl_access" || name == "system.posix_acl_default";
}

std::unexpected<Error> too_large(const TarEntry& entry, std::uint64_t max_bytes) {
  return fail(Code::kExhausted, "entry \"" + printable(entry.path) + "\" says it has " + std::to_string(entry.size) +
                                    " bytes; a layer may unpack to " + std::to_string(max_bytes));
}

}  // namespace berth::image
