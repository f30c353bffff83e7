#include <sys/mman.h>
#include <unistd.h>

#include <cstdint>
#include <cstdlib>
#include <string_view>

#include "base/unique_fd.h"
#include "image/erofs_reader.h"
#include "image/erofs_writer.h"

extern "C" int LLVMFuzzerTestOneInput(const std::uint8_t* data, std::size_t size);

// Whatever is read out of a damaged index can be written again, unless a limit of the format says no.
extern "C" int LLVMFuzzerTestOneInput(const std::uint8_t* data, std::size_t size) {
  using namespace berth::image;
  const std::string_view image(reinterpret_cast<const char*>(data), size);
  const auto index = read_erofs(image, {.max_nodes = 4096, .max_text_bytes = 1U << 20, .max_xattr_bytes = 1U << 20});
  if (!index) return 0;
  ErofsOptions options{.block_bits = index->block_bits, .archive_bytes = {}};
  for (const auto blocks : index->archive_blocks) options.archive_bytes.push_back(blocks << index->block_bits);
  static const berth::UniqueFd file(::memfd_create("index", MFD_CLOEXEC));
  if (::ftruncate(file.get(), 0) != 0 || ::lseek(file.get(), 0, SEEK_SET) != 0) std::abort();
  const auto written = write_erofs(index->tree, options, file.get());
  if (!written && written.error().code() != berth::Code::kUnsupported) std::abort();
  return 0;
}
