#pragma once
#include <string>
#include <vector>

#include "base/result.h"
#include "base/unique_fd.h"
#include "os/spawn.h"

namespace berth::nri {

/// A plugin that waits in the plugin folder as an executable "10-logger".
struct Preinstalled {
  std::string path;
  std::string index;
  std::string name;
  std::string config;  ///< of "10-logger.conf", else of "logger.conf" in the configuration folder; empty: neither
};

/// Those of `dir`, sorted. A folder that is not there holds none. `faults`: what is passed over, in words: a name that
/// is none, a configuration that cannot be read, a WebAssembly module, which Berth does not run.
[[nodiscard]] std::vector<Preinstalled> find_preinstalled(const std::string& dir, const std::string& config_dir,
                                                          std::vector<std::string>& faults);

struct Launched {
  os::Child child;  ///< leads a process group of its own
  UniqueFd trunk;
};
/// Starts it with its end of a socket as descriptor 3. Its stderr is ours. Errors: by errno, naming the program.
/// Source: the NRI API, NRI_PLUGIN_*.
[[nodiscard]] Result<Launched> launch(const Preinstalled& plugin);

}  // namespace berth::nri
