#pragma once
#include <memory>
#include <string>

#include "image/decompress.h"
#include "image/digest.h"
#include "image/layer_form.h"
#include "image/sink_thread.h"
#include "image/tar_reader.h"

namespace berth::image {

/// What a layer must turn out to be.
struct ExpectedLayer {
  std::string digest;           ///< of the blob as the registry serves it
  std::uint64_t size = 0;       ///< of the blob
  std::string diff_id;          ///< digest of the tar archive inside
  std::uint64_t max_bytes = 0;  ///< of the tar archive
  /// What comes out of the decompressor goes on in a second thread: for a layer that others do not keep the cores busy
  /// beside.
  bool two_threads = false;
};

/// One layer's way from the network to the disk, in one pass and one thread, or two:
/// bytes -> SHA-256 -> decompress -> SHA-256 -> form (raw) -> tar -> form (entries). Nothing is trusted before finish()
/// said so; the caller publishes the layer only then. Not thread-safe. Blocks on disk. Errors: kCorrupt wrong size,
/// digest or archive; kExhausted a limit or the disk; as the form.
class LayerUnpacker final {
 public:
  static Result<std::unique_ptr<LayerUnpacker>> start(ExpectedLayer expected, std::unique_ptr<LayerForm> form,
                                                      TarLimits limits = {});

  /// The next bytes of the blob. More than expected.size in total is kCorrupt at once.
  Result<> push(Bytes bytes);
  /// The blob is complete: checks size and both digests and finishes the form.
  Result<LayerStats> finish();
  [[nodiscard]] std::uint64_t received() const { return received_; }

 private:
  LayerUnpacker(ExpectedLayer expected, std::unique_ptr<LayerForm> form, TarLimits limits, Sha256 blob, Sha256 tar);
  Result<> unpacked(Bytes bytes);
  Result<> keep(Bytes bytes);

  ExpectedLayer expected_;
  Sha256 blob_hash_;
  Sha256 tar_hash_;
  std::unique_ptr<LayerForm> form_;
  TarReader reader_;
  Decompressor decompressor_;
  std::uint64_t received_ = 0;
  std::uint64_t unpacked_ = 0;
  std::unique_ptr<SinkThread> second_;  // last: it uses the members above
};

}  // namespace berth::image
