#pragma once
#include <cstddef>
#include <cstdint>

#include "base/result.h"
#include "pull_layer.h"

namespace berth::bench {

inline constexpr std::size_t kUsrLayers = 6;

/// Layer `index` of an image out of this machine's /usr and /etc: its folders' files in the order of their names, as
/// far as its share of `budget` bytes of archive goes. Files that not all may read and single large ones are left out.
/// The first one holds /usr/bin/perl with its libraries in any case. Errors: those of a file that cannot be read.
Result<> put_usr_layer(TarStream& tar, std::size_t index, std::uint64_t budget);

}  // namespace berth::bench
