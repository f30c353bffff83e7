// What an OCI runtime costs: `run /bin/true` with a network namespace of its own and with the host's, and `exec
// /bin/true`, by the configuration that `runc spec` writes. Every round calls each runtime and bench_floor once,
// beginning with another one each time, so that whatever else the machine does falls on all alike. Wall time, CPU time
// of the whole process tree, peak memory of the largest process; medians. Usage: bench_oci --work FOLDER --bin FOLDER
// --runtime NAME=PATH ... [--rounds 30]; FOLDER of --bin has bench_floor, bench_pause and bench_true. Runtime 0 is
// ours, 1 the one to compare with. Needs root, in a mount namespace of its own. Linked statically: a process inherits
// the peak memory of what forked it, so this one must be small.
#include <fcntl.h>
#include <sys/resource.h>
#include <sys/stat.h>
#include <sys/wait.h>
#include <unistd.h>

#include <algorithm>
#include <chrono>
#include <cstdio>
#include <cstdlib>
#include <string>
#include <string_view>
#include <vector>

#include "base/strings.h"
#include "os/cgroup.h"
#include "os/file.h"

namespace berth::bench {
namespace {

using Words = std::vector<std::string>;
using Clock = std::chrono::steady_clock;

struct Cost {
  double wall_ms = 0;
  double cpu_ms = 0;
  double peak_mib = 0;
};

/// Runs a program to its end; its output goes to our stderr. kInternal when it does not exit with 0.
Result<Cost> measure(const Words& words, const std::string& cwd) {
  std::vector<char*> argv;
  argv.reserve(words.size() + 1);
  for (const auto& word : words) argv.push_back(const_cast<char*>(word.c_str()));
  argv.push_back(nullptr);
  const auto begin = Clock::now();
  const pid_t pid = ::fork();
  if (pid == 0) {
    const int null = ::open("/dev/null", O_RDONLY);
    ::dup2(null, 0);
    ::dup2(2, 1);
    if (::chdir(cwd.c_str()) == 0) ::execv(argv[0], argv.data());
    ::_exit(126);
  }
  if (pid < 0) return fail_errno(errno, "fork");
  int status = 0;
  rusage usage{};
  if (::wait4(pid, &status, 0, &usage) != pid) return fail_errno(errno, "wait");
  Cost cost;
  cost.wall_ms = std::chrono::duration<double, std::milli>(Clock::now() - begin).count();
  if (!WIFEXITED(status) || WEXITSTATUS(status) != 0) {
    return fail(Code::kInternal, words[0] + " failed with " + std::to_string(status));
  }
  const auto ms = [](const timeval& time) {
    return static_cast<double>(time.tv_sec) * 1e3 + static_cast<double>(time.tv_usec) / 1e3;
  };
  cost.cpu_ms = ms(usage.ru_utime) + ms(usage.ru_stime);
  cost.peak_mib = static_cast<double>(usage.ru_maxrss) / 1024.0;
  return cost;
}

struct Runtime {
  std::string name;
  std::string path;
};

struct Setup {
  std::string work;
  std::string bin;
  std::size_t rounds = 30;
  std::vector<Runtime> runtimes;
};

void replace(std::string& text, std::string_view from, std::string_view to) {
  if (const auto at = text.find(from); at != std::string::npos) text.replace(at, from.size(), to);
}

/// FOLDER/{config.json,rootfs}: what `runc spec` writes, without a terminal and with our program.
Result<> make_bundle(const Setup& setup, const std::string& name, std::string_view program, bool own_network) {
  const std::string folder = setup.work + "/" + name;
  for (const char* below : {"/rootfs/bin", "/rootfs/proc", "/rootfs/dev", "/rootfs/sys"}) {
    BERTH_TRY(os::make_dirs(folder + below), "bundle");
  }
  for (const char* tool : {"true", "pause"}) {
    BERTH_ASSIGN(const std::string text, os::read_file(setup.bin + "/bench_" + tool, 64U << 20), "bundle");
    BERTH_TRY(os::write_file_atomic(folder + "/rootfs/bin/" + tool, text, 0755), "bundle");
  }
  BERTH_TRY(measure({"/usr/sbin/runc", "spec"}, folder), "runc spec");
  BERTH_ASSIGN(std::string config, os::read_file(folder + "/config.json", 1U << 20), "bundle");
  config.erase(std::remove_if(config.begin(), config.end(), [](char c) { return c == '\n' || c == '\t'; }),
               config.end());
  replace(config, R"("terminal": true)", R"("terminal": false)");
  replace(config, R"("args": ["sh"])", R"("args": [")" + std::string(program) + R"("])");
  if (!own_network) replace(config, R"({"type": "network"},)", "");
  const std::string_view checks[] = {program, R"("terminal": false)"};
  for (const auto check : checks) {
    if (config.find(check) == std::string::npos)
      return fail(Code::kUnsupported, "this `runc spec` writes a form that is not known here");
  }
  return os::write_file_atomic(folder + "/config.json", config);
}

struct Samples {
  std::string name;
  std::vector<Cost> costs;

