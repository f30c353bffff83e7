#pragma once
#include <string>

#include "base/result.h"

namespace berth::shim {

/// What this kernel and a file system offer for pods: found out by doing it. An error says what it stops at.
struct Features {
  /// A user namespace with others that it owns, and a root file system whose layers, on the file system of the probed
  /// folder, belong to its ids.
  Result<> user_namespaces;
  /// Mounts that are read-only with all that is mounted below them.
  Result<> recursive_read_only_mounts;
};

/// Tries. `folder`: absolute, on the file system that holds the images; a folder `probe` in it is made for the time of
/// the call. The caller is in a mount namespace of its own (enter_private_mounts()).
[[nodiscard]] Features probe_features(const std::string& folder);

/// {"user_namespaces": "", "recursive_read_only_mounts": "..."}: the empty string for what works, else why it does not.
[[nodiscard]] std::string features_json(const Features& features);

}  // namespace berth::shim
