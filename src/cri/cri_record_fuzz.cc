// What is read back from disk: a damaged record is an error, never a crash.
#include <cstddef>
#include <cstdint>
#include <cstdlib>

#include "cri/records.h"

extern "C" int LLVMFuzzerTestOneInput(const std::uint8_t* data, std::size_t size);

int LLVMFuzzerTestOneInput(const std::uint8_t* data, std::size_t size) {
  const std::string_view blob(reinterpret_cast<const char*>(data), size);
  if (const auto record = berth::cri::decode_sandbox(blob)) {
    if (!berth::cri::decode_sandbox(berth::cri::encode(*record))) std::abort();
  }
  if (const auto record = berth::cri::decode_container(blob)) {
    if (!berth::cri::decode_container(berth::cri::encode(*record))) std::abort();
  }
  return 0;
}
