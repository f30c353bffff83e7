#include "image/tar_reader.h"

#include <algorithm>
#include <cstring>

#include "base/strings.h"
#include "image/printable.h"

namespace berth::image {
namespace {

constexpr std::size_t kBlock = 512;
// Places in a header block: tar(5).
constexpr std::size_t kName = 0, kMode = 100, kUid = 108, kGid = 116, kSize = 124, kTime = 136, kChecksum = 148;
constexpr std::size_t kFlag = 156, kLink = 157, kMagic = 257, kMajor = 329, kMinor = 337, kPrefix = 345;

std::size_t padding_of(std::uint64_t size) {
  return static_cast<std::size_t>((kBlock - size % kBlock) % kBlock);
}

std::unexpected<Error> corrupt(std::string what) {
  return fail(Code::kCorrupt, std::move(what));
}

}  // namespace

Result<> TarReader::push(Bytes bytes) {
  while (!bytes.empty()) {
    auto used = step(bytes);
    if (!used) {
      if (current_.empty()) return fail(std::move(used).error().in("archive"));
      return fail(std::move(used).error().in("entry \"" + printable(current_) + "\""));
    }
    position_ += *used;
    bytes = bytes.subspan(*used);
  }
  return {};
}

Result<std::size_t> TarReader::step(Bytes bytes) {
  switch (state_) {
    case State::kHeader:
      return step_header(bytes);
    case State::kMeta:
      return step_meta(bytes);
    case State::kData:
      return step_data(bytes);
    case State::kPadding: {
      const std::size_t take = std::min(padding_, bytes.size());
      padding_ -= take;
      if (padding_ == 0) state_ = State::kHeader;
      return take;
    }
    case State::kEnd: {
      const bool zeros = std::all_of(bytes.begin(), bytes.end(), [](std::byte b) { return b == std::byte{0}; });
      if (!zeros) return corrupt("bytes follow the end of the archive");
      return bytes.size();
    }
  }
  return corrupt("unreachable");
}

Result<std::size_t> TarReader::step_header(Bytes bytes) {
  const std::size_t take = std::min(kBlock - block_fill_, bytes.size());
  std::memcpy(block_.data() + block_fill_, bytes.data(), take);
  block_fill_ += take;
  if (block_fill_ < kBlock) return take;
  block_fill_ = 0;
  if (std::all_of(block_.begin(), block_.end(), [](char c) { return c == 0; })) {
    if (pending_) return corrupt("the archive ends after an extended header");
    if (++zero_blocks_ == 2) state_ = State::kEnd;
    return take;
  }
  if (zero_blocks_ != 0) return corrupt("a zero block lies between entries");
  header_end_ = position_ + take;
  BERTH_TRY(header(), "header");
  return take;
}

Result<std::size_t> TarReader::step_meta(Bytes bytes) {
  const auto take = static_cast<std::size_t>(std::min<std::uint64_t>(remaining_, bytes.size()));
  if (meta_ != Meta::kSkip) meta_text_.append(reinterpret_cast<const char*>(bytes.data()), take);
  remaining_ -= take;
  if (remaining_ == 0) {
    state_ = padding_ != 0 ? State::kPadding : State::kHeader;
    BERTH_TRY(meta_done(), "extended header");
  }
  return take;
}

Result<std::size_t> TarReader::step_data(Bytes bytes) {
  const auto take = static_cast<std::size_t>(std::min<std::uint64_t>(remaining_, bytes.size()));
  if (auto done = sink_.data(bytes.first(take)); !done) return fail(std::move(done).error());
  remaining_ -= take;
  if (remaining_ == 0) {
    state_ = padding_ != 0 ? State::kPadding : State::kHeader;
    if (auto done = sink_.end_entry(); !done) return fail(std::move(done).error());
  }
  return take;
}

Result<> TarReader::finish() {
  // The last entry's padding and the end marker may be missing: some writers (umoci among them) stop with the last byte
  // of content, and every other reader takes that. Nothing of the content can be missing then.
  const bool between = (state_ == State::kHeader && block_fill_ == 0) || state_ == State::kPadding;
  if (state_ == State::kEnd || (between && !pending_)) return {};
  const std::string where =
      current_.empty() ? std::string("its first header") : "entry \"" + printable(current_) + "\"";
  return corrupt("the archive is truncated at " + where);
}

std::string_view TarReader::field(std::size_t at, std::size_t size) const {
  return {block_.data() + at, size};
}

std::string_view TarReader::text_field(std::size_t at, std::size_t size) const {
  const std::string_view raw = field(at, size);
  return raw.substr(0, raw.find('\0'));
}

bool TarReader::checksum_matches() const {
  std::uint32_t unsigned_sum = 0;
  std::int32_t signed_sum = 0;  // some old writers summed signed chars
  for (std::size_t i = 0; i < kBlock; ++i) {
    const char c = i >= kChecksum && i < kChecksum + 8 ? ' ' : block_[i];
    unsigned_sum += static_cast<unsigned char>(c);
    signed_sum += static_cast<signed char>(c);
  }
  const auto stated = number(kChecksum, 8, "checksum");
  if (!stated) return false;
  return *stated == unsigned_sum || static_cast<std::int64_t>(*stated) == signed_sum;
}

Result<std::int64_t> TarReader::signed_number(std::size_t at, std::size_t size, std::string_view what) const {
  const std::string_view raw = field(at, size);
  const auto first = static_cast<unsigned char>(raw[0]);
  if ((first & 0x80) == 0) {  // octal text, with blanks before and a blank or NUL behind
    const std::size_t begin = raw.find_first_not_of(' ');
    std::string_view digits = begin == std::string_view::npos ? std::string_view() : raw.substr(begin);
    const std::size_t end = digits.find_first_of(std::string_view(" \0", 2));
    digits = digits.substr(0, end);
    if (digits.empty()) return 0;
    const auto value = parse_number<std::int64_t>(digits, 8);
    if (!value || *value < 0) return corrupt("the " + std::string(what) + " field holds no octal number");
    return *value;
  }
  // Base 256, two's complement, the top bit being the marker and the next one the sign.
  const bool negative = (first & 0x40) != 0;
  std::uint64_t value = negative ? ~0ULL : 0;
  for (std::size_t i = 0; i < size; ++i) {
    auto byte = static_cast<unsigned char>(raw[i]);
    if (i == 0) byte = static_cast<unsigned char>(negative ? byte | 0x80 : byte & 0x7f);
    const auto top = static_cast<unsigned char>(value >> 56);
    if (top != (negative ? 0xff : 0)) return corrupt("the " + std::string(what) + " field exceeds 64 bits");
    value = value << 8 | byte;
  }
  const auto result = static_cast<std::int64_t>(value);
  if ((result < 0) != negative) return corrupt("the " + std::string(what) + " field exceeds 64 bits");
  return result;
}

Result<std::uint64_t> TarReader::number(std::size_t at, std::size_t size, std::string_view what) const {
  const auto value = signed_number(at, size, what);
  if (!value) return fail(value.error());
  if (*value < 0) return corrupt("the " + std::string(what) + " field is negative");
  return static_cast<std::uint64_t>(*value);
}

Result<> TarReader::header() {
  if (!checksum_matches()) return corrupt("the checksum of a header is wrong (no tar archive, or a damaged one)");
  const char flag = block_[kFlag];
  BERTH_ASSIGN(const std::uint64_t size, number(kSize, 12, "size"), "ustar");
  BERTH_ASSIGN(const bool was_meta, meta_header(flag, size), "ustar");
  if (was_meta) return {};
  TarEntry entry;
  entry.size = size;
  if (auto done = fill_entry(entry, flag); !done) {
    current_ = long_name_.value_or(std::string(text_field(kName, 100)));
    return done;
  }
  current_ = entry.path;
  return start_entry(entry);
}

/// Headers that only describe the next entry, and volume labels that describe nothing.
Result<bool> TarReader::meta_header(char flag, std::uint64_t size) {
  switch (flag) {
    case 'x':
      meta_ = Meta::kPax;
      break;
    case 'g':
      meta_ = Meta::kGlobal;
      break;
    case 'L':
      meta_ = Meta::kLongName;
      break;
    case 'K':
      meta_ = Meta::kLongLink;
      break;
    case 'V':
      meta_ = Meta::kSkip;
      break;
    default:
      return false;
  }
  if (meta_ != Meta::kSkip && size > limits_.max_header_bytes) {
    return fail(Code::kExhausted, "an extended header of " + std::to_string(size) + " bytes exceeds " +
                                      std::to_string(limits_.max_header_bytes));
  }
  if (++extended_headers_ > limits_.max_entries * 4) return fail(Code::kExhausted, "too many extended headers");
  meta_text_.clear();
  remaining_ = size;
  padding_ = padding_of(size);
  if (meta_ == Meta::kPax || meta_ == Meta::kLongName || meta_ == Meta::kLongLink) pending_ = true;
  if (size == 0) {
    BERTH_TRY(meta_done(), "extended header");
  } else {
    state_ = State::kMeta;
  }
  return true;
}

Result<> TarReader::meta_done() {
  const std::string_view text = meta_text_;
  if (meta_ == Meta::kPax || meta_ == Meta::kGlobal) {
    auto values = parse_pax(text, limits_);
    if (!values) return fail(std::move(values).error());
    if (meta_ == Meta::kPax) pax_ = std::move(*values);
  } else if (meta_ != Meta::kSkip) {
    const std::string_view name = text.substr(0, text.find('\0'));
    if (name.size() > limits_.max_path_bytes) {
      return fail(Code::kExhausted, "a name of " + std::to_string(name.size()) + " bytes exceeds " +
                                        std::to_string(limits_.max_path_bytes));
    }
    (meta_ == Meta::kLongName ? long_name_ : long_link_) = std::string(name);
  }
  meta_text_.clear();
  if (meta_text_.capacity() > 65536) meta_text_.shrink_to_fit();
  return {};
}

Result<> TarReader::fill_entry(TarEntry& entry, char flag) {
  switch (flag) {
    case '\0':
    case '0':
    case '7':
      entry.type = TarType::kFile;
      break;
    case '1':
      entry.type = TarType::kHardLink;
      break;
    case '2':
      entry.type = TarType::kSymlink;
      break;
    case '3':
      entry.type = TarType::kCharDevice;
      break;
    case '4':
      entry.type = TarType::kBlockDevice;
      break;
    case '5':
      entry.type = TarType::kDirectory;
      break;
    case '6':
      entry.type = TarType::kFifo;
      break;
    case 'S':
      return fail(Code::kUnsupported, "sparse files in archives are not supported");
    default:
      return fail(Code::kUnsupported, "member type \"" + printable(std::string_view(&flag, 1)) + "\" is not supported");
  }
  entry.path = text_field(kName, 100);
  if (field(kMagic, 6) == std::string_view("ustar\0", 6)) {
    if (const std::string_view prefix = text_field(kPrefix, 155); !prefix.empty()) {
      entry.path = std::string(prefix) + "/" + entry.path;
    }
  }
  entry.link = text_field(kLink, 100);
  BERTH_TRY(fill_numbers(entry), "ustar");
  if (long_name_) entry.path = std::move(*long_name_);
  if (long_link_) entry.link = std::move(*long_link_);
  if (pax_) {
    if (pax_->path) entry.path = std::move(*pax_->path);
    if (pax_->link) entry.link = std::move(*pax_->link);
    if (pax_->size) entry.size = *pax_->size;
    entry.uid = pax_->uid.value_or(entry.uid);
    entry.gid = pax_->gid.value_or(entry.gid);
    if (pax_->mtime_s) {
      entry.mtime_s = *pax_->mtime_s;
      entry.mtime_ns = pax_->mtime_ns;
    }
    entry.xattrs = std::move(pax_->xattrs);
  }
  if (entry.path.empty()) return corrupt("an entry has no name");
  // V7 archives have no directory type.
  if (entry.type == TarType::kFile && entry.path.ends_with('/')) entry.type = TarType::kDirectory;
  return {};
}

Result<> TarReader::fill_numbers(TarEntry& entry) {
  BERTH_ASSIGN(const std::uint64_t mode, number(kMode, 8, "mode"), "numbers");
  entry.mode = static_cast<std::uint32_t>(mode & 07777);
  const bool pax_uid = pax_ && pax_->uid, pax_gid = pax_ && pax_->gid;
  const auto id = [this](std::size_t at, std::string_view what, bool overridden) -> Result<std::uint32_t> {
    if (overridden) return 0;
    const auto value = number(at, 8, what);
    if (!value) return fail(value.error());
    if (*value >= UINT32_MAX) return corrupt("the " + std::string(what) + " field exceeds 32 bits");
    return static_cast<std::uint32_t>(*value);
  };
  BERTH_ASSIGN(entry.uid, id(kUid, "uid", pax_uid), "numbers");
  BERTH_ASSIGN(entry.gid, id(kGid, "gid", pax_gid), "numbers");
  BERTH_ASSIGN(entry.mtime_s, signed_number(kTime, 12, "mtime"), "numbers");
  if (entry.type == TarType::kCharDevice || entry.type == TarType::kBlockDevice) {
    BERTH_ASSIGN(const std::uint64_t major, number(kMajor, 8, "device major"), "numbers");
    BERTH_ASSIGN(const std::uint64_t minor, number(kMinor, 8, "device minor"), "numbers");
    if (major > 0xfff || minor > 0xfffff) return corrupt("the device number exceeds 12 + 20 bits");
    entry.device_major = static_cast<std::uint32_t>(major);
    entry.device_minor = static_cast<std::uint32_t>(minor);
  }
  return {};
}

Result<> TarReader::start_entry(TarEntry& entry) {
  pax_.reset();
  long_name_.reset();
  long_link_.reset();
  pending_ = false;
  if (++entries_ > limits_.max_entries) {
    return fail(Code::kExhausted, "the archive has more than " + std::to_string(limits_.max_entries) + " entries");
  }
  if (entry.path.size() > limits_.max_path_bytes) return fail(Code::kExhausted, "the name is too long");
  // Links, directories and devices have no data, whatever their size field says.
  if (entry.type != TarType::kFile) entry.size = 0;
  entry.data_offset = header_end_;
  if (auto done = sink_.entry(entry); !done) return done;
  remaining_ = entry.size;
  padding_ = padding_of(entry.size);
  if (entry.size == 0) return sink_.end_entry();
  state_ = State::kData;
  return {};
}

}  // namespace berth::image
