#include "image/archive_layer.h"

#include <fcntl.h>
#include <unistd.h>

#include <cerrno>

#include "image/erofs_writer.h"
#include "os/file.h"

namespace berth::image {
namespace {

constexpr std::uint64_t kWriteBackEvery = 8U << 20;  // so that the flush at the end finds little left to do
constexpr std::uint64_t kBlock = 512;

Result<> flush(int fd, const char* what) {
  if (::fdatasync(fd) != 0) return fail_errno(errno, std::string("flush ") + what);
  return {};
}

}  // namespace

Result<std::unique_ptr<LayerForm>> ArchiveLayer::start(const std::string& folder, std::uint64_t max_bytes,
                                                       const TreeLimits& limits) {
  constexpr int kFlags = O_WRONLY | O_CREAT | O_EXCL;
  BERTH_ASSIGN(UniqueFd archive, os::open_file(folder + kArchiveFile, kFlags, 0400), "layer");
  BERTH_ASSIGN(UniqueFd index, os::open_file(folder + kIndexFile, kFlags, 0400), "layer");
  return std::unique_ptr<LayerForm>(new ArchiveLayer(std::move(archive), std::move(index), max_bytes, limits));
}

Result<> ArchiveLayer::raw(Bytes bytes) {
  BERTH_TRY(os::write_all(archive_.get(), {reinterpret_cast<const char*>(bytes.data()), bytes.size()}), "archive");
  written_ += bytes.size();
  if (written_ - flushed_ >= kWriteBackEvery) {
    // A hint: what it cannot do, the flush at the end does.
    (void)::sync_file_range(archive_.get(), static_cast<off_t>(flushed_), static_cast<off_t>(written_ - flushed_),
                            SYNC_FILE_RANGE_WRITE);
    flushed_ = written_;
  }
  return {};
}

Result<LayerStats> ArchiveLayer::finish() {
  const std::uint64_t padded = (written_ + kBlock - 1) / kBlock * kBlock;
  if (padded != written_ && ::ftruncate(archive_.get(), static_cast<off_t>(padded)) != 0) {
    return fail_errno(errno, "pad the archive");
  }
  LayerStats stats;
  const LayerTree tree = builder_.take(stats);
  BERTH_ASSIGN(const std::uint64_t index, write_erofs(tree, {.block_bits = 9, .archive_bytes = {padded}}, index_.get()),
               "index");
  BERTH_TRY(flush(archive_.get(), "the archive"), "layer");
  BERTH_TRY(flush(index_.get(), "the index"), "layer");
  stats.archive_bytes = written_;
  stats.bytes = padded + index;
  stats.inodes = 4;  // with the folder and its record
  stats.durable = true;
  return stats;
}

}  // namespace berth::image
