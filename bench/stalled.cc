// How long the reads of the CRI take on a node where shims are stopped and a volume hangs: alone, and while others exec
// and make pods. Usage: bench_stalled --image IMAGE --peer NAME=SOCKET=CGROUP --volume DIR --volume-server PID [--pods
// N]
// [--stopped N] [--calls N]   (tools/bench starts the peer and the volume's server, which is stopped here)
#include <grpcpp/create_channel.h>
#include <grpcpp/generic/generic_stub.h>
#include <signal.h>

#include <CLI/CLI.hpp>
#include <algorithm>
#include <atomic>
#include <cstdio>
#include <functional>
#include <map>
#include <mutex>
#include <thread>
#include <vector>

#include "base/strings.h"
#include "cri_driver.h"
#include "os/file.h"

namespace berth::bench {
namespace {

using Clock = std::chrono::steady_clock;

constexpr int kClients = 4;
constexpr int kBarUs = 10'000;

struct Options {
  int pods = 200;
  int stopped = 30;
  int calls = 3000;  // of each method: long enough for rounds of statistics to fall into it
  std::string volume;
  pid_t volume_server = 0;
};

// Processes that run again when this goes.
class Stopped {
 public:
  Stopped() = default;
  Stopped(const Stopped&) = delete;
  Stopped& operator=(const Stopped&) = delete;
  Stopped(Stopped&&) = delete;
  Stopped& operator=(Stopped&&) = delete;
  ~Stopped() { wake(); }
  Result<> stop(pid_t pid) {
    if (::kill(pid, SIGSTOP) != 0) return fail_errno(errno, "stop process " + std::to_string(pid));
    pids_.push_back(pid);
    return {};
  }
  void wake() {
    for (const pid_t pid : pids_) ::kill(pid, SIGCONT);
    pids_.clear();
  }

 private:
  std::vector<pid_t> pids_;
};

// Of either runtime: both name the sandbox in their arguments.
Result<pid_t> shim_of(const Pod& pod) {
  BERTH_ASSIGN(const auto names, os::list_dir("/proc"), "look for shims");
  for (const auto& name : names) {
    const auto pid = parse_number<pid_t>(name);
    if (!pid) continue;
    const auto command = os::read_file("/proc/" + name + "/cmdline", 65536).value_or("");
    if (command.find("containerd-shim") != std::string::npos && command.find(pod.sandbox_id) != std::string::npos) {
      return *pid;
    }
  }
  return fail(Code::kNotFound, "no shim of " + pod.sandbox_id);
}

class Times {
 public:
  void add(const std::string& method, Micros time, bool ok) {
    const std::scoped_lock lock(mutex_);
    all_[method].push_back(time.count());
    if (!ok) ++failed_;
  }
  /// Prints the table; whether every method is below the bar.
  bool print() {
    bool met = true;
    std::printf("%-22s %6s %9s %9s %9s\n", "ms", "calls", "p50", "p99", "max");
    for (auto& [method, times] : all_) {
      std::ranges::sort(times);
      const auto at = [&times](std::size_t percent) {
        return times[std::min(times.size() - 1, times.size() * percent / 100)];
      };
      met = met && at(99) < kBarUs;
      const auto ms = [](long us) { return static_cast<double>(us) / 1000; };
      std::printf("%-22s %6zu %9.2f %9.2f %9.2f%s\n", method.c_str(), times.size(), ms(at(50)), ms(at(99)),
                  ms(times.back()), at(99) < kBarUs ? "" : "  over the bar");
    }
    if (failed_ > 0) std::printf("%d calls failed\n", failed_);
    return met && failed_ == 0;
  }

