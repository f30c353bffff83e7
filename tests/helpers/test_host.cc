#include "test_host.h"

#include <signal.h>
#include <sys/mount.h>
#include <unistd.h>

#include <algorithm>
#include <cerrno>
#include <cstdlib>
#include <filesystem>

#include "base/ids.h"
#include "isolation.h"
#include "leak_check.h"
#include "os/file.h"
#include "os/socket.h"
#include "test_images.h"
#include "wait.h"

namespace berth::test {
namespace {

constexpr std::chrono::seconds kReadyTimeout{60};
constexpr std::chrono::seconds kStopGrace{30};
constexpr std::string_view kDirWord = "@DIR@";
constexpr std::size_t kMaxLog = 256U << 20;

// The reference plugins, set up as a cluster's simplest network is.
std::string reference_conflist(const std::string& dir) {
  return R"({"cniVersion": "1.0.0", "name": "peer", "plugins": [
  {"type": "bridge", "bridge": "cni0", "isGateway": true, "ipMasq": true, "hairpinMode": true,
   "ipam": {"type": "host-local", "dataDir": ")" +
         dir + R"(/ipam", "ranges": [[{"subnet": "10.89.0.0/16"}]], "routes": [{"dst": "0.0.0.0/0"}]}},
  {"type": "portmap", "capabilities": {"portMappings": true}}]})";
}

std::string quoted_log(const std::string& text) {
  return "\n--- its log ends:\n" + text + "\n---";
}

}  // namespace

std::string TestHost::bin_dir() {
  const char* dir = std::getenv("BERTH_BIN_DIR");  // NOLINT(concurrency-mt-unsafe): nobody sets it
  if (dir != nullptr && *dir != '\0') return dir;
  std::error_code error;
  return std::filesystem::read_symlink("/proc/self/exe", error).parent_path().parent_path() / "bin";
}

Result<std::unique_ptr<TestHost>> TestHost::start(TestHostOptions options) {
  std::unique_ptr<TestHost> host(new TestHost(std::move(options)));
  BERTH_TRY(host->make(), "test host");
  return host;
}

Result<> TestHost::make() {
  const std::string id = random_hex(4);
  dir_ = "/tmp/berth-test-" + id;
  cgroup_parent_ = options_.systemd ? "/berthtest" + id + ".slice" : "/berth-test-" + id;
  BERTH_TRY(os::make_dirs(dir_ + "/logs"), "temporary folder");
  BERTH_TRY(os::make_dirs(cni_dir()), "temporary folder");
  BERTH_TRY(os::make_dirs(failpoints()), "temporary folder");
  if (!options_.images.empty()) {
    BERTH_TRY(start_registry(), "registry");
    BERTH_TRY(push_images(), "registry");
  }
  if (options_.server == Server::kContainerd) BERTH_TRY(hide_peer_folders(), "peer");
  BERTH_TRY(write_config(), "configuration");
  if (options_.own_plugins) BERTH_TRY(link_plugins(), "plugins");
  return start_daemon();
}

Result<> TestHost::start_registry() {
  const std::string config =
      "version: 0.1\nlog: {level: error, accesslog: {disabled: true}}\n"
      "storage: {filesystem: {rootdirectory: " +
      dir_ +
      "/registry}, delete: {enabled: true}}\n"
      "http: {addr: " +
      kRegistry + "}\n";
  BERTH_TRY(os::write_file_atomic(dir_ + "/registry.yml", config), "configuration");
  BERTH_ASSIGN(registry_, Process::start({"docker-registry", "serve", dir_ + "/registry.yml"}, dir_ + "/registry.log"),
               "start");
  const bool up = wait_until(kReadyTimeout, [this] {
    return !registry_.alive() || http_get("127.0.0.1", 5000, "/v2/", std::chrono::seconds(5)).has_value();
  });
  if (up && registry_.alive()) return {};
  return fail(Code::kUnavailable,
              "it does not answer" + quoted_log(os::read_file(dir_ + "/registry.log", kMaxLog).value_or("")));
}

Result<> TestHost::push_images() {
  std::error_code error;
  const auto programs = std::filesystem::read_symlink("/proc/self/exe", error).parent_path();
  BERTH_ASSIGN(const auto images, make_test_images(programs), "make images");
  auto wanted = options_.images;
  if (options_.server == Server::kContainerd) wanted.emplace_back("pause");
  for (const auto& name : wanted) {
    const auto found = images.find(name);
    if (found == images.end()) return fail(Code::kInvalid, "no test image \"" + name + "\"");
    const std::string layout = dir_ + "/layout-" + name;
    BERTH_TRY(write_layout(found->second, layout), "image " + name);
    BERTH_ASSIGN(const auto pushed,
                 run_program({"skopeo", "copy", "-q", "--insecure-policy", "--dest-tls-verify=false",
                              "oci:" + layout + ":latest", "docker://" + image(name)}),
                 "push " + name);
    if (pushed.code != 0) return fail(Code::kInternal, "push " + name + ": " + pushed.err);
    BERTH_TRY(os::remove_tree(layout), "image " + name);
  }
  return {};
}

