#pragma once
#include <atomic>
#include <chrono>
#include <memory>
#include <string>
#include <vector>

#include "base/result.h"
#include "cri_client.h"
#include "process.h"

namespace berth::test {

enum class Server {
  kBerth,       ///< berthd of BERTH_BIN_DIR
  kContainerd,  ///< Debian's containerd with runc, the peer that benchmarks compare with
};

struct TestHostOptions {
  Server server = Server::kBerth;
  /// More of config.toml (berthd) after what the fixture writes; sections as a whole, not [cgroup] or [network].
  /// "@DIR@" in it becomes dir().
  std::string config{};
  /// A CNI conflist for the pods; empty: berthd's built-in network, and for containerd the reference bridge plugin.
  /// "@DIR@" in it becomes dir().
  std::string conflist{};
  /// berthd finds the CNI plugins in dir()/plugins, a folder of links to the reference plugins that a test may change.
  bool own_plugins = false;
  /// Which of the test images the registry gets; none: no registry.
  std::vector<std::string> images = {"busybox"};
  /// containerd's runtime program.
  std::string peer_runtime = "runc";
  /// cgroups by the systemd that runs this machine: the pods' are slices below one of this host's own.
  bool systemd = false;
  /// berthd and the shim with failpoints (bin/failpoints), for arm().
  bool failpoints = false;
};

/// A node for a test: a registry on loopback with the test images, a CRI server with every folder of its own below one
/// temporary folder, and a client. To be used inside run_isolated(). Several may exist in one process, one after
/// another or, but for the registry's port, side by side. The destructor ends and removes everything, pods included.
class TestHost final {
 public:
  /// Makes it all and waits until the server answers. Errors name the step and quote the server's log.
  static Result<std::unique_ptr<TestHost>> start(TestHostOptions options = {});
  TestHost(const TestHost&) = delete;
  TestHost& operator=(const TestHost&) = delete;
  TestHost(TestHost&&) = delete;
  TestHost& operator=(TestHost&&) = delete;
  ~TestHost();

  [[nodiscard]] const std::string& dir() const { return dir_; }
  [[nodiscard]] std::string root() const { return dir_ + "/root"; }
  [[nodiscard]] std::string state() const { return dir_ + "/state"; }
  [[nodiscard]] std::string socket() const { return dir_ + "/cri.sock"; }
  [[nodiscard]] std::string cni_dir() const { return dir_ + "/cni"; }
  /// Where the CNI plugins are.
  [[nodiscard]] std::string plugin_dir() const { return options_.own_plugins ? dir_ + "/plugins" : kPlugins; }
  static constexpr const char* kPlugins = "/usr/lib/cni";
  /// With `systemd`: the slice of cgroup_parent(), and the name of another in it.
  [[nodiscard]] std::string slice() const { return cgroup_parent_.substr(1); }
  [[nodiscard]] std::string slice(const std::string& name) const;
  /// The cgroup below which all pods of pod_config() are, in every hierarchy.
  [[nodiscard]] const std::string& cgroup_parent() const { return cgroup_parent_; }
  [[nodiscard]] Server server() const { return options_.server; }
  /// "127.0.0.1:5000/NAME:latest".
  [[nodiscard]] static std::string image(const std::string& name) { return kRegistry + ("/" + name + ":latest"); }
  static constexpr const char* kRegistry = "127.0.0.1:5000";
  /// The folder of our programs, and a program in it.
  [[nodiscard]] static std::string bin_dir();
  [[nodiscard]] static std::string program(const std::string& name) { return bin_dir() + "/" + name; }

  /// The client; after start_daemon() a new one.
  [[nodiscard]] CriClient& cri() { return *cri_; }
  [[nodiscard]] pid_t daemon_pid() const { return daemon_.pid(); }
  [[nodiscard]] pid_t registry_pid() const { return registry_.pid(); }
  [[nodiscard]] bool daemon_alive() const { return daemon_.alive(); }
  /// Starts the server and waits until it answers Version and says that it is ready.
  Result<> start_daemon();
  /// SIGTERM; its exit code. kTimeout (and SIGKILL) after 30 s.
  Result<int> stop_daemon();
  /// SIGKILL, and waits until it is gone.
  void kill9_daemon() { daemon_.kill(); }
  /// Lets `action` (base/failpoint.h) happen once, when the server or a shim next comes by the failpoint `name`.
  Result<> arm(const std::string& name, const std::string& action) const;
  /// Whether it has happened since arm().
  [[nodiscard]] bool fired(const std::string& name) const;
  /// Forgets what was armed, and what has happened.
  Result<> disarm() const;
  /// The last `bytes` of what the server has written.
  [[nodiscard]] std::string daemon_log(std::size_t bytes = 16384) const;

  /// A pod of that name with an own uid, logs below logs(NAME), cgroup below cgroup_parent(), DNS set.
  [[nodiscard]] pb::PodSandboxConfig pod_config(const std::string& name);
  /// A container of the image (image()'s name) with the pod's usual settings; its log is NAME.log. No arguments: the
  /// image's command.
  [[nodiscard]] pb::ContainerConfig container_config(const std::string& name, const std::string& image_name,
                                                     std::vector<std::string> command = {}) const;
  [[nodiscard]] std::string logs(const std::string& pod_name) const { return dir_ + "/logs/" + pod_name; }
  /// A shell script as the container's command.
  [[nodiscard]] pb::ContainerConfig shell_config(const std::string& name, const std::string& script) const {
    return container_config(name, "busybox", {"/bin/sh", "-c", script});
  }

 private:
  explicit TestHost(TestHostOptions options) : options_(std::move(options)) {}
  Result<> make();
  Result<> start_registry();
  Result<> push_images();
  Result<> write_config();
  Result<> link_plugins() const;
  [[nodiscard]] std::string berth_config() const;
  /// The text with dir() for "@DIR@".
  [[nodiscard]] std::string in_dir(std::string text) const;
  [[nodiscard]] std::string failpoints() const { return dir_ + "/failpoints"; }
  [[nodiscard]] std::string containerd_config() const;
  Result<> hide_peer_folders();
  void remove_cgroups() const;

  TestHostOptions options_;
  std::string dir_;
  std::string cgroup_parent_;
  Process registry_;
  Process daemon_;
  std::unique_ptr<CriClient> cri_;
  std::vector<std::string> mounted_;
  std::atomic<unsigned> next_pod_ = 1;
};

/// GET http://ADDRESS:PORT/PATH within `timeout`, from this process's network namespace: the body.
Result<std::string> http_get(const std::string& address, unsigned port, const std::string& path = "/",
                             std::chrono::milliseconds timeout = std::chrono::seconds(10));

}  // namespace berth::test
