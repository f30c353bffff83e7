#include "pull_runtime.h"

#include <sys/mount.h>
#include <sys/resource.h>
#include <sys/wait.h>
#include <time.h>
#include <unistd.h>

#include <algorithm>
#include <chrono>
#include <cstdio>
#include <thread>

#include "base/strings.h"
#include "isolation.h"
#include "os/file.h"
#include "os/spawn.h"

namespace berth::bench {
namespace {

using Clock = std::chrono::steady_clock;
constexpr double kMib = 1024.0 * 1024.0;

/// skopeo copy into a containers-storage of its own: podman's and CRI-O's way.
class Skopeo final : public Runtime {
 public:
  explicit Skopeo(const Ground& ground) : ground_(ground) {}
  [[nodiscard]] std::string name() const override { return "skopeo"; }
  [[nodiscard]] std::string store() const override { return ground_.disk() + "/skopeo/root"; }

  Result<> prepare() override {
    BERTH_TRY(finish(), name());
    BERTH_TRY(os::make_dirs(store()), name());
    return os::make_dirs(ground_.disk() + "/skopeo/tmp");
  }

  Result<> pull(const std::string& image, Sample& sample) override {
    return run({"skopeo", "copy", "-q", "--insecure-policy", "--src-tls-verify=false", "docker://" + image, at(image)},
               sample.cpu_s, sample.wall_s, &sample.peak_mib);
  }

  Result<> start(const std::string& /*image*/, const std::vector<std::string>& /*command*/, Sample& /*s*/) override {
    return {};
  }

  Result<> remove(const std::string& image, const Ground& ground, std::uint64_t used, Sample& sample) override {
    const std::uint64_t held = ground.used();
    const auto begun = Clock::now();
    double wall = 0;
    BERTH_TRY(run({"skopeo", "delete", at(image)}, sample.remove_cpu_s, wall, nullptr), "delete");
    if (wait_until_free(ground, used, held))
      sample.remove_s = std::chrono::duration<double>(Clock::now() - begun).count();
    return {};
  }

  Result<> finish() override {
    ::umount2((store() + "/overlay").c_str(), MNT_DETACH);  // it mounts this folder over itself, and leaves that
    return os::remove_tree(ground_.disk() + "/skopeo");
  }

 private:
  [[nodiscard]] std::string at(const std::string& image) const {
    return "containers-storage:[overlay@" + store() + "+" + ground_.work() + "/skopeo-run]" + image;
  }

  Result<> run(std::vector<std::string> argv, double& cpu_s, double& wall_s, double* peak_mib) const {
    const std::string log_path = ground_.work() + "/skopeo.log";
    BERTH_ASSIGN(const auto log, os::open_file(log_path, O_WRONLY | O_CREAT | O_TRUNC), "log");
    os::SpawnOptions spawn;
    spawn.argv = std::move(argv);
    spawn.env = test::own_environment();
    std::erase_if(spawn.env, [](const std::string& word) { return word.starts_with("TMPDIR="); });
    spawn.env.push_back("TMPDIR=" + ground_.disk() + "/skopeo/tmp");
    spawn.fds = {{log.get(), 1}, {log.get(), 2}};
    const auto begun = Clock::now();
    auto child = os::spawn(spawn);
    if (!child) return fail(std::move(child).error());
    int status = 0;
    rusage usage{};
    while (::wait4(child->pid, &status, 0, &usage) != child->pid) {
      if (errno != EINTR) return fail_errno(errno, "wait for skopeo");
    }
    wall_s = std::chrono::duration<double>(Clock::now() - begun).count();
    cpu_s = seconds_of(usage.ru_utime) + seconds_of(usage.ru_stime);
    if (peak_mib != nullptr) *peak_mib = static_cast<double>(usage.ru_maxrss) / 1024.0;
    if (WIFEXITED(status) && WEXITSTATUS(status) == 0) return {};
    return fail(Code::kInternal, "skopeo: " + os::read_file(log_path, 1U << 20).value_or(""));
  }

