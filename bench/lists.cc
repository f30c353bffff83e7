// How long the lists of the CRI take on a full node. Usage: bench_lists --berthd PATH --work DIR [--config FILE]
// [--pods N] [--containers N] [--streamed N] [--calls N]
// The node is simulated where memory ends: the daemon, its state database, its socket and what it asks its shims are
// real; behind the shims' sockets one process answers for all pods (this program, called with --serve). Nothing of it
// has a cgroup, a network or a file.
#include <grpcpp/create_channel.h>
#include <malloc.h>
#include <signal.h>
#include <time.h>
#include <unistd.h>

#include <CLI/CLI.hpp>
#include <algorithm>
#include <chrono>
#include <cstdio>
#include <functional>
#include <map>
#include <memory>
#include <thread>
#include <vector>

#include "base/clock.h"
#include "base/strings.h"
#include "berth/shim/v1/shim.pb.h"
#include "berth/wkt/wkt.pb.h"
#include "cri/records.h"
#include "cri/runtime/v1/api.grpc.pb.h"
#include "cri/shim_process.h"
#include "cri/state_db.h"
#include "cri_driver.h"
#include "event/loop.h"
#include "os/file.h"
#include "os/pidfd.h"
#include "os/socket.h"
#include "os/spawn.h"
#include "ttrpc/typed.h"

