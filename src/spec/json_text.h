#pragma once
#include <cstdint>
#include <memory>
#include <optional>
#include <string>
#include <string_view>
#include <utility>
#include <vector>

#include "base/result.h"
#include "spec/limits.h"

namespace berth::spec {

/// `text` as a JSON string with its quotes. Bytes that are not UTF-8 become U+FFFD, so the result is always valid JSON.
[[nodiscard]] std::string quote(std::string_view text);
void append_quoted(std::string& out, std::string_view text);

/// Writes compact JSON; puts the commas. The caller opens and closes what belongs together and names members inside
/// objects. Not thread-safe.
class JsonWriter final {
 public:
  JsonWriter& begin_object() { return open('{'); }
  JsonWriter& end_object() { return close('}'); }
  JsonWriter& begin_array() { return open('['); }
  JsonWriter& end_array() { return close(']'); }
  JsonWriter& key(std::string_view name);
  JsonWriter& string(std::string_view text);
  JsonWriter& number(std::int64_t value);
  JsonWriter& unsigned_number(std::uint64_t value);
  JsonWriter& boolean(bool value) { return raw(value ? "true" : "false"); }
  JsonWriter& null() { return raw("null"); }
  /// `json`: one complete value.
  JsonWriter& raw(std::string_view json);
  /// The text so far; leaves the writer empty.
  [[nodiscard]] std::string take() { return std::exchange(out_, {}); }

 private:
  JsonWriter& open(char opener);
  JsonWriter& close(char closer);
  void separate();

  std::string out_;
};

/// One JSON value as a small tree, for short answers of unknown shape (token services, credential files, plugin
/// output). Known documents have types of their own (runtime.h, image.h). Values copy.
class Json final {
 public:
  enum class Kind : std::uint8_t { kNull, kBool, kNumber, kString, kArray, kObject };
  using Member = std::pair<std::string, Json>;

  Json() = default;

  [[nodiscard]] Kind kind() const { return kind_; }
  [[nodiscard]] bool is_object() const { return kind_ == Kind::kObject; }
  [[nodiscard]] bool is_array() const { return kind_ == Kind::kArray; }
  [[nodiscard]] bool is_null() const { return kind_ == Kind::kNull; }

  /// The member `name`, or nullptr when this is no object or has none; the last of equal names. Linear.
  [[nodiscard]] const Json* get(std::string_view name) const;
  /// Of an object, in document order; empty for every other kind.
  [[nodiscard]] const std::vector<Member>& members() const;
  /// Of an array; empty for every other kind.
  [[nodiscard]] const std::vector<Json>& items() const;

  /// The value when it is of that kind (and, for numbers, fits), else nothing.
  [[nodiscard]] std::optional<std::string_view> as_string() const;
  [[nodiscard]] std::optional<bool> as_bool() const;
  [[nodiscard]] std::optional<std::int64_t> as_int() const;
  [[nodiscard]] std::optional<std::uint64_t> as_uint() const;
  [[nodiscard]] std::optional<double> as_double() const;

  /// Shorthand for the common case: the string member `name`, or `otherwise`. Valid while this value lives.
  [[nodiscard]] std::string_view string_or(std::string_view name, std::string_view otherwise = {}) const;

  /// This value as compact JSON.
  [[nodiscard]] std::string write() const;

 private:
  friend struct JsonBuilder;
  void write_to(JsonWriter& writer) const;

  Kind kind_ = Kind::kNull;
  bool bool_ = false;
  std::string text_;  ///< a string's bytes or a number as written
  std::vector<Member> members_;
  std::vector<Json> items_;
};

/// Any JSON document. Errors as parse_spec (runtime.h).
[[nodiscard]] Result<Json> parse_json(std::string_view text, const Limits& limits = {});

}  // namespace berth::spec