  [[nodiscard]] double median(double Cost::* field) const {
    std::vector<double> values;
    values.reserve(costs.size());
    for (const auto& cost : costs) values.push_back(cost.*field);
    const auto middle = values.begin() + static_cast<std::ptrdiff_t>(values.size() / 2);
    std::nth_element(values.begin(), middle, values.end());
    return *middle;
  }
};

struct Row {
  std::string name;
  std::vector<Samples> samples;  ///< ours, the one to compare with, others, perhaps the floor
};

/// One candidate of a round: its name and what to call.
struct Candidate {
  std::string name;
  Words words;
};

Result<Row> measure_all(const Setup& setup, const std::string& name, const std::string& cwd,
                        const std::vector<Candidate>& candidates) {
  Row row{name, {}};
  for (const auto& candidate : candidates) row.samples.push_back({candidate.name, {}});
  constexpr std::size_t kWarmUp = 2;
  for (std::size_t round = 0; round < setup.rounds + kWarmUp; ++round) {
    for (std::size_t i = 0; i < candidates.size(); ++i) {
      const std::size_t at = (i + round) % candidates.size();
      BERTH_ASSIGN(const Cost cost, measure(candidates[at].words, cwd), name + " " + candidates[at].name);
      if (round >= kWarmUp) row.samples[at].costs.push_back(cost);
    }
  }
  return row;
}

std::string state_root(const Setup& setup, const Runtime& runtime) {
  return setup.work + "/state-" + runtime.name;
}

Result<Candidate> floor_of(const Setup& setup, const std::string& folder, bool own_network) {
  Candidate floor{"floor", {setup.bin + "/bench_floor", own_network ? "new" : "host", folder + "/rootfs"}};
  BERTH_ASSIGN(const auto layout, os::find_cgroups("/sys/fs/cgroup"), "floor");
  if (layout.v2) return fail(Code::kUnsupported, "bench_floor knows cgroup v1 alone");
  for (const auto& hierarchy : layout.hierarchies) {
    floor.words.push_back("/sys/fs/cgroup/" + hierarchy.name + "/berth-floor-" + std::to_string(::getpid()));
  }
  floor.words.insert(floor.words.end(), {"--", "/bin/true"});
  return floor;
}

Result<Row> measure_run(const Setup& setup, bool own_network) {
  const std::string name = own_network ? "new-network" : "host-network";
  const std::string folder = setup.work + "/" + name;
  BERTH_TRY(make_bundle(setup, name, "/bin/true", own_network), name);
  std::vector<Candidate> candidates;
  for (const auto& runtime : setup.runtimes) {
    candidates.push_back({runtime.name,
                          {runtime.path, "--root", state_root(setup, runtime), "run",
                           "bench-" + runtime.name + "-" + std::to_string(::getpid())}});
  }
  // The bare floor comes last; before it the one that guards its own executable, to tell what that costs.
  BERTH_ASSIGN(Candidate floor, floor_of(setup, folder, own_network), name);
  candidates.push_back({"floor that protects itself", floor.words});
  candidates.back().words.insert(candidates.back().words.begin() + 1, "--protect");
  candidates.push_back(std::move(floor));
  return measure_all(setup, own_network ? "run, new network" : "run, host network", folder, candidates);
}

Result<Row> measure_exec(const Setup& setup) {
  const std::string folder = setup.work + "/exec";
  BERTH_TRY(make_bundle(setup, "exec", "/bin/pause", true), "exec");
  std::vector<Candidate> candidates;
  Result<Row> row(Row{});
  Words started;
  for (const auto& runtime : setup.runtimes) {
    const std::string id = "bench-exec-" + runtime.name + "-" + std::to_string(::getpid());
    const auto up = measure({runtime.path, "--root", state_root(setup, runtime), "run", "--detach", id}, folder);
    if (!up) {
      row = fail(Error(up.error()));
      break;
    }
    started.push_back(id);
    candidates.push_back({runtime.name, {runtime.path, "--root", state_root(setup, runtime), "exec", id, "/bin/true"}});
  }
  if (row) row = measure_all(setup, "exec", folder, candidates);
  for (std::size_t i = 0; i < started.size(); ++i) {
    const auto& runtime = setup.runtimes[i];
    const auto gone =
        measure({runtime.path, "--root", state_root(setup, runtime), "delete", "--force", started[i]}, folder);
    if (!gone && row) row = fail(Error(gone.error()));
  }
  return row;
}

void print_row(const Row& row, const char* what, double Cost::* field) {
  std::printf("%-18s %-10s", row.name.c_str(), what);
  const double ours = row.samples[0].median(field);
  for (const auto& samples : row.samples) std::printf(" %9.2f", samples.median(field));
  if (row.samples.back().name != "floor") std::printf(" %9s %9s", "-", "-");
  std::printf("   %9.2f", ours / row.samples[1].median(field));
  if (row.samples.back().name == "floor") {
    std::printf(" %10.2f\n", ours / row.samples.back().median(field));
  } else {
    std::printf(" %10s\n", "-");
  }
}

void print_bar(const char* what, double value, double bar) {
  const bool reached = value <= bar;
  std::printf("  %-44s %5.2f, at most %.2f: %s\n", what, value, bar, reached ? "reached" : "NOT reached");
}

void print_table(const Setup& setup, const std::vector<Row>& rows) {
  std::printf("%-18s %-10s", "", "median of");
  for (const auto& runtime : setup.runtimes) std::printf(" %9s", runtime.name.c_str());
  std::printf(" %9s %9s   ours/%s ours/floor\n", "floor+own", "floor", setup.runtimes[1].name.c_str());
  for (const auto& row : rows) {
    print_row(row, "wall ms", &Cost::wall_ms);
    print_row(row, "CPU ms", &Cost::cpu_ms);
    print_row(row, "peak MiB", &Cost::peak_mib);
  }
  std::printf("bars, %zu rounds:\n", setup.rounds);
  for (const auto& row : rows) {
    const auto ratio = [&row](double Cost::* field, std::size_t other) {
      return row.samples[0].median(field) / row.samples[other].median(field);
    };
    const std::string to_peer = row.name + ": wall time to " + row.samples[1].name + "'s";
    print_bar(to_peer.c_str(), ratio(&Cost::wall_ms, 1), 0.5);
    if (row.samples.back().name == "floor") {
      print_bar((row.name + ": wall time to the floor's").c_str(), ratio(&Cost::wall_ms, row.samples.size() - 1), 1.3);
    }
    print_bar((row.name + ": peak memory to " + row.samples[1].name + "'s").c_str(), ratio(&Cost::peak_mib, 1), 1.0);
  }
}

Result<Setup> parse(int argc, char** argv) {
  Setup setup;
  for (int i = 1; i + 1 < argc; i += 2) {
    const std::string_view name = argv[i];
    const std::string_view value = argv[i + 1];
    if (name == "--work") {
      setup.work = value;
    } else if (name == "--bin") {
      setup.bin = value;
    } else if (name == "--rounds") {
      setup.rounds = parse_number<std::size_t>(value).value_or(0);
    } else if (const auto equals = value.find('='); name == "--runtime" && equals != std::string_view::npos) {
      setup.runtimes.push_back({std::string(value.substr(0, equals)), std::string(value.substr(equals + 1))});
    } else {
      return fail(Code::kInvalid, "what is " + std::string(name) + " " + std::string(value) + "?");
    }
  }
  if (setup.work.empty() || setup.bin.empty() || setup.rounds == 0 || setup.runtimes.size() < 2) {
    return fail(Code::kInvalid, "usage: bench_oci --work FOLDER --bin FOLDER --runtime NAME=PATH ... [--rounds N]");
  }
  return setup;
}

Result<> run(int argc, char** argv) {
  BERTH_ASSIGN(const Setup setup, parse(argc, argv), "arguments");
  std::vector<Row> rows;
  for (const bool own_network : {true, false}) {
    BERTH_ASSIGN(Row row, measure_run(setup, own_network), "run");
    rows.push_back(std::move(row));
  }
  BERTH_ASSIGN(Row row, measure_exec(setup), "exec");
  rows.push_back(std::move(row));
  print_table(setup, rows);
  return {};
}

}  // namespace
}  // namespace berth::bench

int main(int argc, char** argv) {
  const auto done = berth::bench::run(argc, argv);
  if (done) return 0;
  std::fprintf(stderr, "bench_oci: %s\n", done.error().text().c_str());
  return 1;
}
