#pragma once
#include <cstdint>

#include "base/result.h"
#include "image/layer_tree.h"

namespace berth::image {

/// Puts `layer`, whose files' data lie in archive `archive`, over `image`, as overlayfs would show the two: whiteouts
/// and opaque folders take away what lies below and are gone themselves; a folder that the layer only implies keeps the
/// attributes it has below. Errors: kUnsupported the layer puts files below what is a symlink in `image`, which
/// overlayfs would hide; kExhausted the image's limits.
Result<> put_layer_over(LayerTree& image, const LayerTree& layer, std::uint16_t archive);

}  // namespace berth::image
