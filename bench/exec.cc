// A probe: /bin/true by ExecSync on two CRI servers and by an OCI runtime's `exec`, alternately in one run: latency as
// the client sees it, and CPU time of all that took part (daemon, shims and what ran in the container by the server's
// cgroup; the runtime with its children by what waiting for it tells). Usage: bench_exec --image IMAGE
// --peer NAME=SOCKET=CGROUP --peer ... --runtime NAME=PATH=ROOT=CONTAINER [--rounds 40]; peer 0 is ours, 1 the one that
// the bar names. tools/bench starts all of it.
#include <sys/resource.h>
#include <sys/wait.h>

#include <CLI/CLI.hpp>
#include <algorithm>
#include <cstdio>
#include <functional>
#include <thread>
#include <vector>

#include "base/strings.h"
#include "cri_driver.h"
#include "os/spawn.h"

namespace berth::bench {
namespace {

using Clock = std::chrono::steady_clock;

// So many at once, then what a server does after its answer has time to be counted with them.
constexpr int kProbesARound = 5;
constexpr std::chrono::milliseconds kSettle{60};
constexpr double kBar = 0.1;

/// Probes once: the latency in ms.
using Probe = std::function<Result<double>()>;
/// CPU time so far in ms.
using Cpu = std::function<Result<double>()>;

struct Candidate {
  std::string name;
  Probe probe;
  Cpu cpu;
  std::vector<double> latency;
  std::vector<double> cost;  // of one probe, each the mean of a round
};

double quantile(std::vector<double> values, double part) {
  if (values.empty()) return 0;
  std::sort(values.begin(), values.end());
  return values[static_cast<std::size_t>(part * static_cast<double>(values.size() - 1))];
}

Candidate server(Driver& driver, const Pod& pod) {
  return {driver.peer().name,
          [&driver, &pod]() -> Result<double> {
            BERTH_ASSIGN(const auto took, driver.exec(pod), "probe");
            return static_cast<double>(took.count()) / 1000.0;
          },
          [&driver]() -> Result<double> {
            BERTH_ASSIGN(const auto ns, driver.cpu_ns(), "probe");
            return static_cast<double>(ns) / 1e6;
          },
          {},
          {}};
}

/// `exec` of an OCI runtime's command line. Only its processes are children of this one.
Candidate runtime(const std::string& name, std::vector<std::string> words) {
  Probe probe = [name, words = std::move(words)]() -> Result<double> {
    os::SpawnOptions options;
    options.program = words[0];
    options.argv = words;
    const auto begin = Clock::now();
    BERTH_ASSIGN(const auto child, os::spawn(options), name);
    int status = 0;
    if (::waitpid(child.pid, &status, 0) != child.pid) return fail_errno(errno, "wait");
    const double took = std::chrono::duration<double, std::milli>(Clock::now() - begin).count();
    if (!WIFEXITED(status) || WEXITSTATUS(status) != 0) return fail(Code::kInternal, name + " exec failed");
    return took;
  };
  Cpu cpu = []() -> Result<double> {
    rusage usage{};
    ::getrusage(RUSAGE_CHILDREN, &usage);
    const auto ms = [](const timeval& time) {
      return static_cast<double>(time.tv_sec) * 1e3 + static_cast<double>(time.tv_usec) / 1e3;
    };
    return ms(usage.ru_utime) + ms(usage.ru_stime);
  };
  return {name + " exec", std::move(probe), std::move(cpu), {}, {}};
}

Result<> one_round(Candidate& candidate, bool counts) {
  BERTH_ASSIGN(const double before, candidate.cpu(), candidate.name);
  std::vector<double> latency;
  for (int i = 0; i < kProbesARound; ++i) {
    BERTH_ASSIGN(latency.emplace_back(), candidate.probe(), candidate.name);
  }
  std::this_thread::sleep_for(kSettle);
  BERTH_ASSIGN(const double after, candidate.cpu(), candidate.name);
  if (!counts) return {};
  candidate.latency.insert(candidate.latency.end(), latency.begin(), latency.end());
  candidate.cost.push_back((after - before) / kProbesARound);
  return {};
}

Result<> measure(std::vector<Candidate>& candidates, int rounds) {
  constexpr int kWarmUp = 2;
  for (int round = 0; round < rounds + kWarmUp; ++round) {
    // Each begins as often as the others: what else the machine does falls on all alike.
    for (std::size_t i = 0; i < candidates.size(); ++i) {
      auto& candidate = candidates[(i + static_cast<std::size_t>(round)) % candidates.size()];
      BERTH_TRY(one_round(candidate, round >= kWarmUp), "probe");
    }
  }
  return {};
}

void print(const std::vector<Candidate>& candidates) {
  std::printf("a probe (/bin/true), %zu of each, alternately; ms\n", candidates[0].latency.size());
  std::printf("%-16s %10s %10s %10s %14s %10s\n", "", "median", "p90", "CPU", "ours: latency", "CPU");
  const double latency = quantile(candidates[0].latency, 0.5);
  const double cost = quantile(candidates[0].cost, 0.5);
  for (const auto& c : candidates) {
    std::printf("%-16s %10.2f %10.2f %10.2f %14.3f %10.3f\n", c.name.c_str(), quantile(c.latency, 0.5),
                quantile(c.latency, 0.9), quantile(c.cost, 0.5), latency / quantile(c.latency, 0.5),
                cost / quantile(c.cost, 0.5));
  }
  const auto bar = [&candidates](const char* what, double value) {
    std::printf("  %s to %s's: %.3f, at most %.2f: %s\n", what, candidates[1].name.c_str(), value, kBar,
                value <= kBar ? "reached" : "NOT reached");
  };
  bar("latency", latency / quantile(candidates[1].latency, 0.5));
  bar("CPU", cost / quantile(candidates[1].cost, 0.5));
}

Result<> compare(std::vector<Driver>& drivers, const std::vector<std::string_view>& oci, int rounds) {
  std::vector<Pod> pods(drivers.size());
  std::vector<Candidate> candidates;
  PodTimes times;
  for (std::size_t i = 0; i < drivers.size(); ++i) {  // when one fails, tools/bench ends what is left
    BERTH_TRY(drivers[i].pull(), "pull");
    BERTH_ASSIGN(pods[i], drivers[i].up(30'000, times), "up");
    candidates.push_back(server(drivers[i], pods[i]));
  }
  candidates.push_back(runtime(std::string(oci[0]), {std::string(oci[1]), "--root", std::string(oci[2]), "exec",
                                                     std::string(oci[3]), "/bin/true"}));
  Result<> done = measure(candidates, rounds);
  if (done) print(candidates);
  for (std::size_t i = 0; i < drivers.size(); ++i) {
    if (auto down = drivers[i].down(pods[i], times); !down && done) done = std::move(down);
  }
  return done;
}

}  // namespace
}  // namespace berth::bench

int main(int argc, char** argv) {
  CLI::App app("Compares what a probe costs", "bench_exec");
  std::string image;
  std::string oci;
  std::vector<std::string> peers;
  int rounds = 40;
  app.add_option("--image", image)->required();
  app.add_option("--peer", peers, "NAME=SOCKET=CGROUP")->required();
  app.add_option("--runtime", oci, "NAME=PATH=ROOT=CONTAINER")->required();
  app.add_option("--rounds", rounds)->capture_default_str()->check(CLI::PositiveNumber);
  CLI11_PARSE(app, argc, argv);
  auto drivers = berth::bench::make_drivers(peers, image, 2);
  if (!drivers) {
    std::fprintf(stderr, "bench_exec: %s\n", drivers.error().text().c_str());
    return 2;
  }
  const auto parts = berth::split(oci, '=');
  if (parts.size() != 4) {
    std::fprintf(stderr, "bench_exec: --runtime wants NAME=PATH=ROOT=CONTAINER\n");
    return 2;
  }
  const auto done = berth::bench::compare(*drivers, parts, rounds);
  if (!done) {
    std::fprintf(stderr, "bench_exec: %s\n", done.error().text().c_str());
    return 1;
  }
  return 0;
}
