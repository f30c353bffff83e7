#include <cstddef>
#include <cstdint>
#include <cstdlib>
#include <string_view>

#include "config/config.h"

// Whatever loads must dump to a text that loads to the same values.
extern "C" int LLVMFuzzerTestOneInput(const std::uint8_t* data, std::size_t size) {
  const std::string_view text(reinterpret_cast<const char*>(data), size);
  const auto loaded = berth::config::load_text(text, "f.toml");
  if (!loaded) return loaded.error().text().empty() ? (std::abort(), 0) : 0;
  const auto again = berth::config::load_text(loaded->dump(), "dump.toml");
  if (!again || !(again->config == loaded->config)) std::abort();
  return 0;
}
