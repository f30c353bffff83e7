#include <cstddef>
#include <cstdint>
#include <cstdlib>
#include <string_view>

#include "spec/image.h"

namespace {
void require(bool condition) {
  if (!condition) std::abort();
}
}  // namespace

extern "C" int LLVMFuzzerTestOneInput(const std::uint8_t* data, std::size_t size) {
  using namespace berth::spec;
  const std::string_view text(reinterpret_cast<const char*>(data), size);
  if (const auto manifest = parse_manifest(text)) {
    for (const auto& layer : manifest->layers) require(check_digest(layer.digest).has_value());
    const auto again = parse_manifest(write_manifest(*manifest));
    require(again.has_value() && *again == *manifest);
    require(!parse_index(text).has_value() || manifest->layers.empty());
  }
  if (const auto index = parse_index(text)) {
    const auto again = parse_index(write_index(*index));
    require(again.has_value() && *again == *index);
  }
  if (const auto config = parse_image_config(text)) {
    const auto again = parse_image_config(write_image_config(*config));
    require(again.has_value() && *again == *config);
  }
  berth::ignore(parse_manifest_or_index(text, ""), "only that it ends matters");
  return 0;
}
