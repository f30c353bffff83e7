#pragma once
#include <memory>
#include <stop_token>
#include <string>

#include "base/unique_fd.h"
#include "image/layer_form.h"
#include "image/layer_tree_builder.h"

namespace berth::image {

/// The files of a layer that is kept as its archive, in the layer's folder.
inline constexpr const char* kArchiveFile = "/tar";
inline constexpr const char* kIndexFile = "/index";

/// Keeps a layer as the plain archive, byte by byte, and an EROFS index of it: `folder`/tar, padded with zeros to a
/// whole block, and `folder`/index. One write each; both are durable (fdatasync) when finish() returns. Errors: as
/// LayerTreeBuilder and write_erofs; kExhausted disk full.
class ArchiveLayer final : public LayerForm {
 public:
  /// `folder`: existing and empty. `max_bytes`: of the archive.
  static Result<std::unique_ptr<LayerForm>> start(const std::string& folder, std::uint64_t max_bytes,
                                                  const TreeLimits& limits = {});

  [[nodiscard]] TarSink& entries() override { return builder_; }
  Result<> raw(Bytes bytes) override;
  Result<LayerStats> finish() override;

 private:
  ArchiveLayer(UniqueFd archive, UniqueFd index, std::uint64_t max_bytes, const TreeLimits& limits)
      : archive_(std::move(archive)), index_(std::move(index)), builder_(limits, max_bytes) {}

  UniqueFd archive_;
  UniqueFd index_;
  LayerTreeBuilder builder_;
  std::uint64_t written_ = 0;
  std::uint64_t flushed_ = 0;  ///< of written_: the kernel was told to write it back
};

/// What an archive on disk amounts to: its digest, and the index that belongs to it.
struct ArchiveCheck {
  std::string diff_id;
  std::string index;  ///< the bytes that the index file ought to have; empty: it is no archive
};
/// Reads the first `bytes` of the archive at `path`. Cancellable: kCancelled. Errors: by errno.
[[nodiscard]] Result<ArchiveCheck> check_archive(const std::string& path, std::uint64_t bytes,
                                                 const std::stop_token& stop);

}  // namespace berth::image
