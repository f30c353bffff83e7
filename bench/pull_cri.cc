// Berth and Debian's containerd as bench_pull drives them: the same calls over CRI, each in folders of its own on the
// disk of the benchmark, started afresh for each pull.
#include <dirent.h>
#include <sys/stat.h>
#include <unistd.h>

#include <algorithm>
#include <atomic>
#include <chrono>
#include <cstdlib>
#include <filesystem>
#include <thread>

#include "base/strings.h"
#include "cri_driver.h"
#include "os/file.h"
#include "os/socket.h"
#include "os/spawn.h"
#include "process.h"
#include "pull_runtime.h"
#include "wait.h"

namespace berth::bench {
namespace {

using Clock = std::chrono::steady_clock;
constexpr std::chrono::seconds kReadyTimeout{60};
constexpr std::chrono::seconds kStopGrace{30};
constexpr const char* kPlugins = "/usr/lib/cni";

double seconds_since(Clock::time_point begun) {
  return std::chrono::duration<double>(Clock::now() - begun).count();
}

double median_of(std::vector<double> values) {
  std::ranges::sort(values);
  return values[values.size() / 2];
}

struct CriOptions {
  std::string name;
  bool berth = false;
  std::string decompressor;  ///< of containerd, a path; empty: its own
};

class CriRuntime final : public Runtime {
 public:
  CriRuntime(CriOptions cri, const RuntimeOptions& options)
      : cri_(std::move(cri)), options_(options), dir_(options.ground->work() + "/" + cri_.name) {}

  [[nodiscard]] std::string name() const override { return cri_.name; }
  [[nodiscard]] std::string store() const override { return options_.ground->disk() + "/" + cri_.name; }

  Result<> prepare() override {
    BERTH_TRY(finish(), name());
    for (const auto* folder : {"/logs", "/cni", "/path"}) BERTH_TRY(os::make_dirs(dir_ + folder), name());
    BERTH_TRY(os::make_dirs(store()), name());
    BERTH_TRY(write_config(), name());
    BERTH_TRY(start_daemon(), name());
    // What a daemon does only once is not a pull's; and containerd's pods need this image.
    return driver(image_name("pause", options_.scale))->pull();
  }

  Result<> pull(const std::string& image, Sample& sample) override {
    const auto client = driver(image);
    BERTH_TRY(reset_peak(daemon_.pid()), name());
    BERTH_ASSIGN(const double idle, memory_mib(daemon_.pid(), "VmRSS:"), name());
    BERTH_ASSIGN(const double cpu, cpu_seconds(daemon_.pid()), name());
    const auto begun = Clock::now();
    BERTH_TRY(client->pull(), "pull");
    sample.wall_s = seconds_since(begun);
    BERTH_ASSIGN(const double cpu_after, cpu_seconds_at_rest(daemon_.pid()), name());
    BERTH_ASSIGN(const double peak, memory_mib(daemon_.pid(), "VmHWM:"), name());
    sample.cpu_s = cpu_after - cpu;
    sample.peak_mib = peak;
    sample.more_mib = peak - idle;
    return {};
  }

  Result<> start(const std::string& image, const std::vector<std::string>& command, Sample& sample) override;
  Result<> remove(const std::string& image, const Ground& ground, std::uint64_t used, Sample& sample) override;

  Result<> finish() override {
    if (daemon_.pid() != 0) BERTH_TRY(daemon_.stop(kStopGrace), "stop");
    // Folders of pods that a daemon keeps under its state go with it.
    BERTH_TRY(os::remove_tree(store()), name());
    return os::remove_tree(dir_);
  }

 private:
  [[nodiscard]] std::string socket() const { return dir_ + "/cri.sock"; }
  [[nodiscard]] std::string log() const { return options_.ground->work() + "/" + cri_.name + ".log"; }
  [[nodiscard]] std::unique_ptr<Driver> driver(const std::string& image) const {
    return std::make_unique<Driver>(Peer{cri_.name, socket(), options_.cgroup + "/" + cri_.name, dir_ + "/logs"},
                                    image);
  }
  Result<> write_config() const;
  Result<> start_daemon();
  [[nodiscard]] std::vector<std::string> environment() const;
  Result<> measure_container(Driver& client, const Pod& pod, Sample& sample) const;

