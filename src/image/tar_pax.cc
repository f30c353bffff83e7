#include "image/tar_pax.h"

#include "base/strings.h"
#include "image/printable.h"

namespace berth::image {
namespace {

constexpr std::string_view kXattrPrefix = "SCHILY.xattr.";
constexpr std::size_t kMaxXattrName = 255;
constexpr std::size_t kMaxXattrValue = 65536;

std::unexpected<Error> bad(std::string_view key, std::string_view what) {
  return fail(Code::kCorrupt, "PAX record " + printable(key, 80) + ": " + std::string(what));
}

template <class N>
Result<> take_number(std::string_view key, std::string_view value, std::optional<N>& out) {
  if (value.empty()) {
    out.reset();
    return {};
  }
  out = parse_number<N>(value);
  if (!out) return bad(key, "no number in range: \"" + printable(value, 40) + "\"");
  return {};
}

/// "-1.25" is 1.25 s before the epoch: seconds are floored so that nanoseconds stay positive.
Result<> take_time(std::string_view value, PaxValues& out) {
  const std::size_t dot = value.find('.');
  const std::string_view whole = value.substr(0, dot);
  const bool negative = whole.starts_with('-');
  const auto seconds = whole == "-" ? std::optional<std::int64_t>(0) : parse_number<std::int64_t>(whole);
  if (!seconds) return bad("mtime", "no time: \"" + printable(value, 40) + "\"");
  std::uint32_t nanos = 0;
  if (dot != std::string_view::npos) {
    const std::string_view fraction = value.substr(dot + 1);
    for (std::size_t i = 0; i < 9; ++i) {
      const char c = i < fraction.size() ? fraction[i] : '0';
      if (c < '0' || c > '9') return bad("mtime", "no time: \"" + printable(value, 40) + "\"");
      nanos = nanos * 10 + static_cast<std::uint32_t>(c - '0');
    }
  }
  out.mtime_s = seconds;
  out.mtime_ns = nanos;
  if (negative && nanos != 0 && *seconds > INT64_MIN) {
    out.mtime_s = *seconds - 1;
    out.mtime_ns = 1'000'000'000 - nanos;
  }
  return {};
}

Result<> take_text(std::string_view key, std::string_view value, std::size_t limit, std::optional<std::string>& out) {
  if (value.find('\0') != std::string_view::npos) return bad(key, "holds a NUL");
  if (value.size() > limit)
    return fail(Code::kExhausted, "PAX record " + std::string(key) + " exceeds " + std::to_string(limit) + " bytes");
  if (value.empty()) {
    out.reset();
  } else {
    out = value;
  }
  return {};
}

Result<> take_xattr(std::string_view key, std::string_view value, const TarLimits& limits, PaxValues& out) {
  const std::string_view name = key.substr(kXattrPrefix.size());
  if (name.empty() || name.size() > kMaxXattrName || name.find('\0') != std::string_view::npos) {
    return bad(key, "no attribute name");
  }
  if (value.size() > kMaxXattrValue)
    return fail(Code::kExhausted, "extended attribute " + printable(name, 80) + " exceeds 64 KiB");
  if (out.xattrs.size() >= limits.max_xattrs) {
    return fail(Code::kExhausted, "more than " + std::to_string(limits.max_xattrs) + " extended attributes");
  }
  out.xattrs.emplace_back(name, value);
  return {};
}

Result<> take_record(std::string_view key, std::string_view value, const TarLimits& limits, PaxValues& out) {
  if (key == "path") return take_text(key, value, limits.max_path_bytes, out.path);
  if (key == "linkpath") return take_text(key, value, limits.max_path_bytes, out.link);
  if (key == "size") return take_number(key, value, out.size);
  if (key == "uid") return take_number(key, value, out.uid);
  if (key == "gid") return take_number(key, value, out.gid);
  if (key == "mtime") return take_time(value, out);
  if (key.starts_with(kXattrPrefix)) return take_xattr(key, value, limits, out);
  if (key.starts_with("GNU.sparse.")) return fail(Code::kUnsupported, "sparse files in archives are not supported");
  return {};
}

}  // namespace

Result<PaxValues> parse_pax(std::string_view records, const TarLimits& limits) {
  PaxValues out;
  while (!records.empty()) {
    const std::size_t space = records.find(' ');
    const auto length = space == std::string_view::npos || space > 10
                            ? std::nullopt
                            : parse_number<std::size_t>(records.substr(0, space));
    if (!length) {
      // Some writers pad the block with NULs.
      if (records.find_first_not_of('\0') == std::string_view::npos) break;
      return fail(Code::kCorrupt, "a PAX record has no length");
    }
    if (*length <= space + 1 || *length > records.size() || records[*length - 1] != '\n') {
      return fail(Code::kCorrupt, "a PAX record's length is wrong");
    }
    const std::string_view record = records.substr(space + 1, *length - space - 2);
    const std::size_t equals = record.find('=');
    if (equals == std::string_view::npos || equals == 0) return fail(Code::kCorrupt, "a PAX record has no key");
    BERTH_TRY(take_record(record.substr(0, equals), record.substr(equals + 1), limits, out), "extended header");
    records.remove_prefix(*length);
  }
  return out;
}

}  // namespace berth::image
