#pragma once
#include <cstdint>
#include <string>
#include <string_view>
#include <utility>
#include <vector>

/// Tar archives as they are written: one header after another. Pure. Source: pax(1) POSIX.1-2024; star(5) for
/// SCHILY.xattr.
namespace berth {

/// One member of an archive.
struct TarMember {
  char type = '0';         ///< '0' file, '1' hard link, '2' symlink, '3' character, '4' block, '5' folder, '6' FIFO
  std::string path;        ///< relative, no NUL
  std::string link{};      ///< of links: where to
  std::uint64_t size = 0;  ///< bytes that follow: 0 but for files
  std::uint32_t mode = 0;  ///< permissions and the three bits above
  std::uint32_t uid = 0;
  std::uint32_t gid = 0;
  std::int64_t mtime_s = 0;
  std::uint32_t mtime_ns = 0;
  std::uint32_t device_major = 0;
  std::uint32_t device_minor = 0;
  std::vector<std::pair<std::string, std::string>> xattrs{};  ///< names and values, which may hold any byte
};

/// The member's header block, after a PAX header with what does not fit in it: long names, large numbers, parts of
/// seconds, attributes. A multiple of 512 bytes.
[[nodiscard]] std::string tar_header(const TarMember& member);
/// How many zeros follow `size` bytes of data.
[[nodiscard]] std::size_t tar_padding(std::uint64_t size);
/// What ends an archive.
[[nodiscard]] std::string tar_end();

}  // namespace berth
