#pragma once
#include <functional>
#include <memory>
#include <optional>
#include <string>

#include "engine/process/cgroup.h"
#include "engine/process/oom_ledger.h"
#include "engine/process/process_engine.h"
#include "engine/process/systemd_unit.h"
#include "os/clone.h"

namespace berth::engine::process {

/// See Container. Made by the engine, by create or attach.
class LinuxContainer final : public ProcessContainer {
 public:
  struct Parts {
    std::string id;
    std::string bundle;
    spec::Spec spec;
    std::shared_ptr<const os::CgroupLayout> layout;
    Cgroup cgroup;
    std::shared_ptr<const UniqueFd> filter_cache;  ///< nullptr: none
    std::string resctrl_root;                      ///< of Options
    std::optional<SystemdUnit> unit;               ///< where systemd made the cgroup
    std::function<std::string()> scope_program;    ///< of Options
    std::shared_ptr<OomLedger> oom;                ///< of containers whose cgroup may go by itself; else nullptr
    Process init;
    UniqueFd channel;  ///< to init, while it waits; invalid: by start_socket
    std::string start_socket;
    std::string shared_root;         ///< as CreateRequest::shared_root
    std::vector<std::string> stdio;  ///< of Saved
    std::uint64_t start_time = 0;
    bool started = false;
    bool start_sent = false;  ///< CreateRequest::start_at_once was followed
    bool frozen = false;      ///< restored, and waits for start() in the freezer
  };
  explicit LinuxContainer(Parts parts) : parts_(std::move(parts)), cgroup_text_(parts_.cgroup.saved()) {}

  [[nodiscard]] const std::string& id() const override { return parts_.id; }
  [[nodiscard]] const Process& init() const override { return parts_.init; }
  [[nodiscard]] UniqueFd take_console() override { return std::move(parts_.init.console); }
  Result<> start() override;
  Result<Process> exec(const ExecRequest& request) override;
  Result<bool> end_exec(const std::string& sub_cgroup, bool kill_rest) override;
  Result<> kill(int signal, bool all) override;
  Result<> pause() override;
  Result<> resume() override;
  Result<> update(const spec::Resources& resources) override;
  [[nodiscard]] Result<std::vector<pid_t>> pids() const override { return parts_.cgroup.pids(); }
  [[nodiscard]] Result<Stats> stats() const override { return parts_.cgroup.stats(); }
  [[nodiscard]] Result<bool> oom_killed() const override;
  [[nodiscard]] std::string oom_cause() const override;
  Result<> remove() override;

  [[nodiscard]] const std::string& cgroup_path() const override { return cgroup_text_; }
  [[nodiscard]] std::uint64_t start_time() const override;
  [[nodiscard]] bool alive() const override;
  [[nodiscard]] bool waiting() const override;
  [[nodiscard]] Result<bool> paused() const override { return parts_.cgroup.frozen(); }
  Result<> update_rdt(const std::string& l3_cache_schema, const std::string& mem_bw_schema) override;
  Result<> checkpoint(const CheckpointOptions& options) override;

 private:
  /// Sends the start over `channel_fd`, if that was not done, and waits for exec or its error.
  Result<> start_over(int channel_fd);
  Result<> start_frozen();
  void run_poststart() const;
  Result<> clear_cgroup();

  Parts parts_;
  std::string cgroup_text_;
  bool removed_ = false;
};

/// clone3 with `join_pid` (a pid namespace file, or -1) as the child's pid namespace. The caller's own is the same
/// after it. Else as os::clone_process.
Result<os::Cloned> clone_in_pid_namespace(const os::CloneOptions& options, int join_pid);
/// The pid that a pidfd stands for, in the caller's pid namespace. kNotFound: it is gone.
Result<pid_t> pid_of(int pidfd);
/// Unmounts and removes CreateRequest::shared_root, where it is there. Idempotent.
Result<> release_shared_root(const std::string& path);

}  // namespace berth::engine::process
