#pragma once
#include <functional>
#include <string>
#include <vector>

#include "base/result.h"
#include "base/unique_fd.h"
#include "engine/engine.h"
#include "os/seccomp.h"

namespace berth::engine::process {

/// Whether labels mean something on this host. Asked before the root is changed.
[[nodiscard]] bool selinux_active();

/// process.oomScoreAdj of the process whose folder in procfs is `process_dir` ("self", a pid); `proc_fd`: verified.
/// What the kernel refuses for want of rights is told by `warn`. Not for a process that has entered a user namespace:
/// its files in procfs are the host's root's.
Result<> set_oom_score(const spec::Process& process, int proc_fd, const std::string& process_dir,
                       const std::function<void(const std::string&)>& warn);

/// The last leg of every process of a container, init or exec: from "inside the container's namespaces as root" to its
/// program. Runs in the child, in two parts, since init waits in between.
class Finish final {
 public:
  struct Setup {
    const spec::Process* process = nullptr;
    const spec::MemoryPolicy* memory_policy = nullptr;
    const spec::Seccomp* seccomp = nullptr;  ///< nullptr: none
    int filter_cache = -1;                   ///< folder of compiled filters; -1: none
    Stdio stdio;
    int terminal = -1;  ///< the slave side; replaces stdio
    const std::vector<int>* extra_fds = nullptr;
    bool die_with_parent = false;
    bool in_user_namespace = false;
    /// Descriptors of ours that must stay usable until exec: moved out of the way, and changed in place.
    std::vector<int*> keep_fds;
    std::function<void(const std::string&)> warn;
    /// Tells the parent that a listener comes by this page (borrowed) and waits until it is ready for it.
    std::function<Result<>(int page_fd)> announce_listener;
  };

  explicit Finish(Setup setup) : setup_(std::move(setup)) {}

  /// What wants the host's procfs: LSM labels, and outside of user namespaces oom_score_adj. Before the root is
  /// changed. `proc_fd`: verified.
  Result<> with_host_proc(int proc_fd);
  /// Everything up to the wait: stdio, limits, identity, capabilities, working folder, look-up of the program. Closes
  /// every descriptor but stdio, the passed ones and keep_fds: owners of others must give them up.
  Result<> before_wait();
  /// seccomp, the last capabilities, exec. Returns only the error.
  std::unexpected<Error> exec();

 private:
  Result<> set_stdio();
  Result<> place_extra_fds();
  Result<> set_limits();
  Result<> set_identity();
  Result<> set_capabilities();
  Result<> set_scheduling();
  Result<> enter_cwd(bool final_try);
  Result<> find_program();
  Result<> compile_filter();
  Result<> load_filter();
  Result<> load_with_listener();
  void make_environment();

  Setup setup_;
  os::SeccompProgram filter_;
  unsigned filter_flags_ = 0;
  bool has_filter_ = false;
  bool has_listener_ = false;
  bool cwd_entered_ = false;
  std::string program_;
  std::vector<std::string> env_;
  std::uint64_t wanted_effective_ = 0;
  std::uint64_t wanted_permitted_ = 0;
  std::uint64_t wanted_inheritable_ = 0;
  bool limited_caps_ = false;
};

}  // namespace berth::engine::process
