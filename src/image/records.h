#pragma once
#include <string>
#include <string_view>

#include "base/result.h"
#include "image/disk.h"

namespace berth::image {

/// The store's records as JSON text and back. Reading checks every digest, so that none can name a file elsewhere;
/// kCorrupt: not such a record. Version 1.
[[nodiscard]] std::string write_layer_record(const LayerRecord& record);
[[nodiscard]] Result<LayerRecord> read_layer_record(std::string_view text);
[[nodiscard]] std::string write_image_record(const ImageRecord& record);
[[nodiscard]] Result<ImageRecord> read_image_record(std::string_view text);
[[nodiscard]] std::string write_ref_record(const RefRecord& record);
[[nodiscard]] Result<RefRecord> read_ref_record(std::string_view text);

}  // namespace berth::image