  const CriOptions cri_;
  const RuntimeOptions options_;
  const std::string dir_;
  test::Process daemon_;
  unsigned pods_ = 0;
};

Result<> CriRuntime::write_config() const {
  const std::string cni = dir_ + "/cni";
  if (cri_.berth) {
    return os::write_file_atomic(dir_ + "/config.toml", "[cgroup]\ndriver = \"cgroupfs\"\nparent = \"" +
                                                            options_.cgroup + "\"\n[network]\nconf_dir = \"" + cni +
                                                            "\"\nbin_dirs = [\"" + kPlugins +
                                                            "\"]\n[nri]\nenabled = false\n");
  }
  // The reference plugins, set up as a cluster's simplest network is.
  BERTH_TRY(os::write_file_atomic(cni + "/10-bench.conflist",
                                  R"({"cniVersion": "1.0.0", "name": "bench", "plugins": [
  {"type": "bridge", "bridge": "bench0", "isGateway": true, "ipMasq": true,
   "ipam": {"type": "host-local", "dataDir": ")" +
                                      dir_ + R"(/ipam", "ranges": [[{"subnet": "10.99.0.0/16"}]],
            "routes": [{"dst": "0.0.0.0/0"}]}},
  {"type": "portmap", "capabilities": {"portMappings": true}}]})"),
            "conflist");
  const std::string plugin = "[plugins.\"io.containerd.grpc.v1.cri\"";
  return os::write_file_atomic(
      dir_ + "/config.toml",
      "version = 2\nroot = \"" + store() + "\"\nstate = \"" + dir_ +
          "/state\"\ndisabled_plugins = [\"io.containerd.snapshotter.v1.aufs\", "
          "\"io.containerd.snapshotter.v1.btrfs\", \"io.containerd.snapshotter.v1.devmapper\", "
          "\"io.containerd.snapshotter.v1.zfs\", \"io.containerd.internal.v1.opt\"]\n[grpc]\naddress = \"" +
          socket() + "\"\n[ttrpc]\naddress = \"" + dir_ + "/ttrpc.sock\"\n" + plugin + "]\nsandbox_image = \"" +
          image_name("pause", options_.scale) +
          "\"\ndisable_hugetlb_controller = true\nrestrict_oom_score_adj = true\nnetns_mounts_under_state_dir = "
          "true\n" +
          plugin + ".cni]\nbin_dir = \"" + kPlugins + "\"\nconf_dir = \"" + cni + "\"\n");
}

// Which program unpacks gzip, containerd finds by PATH: pigz's, and of later versions igzip before it. One that is
// called like pigz's is used by all versions.
std::vector<std::string> CriRuntime::environment() const {
  if (cri_.berth) return {};
  if (cri_.decompressor.empty()) return {"CONTAINERD_DISABLE_PIGZ=1", "CONTAINERD_DISABLE_IGZIP=1"};
  const char* path = std::getenv("PATH");  // NOLINT(concurrency-mt-unsafe): nobody sets it
  std::vector<std::string> words = {"PATH=" + dir_ + "/path:" + (path == nullptr ? "/usr/bin" : path)};
  if (!cri_.decompressor.ends_with("/igzip")) words.emplace_back("CONTAINERD_DISABLE_IGZIP=1");
  return words;
}

Result<> CriRuntime::start_daemon() {
  std::vector<std::string> argv = {"containerd", "--config", dir_ + "/config.toml", "--log-level", "warn"};
  if (cri_.berth) {
    argv = {options_.bin + "/berthd",
            "--config",
            dir_ + "/config.toml",
            "--root",
            store(),
            "--state",
            dir_ + "/state",
            "--listen",
            socket()};
  }
  if (!cri_.decompressor.empty()) {
    std::error_code error;
    std::filesystem::create_symlink(cri_.decompressor, dir_ + "/path/unpigz", error);
    if (error) return fail_errno(error.value(), "link " + cri_.decompressor);
  }
  BERTH_ASSIGN(daemon_, test::Process::start(argv, log(), environment()), "start");
  // A channel that has met a socket without a listener comes back to it only after seconds.
  (void)test::wait_until(kReadyTimeout, [this] {
    return !daemon_.alive() || os::unix_connect(socket(), std::chrono::seconds(5)).has_value();
  });
  const auto client = driver("");
  std::string last = "no answer";
  const bool ready = test::wait_until(kReadyTimeout, [&] {
    if (!daemon_.alive()) return true;
    grpc::ClientContext context;
    context.set_deadline(std::chrono::system_clock::now() + std::chrono::seconds(5));
    pb::StatusResponse reply;
    const auto status = client->runtime().Status(&context, {}, &reply);
    last = status.error_message();
    bool all = status.ok();
    for (const auto& condition : reply.status().conditions()) {
      if (!condition.status()) last = condition.type() + ": " + condition.message();
      all = all && condition.status();
    }
    return all;
  });
  if (ready && daemon_.alive()) return {};
  const auto text = os::read_file(log(), 64U << 20).value_or("");
  return fail(Code::kUnavailable, "it does not become ready: " + last + "; its log ends:\n" +
                                      text.substr(text.size() - std::min<std::size_t>(text.size(), 4096)));
}

