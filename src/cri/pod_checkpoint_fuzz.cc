// What says of a pod's checkpoint what it holds: whoever wrote it, it is an error or a whole one, never a crash.
#include <cstddef>
#include <cstdint>
#include <cstdlib>

#include "cri/pod_checkpoint.h"

extern "C" int LLVMFuzzerTestOneInput(const std::uint8_t* data, std::size_t size);

int LLVMFuzzerTestOneInput(const std::uint8_t* data, std::size_t size) {
  const auto read = berth::cri::decode_pod_checkpoint({reinterpret_cast<const char*>(data), size});
  if (read && !berth::cri::decode_pod_checkpoint(berth::cri::encode(*read))) std::abort();
  return 0;
}
