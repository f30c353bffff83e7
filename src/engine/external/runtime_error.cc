#include "engine/external/runtime_error.h"

#include <algorithm>
#include <cerrno>
#include <initializer_list>
#include <utility>

#include "base/result.h"
#include "base/strings.h"
#include "spec/json_text.h"

namespace berth::engine::external {
namespace {

constexpr std::size_t kMaxText = 1024;

bool has_any(std::string_view text, std::initializer_list<std::string_view> words) {
  return std::ranges::any_of(words, [text](std::string_view word) { return text.find(word) != text.npos; });
}

}  // namespace

std::string last_error(std::string_view log, std::string_view otherwise) {
  std::string found;
  for (const auto line : split(log, '\n')) {
    if (trim(line).empty()) continue;
    const auto entry = spec::parse_json(line);
    if (!entry) continue;
    const auto level = entry->string_or("level");
    if (level == "error" || level == "fatal") found = entry->string_or("msg");
  }
  if (found.empty()) found = otherwise;
  if (found.size() > kMaxText) found.resize(kMaxText);
  return found;
}

Error classify(std::string text) {
  const std::string low = to_lower(text);
  const bool program = has_any(low, {"executable file", "exec: \"", "open executable"});
  if (has_any(low, {"exec format error"})) return {Code::kInternal, std::move(text), ENOEXEC};
  if (program && has_any(low, {"permission denied", "is a directory"})) {
    return {Code::kDenied, std::move(text), EACCES};
  }
  if (program && has_any(low, {"not found", "no such file"})) return {Code::kNotFound, std::move(text), ENOENT};
  const bool gone = has_any(low, {"container does not exist", "container not running", "process already finished",
                                  "no such process", "is not running"}) ||
                    (low.find("/status`: no such file") != low.npos);
  if (gone) return {Code::kNotFound, std::move(text)};
  return {Code::kInternal, std::move(text)};
}

bool refuses_hybrid_cgroups(std::string_view text) {
  return text.find("hybrid mode not supported") != text.npos;
}

}  // namespace berth::engine::external