Result<> CriRuntime::start(const std::string& image, const std::vector<std::string>& command, Sample& sample) {
  const auto client = driver(image);
  client->set_command(command);
  const std::string log_file = dir_ + "/logs/main.log";
  ignore(os::remove_file(log_file), "there is none yet");
  std::atomic<bool> stop = false;
  std::atomic<double> first = kNone;
  const auto begun = Clock::now();
  std::thread watcher([&] {
    struct stat status{};
    while (!stop && (::stat(log_file.c_str(), &status) != 0 || status.st_size == 0)) {
      std::this_thread::sleep_for(std::chrono::microseconds(250));
    }
    if (!stop) first = seconds_since(begun) * 1000;
  });
  PodTimes times;
  const auto pod = client->up(static_cast<int>(pods_++), times);
  const bool said =
      pod && test::wait_until(kReadyTimeout, [&log_file] { return os::read_file(log_file, 4096).value_or("") != ""; });
  if (!said) stop = true;
  watcher.join();
  if (!pod) return fail(Error(pod.error()));
  sample.first_ms = first;
  Result<> measured;
  if (said) {
    measured = measure_container(*client, *pod, sample);
  } else {
    measured = fail(Code::kTimeout, command[0] + " says nothing");
  }
  const auto gone = client->down(*pod, times);
  return measured ? gone : measured;
}

/// The first time warms up. The times are those that the program in the container tells.
Result<> CriRuntime::measure_container(Driver& client, const Pod& pod, Sample& sample) const {
  constexpr int kTimes = 3;
  for (const auto* word : {"list", "read"}) {
    std::vector<double> times;
    for (int i = 0; i <= kTimes; ++i) {
      BERTH_ASSIGN(const auto text, client.output(pod, {"/bench/walk", word, "/"}), word);
      const auto words = split(trim(text), ' ');
      const auto us = words.size() == 3 ? parse_number<std::uint64_t>(words[2]) : std::nullopt;
      if (!us) return fail(Code::kInternal, "bench_walk says " + text);
      if (i > 0) times.push_back(static_cast<double>(*us) / 1000);
    }
    (word[0] == 'l' ? sample.list_ms : sample.read_ms) = median_of(std::move(times));
  }
  return {};
}

Result<> CriRuntime::remove(const std::string& image, const Ground& ground, std::uint64_t used, Sample& sample) {
  const auto client = driver(image);
  const std::uint64_t held = ground.used();
  BERTH_ASSIGN(const double cpu, cpu_seconds(daemon_.pid()), name());
  const auto begun = Clock::now();
  grpc::ClientContext context;
  pb::RemoveImageRequest request;
  request.mutable_image()->set_image(image);
  pb::RemoveImageResponse reply;
  const auto status = client->images().RemoveImage(&context, request, &reply);
  if (!status.ok()) return fail(Code::kInternal, name() + ": RemoveImage: " + status.error_message());
  if (wait_until_free(ground, used, held)) sample.remove_s = seconds_since(begun);
  BERTH_ASSIGN(const double cpu_after, cpu_seconds_at_rest(daemon_.pid()), name());
  sample.remove_cpu_s = cpu_after - cpu;
  return {};
}

}  // namespace

Result<std::unique_ptr<Runtime>> make_cri_runtime(const std::string& name, const RuntimeOptions& options) {
  if (name == "berth") return std::make_unique<CriRuntime>(CriOptions{name, true, {}}, options);
  if (!os::find_program("containerd")) return fail(Code::kInvalid, "containerd is not installed");
  if (name == "containerd") return std::make_unique<CriRuntime>(CriOptions{name, false, {}}, options);
  for (const auto* program : {"unpigz", "igzip"}) {
    const std::string with = program == std::string("unpigz") ? "containerd+pigz" : "containerd+igzip";
    if (name != with) continue;
    const auto path = os::find_program(program);
    if (!path) return fail(Code::kInvalid, name + ": " + program + " is not installed");
    return std::make_unique<CriRuntime>(CriOptions{name, false, *path}, options);
  }
  return fail(Code::kInvalid, "no runtime is called " + name);
}

}  // namespace berth::bench
