#include <cstdint>
#include <cstdlib>
#include <string_view>

#include "image/decompress.h"
#include "image/tar_reader.h"

extern "C" int LLVMFuzzerTestOneInput(const std::uint8_t* data, std::size_t size);

namespace {

using berth::Result;
using namespace berth::image;

/// Checks that the reader keeps its promises about order and sizes.
class Checker final : public TarSink {
 public:
  Result<> entry(const TarEntry& entry) override {
    if (open_ || entry.path.empty() || entry.path.size() > 4095) std::abort();
    if (entry.path.find('\0') != std::string::npos || entry.link.find('\0') != std::string::npos) std::abort();
    if (entry.type != TarType::kFile && entry.size != 0) std::abort();
    open_ = true;
    left_ = entry.size;
    return {};
  }
  Result<> data(Bytes bytes) override {
    if (!open_ || bytes.empty() || bytes.size() > left_) std::abort();
    left_ -= bytes.size();
    return {};
  }
  Result<> end_entry() override {
    if (!open_ || left_ != 0) std::abort();
    open_ = false;
    return {};
  }

 private:
  bool open_ = false;
  std::uint64_t left_ = 0;
};

}  // namespace

// The first byte says how the rest is cut into pieces; the rest goes the way of a layer: decompressor, then tar reader.
extern "C" int LLVMFuzzerTestOneInput(const std::uint8_t* data, std::size_t size) {
  if (size == 0) return 0;
  const std::size_t piece = data[0] == 0 ? size : data[0];
  const std::string_view text(reinterpret_cast<const char*>(data) + 1, size - 1);
  Checker checker;
  TarReader reader({}, checker);
  std::size_t total = 0;
  Decompressor decompressor([&](Bytes bytes) -> Result<> {
    total += bytes.size();
    if (total > (4U << 20)) return berth::fail(berth::Code::kExhausted, "enough");
    return reader.push(bytes);
  });
  for (std::size_t at = 0; at < text.size(); at += piece) {
    if (!decompressor.push(as_bytes(text.substr(at, piece)))) return 0;
  }
  if (decompressor.finish()) berth::ignore(reader.finish(), "any answer is right");
  return 0;
}
