#include <cstddef>
#include <cstdint>
#include <cstdlib>
#include <string_view>

#include "network/cni_conf.h"

extern "C" int LLVMFuzzerTestOneInput(const std::uint8_t* data, std::size_t size);

// Whatever is accepted can be handed to every plugin, and what a plugin gets is read again by the same rules.
extern "C" int LLVMFuzzerTestOneInput(const std::uint8_t* data, std::size_t size) {
  using namespace berth::network;
  const auto conf = parse_cni_conf({reinterpret_cast<const char*>(data), size});
  if (!conf) return 0;
  PodNetwork pod;
  pod.sandbox_id = "sandbox";
  pod.ports = {{"tcp", 80, 8080, ""}};
  pod.annotations = {{"kubernetes.io/ingress-bandwidth", "1M"}};
  for (std::size_t i = 0; i < conf->plugins.size(); ++i) {
    const auto input = plugin_input(*conf, i, pod, "{}");
    if (!input || input->empty()) std::abort();
  }
  return 0;
}
