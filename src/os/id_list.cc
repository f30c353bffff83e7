#include "os/id_list.h"

#include <algorithm>
#include <string>

#include "base/strings.h"

namespace berth::os {

namespace {

constexpr unsigned kMaxId = 65536;  // far above what kernels can be built for; bounds the set's size
constexpr std::size_t kWordBits = 64;

Result<unsigned> parse_id(std::string_view text) {
  const auto id = parse_number<unsigned>(text);
  if (!id || *id > kMaxId) return fail(Code::kInvalid, "\"" + std::string(text.substr(0, 32)) + "\" is no id");
  return *id;
}

}  // namespace

Result<std::vector<std::uint64_t>> parse_id_list(std::string_view text) {
  std::vector<std::uint64_t> set;
  for (const auto part : split(text, ',')) {
    const auto range = trim(part);
    if (range.empty()) continue;
    const std::size_t dash = range.find('-');
    BERTH_ASSIGN(const unsigned first, parse_id(range.substr(0, dash)), "list");
    unsigned last = first;
    if (dash != std::string_view::npos) {
      BERTH_ASSIGN(last, parse_id(range.substr(dash + 1)), "list");
    }
    if (last < first) return fail(Code::kInvalid, "the range \"" + std::string(range) + "\" is backwards");
    set.resize(std::max(set.size(), last / kWordBits + 1));
    for (unsigned id = first; id <= last; ++id) set[id / kWordBits] |= 1ULL << (id % kWordBits);
  }
  if (set.empty() && !text.empty()) return fail(Code::kInvalid, "a list without members");
  return set;
}

}  // namespace berth::os
