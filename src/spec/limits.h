#pragma once
#include <cstddef>

namespace berth::spec {

/// What a JSON document may cost before it is refused. Checked while reading, before anything is allocated for it.
struct Limits {
  std::size_t max_bytes = 4U << 20;         ///< the whole document; a Kubernetes config.json is 10 to 60 KiB
  std::size_t max_depth = 64;               ///< arrays and objects inside each other, at most 1024 whatever is set here
  std::size_t max_elements = 100'000;       ///< members and array entries of the whole document
  std::size_t max_string_bytes = 1U << 20;  ///< one string, as decoded
};

}  // namespace berth::spec
