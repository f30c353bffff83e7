#pragma once
#include <string>
#include <vector>

#include "base/result.h"
#include "spec/image.h"

namespace berth::bench {

/// The image's manifest, from the registry.
Result<spec::Manifest> manifest_of(const std::string& image);

/// Reads the blobs of the manifest in the registry's storage once, so that they are in memory for everybody.
Result<> read_blobs(const std::string& registry_root, const spec::Manifest& manifest);

}  // namespace berth::bench
