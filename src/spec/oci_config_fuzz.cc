#include <cstddef>
#include <cstdint>
#include <cstdlib>
#include <nlohmann/json.hpp>
#include <string_view>

#include "spec/json_text.h"
#include "spec/runtime.h"
#include "spec/state.h"

namespace {
void require(bool condition) {
  if (!condition) std::abort();
}
}  // namespace

// What is read must be written as JSON that reads as the same; another parser must find it to be JSON too.
extern "C" int LLVMFuzzerTestOneInput(const std::uint8_t* data, std::size_t size) {
  using namespace berth::spec;
  const std::string_view text(reinterpret_cast<const char*>(data), size);
  if (const auto spec = parse_spec(text)) {
    require(nlohmann::json::accept(text));
    const std::string written = write_spec(*spec);
    const auto again = parse_spec(written);
    require(again.has_value() && *again == *spec);
    berth::ignore(validate(*spec), "only that it ends matters");
  }
  if (const auto process = parse_process(text)) {
    const auto again = parse_process(write_process(*process));
    require(again.has_value() && *again == *process);
  }
  if (const auto state = parse_state(text)) {
    const auto again = parse_state(write_state(*state));
    require(again.has_value() && *again == *state);
  }
  if (const auto value = parse_json(text)) {
    require(nlohmann::json::accept(text));
    const std::string written = value->write();
    require(parse_json(written)->write() == written);
  }
  return 0;
}
