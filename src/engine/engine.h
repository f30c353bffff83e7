#pragma once
#include <sys/types.h>

#include <cstdint>
#include <functional>
#include <map>
#include <memory>
#include <optional>
#include <string>
#include <vector>

#include "base/result.h"
#include "base/unique_fd.h"
#include "os/cgroup_usage.h"
#include "spec/runtime.h"

namespace berth::engine {

/// What a container process gets as its first three descriptors. Borrowed; -1 means /dev/null.
struct Stdio {
  int in = -1;
  int out = -1;
  int err = -1;
};

struct Process;

/// Everything that creating a container needs.
struct CreateRequest {
  std::string id;      ///< valid_id()
  std::string bundle;  ///< absolute folder; relative paths of the specification start here
  spec::Spec spec;     ///< validated
  /// The root filesystem as a detached mount (fsmount, open_tree). Invalid: `spec.root.path` names it.
  UniqueFd root_mount;
  /// Sources of mounts of the specification that are more than a path: detached mounts, by index in spec.mounts, which
  /// are then bind mounts. Not with id maps.
  std::map<std::size_t, UniqueFd> mount_trees;
  Stdio stdio;  ///< ignored with process.terminal
  /// Descriptors 3, 4, ... of the container's process (LISTEN_FDS, --preserve-fds). Borrowed.
  std::vector<int> extra_fds;
  bool no_pivot = false;
  bool no_new_keyring = false;
  /// The container dies with the process that made it (shim); off for berth-oci, which exits after create.
  bool die_with_parent = false;
  /// Path of a unix socket that init listens on for its start from another process (below 4096 bytes; its folder exists
  /// and is the caller's alone). Empty: only the Container object that create() returns can start it.
  std::string start_socket;
  /// Absolute path in a folder of the caller's alone. Where the root of a container without a mount namespace of its
  /// own is mounted, in the caller's, until remove(); made when it is needed. Empty: such a container is refused.
  std::string shared_root;
  /// Called with init's pid and pidfd as soon as they are known, while init sets itself up: what has to be written down
  /// about it takes no time of its own then. An error undoes the creation.
  std::function<Result<>(const Process&)> on_process;
  /// Called before anything is made that would outlive a crash of the caller (the cgroup), unless on_process was called
  /// before that: one of the two is always the first. For engines with cgroups of their own; an error ends the
  /// creation.
  std::function<Result<>()> on_place;
  /// Init need not wait: the program runs as soon as all is set up, at the earliest after on_process. start() is still
  /// to be called, which waits for the exec. A hint, which the engine follows where nothing stands in between.
  bool start_at_once = false;
};

/// A process in a container: init or an exec.
struct Process {
  pid_t pid = -1;    ///< in the caller's pid namespace
  UniqueFd pidfd;    ///< the caller is the parent and reaps it: waitid(P_PIDFD)
  UniqueFd console;  ///< the terminal's master side, when process.terminal
};

struct ExecRequest {
  spec::Process process;
  Stdio stdio;
  std::vector<int> extra_fds;
  /// A cgroup below the container's own for this process alone; empty: the container's own.
  std::string sub_cgroup;
};

/// One reading of the container's cgroup.
using Stats = os::CgroupUsage;

/// One container. Not thread-safe. Destroying the object leaves the container as it is; remove() ends it.
class Container {
 public:
  Container() = default;
  Container(const Container&) = delete;
  Container& operator=(const Container&) = delete;
  Container(Container&&) = delete;
  Container& operator=(Container&&) = delete;
  virtual ~Container() = default;

  [[nodiscard]] virtual const std::string& id() const = 0;
  /// Init. After create it waits for start(); its pidfd stays valid as long as this object.
  [[nodiscard]] virtual const Process& init() const = 0;
  /// Hands over the console master (once); invalid without a terminal.
  [[nodiscard]] virtual UniqueFd take_console() = 0;

  /// Lets init exec the user's program. An error says what exec failed on; the container is then stopped.
  /// kPrecondition when it was started before.
  virtual Result<> start() = 0;
  /// Runs a further process in the container. Blocks until its program was exec'ed (or failed to be).
  virtual Result<Process> exec(const ExecRequest& request) = 0;
  /// Ends what exec() began with `sub_cgroup`: with `kill_rest` kills every process in it (it may take a moment until
  /// they are gone); removes the cgroup if nothing is left in it, else leaves it to a later call or to remove(). True
  /// when it is gone. Idempotent, does not wait.
  virtual Result<bool> end_exec(const std::string& sub_cgroup, bool kill_rest) {
    (void)sub_cgroup;
    (void)kill_rest;
    return fail(Code::kUnsupported, "this engine has no cgroups for single processes");
  }
  /// Signals init, or with `all` every process in the cgroup. kNotFound when nothing is left.
  virtual Result<> kill(int signal, bool all) = 0;
  virtual Result<> pause() = 0;
  virtual Result<> resume() = 0;
  virtual Result<> update(const spec::Resources& resources) = 0;
  /// The processes in the container's cgroup and below, in the caller's pid namespace, unsorted.
  [[nodiscard]] virtual Result<std::vector<pid_t>> pids() const = 0;
  [[nodiscard]] virtual Result<Stats> stats() const = 0;
  /// Whether the kernel OOM-killed in this container's cgroup. Read before remove().
  [[nodiscard]] virtual Result<bool> oom_killed() const = 0;
  /// After oom_killed(): whose limit it was, for people: the container's, that of a cgroup above, or the machine's
  /// memory. Empty: not known.
  [[nodiscard]] virtual std::string oom_cause() const { return {}; }
  /// Kills what is left, removes the cgroup, runs poststop hooks. Idempotent. Does not reap init.
  virtual Result<> remove() = 0;
};

/// What can run a container. One object per shim or command.
class Engine {
 public:
  Engine() = default;
  Engine(const Engine&) = delete;
  Engine& operator=(const Engine&) = delete;
  Engine(Engine&&) = delete;
  Engine& operator=(Engine&&) = delete;
  virtual ~Engine() = default;

  [[nodiscard]] virtual std::string_view name() const = 0;
  /// Makes namespaces, cgroup, mounts and init, which then waits before exec. On error nothing is left. Blocks for
  /// milliseconds. Errors: kInvalid a field that cannot be; kUnsupported a feature or kernel call that is not there.
  virtual Result<std::unique_ptr<Container>> create(CreateRequest request) = 0;
};

}  // namespace berth::engine
