#pragma once
#include <memory>
#include <string>
#include <vector>

#include "engine/external/runtime.h"
#include "engine/process/cgroup.h"
#include "engine/process/oom_ledger.h"

namespace berth::engine::external {

/// See Container. What changes it goes through the runtime's commands; figures and the end of all come from its cgroup.
class ExternalContainer final : public Container {
 public:
  struct Parts {
    std::string id;
    std::string bundle;
    std::string cgroup_path;
    std::shared_ptr<Runtime> runtime;
    std::shared_ptr<const os::CgroupLayout> layout;
    process::Cgroup cgroup;
    std::shared_ptr<process::OomLedger> oom;  ///< of those whose cgroup may go by itself; else nullptr
    bool root_attached = false;               ///< at `<bundle>/rootfs`
    Process init;
  };
  explicit ExternalContainer(Parts parts) : parts_(std::move(parts)) {}

  [[nodiscard]] const std::string& id() const override { return parts_.id; }
  [[nodiscard]] const Process& init() const override { return parts_.init; }
  [[nodiscard]] UniqueFd take_console() override { return std::move(parts_.init.console); }
  Result<> start() override;
  Result<Process> exec(const ExecRequest& request) override;
  Result<bool> end_exec(const std::string& sub_cgroup, bool kill_rest) override;
  Result<> kill(int signal, bool all) override;
  Result<> pause() override { return run({"pause", parts_.id}); }
  Result<> resume() override { return run({"resume", parts_.id}); }
  Result<> update(const spec::Resources& resources) override;
  [[nodiscard]] Result<std::vector<pid_t>> pids() const override { return parts_.cgroup.pids(); }
  [[nodiscard]] Result<Stats> stats() const override { return parts_.cgroup.stats(); }
  [[nodiscard]] Result<bool> oom_killed() const override;
  Result<> remove() override;

 private:
  [[nodiscard]] bool alive() const;
  Result<> run(std::vector<std::string> words);

  Parts parts_;
  bool started_ = false;
  bool removed_ = false;
};

/// `words` of a create or exec whose process has a terminal get the socket for it.
struct Launch {
  Command command;
  std::string pid_file;
  bool terminal = false;
};
/// Runs it and takes up the process that the runtime left to us.
Result<Process> launch(Runtime& runtime, Launch launch);

/// Under systemd: has it know the limits, as it writes what it knows whenever it is reloaded. Else nothing.
Result<> tell_limits(const ExternalContainer::Parts& parts, const spec::Resources& resources);

/// Ends and removes what the runtime has of a container: state, processes, cgroup, and the root's mount with
/// `root_attached`. Idempotent. A runtime that is not there any more is told in the log; the rest goes all the same.
Result<> clear_container(const ExternalContainer::Parts& parts);

}  // namespace berth::engine::external
