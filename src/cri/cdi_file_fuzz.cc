// Files of the Container Device Interface: the first byte says whether the rest is JSON or YAML.
#include <cstddef>
#include <cstdint>
#include <cstdlib>
#include <string_view>

#include "cri/cdi_file.h"

extern "C" int LLVMFuzzerTestOneInput(const std::uint8_t* data, std::size_t size);

int LLVMFuzzerTestOneInput(const std::uint8_t* data, std::size_t size) {
  if (size == 0) return 0;
  const std::string_view text(reinterpret_cast<const char*>(data + 1), size - 1);
  const auto format = data[0] == 'y' ? berth::cri::cdi::Format::kYaml : berth::cri::cdi::Format::kJson;
  const auto file = berth::cri::cdi::parse_file(text, format);
  if (!file) return 0;
  if (file->devices.empty() || file->kind.empty()) std::abort();
  for (const auto& device : file->devices) {
    if (!berth::cri::cdi::parse_name(file->kind + "=" + device.name)) std::abort();
  }
  return 0;
}
