// A file of a hooks folder: whatever it holds, it is read or refused, and what was read can be asked.
#include <cstddef>
#include <cstdint>
#include <string_view>

#include "cri/hook_dirs.h"

extern "C" int LLVMFuzzerTestOneInput(const std::uint8_t* data, std::size_t size) {
  const std::string_view input(reinterpret_cast<const char*>(data), size);
  const auto file = berth::cri::parse_hook_file(input);
  if (!file) return 0;
  const berth::cri::HookQuestion question{
      .command = "/bin/sh", .annotations = {{"org.example.key", "value"}, {"x", ""}}, .has_bind_mounts = true};
  static_cast<void>(berth::cri::matches(*file, question));
  return 0;
}
