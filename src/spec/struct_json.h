#pragma once
#include <concepts>
#include <cstdint>
#include <limits>
#include <map>
#include <optional>
#include <string>
#include <string_view>
#include <type_traits>
#include <vector>

#include "spec/json_reader.h"
#include "spec/json_text.h"
#include "spec/runtime.h"

/// How the structs of this library become JSON and back. Private to src/spec.
///
/// Each struct has one function `fields(visitor, object)` that names its members once, in the specification's order:
///   visitor.always("uid", s.uid);   written also when zero
///   visitor.member("umask", s.umask);  written when not empty, false or zero
/// and is read, written and looked up by the three visitors below, so that reader and writer cannot drift apart.
namespace berth::spec {

/// `S` is `T` or `const T`: what a fields() function takes.
template <class S, class T>
concept Is = std::same_as<std::remove_const_t<S>, T>;

struct NameVisitor {
  std::string_view name;
  bool found = false;
  template <class T>
  void always(std::string_view field, const T& /*value*/) {
    found = found || field == name;
  }
  template <class T>
  void member(std::string_view field, const T& /*value*/) {
    found = found || field == name;
  }
};

template <class T>
concept Struct = requires(T& object, NameVisitor& visitor) { fields(visitor, object); };

// ---- writing ----

inline void write_value(JsonWriter& writer, const std::string& value) {
  writer.string(value);
}
inline void write_value(JsonWriter& writer, bool value) {
  writer.boolean(value);
}
template <std::signed_integral N>
void write_value(JsonWriter& writer, N value) {
  writer.number(value);
}
template <std::unsigned_integral N>
void write_value(JsonWriter& writer, N value) {
  writer.unsigned_number(value);
}
inline void write_value(JsonWriter& writer, NamespaceType value) {
  writer.string(namespace_name(value));
}
template <class T>
void write_value(JsonWriter& writer, const std::vector<T>& value);
template <class T>
void write_value(JsonWriter& writer, const std::map<std::string, T, std::less<>>& value);
template <class T>
void write_value(JsonWriter& writer, const std::optional<T>& value) {
  write_value(writer, *value);
}
template <Struct T>
void write_value(JsonWriter& writer, const T& value);

template <class T>
bool is_empty(const T& value) {
  if constexpr (requires { value.has_value(); }) {
    return !value.has_value();
  } else if constexpr (requires { value.empty(); }) {
    return value.empty();
  } else {
    return value == T{};
  }
}

struct WriteVisitor {
  JsonWriter& writer;
  const Extra& extra;
  template <class T>
  void always(std::string_view name, const T& value) {
    writer.key(name);
    write_value(writer, value);
  }
  template <class T>
  void member(std::string_view name, const T& value) {
    if (!is_empty(value)) {
      always(name, value);
    } else if (!extra.empty()) {
      empty_member(name);
    }
  }
  void empty_member(std::string_view name) {
    if (const auto kept = extra.find(name); kept != extra.end()) writer.key(name).raw(kept->second);
  }
};

template <class T>
void write_value(JsonWriter& writer, const std::vector<T>& value) {
  writer.begin_array();
  for (const T& item : value) write_value(writer, item);
  writer.end_array();
}

template <class T>
void write_value(JsonWriter& writer, const std::map<std::string, T, std::less<>>& value) {
  writer.begin_object();
  for (const auto& [name, item] : value) {
    writer.key(name);
    write_value(writer, item);
  }
  writer.end_object();
}

template <Struct T>
void write_value(JsonWriter& writer, const T& value) {
  writer.begin_object();
  WriteVisitor visitor{writer, value.extra};
  fields(visitor, value);
  for (const auto& [name, raw] : value.extra) {
    NameVisitor known{name};
    fields(known, value);
    if (!known.found) writer.key(name).raw(raw);
  }
  writer.end_object();
}

template <Struct T>
std::string write_document(const T& value) {
  JsonWriter writer;
  write_value(writer, value);
  return writer.take();
}

// ---- reading ----

inline bool read_value(JsonReader& reader, std::string& out) {
  return reader.string(out);
}
inline bool read_value(JsonReader& reader, bool& out) {
  return reader.boolean(out);
}
template <std::signed_integral N>
bool read_value(JsonReader& reader, N& out) {
  std::int64_t value = 0;
  if (!reader.signed_number(value, std::numeric_limits<N>::min(), std::numeric_limits<N>::max())) return false;
  out = static_cast<N>(value);
  return true;
}
template <std::unsigned_integral N>
bool read_value(JsonReader& reader, N& out) {
  std::uint64_t value = 0;
  if (!reader.unsigned_number(value, std::numeric_limits<N>::max())) return false;
  out = static_cast<N>(value);
  return true;
}
bool read_value(JsonReader& reader, NamespaceType& out);
template <class T>
bool read_value(JsonReader& reader, std::vector<T>& out);
template <class T>
bool read_value(JsonReader& reader, std::map<std::string, T, std::less<>>& out);
template <class T>
bool read_value(JsonReader& reader, std::optional<T>& out) {
  return read_value(reader, out.emplace());
}
template <Struct T>
bool read_value(JsonReader& reader, T& out);

/// Reads the value of the member `key`, once its turn among the fields comes.
struct ReadVisitor {
  JsonReader& reader;
  std::string_view key;
  Extra& extra;
  std::uint64_t& seen;  ///< one bit per field
  std::uint64_t bit = 1;
  bool found = false;

