#pragma once
#include <sys/types.h>

#include <map>
#include <memory>
#include <string>
#include <vector>

#include "engine/external/exec_wait.h"
#include "engine/process/cgroup.h"
#include "engine/process/oom_ledger.h"
#include "shim/foreign/link.h"
#include "shim/foreign/processes.h"
#include "shim/foreign/program.h"

namespace berth::shim::foreign {

/// The streams of one process for the shim: paths by which it reaches our descriptors, which stay open during the call
/// that it opens them in.
struct ShimStdio {
  bool terminal = false;
  std::string in;
  std::string out;
  std::string err;
  std::vector<UniqueFd> outputs;  ///< for Watched
  RemoteTerminal ends;            ///< with a terminal
  UniqueFd shim_in;               ///< with a terminal: what the shim opens by `in`
  UniqueFd shim_out;
};
/// `stdio` is borrowed and not looked at with a terminal.
[[nodiscard]] Result<ShimStdio> shim_stdio(const engine::Stdio& stdio, bool terminal);

/// The terminals that were not taken yet, and how the shim calls their processes.
struct Terminal {
  std::string exec_id;
  RemoteTerminal ends;
};
using Terminals = std::map<pid_t, Terminal>;

/// See engine::Container. What changes it goes through the shim's task API; figures, the kill of all and the certain
/// end come from its cgroup.
class ForeignContainer final : public engine::Container, public RemoteTerminals {
 public:
  struct Parts {
    std::string id;
    std::string bundle;
    std::string cgroup_path;
    ProgramOptions program;
    std::shared_ptr<Link> link;                             ///< null: of a dead caller's
    std::shared_ptr<Processes> processes;                   ///< null as well
    std::shared_ptr<engine::external::ExecWait> exec_wait;  ///< of all containers of the pod
    std::shared_ptr<const os::CgroupLayout> layout;
    engine::process::Cgroup cgroup;
    std::string scope_program;                        ///< of Options
    std::shared_ptr<engine::process::OomLedger> oom;  ///< of those whose cgroup may go by itself; else nullptr
    bool root_attached = false;                       ///< at `<bundle>/rootfs`
    engine::Process init;
    Terminals terminals;
  };
  explicit ForeignContainer(Parts parts) : parts_(std::move(parts)) {}

  [[nodiscard]] const std::string& id() const override { return parts_.id; }
  [[nodiscard]] const engine::Process& init() const override { return parts_.init; }
  [[nodiscard]] UniqueFd take_console() override { return std::move(parts_.init.console); }
  Result<> start() override;
  Result<engine::Process> exec(const engine::ExecRequest& request) override;
  Result<bool> end_exec(const std::string& sub_cgroup, bool kill_rest) override;
  Result<> kill(int signal, bool all) override;
  Result<> pause() override;
  Result<> resume() override;
  Result<> update(const spec::Resources& resources) override;
  [[nodiscard]] Result<std::vector<pid_t>> pids() const override { return parts_.cgroup.pids(); }
  [[nodiscard]] Result<engine::Stats> stats() const override { return parts_.cgroup.stats(); }
  [[nodiscard]] Result<bool> oom_killed() const override;
  [[nodiscard]] std::string oom_cause() const override { return parts_.cgroup.oom_cause(); }
  Result<> remove() override;
  RemoteTerminal take_terminal(pid_t pid) override;
  Result<> resize(pid_t pid, unsigned short columns, unsigned short rows) override;
  Result<> close_input(pid_t pid) override;

 private:
  Result<engine::Process> start_exec(const std::string& exec_id, ShimStdio& stdio);
  void group_exec(const std::string& sub_cgroup, pid_t pid) const;

  Parts parts_;
  std::uint64_t last_exec_ = 0;
  bool removed_ = false;
};

/// What the shim told as the pid of a process: a pidfd when it is in the container's cgroup. Invalid: it has ended.
/// Errors: kCorrupt a process that is not the container's.
[[nodiscard]] Result<UniqueFd> believe_pid(std::uint32_t pid, const engine::process::Cgroup& cgroup);

/// The failure of a call as what it is about: runtimes put it into words.
[[nodiscard]] Error explain(Error error);

/// As the engine of external runtimes has it.
[[nodiscard]] Result<> tell_limits(const ForeignContainer::Parts& parts, const spec::Resources& resources);

/// Ends and removes what there is of a container: with the shim while it lives, with its `delete` after that. A shim
/// that is not installed any more is told in the log; the rest goes all the same. Idempotent.
[[nodiscard]] Result<> clear_container(const ForeignContainer::Parts& parts);

}  // namespace berth::shim::foreign
