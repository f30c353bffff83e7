#pragma once
#include <array>
#include <string>

#include "image/tar_entry.h"
#include "image/tar_pax.h"

namespace berth::image {

/// Reads a tar stream that is pushed in pieces of any size: V7, ustar, PAX (path, linkpath, size, uid, gid, mtime,
/// SCHILY.xattr), GNU long names and base-256 numbers. Global PAX headers are checked and not applied, as Go's reader,
/// on which the other runtimes stand, does. Memory is bounded by TarLimits whatever comes in. Not thread-safe.
/// Errors name the entry: kCorrupt malformed, truncated or trailing bytes; kUnsupported sparse and unknown member
/// types; kExhausted over a limit; whatever the sink returns. After an error the reader is used up. Source: pax(1)
/// POSIX.1-2024, tar(5) of libarchive.
class TarReader final {
 public:
  /// `sink` is borrowed and outlives the reader.
  TarReader(const TarLimits& limits, TarSink& sink) : limits_(limits), sink_(sink) {}

  Result<> push(Bytes bytes);
  /// The stream is over: kCorrupt unless an archive ended. A missing end marker after a whole entry is accepted.
  Result<> finish();

  [[nodiscard]] std::uint64_t entries() const { return entries_; }
  /// The entry being read, for messages; empty before the first.
  [[nodiscard]] const std::string& current() const { return current_; }

 private:
  enum class State : std::uint8_t { kHeader, kMeta, kData, kPadding, kEnd };
  enum class Meta : std::uint8_t { kPax, kGlobal, kLongName, kLongLink, kSkip };

  Result<std::size_t> step(Bytes bytes);
  Result<std::size_t> step_header(Bytes bytes);
  Result<std::size_t> step_meta(Bytes bytes);
  Result<std::size_t> step_data(Bytes bytes);
  Result<> header();
  Result<bool> meta_header(char flag, std::uint64_t size);
  Result<> meta_done();
  Result<> fill_entry(TarEntry& entry, char flag);
  Result<> fill_numbers(TarEntry& entry);
  Result<> start_entry(TarEntry& entry);
  [[nodiscard]] std::string_view field(std::size_t at, std::size_t size) const;
  [[nodiscard]] std::string_view text_field(std::size_t at, std::size_t size) const;
  Result<std::uint64_t> number(std::size_t at, std::size_t size, std::string_view what) const;
  Result<std::int64_t> signed_number(std::size_t at, std::size_t size, std::string_view what) const;
  [[nodiscard]] bool checksum_matches() const;

  TarLimits limits_;
  TarSink& sink_;
  State state_ = State::kHeader;
  Meta meta_ = Meta::kPax;
  std::array<char, 512> block_{};
  std::size_t block_fill_ = 0;
  std::uint64_t remaining_ = 0;  ///< of the data or meta block
  std::size_t padding_ = 0;
  unsigned zero_blocks_ = 0;
  bool pending_ = false;  ///< an extended header came and its entry has not
  std::string meta_text_;
  std::optional<PaxValues> pax_;
  std::optional<std::string> long_name_;
  std::optional<std::string> long_link_;
  std::uint64_t position_ = 0;  ///< bytes of the archive before the step under way
  std::uint64_t header_end_ = 0;
  std::uint64_t entries_ = 0;
  std::uint64_t extended_headers_ = 0;
  std::string current_;
};

}  // namespace berth::image
