#include "image/layer_unpacker.h"

namespace berth::image {

Result<std::unique_ptr<LayerUnpacker>> LayerUnpacker::start(ExpectedLayer expected, std::unique_ptr<LayerForm> form,
                                                            TarLimits limits) {
  BERTH_ASSIGN(Sha256 blob, Sha256::start(), "unpack");
  BERTH_ASSIGN(Sha256 tar, Sha256::start(), "unpack");
  std::unique_ptr<LayerUnpacker> out(
      new LayerUnpacker(std::move(expected), std::move(form), limits, std::move(blob), std::move(tar)));
  if (out->expected_.two_threads) {
    // Without one it is slower and right.
    if (auto second = SinkThread::start([raw = out.get()](Bytes bytes) { return raw->keep(bytes); })) {
      out->second_ = std::move(*second);
    }
  }
  return out;
}

LayerUnpacker::LayerUnpacker(ExpectedLayer expected, std::unique_ptr<LayerForm> form, TarLimits limits, Sha256 blob,
                             Sha256 tar)
    : expected_(std::move(expected)),
      blob_hash_(std::move(blob)),
      tar_hash_(std::move(tar)),
      form_(std::move(form)),
      reader_(limits, form_->entries()),
      decompressor_([this](Bytes bytes) { return unpacked(bytes); }) {}

Result<> LayerUnpacker::push(Bytes bytes) {
  if (bytes.size() > expected_.size - received_) {
    return fail(Code::kCorrupt,
                "the blob has more than the " + std::to_string(expected_.size) + " bytes that the manifest says");
  }
  received_ += bytes.size();
  blob_hash_.update(bytes);
  return decompressor_.push(bytes);
}

Result<> LayerUnpacker::unpacked(Bytes bytes) {
  if (bytes.size() > expected_.max_bytes - unpacked_) {
    return fail(Code::kExhausted, "the layer unpacks to more than the " + std::to_string(expected_.max_bytes) +
                                      " bytes that are allowed");
  }
  unpacked_ += bytes.size();
  return second_ ? second_->push(bytes) : keep(bytes);
}

Result<> LayerUnpacker::keep(Bytes bytes) {
  tar_hash_.update(bytes);
  if (auto done = form_->raw(bytes); !done) return done;
  return reader_.push(bytes);
}

Result<LayerStats> LayerUnpacker::finish() {
  if (received_ != expected_.size) {
    return fail(Code::kCorrupt, "the blob has " + std::to_string(received_) + " bytes, the manifest says " +
                                    std::to_string(expected_.size));
  }
  if (const std::string got = blob_hash_.finish(); got != expected_.digest) {
    return fail(Code::kCorrupt, "digest mismatch: the registry sent " + got);
  }
  BERTH_TRY(decompressor_.finish(), "unpack");
  if (second_) BERTH_TRY(second_->finish(), "unpack");
  BERTH_TRY(reader_.finish(), "unpack");
  if (const std::string got = tar_hash_.finish(); got != expected_.diff_id) {
    return fail(Code::kCorrupt, "the unpacked layer is " + got + ", the image configuration says " + expected_.diff_id);
  }
  auto stats = form_->finish();
  if (!stats) return fail(std::move(stats).error().in("unpack"));
  return stats;
}

}  // namespace berth::image
