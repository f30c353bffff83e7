#pragma once
#include <cstdint>
#include <functional>
#include <memory>
#include <string>
#include <vector>

#include "engine/engine.h"

namespace berth::engine::process {

struct CheckpointOptions;
struct RestoreRequest;

enum class CgroupDriver : std::uint8_t { kCgroupfs, kSystemd };

struct Options {
  /// Where cgroup hierarchies are mounted.
  std::string cgroup_root = "/sys/fs/cgroup";
  /// Folder in which compiled seccomp filters are kept, writable by nobody but us; empty or absent: none are.
  std::string filter_cache{};
  /// Who makes the cgroups: we, or systemd, as scopes of the system's manager or of the caller's own.
  CgroupDriver cgroup_driver = CgroupDriver::kCgroupfs;
  bool systemd_user = false;
  /// Tells the program that talks to systemd, a path or a name to be found in PATH; asked once it is needed.
  std::function<std::string()> scope_program = [] { return std::string("berth-scope"); };
  /// Where resctrl is mounted, for linux.intelRdt; empty: /sys/fs/resctrl, if it is.
  std::string resctrl_root{};
};

/// What outlives the process that created a container, enough to work on it from another process (berth-oci's
/// state.json). `spec` must be the one that the container was created with.
struct Saved {
  std::string id;
  std::string bundle;
  spec::Spec spec;
  pid_t pid = -1;
  std::uint64_t start_time = 0;  ///< of `pid`: field 22 of /proc/PID/stat; tells a recycled pid apart
  std::string cgroup_path;       ///< as cgroup_path() gave it
  std::string start_socket;      ///< as CreateRequest::start_socket
  std::string shared_root;       ///< as CreateRequest::shared_root
  std::string systemd_unit;      ///< as unit_for() gave it; empty: systemd has no part in it
  bool systemd_user = false;     ///< as Options::systemd_user then
  /// What the first three descriptors led to, as /proc showed it ("pipe:[123]"), for a checkpoint; empty: not known.
  std::vector<std::string> stdio{};
};

/// What only containers of this engine offer, for berth-oci.
class ProcessContainer : public Container {
 public:
  /// The cgroup's path below each hierarchy, e.g. "/kubepods/pod1/c1".
  [[nodiscard]] virtual const std::string& cgroup_path() const = 0;
  [[nodiscard]] virtual std::uint64_t start_time() const = 0;
  /// Whether init is alive: false for a zombie and for a recycled pid.
  [[nodiscard]] virtual bool alive() const = 0;
  /// Whether init still waits for start(). Needs a start socket or a container of this object's own making.
  [[nodiscard]] virtual bool waiting() const = 0;
  [[nodiscard]] virtual Result<bool> paused() const = 0;
  /// New schemata for the container's group in resctrl; empty: as it is. kPrecondition: it was made without
  /// linux.intelRdt.
  virtual Result<> update_rdt(const std::string& l3_cache_schema, const std::string& mem_bw_schema) = 0;
  /// Writes its processes to files, by criu. See write_checkpoint() in checkpoint.h. kPrecondition: it does not run.
  virtual Result<> checkpoint(const CheckpointOptions& options) = 0;
};

/// Linux containers by clone3 in the calling process, which must have one thread. Children are the caller's: it reaps
/// them. Source: OCI runtime-spec 1.3 config.md, config-linux.md, runtime.md.
class ProcessEngine : public Engine {
 public:
  [[nodiscard]] std::string_view name() const override { return "process"; }
  /// Takes up a container that another process created. Never fails because init is gone: see alive().
  virtual Result<std::unique_ptr<ProcessContainer>> attach(Saved saved) = 0;
  /// Where create() would put the cgroup, as ProcessContainer::cgroup_path(). Makes nothing. Of a user's systemd, which
  /// alone knows where its own are: empty.
  virtual Result<std::string> cgroup_for(const std::string& cgroups_path, const std::string& id) = 0;
  /// The name of the unit that create() would have systemd make; empty under cgroupfs.
  virtual Result<std::string> unit_for(const std::string& cgroups_path, const std::string& id) = 0;
  /// create() with the richer type.
  virtual Result<std::unique_ptr<ProcessContainer>> create_process(CreateRequest request) = 0;
  /// Makes a container out of a checkpoint: it runs when this returns, its init a child of the caller's. On error
  /// nothing is left. Runs the hooks prestart and createRuntime. See restore_checkpoint() in checkpoint.h.
  virtual Result<std::unique_ptr<ProcessContainer>> restore(RestoreRequest request) = 0;
};

/// An engine. Makes no system call; the cgroup layout is looked up at the first use and kept.
[[nodiscard]] std::unique_ptr<ProcessEngine> make_process_engine(Options options = {});

/// Makes the caller's own executable unwritable for everybody who can reach it through /proc/PID/exe, by executing it
/// again from a detached read-only mount (or a sealed memory file). Call it first thing in main() of a short-lived
/// program that enters containers. Returns when there is nothing to do; else does not return, or fails.
/// Source: CVE-2019-5736.
Result<> protect_own_executable(char** argv, char** envp);

}  // namespace berth::engine::process
