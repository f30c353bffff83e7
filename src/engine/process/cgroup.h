#pragma once
#include <sys/types.h>

#include <span>
#include <string>
#include <vector>

#include "base/result.h"
#include "base/unique_fd.h"
#include "engine/engine.h"
#include "engine/process/cgroup_plan.h"
#include "os/cgroup.h"

namespace berth::engine::process {

/// How a new process gets into a cgroup: v2 by clone3 (CLONE_INTO_CGROUP), v1 by writing itself into each hierarchy.
struct CgroupEntry {
  UniqueFd v2_dir;
  std::vector<UniqueFd> v1_tasks;  ///< the open `tasks` files, and `cgroup.procs` where v2 stands beside v1

  /// v1: moves the calling process, which must have one thread. After fork, before anything else.
  /// The `tasks` file with "0" and not cgroup.procs: moving the single calling thread is the one migration for which
  /// the kernel does not take the lock over all forks and exits, which costs an RCU grace period (15 ms measured with
  /// HZ=250) and stalls every fork on the host meanwhile. Source: cgroup_procs_write_start() in kernel/cgroup/cgroup.c
  /// since 5.16.
  [[nodiscard]] Result<> enter() const;
};

/// A container's cgroup: the same or a corresponding path in every mounted hierarchy. Keeps no descriptors of its own;
/// `layout` is borrowed and must outlive it. All calls block on the kernel alone.
class Cgroup final {
 public:
  Cgroup() = default;

  /// Where a container's cgroup is. `spec_path`: linux.cgroupsPath; absolute from the hierarchy's root, relative from
  /// the caller's own cgroup, empty means `id` relative. Makes nothing. Errors: kUnsupported "slice:prefix:name",
  /// which is for the systemd driver.
  static Result<Cgroup> locate(const os::CgroupLayout& layout, const std::string& spec_path, const std::string& id);
  /// From saved(). `scope`: systemd made it, which counts its processes in the v2 hierarchy where one stands beside
  /// v1's.
  static Result<Cgroup> from_saved(const os::CgroupLayout& layout, const std::string& text, bool scope = false);
  /// The path if it is the same in every hierarchy, else lines "hierarchy:path".
  [[nodiscard]] std::string saved() const;

  /// Makes the folders and, under v2, hands the controllers down to them. kExists when processes are there already,
  /// unless `occupied` says that they may be.
  [[nodiscard]] Result<> create(bool occupied = false) const;
  /// Plans and applies `resources`: the files, and under v2 the device program; `update` replaces an earlier one.
  /// Device rules that cannot be enforced are an error, except for those who may not load programs at all (rootless): a
  /// warning.
  [[nodiscard]] Result<> set(const spec::Resources& resources, bool update) const;
  /// Performs the writes. A controller or file that is absent is an error unless the write is optional.
  [[nodiscard]] Result<> apply(const CgroupPlan& plan) const;
  /// `sub`: a cgroup directly below, made if missing; empty: the container's own.
  [[nodiscard]] Result<CgroupEntry> entry(const std::string& sub) const;
  /// v1: the container's own, by descriptors of its folders, as paths(), in which a file is found sooner than from the
  /// top.
  [[nodiscard]] Result<CgroupEntry> entry_by(std::span<const int> folders) const;

  /// What entry(sub) makes below this one. Under v1 it is in one hierarchy alone: it only says who belongs together,
  /// the limits are the container's, and every further folder would cost its share of the time that an exec takes.
  [[nodiscard]] Result<Cgroup> below(const std::string& sub) const;
  /// One attempt at remove(): false while processes are in it.
  [[nodiscard]] Result<bool> remove_if_empty() const;

  /// Every process here and below, unsorted, each once. Empty when the cgroup is gone.
  [[nodiscard]] Result<std::vector<pid_t>> pids() const;
  /// Stops or continues all; returns when the kernel says it is done, kTimeout after two seconds (then undone).
  /// Where the freezer is not mounted: kUnsupported.
  [[nodiscard]] Result<> freeze(bool frozen) const;
  /// At most so many looks, a millisecond apart.
  [[nodiscard]] Result<> freeze(bool frozen, int polls) const;
  [[nodiscard]] Result<bool> frozen() const;
  /// Signals every process. SIGKILL leaves nothing alive that forks meanwhile. Returns how many were signalled.
  [[nodiscard]] Result<std::size_t> kill_all(int signal) const;
  [[nodiscard]] Result<Stats> stats() const;
  [[nodiscard]] std::uint64_t oom_kills() const;
  /// The nearest cgroup, from this one up, whose memory limit was reached, for people; else the machine's memory.
  [[nodiscard]] std::string oom_cause() const;
  /// Removes it with everything below; processes that are on their way out get half a second. Idempotent.
  [[nodiscard]] Result<> remove() const;

  [[nodiscard]] bool empty() const { return paths_.empty(); }
  [[nodiscard]] bool v2() const { return layout_ != nullptr && layout_->v2; }
  [[nodiscard]] const os::CgroupLayout* layout() const { return layout_; }
  [[nodiscard]] const std::vector<std::string>& paths() const { return paths_; }

 private:
  /// The folder of the hierarchy that has `controller`; empty fd when there is none.
  [[nodiscard]] Result<UniqueFd> open_dir(std::string_view controller) const;
  [[nodiscard]] Result<UniqueFd> open_index(std::size_t index) const;
  [[nodiscard]] Result<std::size_t> signal_each(int signal) const;
  /// Adds what is apart in the hybrid layout.
  [[nodiscard]] Result<> add_unified(CgroupEntry& entry) const;
  /// The v1 hierarchy that below() uses.
  [[nodiscard]] std::size_t grouping_index() const;

  const os::CgroupLayout* layout_ = nullptr;
  std::vector<std::string> paths_;  ///< as layout_->hierarchies
  std::string unified_path_;        ///< in layout_->unified; empty: it has no part
};

}  // namespace berth::engine::process