 private:
  std::mutex mutex_;
  std::map<std::string, std::vector<long>> all_;
  int failed_ = 0;
};

// A connection of its own, as another program has it. Answers stay bytes: what a client makes of them is its own time,
// and here it has to share the cores with the server.
class Reads {
 public:
  Reads(const std::string& socket, Times& times) : times_(times) {
    grpc::ChannelArguments own;
    own.SetInt(GRPC_ARG_USE_LOCAL_SUBCHANNEL_POOL, 1);
    channel_ = grpc::CreateCustomChannel("unix:" + socket, grpc::InsecureChannelCredentials(), own);
  }
  /// Every read once; `pod` is what it asks for where it asks for one.
  void all_of(const Pod& pod) {
    call("RuntimeService", "Version", pb::VersionRequest());
    call("RuntimeService", "Status", pb::StatusRequest());
    call("RuntimeService", "ListPodSandbox", pb::ListPodSandboxRequest());
    call("RuntimeService", "ListContainers", pb::ListContainersRequest());
    call("RuntimeService", "ListContainerStats", pb::ListContainerStatsRequest());
    pb::PodSandboxStatusRequest sandbox;
    sandbox.set_pod_sandbox_id(pod.sandbox_id);
    call("RuntimeService", "PodSandboxStatus", sandbox);
    pb::ContainerStatusRequest status;
    status.set_container_id(pod.container_id);
    call("RuntimeService", "ContainerStatus", status);
    pb::ContainerStatsRequest stats;
    stats.set_container_id(pod.container_id);
    call("RuntimeService", "ContainerStats", stats);
    call("RuntimeService", "ListPodSandboxStats", pb::ListPodSandboxStatsRequest());
    call("RuntimeService", "ListPodSandboxMetrics", pb::ListPodSandboxMetricsRequest());
    pb::PodSandboxStatsRequest pod_stats;
    pod_stats.set_pod_sandbox_id(pod.sandbox_id);
    call("RuntimeService", "PodSandboxStats", pod_stats);
    call("ImageService", "ListImages", pb::ListImagesRequest());
    call("ImageService", "ImageFsInfo", pb::ImageFsInfoRequest());
  }

 private:
  template <class Request>
  void call(const std::string& service, const std::string& method, const Request& request) {
    grpc::TemplatedGenericStub<Request, grpc::ByteBuffer> stub(channel_);
    grpc::ClientContext context;
    context.set_deadline(std::chrono::system_clock::now() + std::chrono::minutes(1));
    grpc::ByteBuffer reply;
    grpc::Status status;
    void* tag = nullptr;
    bool ok = false;
    const auto begun = Clock::now();
    const auto pending = stub.PrepareUnaryCall(&context, "/runtime.v1." + service + "/" + method, request, &queue_);
    pending->StartCall();
    pending->Finish(&reply, &status, &context);
    const bool came = queue_.Next(&tag, &ok) && ok;
    times_.add(method, std::chrono::duration_cast<Micros>(Clock::now() - begun), came && status.ok());
  }

