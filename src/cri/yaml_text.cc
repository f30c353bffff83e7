#include "cri/yaml_text.h"

#include <yaml.h>

#include <algorithm>
#include <array>
#include <vector>

#include "base/strings.h"
#include "spec/json_reader.h"
#include "spec/json_text.h"

namespace berth::cri {
namespace {

/// One event of the parser, which owns its memory until the next.
class Event final {
 public:
  Event() = default;
  Event(const Event&) = delete;
  Event& operator=(const Event&) = delete;
  ~Event() { clear(); }
  bool next(yaml_parser_t& parser) {
    clear();
    return here_ = yaml_parser_parse(&parser, &event_) == 1;
  }
  [[nodiscard]] const yaml_event_t& get() const { return event_; }

 private:
  void clear() {
    if (here_) yaml_event_delete(&event_);
    here_ = false;
  }
  yaml_event_t event_{};
  bool here_ = false;
};

std::string_view text_of(const yaml_char_t* bytes, std::size_t size) {
  return {reinterpret_cast<const char*>(bytes), size};
}

bool is_one_of(std::string_view text, std::initializer_list<std::string_view> words) {
  return std::ranges::find(words, text) != words.end();
}

/// A whole number of the core schema, or one with a leading 0.
std::optional<std::int64_t> whole_number(std::string_view text) {
  const bool negative = text.starts_with('-');
  if (negative || text.starts_with('+')) text.remove_prefix(1);
  int base = 10;
  if (text.starts_with("0x") || text.starts_with("0o")) {
    base = text[1] == 'x' ? 16 : 8;
    text.remove_prefix(2);
  } else if (text.size() > 1 && text.front() == '0') {
    base = 8;
  }
  if (text.empty() || text.front() < '0' || text.front() > 'f') return std::nullopt;  // no second sign
  const auto value = parse_number<std::int64_t>(text, base);
  if (!value) return std::nullopt;
  return negative ? -*value : *value;
}

class Converter final {
 public:
  Converter(std::string_view yaml, const spec::Limits& limits) : limits_(limits) {
    ready_ = yaml_parser_initialize(&parser_) == 1;
    if (!ready_) return;
    yaml_parser_set_encoding(&parser_, YAML_UTF8_ENCODING);
    yaml_parser_set_input_string(&parser_, reinterpret_cast<const unsigned char*>(yaml.data()), yaml.size());
  }
  Converter(const Converter&) = delete;
  Converter& operator=(const Converter&) = delete;
  Converter(Converter&&) = delete;
  Converter& operator=(Converter&&) = delete;
  ~Converter() {
    if (ready_) yaml_parser_delete(&parser_);
  }

  Result<std::string> run();

 private:
  enum class In { kList, kKey, kValue };  // what comes next where we are

  Result<bool> take();  // false at the end
  Result<> scalar();
  Result<> open(bool list);
  Result<> close(bool list);
  Result<> element();
  void value_done();
  [[nodiscard]] std::unexpected<Error> fault(std::string_view what, Code code = Code::kInvalid) const;

