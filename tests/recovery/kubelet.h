#pragma once
#include <functional>
#include <optional>
#include <set>
#include <string>
#include <vector>

#include "cri_client.h"
#include "leak_check.h"
#include "test_host.h"

namespace berth::test {

/// What became of the lives that a Kubelet has driven.
struct Tally {
  unsigned lives = 0;
  unsigned daemon_kills = 0;
  unsigned shim_kills = 0;
  unsigned orphans = 0;
  unsigned doubles = 0;
  unsigned lost_codes = 0;
  unsigned lost_lines = 0;
  unsigned leaked_addresses = 0;
  unsigned other = 0;
  std::set<std::string> fired;
  std::vector<std::string> faults;  ///< one text for each of what is counted above, from `orphans` on

  [[nodiscard]] unsigned kills() const { return daemon_kills + shim_kills; }
};

/// One pod's life as a kubelet drives it, on a host whose daemon and shims die at failpoints: sandbox, a container that
/// ends by itself, one that is updated, has its log rotated and is stopped, one whose program does not exist, one that
/// runs until the end; stop and removal. What fails is sent again as a kubelet does: the same request after a restart
/// of the daemon; when the pod is lost, stop and removal and the next attempt. Whatever is not as it must be is
/// counted.
class Kubelet final {
 public:
  struct Plan {
    std::vector<std::string> points;  ///< die at these
    bool shim_dies = false;           ///< the shim is killed before the pod is stopped,
    bool alone = false;               ///< while no daemon runs
    bool shared_pids = false;         ///< the pod has one pid namespace,
    bool init_dies = false;           ///< whose init is killed where the shim would be
  };

  Kubelet(TestHost& host, const HostState& before, Tally& tally) : host_(host), before_(before), tally_(tally) {}

  /// `name`: the pod's, unique on the host.
  void live(const std::string& name, const Plan& plan);

 private:
  enum class End { kDone, kPodLost };
  struct Written {
    std::string path;
    bool whole = false;  // the program has ended by itself
  };

  // Whether the daemon was dead; it runs again then.
  bool revive();
  void count_fired();
  End attempt(unsigned number);
  End run_main();
  End run_served();
  End run_broken();
  End run_stubborn();
  End kill_shim();
  void clear();
  void check_singles(const char* when);
  void check_end();
  void check_log(const Written& log);
  /// Of the container whose log was added last.
  void check_exit(const pb::ContainerStatus& status, int code);
  /// Repeats `call` until it succeeds, over restarts of the daemon. nullopt: the pod is lost.
  std::optional<std::string> drive(const char* what, const std::function<Result<std::string>()>& call);
  /// The same without a pod to lose, at most a minute.
  void insist(const char* what, const std::function<Result<>()>& call);
  std::optional<pb::ContainerStatus> wait_exited(const std::string& id);
  bool pod_is_ready();
  std::optional<std::string> create(const pb::ContainerConfig& config);
  bool start(const std::string& id);
  pb::ContainerConfig config_of(const std::string& name, const std::string& script);
  void fault(unsigned Tally::* what, const std::string& text);

  TestHost& host_;
  const HostState& before_;
  Tally& tally_;
  std::string name_;
  Plan plan_;
  pb::PodSandboxConfig config_;
  std::string pod_;
  unsigned deaths_ = 0;  // of the daemon in this life
  bool killed_alone_ = false;
  std::vector<Written> logs_;
};

}  // namespace berth::test
