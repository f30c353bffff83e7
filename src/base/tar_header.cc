#include "base/tar_header.h"

#include <algorithm>
#include <array>
#include <cstdio>

namespace berth {

namespace {

constexpr std::size_t kBlock = 512;
constexpr std::size_t kNameBytes = 100;
constexpr std::size_t kChecksumAt = 148;
constexpr std::size_t kTypeAt = 156;

/// The largest number of `digits` octal digits.
constexpr std::uint64_t octal_limit(unsigned digits) {
  return (1ULL << (3 * digits)) - 1;
}

class Block {
 public:
  void text(std::size_t at, std::string_view value, std::size_t room) {
    std::copy_n(value.begin(), std::min(value.size(), room), bytes_.begin() + static_cast<std::ptrdiff_t>(at));
  }
  /// In `digits` octal digits and a NUL; a number that does not fit, which the PAX header has, is 0 here.
  void number(std::size_t at, std::uint64_t value, unsigned digits) {
    if (value > octal_limit(digits)) value = 0;
    for (unsigned i = digits; i > 0; --i, value >>= 3) bytes_[at + i - 1] = static_cast<char>('0' + (value & 7));
  }
  std::string finish() {
    std::fill_n(bytes_.begin() + kChecksumAt, 8, ' ');
    std::uint64_t sum = 0;
    for (const char byte : bytes_) sum += static_cast<unsigned char>(byte);
    number(kChecksumAt, sum, 6);
    bytes_[kChecksumAt + 6] = '\0';
    return {bytes_.data(), bytes_.size()};
  }

 private:
  std::array<char, kBlock> bytes_{};
};

std::string header_block(const TarMember& member) {
  Block block;
  block.text(0, member.path, kNameBytes);
  block.number(100, member.mode, 7);
  block.number(108, member.uid, 7);
  block.number(116, member.gid, 7);
  block.number(124, member.size, 11);
  block.number(136, member.mtime_s < 0 ? 0 : static_cast<std::uint64_t>(member.mtime_s), 11);
  block.text(kTypeAt, std::string_view(&member.type, 1), 1);
  block.text(157, member.link, kNameBytes);
  block.text(257,
             std::string_view("ustar\0"
                              "00",
                              8),
             8);
  block.number(329, member.device_major, 7);
  block.number(337, member.device_minor, 7);
  return block.finish();
}

/// "LEN KEY=VALUE\n", where LEN counts itself.
void add_record(std::string& out, std::string_view key, std::string_view value) {
  const std::size_t rest = key.size() + value.size() + 3;
  std::size_t length = rest + 1;
  while (std::to_string(length).size() + rest != length) length = std::to_string(length).size() + rest;
  out += std::to_string(length);
  out.push_back(' ');
  out.append(key);
  out.push_back('=');
  out.append(value);
  out.push_back('\n');
}

std::string pax_records(const TarMember& member) {
  std::string records;
  if (member.path.size() > kNameBytes) add_record(records, "path", member.path);
  if (member.link.size() > kNameBytes) add_record(records, "linkpath", member.link);
  if (member.size > octal_limit(11)) add_record(records, "size", std::to_string(member.size));
  if (member.uid > octal_limit(7)) add_record(records, "uid", std::to_string(member.uid));
  if (member.gid > octal_limit(7)) add_record(records, "gid", std::to_string(member.gid));
  if (member.mtime_ns != 0 || member.mtime_s < 0 || static_cast<std::uint64_t>(member.mtime_s) > octal_limit(11)) {
    // Nanoseconds count forwards here, and the decimal number of a time before 1970 backwards.
    const bool backwards = member.mtime_s < 0 && member.mtime_ns != 0;
    const std::int64_t seconds = backwards ? member.mtime_s + 1 : member.mtime_s;
    const std::uint32_t fraction = backwards ? 1'000'000'000U - member.mtime_ns : member.mtime_ns;
    std::array<char, 16> digits{};
    std::snprintf(digits.data(), digits.size(), ".%09u", fraction);
    const std::string sign = backwards && seconds == 0 ? "-" : "";
    add_record(records, "mtime", sign + std::to_string(seconds) + digits.data());
  }
  for (const auto& [name, value] : member.xattrs) add_record(records, "SCHILY.xattr." + name, value);
  return records;
}

}  // namespace

std::string tar_header(const TarMember& member) {
  std::string out;
  if (const std::string records = pax_records(member); !records.empty()) {
    out = header_block({.type = 'x', .path = "pax", .size = records.size(), .mode = 0644});
    out += records;
    out.append(tar_padding(records.size()), '\0');
  }
  out += header_block(member);
  return out;
}

std::size_t tar_padding(std::uint64_t size) {
  return static_cast<std::size_t>((kBlock - size % kBlock) % kBlock);
}

std::string tar_end() {
  return std::string(2 * kBlock, '\0');
}

}  // namespace berth