  spec::Limits limits_;
  yaml_parser_t parser_{};
  bool ready_ = false;
  Event event_;
  spec::JsonWriter json_;
  std::vector<In> stack_;
  std::size_t elements_ = 0;
  bool begun_ = false;
};

std::unexpected<Error> Converter::fault(std::string_view what, Code code) const {
  const std::size_t line = event_.get().start_mark.line + 1;
  return fail(code, "line " + std::to_string(line) + ": " + std::string(what));
}

Result<> Converter::element() {
  if (++elements_ > limits_.max_elements) return fault("more elements than are taken", Code::kExhausted);
  return {};
}

void Converter::value_done() {
  if (!stack_.empty() && stack_.back() == In::kValue) stack_.back() = In::kKey;
}

Result<> Converter::scalar() {
  const auto& data = event_.get().data.scalar;
  if (data.anchor != nullptr || data.tag != nullptr) return fault("anchors and tags are not taken");
  const auto text = text_of(data.value, data.length);
  if (text.size() > limits_.max_string_bytes) return fault("a longer text than is taken", Code::kExhausted);
  BERTH_TRY(element(), "YAML");
  if (!stack_.empty() && stack_.back() == In::kKey) {
    json_.key(text);
    stack_.back() = In::kValue;
    return {};
  }
  const bool plain = data.style == YAML_PLAIN_SCALAR_STYLE;
  const auto number = plain ? whole_number(text) : std::nullopt;
  if (plain && is_one_of(text, {"", "~", "null", "Null", "NULL"})) {
    json_.null();
  } else if (plain && is_one_of(text, {"true", "True", "TRUE"})) {
    json_.boolean(true);
  } else if (plain && is_one_of(text, {"false", "False", "FALSE"})) {
    json_.boolean(false);
  } else if (number) {
    json_.number(*number);
  } else {
    json_.string(text);
  }
  value_done();
  return {};
}

Result<> Converter::open(bool list) {
  const auto& event = event_.get();
  const auto* anchor = list ? event.data.sequence_start.anchor : event.data.mapping_start.anchor;
  const auto* tag = list ? event.data.sequence_start.tag : event.data.mapping_start.tag;
  if (anchor != nullptr || tag != nullptr) return fault("anchors and tags are not taken");
  if (!stack_.empty() && stack_.back() == In::kKey) return fault("a key must be a scalar");
  if (stack_.size() >= limits_.max_depth) return fault("deeper than is taken", Code::kExhausted);
  BERTH_TRY(element(), "YAML");
  list ? json_.begin_array() : json_.begin_object();
  stack_.push_back(list ? In::kList : In::kKey);
  return {};
}

Result<> Converter::close(bool list) {
  list ? json_.end_array() : json_.end_object();
  stack_.pop_back();
  value_done();
  return {};
}

Result<bool> Converter::take() {
  if (!event_.next(parser_)) {
    const std::string problem = parser_.problem == nullptr ? "no YAML" : parser_.problem;
    return fail(parser_.error == YAML_MEMORY_ERROR ? Code::kExhausted : Code::kInvalid,
                "line " + std::to_string(parser_.problem_mark.line + 1) + ": " + problem);
  }
  Result<> done;
  switch (event_.get().type) {
    case YAML_DOCUMENT_START_EVENT:
      if (std::exchange(begun_, true)) return fault("a second document");
      break;
    case YAML_STREAM_END_EVENT:
      return false;
    case YAML_ALIAS_EVENT:
      return fault("aliases are not taken");
    case YAML_SCALAR_EVENT:
      done = scalar();
      break;
    case YAML_SEQUENCE_START_EVENT:
    case YAML_MAPPING_START_EVENT:
      done = open(event_.get().type == YAML_SEQUENCE_START_EVENT);
      break;
    case YAML_SEQUENCE_END_EVENT:
    case YAML_MAPPING_END_EVENT:
      done = close(event_.get().type == YAML_SEQUENCE_END_EVENT);
      break;
    default:
      break;
  }
  if (!done) return fail(std::move(done).error());
  return true;
}

Result<std::string> Converter::run() {
  if (!ready_) return fail(Code::kExhausted, "no memory for a YAML parser");
  for (;;) {
    BERTH_ASSIGN(const bool more, take(), "YAML");
    if (!more) break;
  }
  if (!begun_) return fail(Code::kInvalid, "YAML: an empty document");
  return json_.take();
}

}  // namespace

Result<std::string> yaml_to_json(std::string_view yaml, const spec::Limits& limits) {
  if (yaml.size() > limits.max_bytes) return fail(Code::kExhausted, "YAML: a longer text than is taken");
  return Converter(yaml, limits).run();
}

}  // namespace berth::cri
