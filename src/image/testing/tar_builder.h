#pragma once
#include <cstdint>
#include <string>
#include <string_view>
#include <utility>
#include <vector>

namespace berth::image::testing {

/// What a header says beside name and type.
struct TarMeta {
  std::uint32_t mode = 0644;
  std::uint32_t uid = 0;
  std::uint32_t gid = 0;
  std::int64_t mtime = 1'700'000'000;
  std::uint32_t major = 0;
  std::uint32_t minor = 0;
};

/// Writes tar archives, good ones and bad ones, for tests.
class TarBuilder final {
 public:
  TarBuilder& file(std::string_view path, std::string_view content, const TarMeta& meta = {});
  TarBuilder& dir(std::string_view path, const TarMeta& meta = {.mode = 0755});
  TarBuilder& symlink(std::string_view path, std::string_view target, const TarMeta& meta = {.mode = 0777});
  TarBuilder& hard_link(std::string_view path, std::string_view target);
  /// type: '3' character, '4' block device, '6' fifo.
  TarBuilder& node(std::string_view path, char type, const TarMeta& meta = {});
  /// A PAX header for the next entry (or a global one, type 'g').
  TarBuilder& pax(const std::vector<std::pair<std::string, std::string>>& records, char type = 'x');
  /// A GNU long name ('L') or link ('K') header for the next entry.
  TarBuilder& gnu_long(char type, std::string_view text);
  /// Any header, `size` as stated, with `data` behind it padded to a block.
  TarBuilder& raw(char type, std::string_view path, std::string_view link, std::uint64_t size, std::string_view data,
                  const TarMeta& meta = {});
  /// Bytes as they are.
  TarBuilder& bytes(std::string_view data);
  /// The archive so far with its two zero blocks.
  [[nodiscard]] std::string finish() const;
  [[nodiscard]] const std::string& unfinished() const { return out_; }

 private:
  std::string out_;
};

[[nodiscard]] std::string gzip(std::string_view data);
[[nodiscard]] std::string zstd(std::string_view data);

}  // namespace berth::image::testing