std::string TestHost::berth_config() const {
  const std::string cgroup = options_.systemd ? "driver = \"systemd\"\nparent = \"" + slice() + "\"\n"
                                              : "driver = \"cgroupfs\"\nparent = \"" + cgroup_parent_ + "\"\n";
  return "[cgroup]\n" + cgroup + "[network]\nconf_dir = \"" + cni_dir() + "\"\nbin_dirs = [\"" + plugin_dir() +
         "\"]\n" + in_dir(options_.config) +
         // Nobody's plugins but those of a test that brings its own.
         (options_.config.find("[nri]") == std::string::npos ? "[nri]\nenabled = false\n" : "");
}

std::string TestHost::containerd_config() const {
  const std::string cri = "[plugins.\"io.containerd.grpc.v1.cri\"";
  return "version = 2\nroot = \"" + root() + "\"\nstate = \"" + state() +
         "\"\ndisabled_plugins = [\"io.containerd.snapshotter.v1.aufs\", \"io.containerd.snapshotter.v1.btrfs\", "
         "\"io.containerd.snapshotter.v1.devmapper\", \"io.containerd.snapshotter.v1.zfs\", "
         "\"io.containerd.internal.v1.opt\"]\n[grpc]\naddress = \"" +
         socket() + "\"\n" + cri + "]\nsandbox_image = \"" + image("pause") +
         "\"\nrestrict_oom_score_adj = true\nnetns_mounts_under_state_dir = true\n" + cri + ".cni]\nbin_dir = \"" +
         plugin_dir() + "\"\nconf_dir = \"" + cni_dir() + "\"\n" + cri +
         ".containerd.runtimes.runc]\nruntime_type = \"io.containerd.runc.v2\"\n" + cri +
         ".containerd.runtimes.runc.options]\nBinaryName = \"" + options_.peer_runtime + "\"\n";
}

std::string TestHost::in_dir(std::string text) const {
  for (auto at = text.find(kDirWord); at != std::string::npos; at = text.find(kDirWord)) {
    text.replace(at, kDirWord.size(), dir_);
  }
  return text;
}

Result<> TestHost::write_config() {
  const bool berth = options_.server == Server::kBerth;
  auto conflist = in_dir(options_.conflist);
  if (conflist.empty() && !berth) conflist = reference_conflist(dir_);
  if (!conflist.empty()) BERTH_TRY(os::write_file_atomic(cni_dir() + "/10-test.conflist", conflist), "conflist");
  return os::write_file_atomic(dir_ + "/config.toml", berth ? berth_config() : containerd_config());
}

Result<> TestHost::link_plugins() const {
  BERTH_TRY(os::make_dirs(plugin_dir()), "folder");
  BERTH_ASSIGN(const auto names, os::list_dir(kPlugins), "reference plugins");
  for (const auto& name : names) {
    std::error_code error;
    std::filesystem::create_symlink(kPlugins + ("/" + name), plugin_dir() + "/" + name, error);
    if (error) return fail_errno(error.value(), "link " + name);
  }
  return {};
}

// containerd's shims and CNI's cache know no other places than these.
Result<> TestHost::hide_peer_folders() {
  for (const std::string place : {"/run", "/var/lib"}) {
    const std::string copy = dir_ + "/hidden" + place;
    BERTH_TRY(os::make_dirs(copy), "hide " + place);
    if (::mount(copy.c_str(), place.c_str(), nullptr, MS_BIND, nullptr) != 0) return fail_errno(errno, "hide " + place);
    mounted_.push_back(place);
  }
  return {};
}

Result<> TestHost::start_daemon() {
  const std::string config = dir_ + "/config.toml";
  std::vector<std::string> argv = {"containerd", "--config", config};
  if (options_.server == Server::kBerth) {
    const std::string name = options_.failpoints ? "failpoints/berthd" : "berthd";
    argv = {program(name), "--config", config, "--root", root(), "--state", state(), "--listen", socket()};
  }
  std::vector<std::string> points;
  if (options_.failpoints) points = {"BERTH_FAILPOINTS=@" + failpoints(), "BERTH_FAILPOINTS_SHIM=@" + failpoints()};
  BERTH_ASSIGN(daemon_, Process::start(argv, dir_ + "/daemon.log", std::move(points)), "start the server");
  // A channel that has met a socket without a listener comes back to it only after seconds.
  const bool listens = wait_until(kReadyTimeout, [this] {
    return !daemon_.alive() || os::unix_connect(socket(), std::chrono::seconds(5)).has_value();
  });
  cri_ = std::make_unique<CriClient>(socket());
  std::string last = listens ? "no answer" : "nobody listens";
  const bool ready = wait_until(kReadyTimeout, [this, &last] {
    if (!daemon_.alive()) return true;
    const auto status = cri_->call(&Runtime::Status, pb::StatusRequest(), std::chrono::seconds(5));
    if (!status) {
      last = status.error().text();
      return false;
    }
    for (const auto& condition : status->status().conditions()) {
      last = condition.type() + ": " + condition.message();
      if (!condition.status()) return false;
    }
    return true;
  });
  if (ready && daemon_.alive()) return {};
  if (!daemon_.alive()) last = "it has ended";
  return fail(Code::kUnavailable, "the server does not become ready: " + last + quoted_log(daemon_log()));
}