namespace berth::bench {
namespace {

namespace bs = ::berth::shim::v1;
using Clock = std::chrono::steady_clock;
using Runtime = pb::RuntimeService::Stub;

constexpr long kListBarUs = 20'000;
constexpr long kStreamBarUs = 200'000;

struct Options {
  std::string berthd;
  std::string work;
  std::string config;
  unsigned pods = 500;
  unsigned containers = 2;     // of each pod, for the lists
  unsigned streamed = 20'000;  // in all, for the streams
  unsigned calls = 200;
};

/// 64 hexadecimal digits, spread over the whole range as random ones are.
std::string id_of(unsigned pod, unsigned container) {
  std::string id;
  std::uint64_t state = (static_cast<std::uint64_t>(pod) << 32U | container) * 0x9E3779B97F4A7C15U + 1;
  for (int i = 0; i < 4; ++i) {
    state ^= state >> 30U;
    state *= 0xBF58476D1CE4E5B9U;
    state ^= state >> 27U;
    char part[17];
    std::snprintf(part, sizeof part, "%016llx", static_cast<unsigned long long>(state));
    id += part;
  }
  return id;
}
std::string pod_id(unsigned pod) {
  return id_of(pod, 0);
}
std::string container_id(unsigned pod, unsigned container) {
  return id_of(pod, container + 1);
}

// ---- the shims ----

bs::PodInfoResponse info_of(unsigned pod, unsigned containers) {
  bs::PodInfoResponse info;
  info.set_pid(static_cast<std::uint32_t>(::getpid()));
  info.set_sandbox_id(pod_id(pod));
  for (unsigned i = 0; i < containers; ++i) {
    auto& one = *info.add_containers();
    one.set_id(container_id(pod, i));
    one.set_pid(static_cast<std::uint32_t>(::getpid()));
    one.set_state(bs::CONTAINER_STATE_RUNNING);
    one.set_started_at_ns(1);
  }
  return info;
}

bs::ContainerStatsResponse figures() {
  bs::ContainerStatsResponse reply;
  reply.set_timestamp_ns(wall_now_ns());
  reply.set_cpu_usage_ns(static_cast<std::uint64_t>(wall_now_ns() % 1'000'000'000'000));
  reply.set_memory_usage_bytes(64 << 20);
  reply.set_memory_working_set_bytes(48 << 20);
  reply.set_memory_rss_bytes(32 << 20);
  reply.set_memory_page_faults(123'456);
  reply.set_memory_major_page_faults(12);
  reply.set_memory_limit_bytes(128 << 20);
  reply.set_pids(7);
  for (auto* pressure : {reply.mutable_cpu_pressure(), reply.mutable_memory_pressure(), reply.mutable_io_pressure()}) {
    for (auto* line : {pressure->mutable_some(), pressure->mutable_full()}) {
      line->set_total_us(1'234'567);
      line->set_avg10(1.23);
      line->set_avg60(0.45);
      line->set_avg300(0.12);
    }
  }
  return reply;
}

struct Shim {
  std::unique_ptr<ttrpc::Server> server;
  std::vector<ttrpc::Responder> parked;  // polls for events, of which there are none
};

Result<> serve(const std::string& state, unsigned pods, unsigned containers) {
  ::signal(SIGPIPE, SIG_IGN);
  BERTH_ASSIGN(const auto loop, event::Loop::create(), "serve");
  std::vector<std::unique_ptr<Shim>> shims;
  constexpr const char* kService = "berth.shim.v1.Shim";
  for (unsigned pod = 0; pod < pods; ++pod) {
    auto shim = std::make_unique<Shim>();
    shim->server = std::make_unique<ttrpc::Server>(*loop);
    shim->server->handle(kService, "PodInfo", [pod, containers](std::string_view, ttrpc::Responder responder) {
      responder.respond(ttrpc::to_bytes(info_of(pod, containers)));
    });
    shim->server->handle(kService, "ContainerStats", [](std::string_view, ttrpc::Responder responder) {
      responder.respond(ttrpc::to_bytes(figures()));
    });
    shim->server->handle(kService, "WaitEvent", [parked = &shim->parked](std::string_view, ttrpc::Responder responder) {
      parked->push_back(std::move(responder));
    });
    const std::string dir = state + "/pods/" + pod_id(pod);
    BERTH_TRY(os::make_dirs(dir), "serve");
    BERTH_ASSIGN(UniqueFd listener, os::unix_listen(cri::shim_socket(dir)), "serve");
    BERTH_TRY(shim->server->listen(std::move(listener)), "serve");
    shims.push_back(std::move(shim));
  }
  BERTH_TRY(os::write_all(STDOUT_FILENO, "1"), "serve");
  ::close(STDOUT_FILENO);
  return loop->run();
}

// ---- the node ----

/// As a kubelet names and marks its pods.
cri::SandboxRecord sandbox_record(unsigned pod, const os::Child& shims, std::uint64_t start_time) {
  const std::string number = std::to_string(pod);
  const std::string uid = "5f1c8a52-7d0e-4c8f-9a51-" + pod_id(pod).substr(0, 12);
  cri::SandboxRecord record;
  record.id = pod_id(pod);
  record.state = cri::SandboxState::kReady;
  record.created_at_ns = wall_now_ns();
  record.cgroup_parent = "/berth-bench-lists/pod" + uid;
  record.network.ips = {"10.88.0." + std::to_string(pod % 250)};
  record.shim_pid = shims.pid;
  record.shim_start = start_time;
  auto& config = record.config;
  config.mutable_metadata()->set_name("web-7c6d5bd45f-" + number);
  config.mutable_metadata()->set_namespace_("shop-" + std::to_string(pod % 20));
  config.mutable_metadata()->set_uid(uid);
  config.set_log_directory("/var/log/pods/shop_web-" + number);
  for (const auto& [key, value] : std::map<std::string, std::string>{
           {"app.kubernetes.io/name", "web"},
           {"app.kubernetes.io/instance", "shop-web"},
           {"pod-template-hash", "7c6d5bd45f"},
           {"io.kubernetes.pod.name", config.metadata().name()},
           {"io.kubernetes.pod.namespace", config.metadata().namespace_()},
           {"io.kubernetes.pod.uid", uid},
       }) {
    (*config.mutable_labels())[key] = value;
  }
  for (const auto& [key, value] : std::map<std::string, std::string>{
           {"kubernetes.io/config.seen", "2026-11-28T12:00:00.123456789Z"},
           {"kubernetes.io/config.source", "api"},
           {"prometheus.io/scrape", "true"},
           {"checksum/config", pod_id(pod)},
       }) {
    (*config.mutable_annotations())[key] = value;
  }
  return record;
}

cri::ContainerRecord container_record(const cri::SandboxRecord& sandbox, unsigned pod, unsigned container) {
  cri::ContainerRecord record;
  record.id = container_id(pod, container);
  record.sandbox_id = sandbox.id;
  record.phase = cri::ContainerPhase::kRunning;
  record.created_at_ns = wall_now_ns();
  record.started_at_ns = wall_now_ns();
  record.image_id = "sha256:" + pod_id(1);
  record.image_ref = "registry.example.com/shop/web@sha256:" + pod_id(2);
  record.cgroups_path = sandbox.cgroup_parent + "/" + record.id;
  record.pid = sandbox.shim_pid;
  record.log_path = sandbox.config.log_directory() + "/main/0.log";
  record.process_json = std::string(2048, ' ');
  auto& config = record.config;
  config.mutable_metadata()->set_name("main-" + std::to_string(container));
  config.mutable_image()->set_image("registry.example.com/shop/web:1.2.3");
  for (const auto& [key, value] : std::map<std::string, std::string>{
           {"io.kubernetes.container.name", config.metadata().name()},
           {"io.kubernetes.pod.name", sandbox.config.metadata().name()},
           {"io.kubernetes.pod.namespace", sandbox.config.metadata().namespace_()},
           {"io.kubernetes.pod.uid", sandbox.config.metadata().uid()},
       }) {
    (*config.mutable_labels())[key] = value;
  }
  for (const auto& [key, value] : std::map<std::string, std::string>{
           {"io.kubernetes.container.hash", "6a1d6b4e"},
           {"io.kubernetes.container.restartCount", "0"},
           {"io.kubernetes.container.terminationMessagePath", "/dev/termination-log"},
           {"io.kubernetes.container.terminationMessagePolicy", "File"},
           {"io.kubernetes.container.ports", R"([{"name":"http","containerPort":8080,"protocol":"TCP"}])"},
           {"io.kubernetes.pod.terminationGracePeriod", "30"},
       }) {
    (*config.mutable_annotations())[key] = value;
  }
  return record;
}

/// Processes that end with it.
class Ended {
 public:
  Ended() = default;
  explicit Ended(os::Child child) : child_(std::move(child)) {}
  Ended(Ended&&) = default;
  Ended& operator=(Ended&&) = delete;
  Ended(const Ended&) = delete;
  Ended& operator=(const Ended&) = delete;
  ~Ended() {
    if (!child_.pidfd) return;
    ignore(os::pidfd_signal(child_.pidfd.get(), SIGTERM), "it may have ended");
    ignore(os::wait_readable(child_.pidfd.get(), std::chrono::seconds(20)), "it is killed next");
    ignore(os::pidfd_signal(child_.pidfd.get(), SIGKILL), "it may have ended");
    ignore(os::wait_exit(child_), "its code says nothing here");
  }
  [[nodiscard]] const os::Child& child() const { return child_; }

 private:
  os::Child child_;
};

Result<Ended> start_shims(const Options& options, const std::string& state, unsigned containers) {
  BERTH_ASSIGN(os::Pipe ready, os::make_pipe(), "shims");
  os::SpawnOptions spawn;
  spawn.program = "/proc/self/exe";
  spawn.argv = {"bench_lists",
                "--serve",
                state,
                "--pods",
                std::to_string(options.pods),
                "--containers",
                std::to_string(containers)};
  spawn.fds = {{ready.write.get(), 1}, {2, 2}};
  auto child = os::spawn(spawn);
  if (!child) return fail(std::move(child).error().in("shims"));
  Ended shims(std::move(*child));
  ready.write.reset();
  BERTH_ASSIGN(const auto word, os::read_all(ready.read.get(), 16), "shims");
  if (word != "1") return fail(Code::kUnavailable, "the shims did not start");
  return shims;
}

Result<> write_records(const std::string& root, const Options& options, unsigned containers, const os::Child& shims) {
  BERTH_ASSIGN(const auto start_time, os::process_start_time(shims.pid), "records");
  BERTH_TRY(os::make_dirs(root), "records");
  std::string rescued;
  BERTH_ASSIGN(const auto db, cri::StateDb::open(root + "/state.db", &rescued), "records");
  BERTH_ASSIGN(const auto boot, os::read_file("/proc/sys/kernel/random/boot_id", 64), "records");
  BERTH_TRY(db->set_meta("boot_id", std::string(trim(boot))), "records");
  for (unsigned pod = 0; pod < options.pods; ++pod) {
    const auto sandbox = sandbox_record(pod, shims, start_time);
    BERTH_TRY(db->put(sandbox), "records");
    for (unsigned i = 0; i < containers; ++i) BERTH_TRY(db->put(container_record(sandbox, pod, i)), "records");
  }
  return {};
}

// ---- the measurement ----

/// CPU time so far of a process, 0 for ourselves, in microseconds. Nobody else's load is in it.
long cpu_us(pid_t pid) {
  clockid_t clock = CLOCK_PROCESS_CPUTIME_ID;
  timespec time{};
  if ((pid != 0 && ::clock_getcpuclockid(pid, &clock) != 0) || ::clock_gettime(clock, &time) != 0) return 0;
  return time.tv_sec * 1'000'000L + time.tv_nsec / 1000;
}

long since(Clock::time_point begun) {
  return static_cast<long>(std::chrono::duration_cast<Micros>(Clock::now() - begun).count());
}

struct Answer {
  std::size_t items = 0;
  std::size_t bytes = 0;
};
struct Method {
  const char* name;
  std::function<Result<Answer>(Runtime&)> call;
  bool barred = true;  // by the bar; the others are told
};

/// Calls each method again and again, and prints a row for each: whether every p99 is below the bar.
Result<bool> measure_all(Runtime& runtime, const std::vector<Method>& methods, unsigned calls, long bar_us,
                         pid_t daemon) {
  bool met = true;
  std::printf("%-22s %7s %7s %6s %7s %7s %7s %7s  %s\n", "ms", "items", "KiB", "calls", "min", "p50", "p99", "max",
              "CPU a call: daemon, client");
  for (const auto& method : methods) {
    BERTH_TRY(method.call(runtime), method.name);  // warm
    std::vector<long> times;
    Answer answer;
    const long daemon_cpu = cpu_us(daemon);
    const long client_cpu = cpu_us(0);
    for (unsigned i = 0; i < calls; ++i) {
      const auto begun = Clock::now();
      BERTH_ASSIGN(answer, method.call(runtime), method.name);
      times.push_back(since(begun));
    }
    const auto ms = [](long us) { return static_cast<double>(us) / 1000; };
    const double daemon_ms = ms(cpu_us(daemon) - daemon_cpu) / calls;
    const double client_ms = ms(cpu_us(0) - client_cpu) / calls;
    std::ranges::sort(times);
    const auto at = [&times](std::size_t percent) {
      return times[(times.size() * percent + 99) / 100 - 1];  // the nearest rank
    };
    const bool over = method.barred && at(99) >= bar_us;
    met = met && !over;
    std::printf("%-22s %7zu %7zu %6zu %7.2f %7.2f %7.2f %7.2f  %6.2f %6.2f%s\n", method.name, answer.items,
                answer.bytes / 1024, times.size(), ms(times.front()), ms(at(50)), ms(at(99)), ms(times.back()),
                daemon_ms, client_ms, over ? "  over the bar" : "");
    std::fflush(stdout);
  }
  return met;
}

template <class Request, class Reply, class Count>
Method list(const char* name, grpc::Status (Runtime::*method)(grpc::ClientContext*, const Request&, Reply*),
            Count count, bool barred = true) {
  return {name,
          [name, method, count](Runtime& runtime) -> Result<Answer> {
            grpc::ClientContext context;
            Reply reply;
            const auto status = (runtime.*method)(&context, Request(), &reply);
            if (!status.ok()) return fail(Code::kInternal, std::string(name) + ": " + status.error_message());
            return Answer{static_cast<std::size_t>(count(reply)), reply.ByteSizeLong()};
          },
          barred};
}

std::vector<Method> lists() {
  return {list("ListContainers", &Runtime::ListContainers,
               [](const pb::ListContainersResponse& all) { return all.containers_size(); }),
          list("ListPodSandbox", &Runtime::ListPodSandbox,
               [](const pb::ListPodSandboxResponse& all) { return all.items_size(); }),
          list("ListContainerStats", &Runtime::ListContainerStats,
               [](const pb::ListContainerStatsResponse& all) { return all.stats_size(); }),
          list("ListPodSandboxStats", &Runtime::ListPodSandboxStats,
               [](const pb::ListPodSandboxStatsResponse& all) { return all.stats_size(); }),
          list(
              "ListPodSandboxMetrics", &Runtime::ListPodSandboxMetrics,
              [](const pb::ListPodSandboxMetricsResponse& all) { return all.pod_metrics_size(); }, false)};
}

template <class Reply, class Open, class Count>
Method stream(const char* name, Open open, Count count) {
  return {name, [name, open, count](Runtime& runtime) -> Result<Answer> {
            grpc::ClientContext context;
            const auto reader = open(runtime, &context);
            Answer answer;
            for (Reply message; reader->Read(&message);) {
              answer.items += static_cast<std::size_t>(count(message));
              answer.bytes += message.ByteSizeLong();
            }
            const auto status = reader->Finish();
            if (!status.ok()) return fail(Code::kInternal, std::string(name) + ": " + status.error_message());
            return answer;
          }};
}

std::vector<Method> streams() {
  return {stream<pb::StreamContainersResponse>(
              "StreamContainers", [](Runtime& runtime, auto* c) { return runtime.StreamContainers(c, {}); },
              [](const auto& part) { return part.containers_size(); }),
          stream<pb::StreamPodSandboxesResponse>(
              "StreamPodSandboxes", [](Runtime& runtime, auto* c) { return runtime.StreamPodSandboxes(c, {}); },
              [](const auto& part) { return part.pod_sandboxes_size(); }),
          stream<pb::StreamContainerStatsResponse>(
              "StreamContainerStats", [](Runtime& runtime, auto* c) { return runtime.StreamContainerStats(c, {}); },
              [](const auto& part) { return part.container_stats_size(); }),
          stream<pb::StreamPodSandboxStatsResponse>(
              "StreamPodSandboxStats", [](Runtime& runtime, auto* c) { return runtime.StreamPodSandboxStats(c, {}); },
              [](const auto& part) { return part.pod_sandbox_stats_size(); })};
}

/// Every running container has figures: the rounds of statistics have met all.
Result<> wait_for_figures(Runtime& runtime) {
  for (int i = 0; i < 600; ++i) {
    std::this_thread::sleep_for(std::chrono::milliseconds(100));
    grpc::ClientContext context;
    const auto reader = runtime.StreamContainerStats(&context, {});
    bool all = true;
    std::size_t items = 0;
    for (pb::StreamContainerStatsResponse message; reader->Read(&message);) {
      for (const auto& one : message.container_stats()) all = all && one.has_cpu();
      items += static_cast<std::size_t>(message.container_stats_size());
    }
    if (reader->Finish().ok() && all && items > 0) return {};
  }
  return fail(Code::kTimeout, "there are containers without figures after a minute");
}

Result<bool> measure(const Options& options, const std::string& name, unsigned containers, unsigned calls, long bar_us,
                     const std::vector<Method>& methods) {
  const std::string dir = options.work + "/" + name;
  const std::string state = dir + "/state";
  BERTH_ASSIGN(const Ended shims, start_shims(options, state, containers), name);
  BERTH_TRY(write_records(dir + "/root", options, containers, shims.child()), name);
  os::SpawnOptions spawn;
  spawn.argv = {options.berthd, "--root", dir + "/root", "--state", state, "--listen", dir + "/cri.sock"};
  if (!options.config.empty()) spawn.argv.insert(spawn.argv.end(), {"--config", options.config});
  BERTH_ASSIGN(const auto log, os::open_file(dir + "/berthd.log", O_WRONLY | O_CREAT | O_TRUNC), name);
  spawn.fds = {{log.get(), 1}, {log.get(), 2}};
  spawn.env = {"PATH=/usr/sbin:/usr/bin:/sbin:/bin"};
  const auto begun = Clock::now();
  auto child = os::spawn(spawn);
  if (!child) return fail(std::move(child).error().in("berthd"));
  const Ended daemon(std::move(*child));
  // As a kubelet has it: 16 MiB, where gRPC's own default is 4.
  grpc::ChannelArguments arguments;
  arguments.SetMaxReceiveMessageSize(16 << 20);
  const auto stub = pb::RuntimeService::NewStub(
      grpc::CreateCustomChannel("unix:" + dir + "/cri.sock", grpc::InsecureChannelCredentials(), arguments));
  auto& runtime = *stub;
  bool up = false;
  for (int i = 0; i < 600 && !up; ++i) {
    std::this_thread::sleep_for(std::chrono::milliseconds(50));
    grpc::ClientContext context;
    pb::VersionResponse version;
    up = runtime.Version(&context, {}, &version).ok();
  }
  if (!up) return fail(Code::kTimeout, "berthd does not answer; its log is " + dir + "/berthd.log");
  const auto start_us = since(begun);
  BERTH_TRY(wait_for_figures(runtime), name);
  std::printf("%s: %u pods with %u containers each; the daemon took all of them over within %.1f s of its start\n",
              name.c_str(), options.pods, containers, static_cast<double>(start_us) / 1e6);
  BERTH_ASSIGN(const bool met, measure_all(runtime, methods, calls, bar_us, daemon.child().pid), name);
  std::printf("p99 of each below %ld ms: %s\n", bar_us / 1000, met ? "yes" : "no");
  return met;
}

}  // namespace
}  // namespace berth::bench

int main(int argc, char** argv) {
  using berth::bench::kListBarUs;
  using berth::bench::kStreamBarUs;
  CLI::App app("Lists of a full node", "bench_lists");
  berth::bench::Options options;
  std::string serve;
  app.add_option("--berthd", options.berthd);
  app.add_option("--work", options.work, "a folder for the nodes");
  app.add_option("--config", options.config, "of the daemon");
  app.add_option("--pods", options.pods)->capture_default_str();
  app.add_option("--containers", options.containers, "of each pod, for the lists")->capture_default_str();
  app.add_option("--streamed", options.streamed, "containers in all, for the streams")->capture_default_str();
  app.add_option("--calls", options.calls, "of each list; half of it of each stream")->capture_default_str();
  app.add_option("--serve", serve, "be the shims of the node with this state folder");
  CLI11_PARSE(app, argc, argv);
  // What the client's own heap gives back to the kernel and takes anew is not to be measured.
  ::mallopt(M_TRIM_THRESHOLD, 1 << 30);
  ::mallopt(M_MMAP_THRESHOLD, 1 << 30);
  berth::Result<> done;
  if (!serve.empty()) {
    done = berth::bench::serve(serve, options.pods, options.containers);
  } else if (options.berthd.empty() || options.work.empty() || options.pods == 0) {
    std::fprintf(stderr, "bench_lists: --berthd and --work are needed\n");
    return 2;
  } else {
    const auto listed =
        berth::bench::measure(options, "lists", options.containers, options.calls, kListBarUs, berth::bench::lists());
    const auto streamed = !listed ? listed
                                  : berth::bench::measure(options, "streams", options.streamed / options.pods,
                                                          options.calls / 2, kStreamBarUs, berth::bench::streams());
    if (!streamed) done = berth::fail(streamed.error());
  }
  if (done) return 0;
  std::fprintf(stderr, "bench_lists: %s\n", done.error().text().c_str());
  return 1;
}
