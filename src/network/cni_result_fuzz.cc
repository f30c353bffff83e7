#include <cstddef>
#include <cstdint>
#include <cstdlib>
#include <string_view>

#include "network/cni_result.h"

extern "C" int LLVMFuzzerTestOneInput(const std::uint8_t* data, std::size_t size);

// A result that is accepted stays the same through a conversion to the newest version and back through text.
extern "C" int LLVMFuzzerTestOneInput(const std::uint8_t* data, std::size_t size) {
  using namespace berth::network;
  const std::string_view text(reinterpret_cast<const char*>(data), size);
  if (const auto error = parse_cni_error(text); error && error->message.size() > 1024) std::abort();
  const auto result = parse_cni_result(text, "1.0.0");
  if (!result) return 0;
  for (const char* version : {"0.2.0", "0.3.1", "0.4.0", "1.0.0", "1.1.0"}) {
    const auto once = format_cni_result(*result, version);
    const auto again = parse_cni_result(once, version);
    if (!again || format_cni_result(*again, version) != once) std::abort();
  }
  const auto attachment = attachment_of(*result, "eth0", "net");
  if (attachment.ips.size() > result->ips.size()) std::abort();
  return 0;
}
