#include <cstdint>
#include <cstdlib>
#include <string_view>

#include "image/reference.h"

extern "C" int LLVMFuzzerTestOneInput(const std::uint8_t* data, std::size_t size);

// What parses must be stable: written out and parsed again it is the same name.
extern "C" int LLVMFuzzerTestOneInput(const std::uint8_t* data, std::size_t size) {
  using namespace berth::image;
  const std::string_view text(reinterpret_cast<const char*>(data), size);
  const auto first = parse_reference(text);
  if (!first) return 0;
  if (!valid_registry(first->registry)) std::abort();
  const auto second = parse_reference(first->to_string());
  if (!second || second->to_string() != first->to_string() || second->name() != first->name()) std::abort();
  if (first->repository.find("..") != std::string::npos) std::abort();  // a tag may hold two dots
  return 0;
}
