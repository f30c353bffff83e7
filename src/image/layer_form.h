#pragma once
#include "base/result.h"
#include "image/digest.h"
#include "image/layer_writer.h"
#include "image/tar_entry.h"

namespace berth::image {

/// How one layer is put on the disk while it streams in: gets each piece of the archive first as it is, then as
/// entries. Nothing has been verified before finish(). Not thread-safe.
class LayerForm {
 public:
  LayerForm() = default;
  LayerForm(const LayerForm&) = delete;
  LayerForm& operator=(const LayerForm&) = delete;
  LayerForm(LayerForm&&) = delete;
  LayerForm& operator=(LayerForm&&) = delete;
  virtual ~LayerForm() = default;

  [[nodiscard]] virtual TarSink& entries() = 0;
  virtual Result<> raw(Bytes bytes) = 0;
  /// After the archive's end and when its digest was right. What it made is on disk durably if it says so.
  virtual Result<LayerStats> finish() = 0;
};

}  // namespace berth::image
