// Memory of idle one-container pods on one CRI server: PSS of the daemon and of each helper process per pod.
// Usage: bench_memory --image IMAGE --peer NAME=SOCKET=CGROUP --daemon PID [--pods 20]
#include <unistd.h>

#include <CLI/CLI.hpp>
#include <cstdio>
#include <map>
#include <thread>

#include "base/strings.h"
#include "cri_driver.h"
#include "os/file.h"

namespace berth::bench {
namespace {

// Pss of smaps_rollup in KiB; nothing for a process that is gone.
std::optional<std::uint64_t> pss_kib(const std::string& pid) {
  const auto text = os::read_file("/proc/" + pid + "/smaps_rollup", 8192);
  if (!text) return std::nullopt;
  for (const auto line : split(*text, '\n')) {
    if (line.starts_with("Pss:")) {
      const auto number = trim(line.substr(4));
      return parse_number<std::uint64_t>(number.substr(0, number.find(' ')));
    }
  }
  return std::nullopt;
}

std::string program_of(const std::string& pid) {
  const auto name = os::read_file("/proc/" + pid + "/comm", 64);
  return name ? std::string(trim(*name)) : "";
}

struct Use {
  std::uint64_t processes = 0;
  std::uint64_t kib = 0;
};

// Every process that was not there before, by program name, without the containers' own (`sleep`).
std::map<std::string, Use> new_processes(const std::vector<std::string>& before) {
  std::map<std::string, Use> uses;
  const auto now = os::list_dir("/proc");
  if (!now) return uses;
  for (const auto& pid : *now) {
    if (!parse_number<int>(pid) || std::binary_search(before.begin(), before.end(), pid)) continue;
    const auto name = program_of(pid);
    const auto kib = pss_kib(pid);
    if (!kib || *kib == 0 || name == "sleep") continue;
    ++uses[name].processes;
    uses[name].kib += *kib;
  }
  return uses;
}

Result<> measure(Driver& driver, const std::string& daemon_pid, int count) {
  BERTH_TRY(driver.pull(), "pull");
  BERTH_ASSIGN(const auto before, os::list_dir("/proc"), "processes");
  std::vector<Pod> pods;
  for (int i = 0; i < count; ++i) {
    PodTimes times;
    BERTH_ASSIGN(pods.emplace_back(), driver.up(20'000 + i, times), "up");
  }
  // Pools let idle threads go after twenty seconds; idle is what is measured.
  std::this_thread::sleep_for(std::chrono::seconds(25));
  std::printf("%s: %d idle pods with one container each; PSS\n", driver.peer().name.c_str(), count);
  std::printf("  %-28s %8.2f MiB\n", "daemon", static_cast<double>(pss_kib(daemon_pid).value_or(0)) / 1024.0);
  for (const auto& [name, use] : new_processes(before)) {
    std::printf("  %-28s %8.2f MiB each (%llu processes, %.2f a pod)\n", name.c_str(),
                static_cast<double>(use.kib) / 1024.0 / static_cast<double>(use.processes),
                static_cast<unsigned long long>(use.processes),
                static_cast<double>(use.processes) / static_cast<double>(count));
  }
  for (const auto& pod : pods) {
    PodTimes times;
    BERTH_TRY(driver.down(pod, times), "down");
  }
  return {};
}

}  // namespace
}  // namespace berth::bench

int main(int argc, char** argv) {
  CLI::App app("Memory of idle pods", "bench_memory");
  std::string image;
  std::string peer;
  std::string daemon;
  int pods = 20;
  app.add_option("--image", image)->required();
  app.add_option("--peer", peer, "NAME=SOCKET=CGROUP")->required();
  app.add_option("--daemon", daemon, "pid of the daemon")->required();
  app.add_option("--pods", pods)->capture_default_str();
  CLI11_PARSE(app, argc, argv);
  const auto parts = berth::split(peer, '=');
  if (parts.size() != 3) return 2;
  berth::bench::Driver driver({std::string(parts[0]), std::string(parts[1]), std::string(parts[2])}, image);
  const auto done = berth::bench::measure(driver, daemon, pods);
  if (!done) {
    std::fprintf(stderr, "bench_memory: %s\n", done.error().text().c_str());
    return 1;
  }
  return 0;
}
