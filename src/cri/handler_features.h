#pragma once
#include <map>
#include <string>
#include <string_view>

#include "base/result.h"
#include "base/thread_annotations.h"
#include "cri/handlers.h"

namespace berth::cri {

/// What the pods of one handler can have: for each an empty text where it works, else why it does not.
struct HandlerFeatures {
  std::string no_user_namespaces = "it was not looked at";
  std::string no_recursive_read_only = "it was not looked at";

  [[nodiscard]] bool user_namespaces() const { return no_user_namespaces.empty(); }
  [[nodiscard]] bool recursive_read_only_mounts() const { return no_recursive_read_only.empty(); }
  bool operator==(const HandlerFeatures&) const = default;
};

/// What our shim's `features` action says. Errors: kCorrupt.
[[nodiscard]] Result<HandlerFeatures> parse_shim_features(std::string_view json);
/// What `RUNTIME features` says of an OCI runtime. Errors: kCorrupt. Source: runtime-spec features.md,
/// features-linux.md.
[[nodiscard]] Result<HandlerFeatures> parse_runtime_features(std::string_view json);

/// What this machine offers, by the shim's `features` action in `folder`, which lies where the images do. Blocks;
/// seconds at the most.
[[nodiscard]] HandlerFeatures probe_machine(const std::string& shim_path, const std::string& folder);
/// What an OCI runtime says of itself. Errors: it says nothing, or nothing that can be read. Blocks; seconds at the
/// most.
[[nodiscard]] Result<HandlerFeatures> probe_runtime(const std::string& binary);

/// The features of all handlers in force: the runtimes are asked when they come in, nobody is when a reader looks.
/// Thread-safe.
class FeatureTable final {
 public:
  /// Of our own engine; before the first learn().
  void set_machine(HandlerFeatures machine) BERTH_EXCLUDES(mutex_);
  /// Asks the runtimes of `table`, but those that have answered and have not changed. Blocks.
  void learn(const HandlerTable& table) BERTH_EXCLUDES(mutex_);
  [[nodiscard]] HandlerFeatures of(const Handler& handler) const BERTH_EXCLUDES(mutex_);

 private:
  mutable Mutex mutex_;
  HandlerFeatures machine_ BERTH_GUARDED_BY(mutex_);
  struct Asked {
    HandlerFeatures features;
    std::string file;  // what answered, well or not: its inode and time of change; empty: nobody did
  };
  using Runtimes = std::map<std::string, Asked, std::less<>>;
  Runtimes runtimes_ BERTH_GUARDED_BY(mutex_);  // by their paths
};

}  // namespace berth::cri