Result<int> TestHost::stop_daemon() {
  return daemon_.stop(kStopGrace);
}

Result<> TestHost::arm(const std::string& name, const std::string& action) const {
  return os::write_file_atomic(failpoints() + "/" + name, action);
}

bool TestHost::fired(const std::string& name) const {
  return os::exists(failpoints() + "/" + name + ".done");
}

Result<> TestHost::disarm() const {
  BERTH_ASSIGN(const auto names, os::list_dir(failpoints()), "failpoints");
  for (const auto& name : names) BERTH_TRY(os::remove_file(failpoints() + "/" + name), "failpoints");
  return {};
}

std::string TestHost::daemon_log(std::size_t bytes) const {
  auto text = os::read_file(dir_ + "/daemon.log", kMaxLog).value_or("");
  return text.size() <= bytes ? text : text.substr(text.size() - bytes);
}

TestHost::~TestHost() {
  if (dir_.empty()) return;
  if (daemon_.alive() && cri_) {
    ignore(cri_->end_all(), "the test may have broken the server on purpose");
    ignore(stop_daemon(), "killed if it does not end");
  }
  daemon_.kill();
  registry_.kill();
  cri_.reset();
  // Shims and containers are no children of this process: they are its supervisor's. What still runs is ended here, so
  // that the folder can go.
  for (const pid_t pid : processes_of(*this)) ::kill(pid, SIGKILL);
  remove_cgroups();
  for (const auto& place : mounted_) ::umount2(place.c_str(), MNT_DETACH);
  ignore(os::remove_tree(dir_, false), "what a test left mounted there stays until its mount namespace ends");
}

std::string TestHost::slice(const std::string& name) const {
  // As a kubelet does: a dash would be one slice in another.
  std::string word = name;
  std::ranges::replace(word, '-', '_');
  const std::string top = slice();
  return top.substr(0, top.find('.')) + "-" + word + ".slice";
}

void TestHost::remove_cgroups() const {
  // systemd removes what it has made, with all that is in it.
  if (options_.systemd) ignore(run_program({"systemctl", "stop", slice()}), "what stays is seen by the next look");
  auto folders = cgroups_of(*this);
  std::ranges::reverse(folders);
  // A cgroup stays busy until the kernel has taken down what was killed in it; what does not go has a unique name.
  (void)wait_until(std::chrono::seconds(5), [&folders] {
    std::erase_if(folders, [](const auto& folder) { return ::rmdir(folder.c_str()) == 0 || errno == ENOENT; });
    return folders.empty();
  });
}

pb::PodSandboxConfig TestHost::pod_config(const std::string& name) {
  pb::PodSandboxConfig config;
  auto& metadata = *config.mutable_metadata();
  metadata.set_name(name);
  metadata.set_namespace_("test");
  metadata.set_uid(name + "-" + std::to_string(next_pod_++) + "-" + random_hex(4));
  config.set_hostname(name);
  config.set_log_directory(logs(name));
  config.mutable_dns_config()->add_servers("192.0.2.53");
  auto& linux_config = *config.mutable_linux();
  linux_config.set_cgroup_parent(options_.systemd ? slice("pod" + metadata.uid())
                                                  : cgroup_parent_ + "/pod" + metadata.uid());
  linux_config.mutable_security_context()->mutable_namespace_options()->set_pid(pb::CONTAINER);
  return config;
}

pb::ContainerConfig TestHost::container_config(const std::string& name, const std::string& image_name,
                                               std::vector<std::string> command) const {
  pb::ContainerConfig config;
  config.mutable_metadata()->set_name(name);
  config.mutable_image()->set_image(image(image_name));
  config.set_log_path(name + ".log");
  for (auto& word : command) config.add_command(std::move(word));
  auto& security = *config.mutable_linux()->mutable_security_context();
  security.mutable_namespace_options()->set_pid(pb::CONTAINER);
  return config;
}

Result<std::string> http_get(const std::string& address, unsigned port, const std::string& path,
                             std::chrono::milliseconds timeout) {
  const std::string host = address.find(':') == std::string::npos ? address : "[" + address + "]";
  const std::string url = "http://" + host + ":" + std::to_string(port) + path;
  const auto seconds = std::to_string(std::max<std::int64_t>(1, timeout.count() / 1000));
  BERTH_ASSIGN(const auto ran, run_program({"curl", "-sS", "--fail", "--max-time", seconds, "--retry", "0", url}), url);
  if (ran.code == 0) return ran.out;
  return fail(Code::kUnavailable, url + ": " + ran.err);
}

}  // namespace berth::test
