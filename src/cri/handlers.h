#pragma once
#include <functional>
#include <map>
#include <string>
#include <string_view>

#include "base/result.h"
#include "base/thread_annotations.h"

namespace berth::cri {

/// What runs the pods of one RuntimeClass handler below our shim.
struct Handler {
  std::string shim{};    ///< a containerd shim v2 of another maker, absolute; empty: none
  std::string binary{};  ///< an OCI command-line runtime, absolute, which `shim` may do without
  std::string root{};    ///< its state folder; empty: one in each pod's folder, or the shim's choice
  [[nodiscard]] bool ours() const { return shim.empty() && binary.empty(); }  ///< our own engine
  bool operator==(const Handler&) const = default;
};

/// The handlers that new pods may name.
struct HandlerTable {
  std::string default_handler{};  ///< of pods that name none; one of `handlers`
  std::map<std::string, Handler, std::less<>> handlers{};
  bool operator==(const HandlerTable&) const = default;
};

/// kUnavailable, naming the program, when the handler's cannot be executed. Looks at the disk.
[[nodiscard]] Result<> check_ready(const Handler& handler);

/// The table in force. It is asked when a pod is made and never again: pods of a handler that is gone live on.
/// Thread-safe.
class Handlers final {
 public:
  explicit Handlers(HandlerTable table) : table_(std::move(table)) {}

  void replace(HandlerTable table) BERTH_EXCLUDES(mutex_);
  [[nodiscard]] HandlerTable table() const BERTH_EXCLUDES(mutex_);
  /// `name` as the CRI has it: empty is the default. kNotFound with the names there are.
  [[nodiscard]] Result<Handler> find(std::string_view name) const BERTH_EXCLUDES(mutex_);

 private:
  mutable Mutex mutex_;
  HandlerTable table_ BERTH_GUARDED_BY(mutex_);
};

}  // namespace berth::cri
