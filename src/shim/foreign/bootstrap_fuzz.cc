#include <cstdint>
#include <string_view>

#include "shim/foreign/bootstrap.h"

// What a program that we did not write says must be an address or an error.
extern "C" int LLVMFuzzerTestOneInput(const std::uint8_t* data, std::size_t size) {
  const auto answer = berth::shim::foreign::parse_bootstrap({reinterpret_cast<const char*>(data), size});
  if (answer && (!answer->socket.starts_with('/') || answer->task_api < 2 || answer->task_api > 3)) __builtin_trap();
  return 0;
}
