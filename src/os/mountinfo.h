#pragma once
#include <string>

#include "base/result.h"

namespace berth::os {

/// How a mount takes part in propagation: a shared one has a peer group, a slave hears of another's, and one may be
/// both. Source: mount_namespaces(7).
struct MountPropagation {
  std::string mount_point;  ///< as mountinfo writes it, with escapes
  bool shared = false;
  bool slave = false;
};
/// That of the mount of the caller's namespace on which `path` lies; links are followed. Blocks on the disk that `path`
/// is on. Errors: by errno, as open(2).
Result<MountPropagation> propagation_at(const std::string& path);

}  // namespace berth::os
