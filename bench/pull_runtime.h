#pragma once
#include <limits>
#include <memory>
#include <string>
#include <vector>

#include "base/result.h"
#include "pull_ground.h"
#include "pull_images.h"

namespace berth::bench {

inline constexpr double kNone = std::numeric_limits<double>::quiet_NaN();

/// What one pull took; kNone: not measured.
struct Sample {
  double cpu_s = kNone;
  double wall_s = kNone;
  double peak_mib = kNone;  ///< resident memory of the daemon
  double more_mib = kNone;  ///< the same above what it had before
  double disk_mib = kNone;  ///< of the store, above what it had before
  double remove_cpu_s = kNone;
  double remove_s = kNone;  ///< until the disk's space is free again
  double first_ms = kNone;  ///< from RunPodSandbox until the first output is in the log
  double list_ms = kNone;   ///< of all entries, warm, in the container
  double read_ms = kNone;   ///< of all files, warm, in the container
};

/// Something that pulls images. The calls come in this order, once a round.
class Runtime {
 public:
  Runtime() = default;
  Runtime(const Runtime&) = delete;
  Runtime& operator=(const Runtime&) = delete;
  Runtime(Runtime&&) = delete;
  Runtime& operator=(Runtime&&) = delete;
  virtual ~Runtime() = default;

  [[nodiscard]] virtual std::string name() const = 0;
  /// The folder of its store; "": it keeps nothing.
  [[nodiscard]] virtual std::string store() const = 0;
  /// Empties the store and starts what is needed, fresh and warmed up.
  virtual Result<> prepare() = 0;
  /// Costs of the pull alone.
  virtual Result<> pull(const std::string& image, Sample& sample) = 0;
  /// Times of a container of `image` that runs `command`, which says something; the container is gone afterwards.
  virtual Result<> start(const std::string& image, const std::vector<std::string>& command, Sample& sample) = 0;
  /// Removes the image, and waits until no more than `used` bytes and a little are in use on the disk.
  virtual Result<> remove(const std::string& image, const Ground& ground, std::uint64_t used, Sample& sample) = 0;
  /// Ends what prepare() started.
  virtual Result<> finish() = 0;
};

struct RuntimeOptions {
  const Ground* ground = nullptr;
  std::string bin;  ///< our programs
  std::string cgroup;
  unsigned scale = 100;
};

/// By name: "berth", "containerd" (no program for gzip), "containerd+pigz" and "containerd+igzip" (that one for it),
/// "skopeo" (into containers-storage), "limit". kInvalid: no such one, or its program is not installed.
Result<std::unique_ptr<Runtime>> make_runtime(const std::string& name, const RuntimeOptions& options);

/// The parts of make_runtime(), one a file.
Result<std::unique_ptr<Runtime>> make_cri_runtime(const std::string& name, const RuntimeOptions& options);
std::unique_ptr<Runtime> make_skopeo(const Ground& ground);
std::unique_ptr<Runtime> make_limit();

/// Blocks until the disk's use, which was `held` bytes with the image, is back at `used`, but for 2 MiB or a fiftieth
/// of the image: what the store's own records grow by. After a minute: false, and stderr says how much is left.
[[nodiscard]] bool wait_until_free(const Ground& ground, std::uint64_t used, std::uint64_t held);

/// CPU time so far of a process and of those of its children that it has reaped, in seconds.
Result<double> cpu_seconds(pid_t pid);
/// The same when the process has come to rest, so that work which it puts off counts too; after ten seconds anyway.
Result<double> cpu_seconds_at_rest(pid_t pid);
/// A line of /proc/PID/status ("VmHWM:"), in MiB.
Result<double> memory_mib(pid_t pid, const std::string& line);
/// From now on VmHWM counts from the memory of now. Source: proc(5), clear_refs.
Result<> reset_peak(pid_t pid);
[[nodiscard]] double seconds_of(const struct timeval& time);

}  // namespace berth::bench
