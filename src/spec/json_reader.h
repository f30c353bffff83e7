#pragma once
#include <cstdint>
#include <optional>
#include <string>
#include <string_view>
#include <type_traits>

#include "base/result.h"
#include "spec/limits.h"

namespace berth::spec {

/// Reads one JSON document from front to back into the caller's own types, without a tree in between: a shim that
/// parses a 40 KiB config.json must not keep the pages of a tree ten times that size. Every call consumes one value and
/// gives false once something is wrong; the first fault stays (error()). Does not copy `text`, which must outlive it.
/// Strings must be UTF-8 and hold no NUL: they become paths, arguments and labels. Not thread-safe. Never throws.
/// Source: RFC 8259.
class JsonReader final {
 public:
  enum class Kind : std::uint8_t { kObject, kArray, kString, kNumber, kBool, kNull, kNone };

  JsonReader(std::string_view text, const Limits& limits);
  JsonReader(const JsonReader&) = delete;
  JsonReader& operator=(const JsonReader&) = delete;
  ~JsonReader() = default;

  /// What the next value starts as; kNone at the end of the text or before a byte that starts no value.
  [[nodiscard]] Kind peek();

  /// Calls `on_member(std::string_view name) -> bool` for each member; it must consume the value. `name` lives only
  /// during the call. Equal names are not looked for.
  template <class F>
  [[nodiscard]] bool object(F&& on_member) {
    using Callable = std::remove_reference_t<F>;
    return read_object(&on_member, [](void* f, std::string_view name) { return (*static_cast<Callable*>(f))(name); });
  }
  /// Calls `on_item() -> bool` before each entry; it must consume it.
  template <class F>
  [[nodiscard]] bool array(F&& on_item) {
    using Callable = std::remove_reference_t<F>;
    return read_array(&on_item, [](void* f) { return (*static_cast<Callable*>(f))(); });
  }
  [[nodiscard]] bool string(std::string& out);
  [[nodiscard]] bool boolean(bool& out);
  /// A number without fraction and exponent, from `min` to `max`.
  [[nodiscard]] bool signed_number(std::int64_t& out, std::int64_t min, std::int64_t max);
  [[nodiscard]] bool unsigned_number(std::uint64_t& out, std::uint64_t max);
  /// Any number, as written.
  [[nodiscard]] bool number_text(std::string_view& out);
  [[nodiscard]] bool null();
  /// Any value; when `compact` is given, its text without white space is appended there. NUL is allowed in its strings.
  [[nodiscard]] bool skip(std::string* compact);
  /// Nothing but white space may follow.
  [[nodiscard]] bool finish();

  /// Records a fault at the value being read: "<path>: <what>". Always gives false.
  bool fail_here(std::string_view what, Code code = Code::kInvalid);
  [[nodiscard]] bool ok() const { return !error_.has_value(); }
  /// The first fault; only when ok() is false.
  [[nodiscard]] Error error() const { return *error_; }

 private:
  struct Frame;

  bool read_object(void* context, bool (*on_member)(void*, std::string_view));
  bool read_array(void* context, bool (*on_item)(void*));
  bool enter(char opener, std::string_view expected);
  bool count_element();
  bool scan_string(std::string* decoded, bool allow_nul);
  bool scan_escape(std::string* decoded, bool allow_nul);
  bool scan_hex4(std::uint32_t& unit);
  bool literal(std::string_view word, std::string_view expected);
  bool syntax(std::string_view what);
  void skip_space();
  [[nodiscard]] std::string path() const;

  const char* begin_;
  const char* at_;
  const char* end_;
  Limits limits_;
  std::size_t depth_ = 0;
  std::size_t elements_ = 0;
  Frame* frame_ = nullptr;
  std::optional<Error> error_;
};

/// The length (1 to 4) of the valid UTF-8 sequence at the front of `text`, or 0. Source: RFC 3629.
[[nodiscard]] std::size_t utf8_length(std::string_view text);

}  // namespace berth::spec
