#pragma once
#include <cstdint>
#include <functional>
#include <memory>
#include <optional>
#include <string>
#include <vector>

#include "base/result.h"
#include "engine/engine.h"
#include "engine/process/criu_wire.h"

/// Containers written to files and brought back by criu. Source: runc 1.3's checkpoint and restore, criu(8).
namespace berth::engine::process {

class Cgroup;

/// Words of --manage-cgroups-mode as criu's numbers.
enum class CriuCgroups : std::uint8_t { kIgnore = 0, kSoft = 3, kFull = 4, kStrict = 5, kDefault = 6 };

/// What both ways have in common. Paths are the caller's; folders for images and work are made when missing.
struct CriuOptions {
  std::string program = "criu";  ///< see find_criu()
  std::string image_path;        ///< folder of the images
  std::string work_path;         ///< folder of criu's log and sockets; empty: image_path
  bool tcp_established = false;
  bool ext_unix_sk = false;
  bool shell_job = false;
  bool file_locks = false;
  bool auto_dedup = false;
  bool lazy_pages = false;
  CriuCgroups cgroups = CriuCgroups::kDefault;
};

struct CheckpointOptions {
  CriuOptions criu;
  std::string parent_path;  ///< an earlier pre-dump, relative to image_path; empty: none
  bool leave_running = false;
  bool tcp_skip_in_flight = false;
  bool link_remap = false;
  bool pre_dump = false;
  /// What the first three descriptors led to at creation, where the container does not know it itself.
  std::vector<std::string> stdio{};
  int status_fd = -1;  ///< gets a NUL, and is closed, when a lazy dump is ready to give pages; borrowed till then
  std::string page_server_address;
  int page_server_port = 0;  ///< 0: none
};

struct RestoreOptions {
  CriuOptions criu;
  std::string lsm_profile;
  std::string lsm_mount_context;
};

/// What a restore needs. Of `container` those members count that a container has from outside: id, bundle, spec,
/// root_mount, mount_trees, stdio, on_process.
struct RestoreRequest {
  CreateRequest container;
  RestoreOptions options;
  /// Absolute path in a folder of the caller's alone, on which the root is mounted for criu, in a mount namespace of
  /// criu's own. Made when missing, removed again.
  std::string root_folder;
  /// Its processes are frozen before one of them has run, until start(). With cgroup v2 alone.
  bool frozen = false;
};

/// A running container, for write_checkpoint().
struct CheckpointSource {
  const spec::Spec& spec;
  const std::string& bundle;
  pid_t pid;
  const Cgroup& cgroup;
  /// What the first three descriptors led to at creation, as /proc shows it: "pipe:[123]". Empty: not known.
  const std::vector<std::string>& stdio;
};

/// Writes the images. Without leave_running and pre_dump the container's processes are gone afterwards; when it fails
/// they go on. Blocks as long as criu works. Errors: kUnsupported no criu, or none that can; kPrecondition, kInvalid an
/// option; else as run_criu().
Result<> write_checkpoint(const CheckpointSource& source, const CheckpointOptions& options);

/// The process that restore_checkpoint() gives back, a child of the caller's, and its terminal.
/// `joined` is called with init's pid when its namespaces are there and nothing of the container runs.
Result<Process> restore_checkpoint(const RestoreRequest& request, const Cgroup& cgroup,
                                   const std::function<Result<>(pid_t)>& joined);

/// criu puts restored processes in a time namespace, so that their clocks go on from where they were: adds it to
/// `spec`, so that an exec finds them there.
void add_time_namespace(spec::Spec& spec, pid_t pid);

// Parts of both, in checkpoint.cc.

/// Whether `path` is the namespace `word` ("net") of this process, and so criu's: it neither saves that nor joins it.
[[nodiscard]] bool is_own_namespace(const std::string& path, const std::string& word);

/// "descriptors.json" of a checkpoint: what the standard streams led to. At most three.
[[nodiscard]] std::string write_descriptors(const std::vector<std::string>& stdio);
Result<std::vector<std::string>> read_descriptors(std::string_view text);

/// The folders of `options`, made and open, and the settings that both ways share. `log_file`: a name.
struct CriuFolders {
  UniqueFd images;
  UniqueFd work;
  std::string log_path;
};
Result<CriuFolders> open_criu_folders(const CriuOptions& options, const std::string& log_file, CriuSettings& settings);
void set_common(const CriuOptions& options, const spec::Spec& spec, CriuSettings& settings);
/// "extRootNetNS": what criu calls the network or pid namespace of a path.
[[nodiscard]] std::string external_namespace_key(spec::NamespaceType type);
/// Where /proc says that `fd` leads to.
Result<std::string> fd_path(int fd);
/// Mounts of type "cgroup" that show a part of the host's: (name below the mount's target, folder on the host).
Result<std::vector<CriuPair>> cgroup_bind_mounts(const spec::Spec& spec, const Cgroup& cgroup);

}  // namespace berth::engine::process
