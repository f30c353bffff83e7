#include "cri/shim_process.h"

#include <fcntl.h>

#include <algorithm>
#include <csignal>

#include "base/clock.h"
#include "base/failpoint.h"
#include "base/log.h"
#include "base/strings.h"
#include "cri/ready_line.h"
#include "os/file.h"
#include "os/netns.h"
#include "os/pidfd.h"
#include "os/process_list.h"

namespace berth::cri {

namespace {

using std::chrono::milliseconds;

constexpr milliseconds kDeleteTimeout{30'000};

os::SpawnOptions shim_command(const std::string& shim_path, const std::string& pod_dir, const std::string& sandbox_id,
                              const char* action) {
  os::SpawnOptions spawn;
  spawn.argv = {shim_path, "-namespace", "k8s.io", "-id", sandbox_id, action};
  spawn.env = {"PATH=/usr/local/sbin:/usr/local/bin:/usr/sbin:/usr/bin:/sbin:/bin"};
  spawn.cwd = pod_dir;
  spawn.new_session = true;
  if (auto points = failpoints_of_child(); !points.empty()) spawn.env.push_back(std::move(points));
  return spawn;
}

}  // namespace

std::string shim_socket(const std::string& pod_dir) {
  return pod_dir + "/shim.sock";
}

Result<os::Child> start_shim(const ShimStart& start) {
  const std::string log_path = start.pod_dir + "/shim.log";
  BERTH_ASSIGN(const auto log, os::open_file(log_path, O_WRONLY | O_CREAT | O_APPEND, 0600), "shim log");
  BERTH_ASSIGN(auto pipe, os::make_pipe(), "shim ready pipe");
  auto spawn = shim_command(start.shim_path, start.pod_dir, start.sandbox_id, "serve");
  spawn.fds = {{pipe.write.get(), 1}, {log.get(), 2}};
  spawn.fds.insert(spawn.fds.end(), start.fds.begin(), start.fds.end());
  if (!start.filter_cache.empty()) spawn.env.push_back("BERTH_FILTER_CACHE=" + start.filter_cache);
  os::Child child;
  const auto run = [&]() -> Result<> {
    BERTH_ASSIGN(child, os::spawn(spawn), "shim");
    return {};
  };
  BERTH_TRY(start.netns_fd >= 0 ? os::run_in_netns(start.netns_fd, run) : run(), "start the shim");
  crashpoint("run.shim-spawned");
  pipe.write.reset();
  const auto ready = read_ready_line(pipe.read.get(), std::chrono::steady_clock::now() + start.timeout);
  if (ready && *ready) return child;
  auto ended = end_process(child.pidfd.get(), milliseconds(5000));
  if (!ended)
    log_warn("a shim that did not start cannot be killed", {{"pid", child.pid}, {"err", ended.error().text()}});
  if (!ready) return fail(ready.error().in("shim"));
  return fail(Code::kInternal, "the shim ended before it was ready: " + last_words(log_path));
}

Result<> end_process(int pidfd, milliseconds timeout) {
  if (auto sent = os::pidfd_signal(pidfd, SIGKILL); !sent && sent.error().code() != Code::kNotFound) {
    return fail(std::move(sent).error());
  }
  BERTH_ASSIGN(const bool ended, os::wait_readable(pidfd, timeout), "wait for the process");
  if (!ended) return fail(Code::kTimeout, "the process does not end after SIGKILL");
  auto reaped = os::reap(pidfd);
  ignore(reaped, "a process that is not our child is reaped by its parent");
  return {};
}

Result<> clean_after_shim(const std::string& shim_path, const std::string& pod_dir, const std::string& sandbox_id) {
  os::RunOptions run;
  run.spawn = shim_command(shim_path, pod_dir, sandbox_id, "delete");
  run.spawn.new_session = false;
  run.timeout = kDeleteTimeout;
  BERTH_ASSIGN(const auto output, os::run(std::move(run)), "clean up after the shim");
  if (output.exit_code == 0) return {};
  return fail(Code::kInternal, "clean up after the shim: exit code " + std::to_string(output.exit_code) + ": " +
                                   std::string(trim(output.err)));
}

Result<std::vector<FoundShim>> find_shims(const std::string& shim_path) {
  const auto id_of = [](const std::vector<std::string>& words) {
    const auto flag = std::ranges::find(words, "-id");
    return flag == words.end() || std::next(flag) == words.end() ? std::string() : *std::next(flag);
  };
  BERTH_ASSIGN(auto processes, os::find_processes([&](const std::vector<std::string>& words) {
                 return words.front() == shim_path && !id_of(words).empty();
               }),
               "look for shims");
  std::vector<FoundShim> found;
  for (auto& process : processes) found.push_back({process.pid, std::move(process.pidfd), id_of(process.words)});
  return found;
}

Result<> kill_unrecorded_shims(const std::string& shim_path, const std::string& sandbox_id) {
  BERTH_ASSIGN(const auto shims, find_shims(shim_path), "look for shims");
  for (const auto& shim : shims) {
    if (shim.sandbox_id != sandbox_id) continue;
    BERTH_TRY(end_process(shim.pidfd.get(), milliseconds(5000)), "end shim " + std::to_string(shim.pid));
  }
  return {};
}

}  // namespace berth::cri
