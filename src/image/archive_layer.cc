#include "image/archive_layer.h"

#include <fcntl.h>
#include <sys/mman.h>
#include <unistd.h>

#include <algorithm>
#include <cerrno>
#include <vector>

#include "image/erofs_writer.h"
#include "image/tar_reader.h"
#include "os/file.h"

namespace berth::image {
namespace {

constexpr std::uint64_t kWriteBackEvery = 8U << 20;  // so that the flush at the end finds little left to do
constexpr std::uint64_t kBlock = 512;
constexpr std::size_t kMaxIndexBytes = 2ULL << 30;

Result<> flush(int fd, const char* what) {
  if (::fdatasync(fd) != 0) return fail_errno(errno, std::string("flush ") + what);
  return {};
}

/// The index of `tree` in memory.
Result<std::string> index_bytes(const LayerTree& tree, std::uint64_t archive_bytes) {
  const UniqueFd file(::memfd_create("index", MFD_CLOEXEC));
  if (!file) return fail_errno(errno, "memfd_create");
  BERTH_TRY(write_erofs(tree, {.block_bits = 9, .archive_bytes = {archive_bytes}}, file.get()), "index");
  if (::lseek(file.get(), 0, SEEK_SET) != 0) return fail_errno(errno, "seek");
  return os::read_all(file.get(), kMaxIndexBytes);
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

Result<ArchiveCheck> check_archive(const std::string& path, std::uint64_t bytes, const std::stop_token& stop) {
  BERTH_ASSIGN(const UniqueFd file, os::open_file(path, O_RDONLY), "layer");
  BERTH_ASSIGN(Sha256 hash, Sha256::start(), "layer");
  LayerTreeBuilder builder;
  TarReader reader({}, builder);
  Result<> read;
  std::vector<std::byte> buffer(1U << 20);
  for (std::uint64_t at = 0; at < bytes;) {
    if (stop.stop_requested()) return fail(Code::kCancelled, "the look at the image was cancelled");
    const auto size = static_cast<std::size_t>(std::min<std::uint64_t>(buffer.size(), bytes - at));
    const ssize_t got = ::pread(file.get(), buffer.data(), size, static_cast<off_t>(at));
    if (got < 0 && errno == EINTR) continue;
    if (got < 0) return fail_errno(errno, "read " + path);
    if (got == 0) break;  // cut: its digest tells
    const Bytes piece(buffer.data(), static_cast<std::size_t>(got));
    hash.update(piece);
    if (read) read = reader.push(piece);
    at += piece.size();
  }
  if (read) read = reader.finish();
  ArchiveCheck out{hash.finish(), {}};
  if (!read) return out;
  LayerStats stats;
  const LayerTree tree = builder.take(stats);
  auto index = index_bytes(tree, (bytes + kBlock - 1) / kBlock * kBlock);
  if (!index) return fail(std::move(index).error());
  out.index = std::move(*index);
  return out;
}

}  // namespace berth::image
