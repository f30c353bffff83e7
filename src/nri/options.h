#pragma once
#include <chrono>
#include <string>
#include <vector>

namespace berth::nri {

/// The validator that is built in: what plugins may not do on this node, and which must be there.
struct ValidatorOptions {
  bool enabled = false;
  bool reject_hooks = false;
  bool reject_runtime_default_seccomp = false;  ///< replacing the profile of a container that has the default one
  bool reject_unconfined_seccomp = false;       ///< giving one to a container without
  bool reject_custom_seccomp = false;           ///< replacing one that the pod names
  bool reject_namespaces = false;
  bool reject_sysctls = false;
  std::vector<std::string> required_plugins{};  ///< "logger" or "10-logger"
  std::string tolerate_missing_annotation{};    ///< of a pod that may do without them; empty: none may
};

struct Options {
  std::string socket{};      ///< where plugins connect; empty: they cannot
  std::string plugin_dir{};  ///< of pre-installed plugins; empty: none
  std::string config_dir{};  ///< of their configuration
  std::chrono::milliseconds registration_timeout{5000};
  std::chrono::milliseconds request_timeout{2000};
  std::string runtime_name{};
  std::string runtime_version{};
  ValidatorOptions validator{};
};

}  // namespace berth::nri
