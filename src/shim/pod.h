#pragma once
#include <cstdint>
#include <functional>
#include <map>
#include <memory>
#include <optional>
#include <string>
#include <string_view>
#include <vector>

#include "base/result.h"
#include "engine/engine.h"
#include "event/loop.h"
#include "shim/changes.h"
#include "shim/container.h"
#include "shim/leftovers.h"
#include "shim/pod_init.h"
#include "shim/process_io.h"
#include "shim/reaper.h"
#include "shim/rootfs.h"
#include "shim/sandbox.h"
#include "shim/scratch.h"

namespace berth::shim {

struct PodOptions {
  std::string sandbox_id;
  std::string folder;  ///< the pod's, absolute
  std::size_t log_max_line_bytes = 16384;
  OomProtection oom;
  std::optional<PodRoot> root{};  ///< with a user namespace
  /// A file of the host's mount namespace, where this process has one of its own; invalid: it is in the host's.
  UniqueFd host_mounts;
  /// Called when a process has ended and was marked so; `exec_id` "": the container's first. May be empty.
  std::function<void(const Container& container, const std::string& exec_id, const TaskProcess& process)> on_exit;
};

struct CreateParams {
  std::string id;
  std::string bundle;
  std::vector<RootMount> rootfs;
  StdioPaths stdio;
  std::string checkpoint{};  ///< folder of the images that it is made of, absolute; empty: it begins anew
};

/// The containers of one pod and what can be done with them: the services' work as plain C++. An id that is not there
/// is kNotFound, a state that forbids the request kPrecondition, an `exec_id` of "" the container's first process. Loop
/// thread only; calls block for as long as the engine does (milliseconds).
class Pod final {
 public:
  /// `loop` and `engine` outlive this.
  Pod(event::Loop& loop, engine::Engine& engine, PodOptions options);
  ~Pod();
  Pod(const Pod&) = delete;
  Pod& operator=(const Pod&) = delete;
  Pod(Pod&&) = delete;
  Pod& operator=(Pod&&) = delete;

  /// Becomes the subreaper. Once, before anything else.
  [[nodiscard]] Result<> start_reaping() { return reaper_.start(); }

  /// Takes the pod's init, which is a child that nobody has reaped: its end is the end of the pod. At most once, before
  /// the loop runs.
  void keep_init(PodInit init);
  /// nullptr: each container has a pid namespace of its own, or none.
  [[nodiscard]] const PodInit* init() const { return init_ ? &*init_ : nullptr; }

  // task_calls.cc
  [[nodiscard]] Result<pid_t> create(CreateParams params);
  /// A program that cannot be executed is kInvalid and names it; the process then counts as ended, with the code that a
  /// shell would give (127 not found, 126 not executable, 128 anything else).
  [[nodiscard]] Result<pid_t> start(std::string_view id, std::string_view exec_id);
  struct Removed {
    pid_t pid = 0;
    std::uint32_t exit_code = 0;
    std::int64_t exited_at_ns = 0;
  };
  [[nodiscard]] Result<Removed> remove(std::string_view id, std::string_view exec_id);
  /// `process_json`: the OCI process object.
  [[nodiscard]] Result<> add_exec(std::string_view id, std::string_view exec_id, std::string_view process_json,
                                  StdioPaths stdio);
  [[nodiscard]] Result<> kill(std::string_view id, std::string_view exec_id, int signal, bool all);
  [[nodiscard]] Result<> pause(std::string_view id);
  [[nodiscard]] Result<> resume(std::string_view id);
  [[nodiscard]] Result<> update(std::string_view id, std::string_view resources_json);
  [[nodiscard]] Result<> resize(std::string_view id, std::string_view exec_id, std::uint32_t columns,
                                std::uint32_t rows);
  [[nodiscard]] Result<> close_stdin(std::string_view id, std::string_view exec_id);
  [[nodiscard]] Result<> reopen_log(std::string_view id);
  /// See ProcessIo::watch. kPrecondition for one that has ended.
  [[nodiscard]] Result<> watch(std::string_view id, const std::string& out, const std::string& err);
  /// Calls `done` when the process has ended; at once when it has. An error means that `done` will not be called.
  [[nodiscard]] Result<> wait(std::string_view id, std::string_view exec_id,
                              std::function<void(const TaskProcess&)> done);
  /// Kills and removes every container: an engine that fails is logged. For Shutdown with `now`.
  void remove_all();

  // pod.cc
  [[nodiscard]] Result<std::shared_ptr<Container>> find(std::string_view id) const;
  [[nodiscard]] Result<TaskProcess*> find_process(std::string_view id, std::string_view exec_id) const;
  /// In the order of their ids.
  [[nodiscard]] const std::map<std::string, std::shared_ptr<Container>, std::less<>>& containers() const {
    return containers_;
  }
  /// Runs a process to completion elsewhere (exec_sync.h): its stdio belongs to the caller, who also watches its end.
  [[nodiscard]] Result<engine::Process> run_in(Container& container, spec::Process& process, engine::Stdio stdio,
                                               const std::string& sub_cgroup);

  [[nodiscard]] event::Loop& loop() { return loop_; }
  [[nodiscard]] Reaper& reaper() { return reaper_; }
  [[nodiscard]] Changes& changes() { return changes_; }
  [[nodiscard]] Scratch& scratch() { return scratch_; }
  [[nodiscard]] const PodOptions& options() const { return options_; }
  /// Something that needed memory was done: gives the pages back when it has been quiet for a moment.
  void tidy_later();

 private:
  struct Prepared;
  Result<Prepared> prepare(const CreateParams& params) const;
  Result<std::unique_ptr<engine::Container>> make(const CreateParams& params, engine::CreateRequest request);
  Result<pid_t> start_init(Container& container);
  Result<pid_t> start_exec(const std::shared_ptr<Container>& container, std::string_view exec_id, TaskProcess& process);
  Result<Removed> remove_exec(Container& container, std::string_view exec_id);
  Result<> join_pids(Container& container, const spec::Namespace* pid_namespace) const;
  [[nodiscard]] std::string lost_pids(const Container& container) const;
  void pod_init_ended(int code);
  void init_ended(const std::shared_ptr<Container>& container, int code);
  void start_failed(TaskProcess& process, const Error& error);
  void give_own_oom_score(spec::Process& process) const;
  void tidy();

  event::Loop& loop_;
  engine::Engine& engine_;
  PodOptions options_;
  Scratch scratch_;
  IoContext io_;
  Changes changes_;
  Reaper reaper_;
  Leftovers leftovers_;
  std::optional<PodInit> init_;
  std::map<std::string, std::shared_ptr<Container>, std::less<>> containers_;
  event::TimerId tidy_timer_ = event::kNoTimer;
};

}  // namespace berth::shim
