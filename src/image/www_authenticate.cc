#include "image/www_authenticate.h"

#include "base/strings.h"

namespace berth::image {
namespace {

constexpr std::size_t kMaxHeader = 8192;
constexpr std::size_t kMaxChallenges = 16;
constexpr std::size_t kMaxParams = 32;

bool is_token_char(char c) {
  if ((c >= '0' && c <= '9') || (c >= 'a' && c <= 'z') || (c >= 'A' && c <= 'Z')) return true;
  return std::string_view("!#$%&'*+-.^_`|~").find(c) != std::string_view::npos;
}

/// A cursor over the header. Every take_* leaves the cursor in place when it finds nothing.
class Cursor {
 public:
  explicit Cursor(std::string_view text) : text_(text) {}
  [[nodiscard]] bool at_end() const { return at_ >= text_.size(); }
  [[nodiscard]] std::size_t position() const { return at_; }
  void rewind(std::size_t position) { at_ = position; }
  void skip_space() {
    while (!at_end() && (text_[at_] == ' ' || text_[at_] == '\t')) ++at_;
  }
  bool take(char c) {
    if (at_end() || text_[at_] != c) return false;
    ++at_;
    return true;
  }
  std::string_view take_token() {
    const std::size_t begin = at_;
    while (!at_end() && is_token_char(text_[at_])) ++at_;
    return text_.substr(begin, at_ - begin);
  }
  /// The credentials form "abc==" that some schemes use instead of parameters.
  std::string_view take_token68() {
    const std::size_t begin = at_;
    while (!at_end() && (is_token_char(text_[at_]) || text_[at_] == '/')) ++at_;
    while (!at_end() && text_[at_] == '=') ++at_;
    return text_.substr(begin, at_ - begin);
  }
  bool take_quoted(std::string& out) {
    if (!take('"')) return false;
    while (!at_end()) {
      const char c = text_[at_++];
      if (c == '"') return true;
      if (c == '\\') {
        if (at_end()) return false;
        out += text_[at_++];
      } else {
        out += c;
      }
    }
    return false;
  }

 private:
  std::string_view text_;
  std::size_t at_ = 0;
};

std::unexpected<Error> bad(std::string_view what) {
  return fail(Code::kInvalid, "WWW-Authenticate header: " + std::string(what));
}

/// One `name = value`; false without error when the text ahead is no parameter (the cursor is put back).
Result<bool> take_param(Cursor& cursor, Challenge& challenge) {
  const std::size_t begin = cursor.position();
  const std::string_view name = cursor.take_token();
  cursor.skip_space();
  if (name.empty() || !cursor.take('=')) {
    cursor.rewind(begin);
    return false;
  }
  cursor.skip_space();
  std::string value;
  const std::size_t value_begin = cursor.position();
  if (!cursor.take_quoted(value)) {
    if (cursor.position() != value_begin) return bad("a quoted value has no end");
    value = cursor.take_token();
    if (value.empty()) {
      cursor.rewind(begin);
      return false;
    }
  }
  if (challenge.params.size() >= kMaxParams) return bad("more than 32 parameters");
  challenge.params.emplace_back(to_lower(name), std::move(value));
  return true;
}

Result<> take_params(Cursor& cursor, Challenge& challenge) {
  for (bool first = true;; first = false) {
    const std::size_t before = cursor.position();
    bool comma = false;
    for (cursor.skip_space(); cursor.take(','); cursor.skip_space()) comma = true;
    if (cursor.at_end()) return {};
    if (!first && !comma) return bad("a comma is missing between two parameters");
    BERTH_ASSIGN(const bool found, take_param(cursor, challenge), "parameter");
    if (found) continue;
    if (comma) {  // a token without "=": the next challenge's scheme
      cursor.rewind(before);
      return {};
    }
    if (cursor.take_token68().empty()) return bad("unexpected character");
  }
}

}  // namespace

std::string_view Challenge::param(std::string_view name) const {
  for (const auto& [key, value] : params) {
    if (key == name) return value;
  }
  return {};
}

Result<std::vector<Challenge>> parse_www_authenticate(std::string_view header) {
  if (header.size() > kMaxHeader) return bad("longer than 8 KiB");
  std::vector<Challenge> out;
  Cursor cursor(header);
  for (;;) {
    for (cursor.skip_space(); cursor.take(','); cursor.skip_space()) {
    }
    if (cursor.at_end()) break;
    if (out.size() >= kMaxChallenges) return bad("more than 16 challenges");
    const std::string_view scheme = cursor.take_token();
    if (scheme.empty()) return bad("a scheme is missing");
    Challenge challenge;
    challenge.scheme = to_lower(scheme);
    const std::size_t after_scheme = cursor.position();
    cursor.skip_space();
    if (!cursor.at_end() && cursor.position() == after_scheme) {
      if (!cursor.take(',')) return bad("a space must follow the scheme");
      cursor.rewind(after_scheme);
    }
    BERTH_TRY(take_params(cursor, challenge), challenge.scheme);
    out.push_back(std::move(challenge));
  }
  if (out.empty()) return bad("empty");
  return out;
}

}  // namespace berth::image
