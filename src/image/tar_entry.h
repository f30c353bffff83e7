#pragma once
#include <cstdint>
#include <string>
#include <utility>
#include <vector>

#include "base/result.h"
#include "image/digest.h"

namespace berth::image {

enum class TarType : std::uint8_t { kFile, kHardLink, kSymlink, kCharDevice, kBlockDevice, kDirectory, kFifo };

/// One member of an archive as its headers say; nothing in it has been checked against a file system.
struct TarEntry {
  TarType type = TarType::kFile;
  std::string path;               ///< as written: may be absolute, hold "..", or end in '/'; no NUL, not empty
  std::string link;               ///< target of hard links and symlinks; no NUL
  std::uint64_t size = 0;         ///< bytes of data that follow: 0 unless kFile
  std::uint64_t data_offset = 0;  ///< where they start in the archive: a multiple of 512
  std::uint32_t mode = 0;         ///< permission, setuid, setgid and sticky bits only
  std::uint32_t uid = 0;
  std::uint32_t gid = 0;
  std::int64_t mtime_s = 0;
  std::uint32_t mtime_ns = 0;
  std::uint32_t device_major = 0;
  std::uint32_t device_minor = 0;
  std::vector<std::pair<std::string, std::string>> xattrs;
};

/// What a TarReader calls: entry(), for files data() any number of times, then end_entry(); in archive order.
class TarSink {
 public:
  TarSink() = default;
  TarSink(const TarSink&) = delete;
  TarSink& operator=(const TarSink&) = delete;
  TarSink(TarSink&&) = delete;
  TarSink& operator=(TarSink&&) = delete;
  virtual ~TarSink() = default;

  virtual Result<> entry(const TarEntry& entry) = 0;
  virtual Result<> data(Bytes bytes) = 0;
  virtual Result<> end_entry() = 0;
};

/// What one archive may cost.
struct TarLimits {
  std::uint64_t max_entries = 4'000'000;
  std::size_t max_path_bytes = 4095;
  std::size_t max_header_bytes = 1U << 20;  ///< one PAX or GNU long-name block
  std::size_t max_xattrs = 64;              ///< of one entry
};

}  // namespace berth::image
