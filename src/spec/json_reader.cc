#include "spec/json_reader.h"

#include <algorithm>
#include <array>
#include <charconv>
#include <cstring>

#include "spec/json_text.h"

namespace berth::spec {

/// One open array or object; they live on the call stack and make up the path of an error.
struct JsonReader::Frame {
  Frame(JsonReader& reader, bool array) : reader_(reader), parent(reader.frame_), is_array(array) {
    reader.frame_ = this;
  }
  ~Frame() {
    reader_.frame_ = parent;
    --reader_.depth_;
  }
  Frame(const Frame&) = delete;
  Frame& operator=(const Frame&) = delete;

  JsonReader& reader_;
  Frame* parent;
  bool is_array;
  bool inside = false;  ///< a member or entry is being read: name or index is part of the path
  std::string name;
  std::size_t index = 0;
};

namespace {

constexpr std::size_t kMaxDepth = 1024;  // each level costs stack, whatever the caller allows

bool is_digit(char c) {
  return c >= '0' && c <= '9';
}

void append_utf8(std::string& out, std::uint32_t point) {
  const auto byte = [&out](std::uint32_t value) { out.push_back(static_cast<char>(value)); };
  if (point < 0x80) {
    byte(point);
  } else if (point < 0x800) {
    byte(0xC0 | (point >> 6));
    byte(0x80 | (point & 0x3F));
  } else if (point < 0x10000) {
    byte(0xE0 | (point >> 12));
    byte(0x80 | ((point >> 6) & 0x3F));
    byte(0x80 | (point & 0x3F));
  } else {
    byte(0xF0 | (point >> 18));
    byte(0x80 | ((point >> 12) & 0x3F));
    byte(0x80 | ((point >> 6) & 0x3F));
    byte(0x80 | (point & 0x3F));
  }
}

void append_step(std::string& path, std::string_view name) {
  static constexpr std::size_t kMaxShown = 64;
  const bool plain = !name.empty() && name.size() <= kMaxShown && std::all_of(name.begin(), name.end(), [](char c) {
    return is_digit(c) || (c >= 'a' && c <= 'z') || (c >= 'A' && c <= 'Z') || c == '_' || c == '-';
  });
  if (plain) {
    if (!path.empty()) path.push_back('.');
    path.append(name);
    return;
  }
  path.append("[").append(quote(name.substr(0, kMaxShown))).append("]");
}

}  // namespace

std::size_t utf8_length(std::string_view text) {
  const auto byte = [text](std::size_t i) { return static_cast<unsigned char>(text[i]); };
  if (text.empty()) return 0;
  const unsigned char lead = byte(0);
  if (lead < 0x80) return 1;
  const std::size_t length = lead >= 0xF0 ? 4 : lead >= 0xE0 ? 3 : 2;
  if (lead < 0xC2 || lead > 0xF4 || text.size() < length) return 0;
  for (std::size_t i = 1; i < length; ++i) {
    if ((byte(i) & 0xC0) != 0x80) return 0;
  }
  const unsigned char second = byte(1);
  // Overlong forms, the surrogates and what is above U+10FFFF.
  if ((lead == 0xE0 && second < 0xA0) || (lead == 0xED && second > 0x9F)) return 0;
  if ((lead == 0xF0 && second < 0x90) || (lead == 0xF4 && second > 0x8F)) return 0;
  return length;
}

JsonReader::JsonReader(std::string_view text, const Limits& limits)
    : begin_(text.data()), at_(text.data()), end_(text.data() + text.size()), limits_(limits) {
  limits_.max_depth = std::min(limits_.max_depth, kMaxDepth);
  if (text.size() > limits_.max_bytes) {
    fail_here(
        "is " + std::to_string(text.size()) + " bytes, at most " + std::to_string(limits_.max_bytes) + " are read",
        Code::kExhausted);
    end_ = begin_;
  }
}

void JsonReader::skip_space() {
  while (at_ != end_ && (*at_ == ' ' || *at_ == '\n' || *at_ == '\r' || *at_ == '\t')) ++at_;
}

JsonReader::Kind JsonReader::peek() {
  skip_space();
  if (at_ == end_) return Kind::kNone;
  switch (*at_) {
    case '{':
      return Kind::kObject;
    case '[':
      return Kind::kArray;
    case '"':
      return Kind::kString;
    case 't':
    case 'f':
      return Kind::kBool;
    case 'n':
      return Kind::kNull;
    default:
      return *at_ == '-' || is_digit(*at_) ? Kind::kNumber : Kind::kNone;
  }
}

std::string JsonReader::path() const {
  std::array<const Frame*, kMaxDepth> chain;  // NOLINT: filled up to `size` below
  std::size_t size = 0;
  for (const Frame* frame = frame_; frame != nullptr && size < chain.size(); frame = frame->parent) {
    chain[size++] = frame;
  }
  std::string text;
  while (size > 0) {
    const Frame& frame = *chain[--size];
    if (!frame.inside) continue;
    if (frame.is_array) {
      text.append("[").append(std::to_string(frame.index)).append("]");
    } else {
      append_step(text, frame.name);
    }
  }
  return text;
}

bool JsonReader::fail_here(std::string_view what, Code code) {
  if (error_) return false;
  std::string text = path();
  if (text.empty()) text = "document";
  error_.emplace(code, text.append(": ").append(what));
  return false;
}

bool JsonReader::syntax(std::string_view what) {
  if (error_) return false;
  const auto line = 1 + std::count(begin_, at_, '\n');
  const char* start = at_;
  while (start != begin_ && start[-1] != '\n') --start;
  std::string text = "line " + std::to_string(line) + " column " + std::to_string(at_ - start + 1);
  const std::string where = path();
  if (!where.empty()) text.append(" (").append(where).append(")");
  error_.emplace(Code::kInvalid, text.append(": ").append(what));
  return false;
}

bool JsonReader::count_element() {
  if (++elements_ <= limits_.max_elements) return true;
  return fail_here("the document has more than " + std::to_string(limits_.max_elements) + " elements",
                   Code::kExhausted);
}

bool JsonReader::enter(char opener, std::string_view expected) {
  if (error_) return false;
  const Kind kind = peek();
  if (at_ == end_ || *at_ != opener) {
    if (kind == Kind::kNone) return syntax(std::string("expected ").append(expected));
    return fail_here(std::string("expected ").append(expected));
  }
  if (depth_ >= limits_.max_depth) {
    return fail_here("nested deeper than " + std::to_string(limits_.max_depth) + " levels", Code::kExhausted);
  }
  ++depth_;
  ++at_;
  return true;
}

bool JsonReader::read_object(void* context, bool (*on_member)(void*, std::string_view)) {
  if (!enter('{', "an object")) return false;
  Frame frame(*this, false);
  skip_space();
  if (at_ != end_ && *at_ == '}') {
    ++at_;
    return true;
  }
  while (true) {
    skip_space();
    if (at_ == end_ || *at_ != '"') return syntax("expected a member name in quotes");
    if (!count_element()) return false;
    frame.name.clear();
    if (!scan_string(&frame.name, false)) return false;
    frame.inside = true;
    skip_space();
    if (at_ == end_ || *at_ != ':') return syntax("expected ':' after the member name");
    ++at_;
    if (!on_member(context, frame.name) || error_) return false;
    frame.inside = false;
    skip_space();
    if (at_ == end_ || (*at_ != ',' && *at_ != '}')) return syntax("expected ',' or '}'");
    if (*at_++ == '}') return true;
  }
}

bool JsonReader::read_array(void* context, bool (*on_item)(void*)) {
  if (!enter('[', "an array")) return false;
  Frame frame(*this, true);
  skip_space();
  if (at_ != end_ && *at_ == ']') {
    ++at_;
    return true;
  }
  for (frame.inside = true;; ++frame.index) {
    if (!count_element()) return false;
    if (!on_item(context) || error_) return false;
    skip_space();
    if (at_ == end_ || (*at_ != ',' && *at_ != ']')) return syntax("expected ',' or ']'");
    if (*at_++ == ']') return true;
  }
}

bool JsonReader::scan_hex4(std::uint32_t& unit) {
  if (end_ - at_ < 4) return syntax("expected four hexadecimal digits");
  const auto [stop, fault] = std::from_chars(at_, at_ + 4, unit, 16);
  if (fault != std::errc{} || stop != at_ + 4) return syntax("expected four hexadecimal digits");
  at_ += 4;
  return true;
}

/// After the backslash.
bool JsonReader::scan_escape(std::string* decoded, bool allow_nul) {
  static constexpr std::string_view kEscapes = "\"\\/bfnrt";
  static constexpr std::string_view kMeanings = "\"\\/\b\f\n\r\t";
  if (at_ == end_) return syntax("the string has no end");
  if (const auto which = kEscapes.find(*at_); which != std::string_view::npos) {
    ++at_;
    if (decoded != nullptr) decoded->push_back(kMeanings[which]);
    return true;
  }
  if (*at_ != 'u') return syntax("unknown escape");
  ++at_;
  std::uint32_t point = 0;
  if (!scan_hex4(point)) return false;
  if (point >= 0xDC00 && point <= 0xDFFF) return syntax("half of a surrogate pair");
  if (point >= 0xD800 && point <= 0xDBFF) {
    if (end_ - at_ < 2 || at_[0] != '\\' || at_[1] != 'u') return syntax("half of a surrogate pair");
    at_ += 2;
    std::uint32_t low = 0;
    if (!scan_hex4(low)) return false;
    if (low < 0xDC00 || low > 0xDFFF) return syntax("half of a surrogate pair");
    point = 0x10000 + ((point - 0xD800) << 10) + (low - 0xDC00);
  }
  if (point == 0 && !allow_nul) return fail_here("must not hold a NUL byte");
  if (decoded != nullptr) append_utf8(*decoded, point);
  return true;
}

/// At the opening quote.
bool JsonReader::scan_string(std::string* decoded, bool allow_nul) {
  ++at_;
  const char* const start = at_;
  while (true) {
    const char* run = at_;
    while (at_ != end_ && static_cast<unsigned char>(*at_) >= 0x20 && *at_ != '"' && *at_ != '\\') {
      if (static_cast<unsigned char>(*at_) < 0x80) {
        ++at_;
        continue;
      }
      const std::size_t length = utf8_length({at_, static_cast<std::size_t>(end_ - at_)});
      if (length == 0) return syntax("not UTF-8");
      at_ += length;
    }
    if (static_cast<std::size_t>(at_ - start) > 6 * limits_.max_string_bytes + 2 ||
        (decoded != nullptr && decoded->size() + static_cast<std::size_t>(at_ - run) > limits_.max_string_bytes)) {
      return fail_here("a string is longer than " + std::to_string(limits_.max_string_bytes) + " bytes",
                       Code::kExhausted);
    }
    if (decoded != nullptr) decoded->append(run, at_);
    if (at_ == end_) return syntax("the string has no end");
    if (*at_ == '"') {
      ++at_;
      return true;
    }
    if (*at_ != '\\') return syntax("control character in a string");
    ++at_;
    if (!scan_escape(decoded, allow_nul)) return false;
  }
}

bool JsonReader::string(std::string& out) {
  if (error_) return false;
  const Kind kind = peek();
  if (kind == Kind::kNone) return syntax("expected a string");
  if (kind != Kind::kString) return fail_here("expected a string");
  out.clear();
  return scan_string(&out, false);
}

bool JsonReader::literal(std::string_view word, std::string_view expected) {
  if (static_cast<std::size_t>(end_ - at_) < word.size() || std::memcmp(at_, word.data(), word.size()) != 0) {
    return syntax(std::string("expected ").append(expected));
  }
  at_ += word.size();
  return true;
}

bool JsonReader::boolean(bool& out) {
  if (error_) return false;
  const Kind kind = peek();
  if (kind == Kind::kNone) return syntax("expected true or false");
  if (kind != Kind::kBool) return fail_here("expected true or false");
  out = *at_ == 't';
  return literal(out ? "true" : "false", "true or false");
}

bool JsonReader::null() {
  if (error_) return false;
  const Kind kind = peek();
  if (kind == Kind::kNone) return syntax("expected null");
  if (kind != Kind::kNull) return fail_here("expected null");
  return literal("null", "null");
}

bool JsonReader::number_text(std::string_view& out) {
  if (error_) return false;
  const Kind kind = peek();
  if (kind == Kind::kNone) return syntax("expected a number");
  if (kind != Kind::kNumber) return fail_here("expected a number");
  const char* const start = at_;
  const auto digits = [this]() {
    const char* const first = at_;
    while (at_ != end_ && is_digit(*at_)) ++at_;
    return at_ != first;
  };
  if (*at_ == '-') ++at_;
  if (at_ != end_ && *at_ == '0') {
    ++at_;
  } else if (!digits()) {
    return syntax("expected a digit");
  }
  if (at_ != end_ && *at_ == '.') {
    ++at_;
    if (!digits()) return syntax("expected a digit");
  }
  if (at_ != end_ && (*at_ == 'e' || *at_ == 'E')) {
    ++at_;
    if (at_ != end_ && (*at_ == '+' || *at_ == '-')) ++at_;
    if (!digits()) return syntax("expected a digit");
  }
  out = {start, static_cast<std::size_t>(at_ - start)};
  return true;
}

bool JsonReader::signed_number(std::int64_t& out, std::int64_t min, std::int64_t max) {
  std::string_view text;
  if (error_) return false;
  if (peek() == Kind::kNumber) {
    if (!number_text(text)) return false;
    const auto [stop, fault] = std::from_chars(text.data(), text.data() + text.size(), out);
    if (fault == std::errc{} && stop == text.data() + text.size() && out >= min && out <= max) return true;
  }
  const std::string expected = "expected a number from " + std::to_string(min) + " to " + std::to_string(max);
  return peek() == Kind::kNone && text.empty() ? syntax(expected) : fail_here(expected);
}

bool JsonReader::unsigned_number(std::uint64_t& out, std::uint64_t max) {
  std::string_view text;
  if (error_) return false;
  if (peek() == Kind::kNumber) {
    if (!number_text(text)) return false;
    const auto [stop, fault] = std::from_chars(text.data(), text.data() + text.size(), out);
    if (fault == std::errc{} && stop == text.data() + text.size() && out <= max) return true;
  }
  const std::string expected = "expected a number from 0 to " + std::to_string(max);
  return peek() == Kind::kNone && text.empty() ? syntax(expected) : fail_here(expected);
}

bool JsonReader::skip(std::string* compact) {
  if (error_) return false;
  const auto put = [compact](std::string_view text) {
    if (compact != nullptr) compact->append(text);
  };
  const Kind kind = peek();
  const char* const start = at_;
  bool first = true;
  bool good = false;
  switch (kind) {
    case Kind::kNone:
      return syntax("expected a value");
    case Kind::kObject:
      put("{");
      good = object([&](std::string_view name) {
        if (!std::exchange(first, false)) put(",");
        if (compact != nullptr) append_quoted(*compact, name);
        put(":");
        return skip(compact);
      });
      put("}");
      return good;
    case Kind::kArray:
      put("[");
      good = array([&] {
        if (!std::exchange(first, false)) put(",");
        return skip(compact);
      });
      put("]");
      return good;
    case Kind::kString:
      good = scan_string(nullptr, true);
      break;
    case Kind::kBool:
      good = *at_ == 't' ? literal("true", "true") : literal("false", "false");
      break;
    case Kind::kNull:
      good = null();
      break;
    case Kind::kNumber: {
      std::string_view text;
      good = number_text(text);
      break;
    }
  }
  if (good) put({start, static_cast<std::size_t>(at_ - start)});
  return good;
}

bool JsonReader::finish() {
  if (error_) return false;
  skip_space();
  return at_ == end_ || syntax("unexpected text after the document");
}

}  // namespace berth::spec
