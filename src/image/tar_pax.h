#pragma once
#include <optional>
#include <string>
#include <string_view>

#include "image/tar_entry.h"

namespace berth::image {

/// The records of one PAX extended header that concern us; absent ones leave the ustar header's value.
struct PaxValues {
  std::optional<std::string> path;
  std::optional<std::string> link;
  std::optional<std::uint64_t> size;
  std::optional<std::uint32_t> uid;
  std::optional<std::uint32_t> gid;
  std::optional<std::int64_t> mtime_s;
  std::uint32_t mtime_ns = 0;
  std::vector<std::pair<std::string, std::string>> xattrs;  ///< SCHILY.xattr.*, values may hold any byte
};

/// Parses "LEN KEY=VALUE\n" records. Errors: kCorrupt malformed; kUnsupported a sparse file (GNU.sparse.*); kExhausted
/// more than limits allow. Unknown keys are skipped. Source: pax(1), POSIX.1-2024; star(5) for SCHILY.xattr.
[[nodiscard]] Result<PaxValues> parse_pax(std::string_view records, const TarLimits& limits);

}  // namespace berth::image