  Times& times_;
  std::shared_ptr<grpc::Channel> channel_;
  grpc::CompletionQueue queue_;
};

Result<std::vector<Pod>> make_pods(Driver& driver, const Options& options) {
  std::vector<Result<Pod>> made(static_cast<std::size_t>(options.pods), fail(Code::kInternal, "not started"));
  std::vector<std::thread> threads;
  for (int t = 0; t < kClients; ++t) {
    threads.emplace_back([&driver, &options, &made, t] {
      for (int i = t; i < options.pods; i += kClients) {
        PodTimes times;
        made[static_cast<std::size_t>(i)] = driver.up(i, times, i == options.pods - 1 ? options.volume : "");
      }
    });
  }
  for (auto& thread : threads) thread.join();
  std::vector<Pod> pods;
  for (auto& pod : made) {
    if (!pod) return fail(pod.error());
    pods.push_back(*pod);
  }
  return pods;
}

// Execs and new pods, until `over`.
void churn(Driver& driver, const std::vector<Pod>& pods, int stopped, int kind, const std::atomic<bool>& over,
           std::atomic<int>& done) {
  for (int i = 0; !over; ++i) {
    PodTimes times;
    if (kind == 0) {
      if (driver.exec(pods[static_cast<std::size_t>(stopped + i % 50)])) ++done;
    } else {
      const auto pod = driver.up(20'000 + i, times);
      if (pod && driver.down(*pod, times)) ++done;
    }
  }
}

// Reads by all clients; `busy`: while others exec and make pods.
void read_under(Driver& driver, const Options& options, const std::vector<Pod>& pods, bool busy) {
  std::atomic<bool> over = false;
  std::atomic<int> execs = 0;
  std::atomic<int> made = 0;
  std::vector<std::thread> others;
  if (busy) {
    others.emplace_back([&] { churn(driver, pods, options.stopped, 0, over, execs); });
    others.emplace_back([&] { churn(driver, pods, options.stopped, 1, over, made); });
  }
  Times times;
  std::vector<std::thread> clients;
  for (int t = 0; t < kClients; ++t) {
    // Every client comes by stopped pods and by others.
    clients.emplace_back([&, t] {
      Reads reads(driver.peer().socket, times);
      for (int i = t; i < options.calls; i += kClients)
        reads.all_of(pods[static_cast<std::size_t>(i * 7) % pods.size()]);
    });
  }
  for (auto& client : clients) client.join();
  over = true;
  for (auto& other : others) other.join();
  std::printf("%s: %d pods, %d of their shims stopped%s; %d clients read one call after another",
              driver.peer().name.c_str(), options.pods, options.stopped,
              options.volume_server > 0 ? ", one on a volume that hangs" : "", kClients);
  if (busy) std::printf(", meanwhile %d execs and %d pods up and down", execs.load(), made.load());
  std::printf("\n");
  std::printf("p99 of every method below 10 ms: %s\n", times.print() ? "yes" : "no");
}

Result<> measure(Driver& driver, const Options& options) {
  BERTH_TRY(driver.pull(), "pull");
  BERTH_ASSIGN(const auto pods, make_pods(driver, options), "pods");
  Stopped stopped;
  for (int i = 0; i < options.stopped; ++i) {
    BERTH_ASSIGN(const pid_t pid, shim_of(pods[static_cast<std::size_t>(i)]), "shim");
    BERTH_TRY(stopped.stop(pid), "shim");
  }
  if (options.volume_server > 0) BERTH_TRY(stopped.stop(options.volume_server), "volume");
  for (const bool busy : {false, true}) read_under(driver, options, pods, busy);
  stopped.wake();
  for (const auto& pod : pods) {
    PodTimes unused;
    BERTH_TRY(driver.down(pod, unused), "down");
  }
  return {};
}

}  // namespace
}  // namespace berth::bench

int main(int argc, char** argv) {
  CLI::App app("Reads of a CRI server with stopped shims", "bench_stalled");
  std::string image;
  std::string peer;
  berth::bench::Options options;
  app.add_option("--image", image)->required();
  app.add_option("--peer", peer, "NAME=SOCKET=CGROUP")->required();
  app.add_option("--pods", options.pods)->capture_default_str();
  app.add_option("--stopped", options.stopped)->capture_default_str();
  app.add_option("--calls", options.calls, "of each method")->capture_default_str();
  app.add_option("--volume", options.volume, "a folder for one of the pods");
  app.add_option("--volume-server", options.volume_server, "the process to stop that serves it");
  CLI11_PARSE(app, argc, argv);
  const auto parts = berth::split(peer, '=');
  if (parts.size() != 3 || options.stopped + 50 >= options.pods) {
    std::fprintf(stderr, "bench_stalled: --peer wants NAME=SOCKET=CGROUP, and 50 pods must be left running\n");
    return 2;
  }
  berth::bench::Driver driver({std::string(parts[0]), std::string(parts[1]), std::string(parts[2])}, image);
  const auto done = berth::bench::measure(driver, options);
  if (done) return 0;
  std::fprintf(stderr, "bench_stalled: %s\n", done.error().text().c_str());
  return 1;
}
