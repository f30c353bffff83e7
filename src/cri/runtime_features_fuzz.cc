#include <cstdint>
#include <cstdlib>
#include <string_view>

#include "cri/handler_features.h"

extern "C" int LLVMFuzzerTestOneInput(const std::uint8_t* data, std::size_t size);

// What a runtime or a shim says of itself. The first byte says which.
extern "C" int LLVMFuzzerTestOneInput(const std::uint8_t* data, std::size_t size) {
  using namespace berth::cri;
  if (size == 0) return 0;
  const std::string_view text(reinterpret_cast<const char*>(data + 1), size - 1);
  const auto features = data[0] % 2 == 0 ? parse_runtime_features(text) : parse_shim_features(text);
  // Nothing but a document that says so gives what may be relied on.
  if (features && features->user_namespaces() && text.find("user") == std::string_view::npos) std::abort();
  return 0;
}
