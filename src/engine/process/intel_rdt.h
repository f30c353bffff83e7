#pragma once
#include <sys/types.h>

#include <string>
#include <string_view>
#include <vector>

#include "base/result.h"
#include "base/unique_fd.h"
#include "spec/runtime.h"

namespace berth::engine::process {

/// What linux.intelRdt of one container means below a resctrl root. Paths are relative to that root.
struct RdtPlan {
  std::string group;    ///< "" is the root itself (closID "/")
  std::string monitor;  ///< a monitoring group of its own; empty: none
  std::string schemata;
  std::vector<std::string> to_match;  ///< what a group that is there must have already
  bool own = false;                   ///< named after the container: made, and removed with it
  bool must_exist = false;
};

/// Pure. Errors: kInvalid a closID that is no name of one folder, a schema with a newline, memBwSchema without "MB:".
Result<RdtPlan> plan_rdt(const spec::IntelRdt& config, const std::string& id);

/// Whether the `schemata` of a group say what `line` ("L3:0=7f0;1=1f") demands. Numbers are compared without leading
/// zeros, domains in any order; domains that `line` does not name do not count.
[[nodiscard]] bool schemata_have(std::string_view schemata, std::string_view line);

/// The container's folders in resctrl. What it makes outlives the object. Move-only.
/// Source: config-linux.md "IntelRdt"; Documentation/filesystems/resctrl.rst of the kernel.
class RdtGroup final {
 public:
  /// `root`: where resctrl is mounted; empty: /sys/fs/resctrl, which must be one then. Makes nothing. Errors: as
  /// plan_rdt; kUnsupported resctrl is not mounted.
  static Result<RdtGroup> open(const spec::IntelRdt& config, const std::string& id, const std::string& root);

  /// Makes the folders and writes the schemata; on error nothing of its making is left. Errors: kExists there is a
  /// group of the container's id; kNotFound closID without schemata names none; kPrecondition the group has other
  /// schemata; what the kernel says to them.
  Result<> create();
  /// Writes the schemata to a group that is there, whatever it has now.
  Result<> update();
  /// Assigns a process, by its pid here.
  Result<> add(pid_t pid);
  /// The open `tasks` files, for a process that assigns itself by enter_rdt().
  [[nodiscard]] Result<std::vector<UniqueFd>> entry() const;
  /// Idempotent. Leaves what closID names.
  Result<> remove();

 private:
  RdtGroup(UniqueFd root, RdtPlan plan) : root_(std::move(root)), plan_(std::move(plan)) {}
  Result<> make_group(bool& made);
  Result<> write_schemata();
  [[nodiscard]] std::string in_group(const std::string& name) const;
  /// With the kernel's own words, which stand in a file.
  [[nodiscard]] std::unexpected<Error> explained(Error error) const;

  UniqueFd root_;
  RdtPlan plan_;
};

/// After fork: the calling process, which must have one thread, joins the groups of entry().
Result<> enter_rdt(const std::vector<UniqueFd>& entry);

/// For delete: RdtGroup::remove(), where a resctrl that is not mounted (any more) holds nothing.
Result<> remove_rdt(const spec::IntelRdt& config, const std::string& id, const std::string& root);

}  // namespace berth::engine::process
