#include <cstddef>
#include <cstdint>

#include "engine/process/checkpoint.h"
#include "engine/process/criu_wire.h"

/// Whatever criu answers, logs or leaves in a folder of images: a value or an error, short and printable.
extern "C" int LLVMFuzzerTestOneInput(const std::uint8_t* data, std::size_t size) {
  using namespace berth::engine::process;
  const std::string_view bytes(reinterpret_cast<const char*>(data), size);
  const auto check = [](std::string_view text) {
    if (text.size() > 1024) __builtin_trap();
    for (const char c : text) {
      if (c < ' ' || c > '~') __builtin_trap();
    }
  };
  if (const auto response = decode_criu_response(bytes)) {
    check(response->script);
    check(response->error_text);
    if (response->restored_pid < 0 || response->notify_pid < 0 || response->version < 0) __builtin_trap();
  }
  check(criu_log_errors(bytes));
  if (const auto stdio = read_descriptors(bytes); stdio && stdio->size() > 3) __builtin_trap();
  return 0;
}