  const Ground& ground_;
};

}  // namespace

std::unique_ptr<Runtime> make_skopeo(const Ground& ground) {
  return std::make_unique<Skopeo>(ground);
}

Result<std::unique_ptr<Runtime>> make_runtime(const std::string& name, const RuntimeOptions& options) {
  if (name == "limit") return make_limit();
  if (name == "skopeo") {
    if (!os::find_program("skopeo")) return fail(Code::kInvalid, "skopeo is not installed");
    return make_skopeo(*options.ground);
  }
  return make_cri_runtime(name, options);
}

bool wait_until_free(const Ground& ground, std::uint64_t used, std::uint64_t held) {
  const std::uint64_t image = held > used ? held - used : 0;
  const std::uint64_t enough = used + std::min(image / 2, std::max<std::uint64_t>(2U << 20, image / 50));
  const auto deadline = Clock::now() + std::chrono::minutes(1);
  while (ground.used() > enough) {
    if (Clock::now() > deadline) {
      std::fprintf(stderr, "after a minute %s of the image are still on the disk\n",
                   human_bytes(ground.used() - used).c_str());
      return false;
    }
    std::this_thread::sleep_for(std::chrono::milliseconds(2));
  }
  return true;
}

Result<double> cpu_seconds(pid_t pid) {
  clockid_t clock{};
  timespec time{};
  if (const int error = ::clock_getcpuclockid(pid, &clock); error != 0) return fail_errno(error, "CPU clock");
  if (::clock_gettime(clock, &time) != 0) return fail_errno(errno, "CPU clock");
  BERTH_ASSIGN(const auto text, os::read_file("/proc/" + std::to_string(pid) + "/stat", 4096), "CPU time");
  // proc_pid_stat(5): behind the name in brackets, which may hold anything, the first field is the third.
  const auto bracket = text.rfind(')');
  const auto fields = split(trim(std::string_view(text).substr(bracket == std::string::npos ? 0 : bracket + 1)), ' ');
  constexpr std::size_t kChildrenUser = 13;
  if (fields.size() < kChildrenUser + 2) return fail(Code::kInternal, "/proc/PID/stat: " + text);
  const auto user = parse_number<long>(fields[kChildrenUser]).value_or(0);
  const auto system = parse_number<long>(fields[kChildrenUser + 1]).value_or(0);
  return static_cast<double>(time.tv_sec) + static_cast<double>(time.tv_nsec) / 1e9 +
         static_cast<double>(user + system) / static_cast<double>(::sysconf(_SC_CLK_TCK));
}

Result<double> cpu_seconds_at_rest(pid_t pid) {
  constexpr std::chrono::milliseconds kLook(100);
  constexpr double kRest = 0.002;  // of a look's time: a daemon's timers take less
  BERTH_ASSIGN(double cpu, cpu_seconds(pid), "CPU time");
  for (int i = 0; i < 100; ++i) {
    std::this_thread::sleep_for(kLook);
    BERTH_ASSIGN(const double now, cpu_seconds(pid), "CPU time");
    const bool rests = now - cpu < kRest;
    cpu = now;
    if (rests) break;
  }
  return cpu;
}

Result<double> memory_mib(pid_t pid, const std::string& line) {
  BERTH_ASSIGN(const auto text, os::read_file("/proc/" + std::to_string(pid) + "/status", 64U << 10), "memory");
  for (const auto words : split(text, '\n')) {
    if (!words.starts_with(line)) continue;
    const auto number = trim(words.substr(line.size()));
    const auto kib = parse_number<std::uint64_t>(number.substr(0, number.find(' ')));
    if (kib) return static_cast<double>(*kib) * 1024 / kMib;
  }
  return fail(Code::kNotFound, "no " + line + " of process " + std::to_string(pid));
}

Result<> reset_peak(pid_t pid) {
  return os::write_existing("/proc/" + std::to_string(pid) + "/clear_refs", "5");
}

double seconds_of(const timeval& time) {
  return static_cast<double>(time.tv_sec) + static_cast<double>(time.tv_usec) / 1e6;
}

}  // namespace berth::bench
