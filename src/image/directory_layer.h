#pragma once
#include <memory>
#include <string>

#include "image/layer_form.h"
#include "image/layer_writer.h"

namespace berth::image {

/// Keeps a layer as the unpacked tree `folder`/fs, an overlayfs lower directory. Not durable when finish() returns.
class DirectoryLayer final : public LayerForm {
 public:
  /// `folder`: existing and empty. `max_bytes`: of all that the layer unpacks to.
  static Result<std::unique_ptr<LayerForm>> start(const std::string& folder, std::uint64_t max_bytes);

  [[nodiscard]] TarSink& entries() override { return writer_; }
  Result<> raw(Bytes /*bytes*/) override { return {}; }
  Result<LayerStats> finish() override;

 private:
  DirectoryLayer(UniqueFd root, std::uint32_t umask, std::uint64_t max_bytes)
      : writer_(std::move(root), umask, max_bytes) {}

  LayerWriter writer_;
};

}  // namespace berth::image
