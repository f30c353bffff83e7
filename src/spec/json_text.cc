#include "spec/json_text.h"

#include "base/strings.h"
#include "spec/json_reader.h"

namespace berth::spec {

namespace {
bool is_plain(char c) {
  return c >= 0x20 && c < 0x7F && c != '"' && c != '\\';
}
}  // namespace

void append_quoted(std::string& out, std::string_view text) {
  static constexpr char kHex[] = "0123456789abcdef";
  static constexpr std::string_view kReplacement = "\xEF\xBF\xBD";
  static constexpr std::string_view kShort = "\b\t\n\f\r\"\\";
  static constexpr std::string_view kLetters = "btnfr\"\\";
  out.reserve(out.size() + text.size() + 2);
  out.push_back('"');
  std::size_t at = 0;
  while (at < text.size()) {
    std::size_t run = at;  // most strings are plain from end to end
    while (run < text.size() && is_plain(text[run])) ++run;
    out.append(text.substr(at, run - at));
    at = run;
    if (at == text.size()) break;
    const char c = text[at];
    if (const auto which = kShort.find(c); which != std::string_view::npos) {
      out.push_back('\\');
      out.push_back(kLetters[which]);
      ++at;
    } else if (static_cast<unsigned char>(c) < 0x20) {
      out.append("\\u00");
      out.push_back(kHex[static_cast<unsigned char>(c) >> 4]);
      out.push_back(kHex[static_cast<unsigned char>(c) & 0xF]);
      ++at;
    } else if (const std::size_t length = utf8_length(text.substr(at)); length > 0) {
      out.append(text.substr(at, length));
      at += length;
    } else {
      out.append(kReplacement);
      ++at;
    }
  }
  out.push_back('"');
}

std::string quote(std::string_view text) {
  std::string out;
  append_quoted(out, text);
  return out;
}

void JsonWriter::separate() {
  // A finished value never ends in one of these: strings end in a quote.
  if (!out_.empty() && out_.back() != '{' && out_.back() != '[' && out_.back() != ':') out_.push_back(',');
}

JsonWriter& JsonWriter::open(char opener) {
  separate();
  out_.push_back(opener);
  return *this;
}

JsonWriter& JsonWriter::close(char closer) {
  out_.push_back(closer);
  return *this;
}

JsonWriter& JsonWriter::key(std::string_view name) {
  separate();
  append_quoted(out_, name);
  out_.push_back(':');
  return *this;
}

JsonWriter& JsonWriter::string(std::string_view text) {
  separate();
  append_quoted(out_, text);
  return *this;
}

JsonWriter& JsonWriter::number(std::int64_t value) {
  return raw(std::to_string(value));
}

JsonWriter& JsonWriter::unsigned_number(std::uint64_t value) {
  return raw(std::to_string(value));
}

JsonWriter& JsonWriter::raw(std::string_view json) {
  separate();
  out_.append(json.empty() ? "null" : json);
  return *this;
}

const Json* Json::get(std::string_view name) const {
  const Json* found = nullptr;
  for (const auto& [key, value] : members_) {
    if (key == name) found = &value;
  }
  return found;
}

const std::vector<Json::Member>& Json::members() const {
  return members_;
}
const std::vector<Json>& Json::items() const {
  return items_;
}

std::optional<std::string_view> Json::as_string() const {
  if (kind_ != Kind::kString) return std::nullopt;
  return text_;
}

std::optional<bool> Json::as_bool() const {
  if (kind_ != Kind::kBool) return std::nullopt;
  return bool_;
}

std::optional<std::int64_t> Json::as_int() const {
  if (kind_ != Kind::kNumber) return std::nullopt;
  return parse_number<std::int64_t>(text_);
}

std::optional<std::uint64_t> Json::as_uint() const {
  if (kind_ != Kind::kNumber) return std::nullopt;
  return parse_number<std::uint64_t>(text_);
}

std::optional<double> Json::as_double() const {
  if (kind_ != Kind::kNumber) return std::nullopt;
  double value = 0;
  const auto [end, fault] = std::from_chars(text_.data(), text_.data() + text_.size(), value);
  if (fault != std::errc{} || end != text_.data() + text_.size()) return std::nullopt;
  return value;
}

std::string_view Json::string_or(std::string_view name, std::string_view otherwise) const {
  const Json* value = get(name);
  return value == nullptr ? otherwise : value->as_string().value_or(otherwise);
}

void Json::write_to(JsonWriter& writer) const {
  switch (kind_) {
    case Kind::kNull:
      writer.null();
      return;
    case Kind::kBool:
      writer.boolean(bool_);
      return;
    case Kind::kNumber:
      writer.raw(text_);
      return;
    case Kind::kString:
      writer.string(text_);
      return;
    case Kind::kArray:
      writer.begin_array();
      for (const auto& item : items_) item.write_to(writer);
      writer.end_array();
      return;
    case Kind::kObject:
      writer.begin_object();
      for (const auto& [name, value] : members_) {
        writer.key(name);
        value.write_to(writer);
      }
      writer.end_object();
      return;
  }
}

std::string Json::write() const {
  JsonWriter writer;
  write_to(writer);
  return writer.take();
}

struct JsonBuilder {
  static bool read(JsonReader& reader, Json& out) {
    std::string_view number;
    switch (reader.peek()) {
      case JsonReader::Kind::kNone:
      case JsonReader::Kind::kNull:
        out.kind_ = Json::Kind::kNull;
        return reader.skip(nullptr);
      case JsonReader::Kind::kBool:
        out.kind_ = Json::Kind::kBool;
        return reader.boolean(out.bool_);
      case JsonReader::Kind::kString:
        out.kind_ = Json::Kind::kString;
        return reader.string(out.text_);
      case JsonReader::Kind::kNumber:
        out.kind_ = Json::Kind::kNumber;
        if (!reader.number_text(number)) return false;
        out.text_ = number;
        return true;
      case JsonReader::Kind::kArray:
        out.kind_ = Json::Kind::kArray;
        return reader.array([&] { return read(reader, out.items_.emplace_back()); });
      case JsonReader::Kind::kObject:
        out.kind_ = Json::Kind::kObject;
        return reader.object(
            [&](std::string_view name) { return read(reader, out.members_.emplace_back(name, Json()).second); });
    }
    return false;
  }
};

Result<Json> parse_json(std::string_view text, const Limits& limits) {
  JsonReader reader(text, limits);
  Json value;
  if (!JsonBuilder::read(reader, value) || !reader.finish()) return fail(reader.error());
  return value;
}

}  // namespace berth::spec