  template <class T>
  void always(std::string_view name, T& value) {
    if (take(name) && (reader.peek() != JsonReader::Kind::kNull ? read_value(reader, value) : reader.null())) return;
  }
  template <class T>
  void member(std::string_view name, T& value) {
    if (!take(name)) return;
    if (reader.peek() == JsonReader::Kind::kNull) {
      if (reader.null()) extra.emplace(name, "null");
      return;
    }
    if (!read_value(reader, value) || !is_empty(value)) return;
    if constexpr (std::is_same_v<T, bool>) {
      extra.emplace(name, "false");
    } else if constexpr (std::is_arithmetic_v<T>) {
      extra.emplace(name, "0");
    } else {
      JsonWriter empty;
      write_value(empty, T{});
      extra.emplace(name, empty.take());
    }
  }
  bool take(std::string_view name) {
    const std::uint64_t own = bit;
    bit <<= 1;
    if (found || name != key) return false;
    found = true;
    if ((seen & own) != 0) return reader.fail_here("is there twice");
    seen |= own;
    return true;
  }
};

template <class T>
bool read_value(JsonReader& reader, std::vector<T>& out) {
  return reader.array([&] { return read_value(reader, out.emplace_back()); });
}

template <class T>
bool read_value(JsonReader& reader, std::map<std::string, T, std::less<>>& out) {
  return reader.object([&](std::string_view name) {
    const auto [entry, fresh] = out.try_emplace(std::string(name));
    if (!fresh) return reader.fail_here("is there twice");
    return read_value(reader, entry->second);
  });
}

template <Struct T>
bool read_value(JsonReader& reader, T& out) {
  std::uint64_t seen = 0;
  return reader.object([&](std::string_view name) {
    ReadVisitor visitor{reader, name, out.extra, seen};
    fields(visitor, out);
    if (visitor.found) return reader.ok();
    const auto [entry, fresh] = out.extra.try_emplace(std::string(name));
    if (!fresh) return reader.fail_here("is there twice");
    return reader.skip(&entry->second);
  });
}

template <Struct T>
Result<T> parse_document(std::string_view json, const Limits& limits) {
  JsonReader reader(json, limits);
  T value;
  if (!read_value(reader, value) || !reader.finish()) return fail(reader.error());
  return value;
}

}  // namespace berth::spec
