#include "leak_check.h"

#include <unistd.h>

#include <algorithm>
#include <filesystem>
#include <iterator>

#include "base/strings.h"
#include "os/file.h"
#include "os/process_list.h"
#include "process.h"
#include "test_host.h"
#include "wait.h"

namespace berth::test {
namespace {

namespace fs = std::filesystem;
using Lines = std::multiset<std::string>;
constexpr std::size_t kMaxProc = 8U << 20;

std::string proc(pid_t pid, const char* name) {
  return os::read_file("/proc/" + std::to_string(pid) + "/" + name, kMaxProc).value_or("");
}

std::string link_of(const std::string& path) {
  std::error_code error;
  return fs::read_symlink(path, error).string();
}

void add_mounts(const std::string& whose, const std::string& table, Lines& lines) {
  for (const auto line : split(trim(table), '\n')) lines.insert("mount of " + whose + ": " + std::string(line));
}

void add_links(Lines& lines) {
  const auto table = os::read_file("/proc/thread-self/net/dev", kMaxProc).value_or("");
  for (const auto line : split(table, '\n')) {
    const auto colon = line.find(':');
    if (colon != std::string_view::npos) lines.insert("link: " + std::string(trim(line.substr(0, colon))));
  }
}

void add_rules(Lines& lines) {
  const auto ran = run_program({"nft", "-s", "list", "ruleset"});
  if (!ran || ran->code != 0) {
    lines.insert("rule: unreadable: " + (ran ? ran->err : ran.error().text()));
    return;
  }
  for (const auto line : split(trim(ran->out), '\n')) lines.insert("rule: " + std::string(line));
}

void add_files(const std::string& top, Lines& lines) {
  std::error_code error;
  for (auto it = fs::recursive_directory_iterator(top, error); !error && it != fs::recursive_directory_iterator();
       it.increment(error)) {
    lines.insert("file: " + it->path().string());
  }
}

std::string describe(pid_t pid) {
  auto command = proc(pid, "cmdline");
  std::ranges::replace(command, '\0', ' ');
  if (command.empty()) command = trim(proc(pid, "comm"));
  return std::to_string(pid) + " " + command;
}

void add_processes(const TestHost& host, Lines& lines) {
  for (const pid_t pid : processes_of(host)) lines.insert("process: " + describe(pid));
  // Zombies have neither folder nor arguments; they are found as children that the server has not reaped.
  const auto tasks = os::list_dir("/proc/" + std::to_string(host.daemon_pid()) + "/task");
  if (!tasks) return;
  for (const auto& task : *tasks) {
    const auto children = proc(host.daemon_pid(), ("task/" + task + "/children").c_str());
    for (const auto child : split(trim(children), ' ')) {
      const auto pid = parse_number<pid_t>(child);
      if (pid && proc(*pid, "cmdline").empty()) lines.insert("process: zombie of the server: " + describe(*pid));
    }
  }
}

void add_namespace_fds(pid_t daemon, Lines& lines) {
  const std::string folder = "/proc/" + std::to_string(daemon) + "/fd";
  const auto names = os::list_dir(folder);
  if (!names) return;
  for (const auto& name : *names) {
    const auto target = link_of(folder + "/" + name);
    if (target.starts_with("net:[") || target.starts_with("mnt:[")) {
      lines.insert("netns-fd: the server holds a " + target.substr(0, 3) + " namespace open");
    }
  }
}

bool belongs(const TestHost& host, pid_t pid) {
  const std::string folder = "/proc/" + std::to_string(pid);
  const auto inside = [&host](const std::string& path) {
    return path == host.dir() || path.starts_with(host.dir() + "/");
  };
  if (inside(link_of(folder + "/cwd"))) return true;
  if (proc(pid, "cmdline").find(host.dir() + "/") != std::string::npos) return true;
  return proc(pid, "cgroup").find(host.cgroup_parent() + "/") != std::string::npos;
}

}  // namespace

std::vector<pid_t> processes_of(const TestHost& host) {
  std::vector<pid_t> found;
  const auto names = os::list_dir("/proc");
  if (!names) return found;
  for (const auto& name : *names) {
    const auto pid = parse_number<pid_t>(name);
    if (!pid || *pid == ::getpid() || *pid == host.daemon_pid() || *pid == host.registry_pid()) continue;
    if (belongs(host, *pid)) found.push_back(*pid);
  }
  return found;
}

std::vector<std::string> cgroups_of(const TestHost& host) {
  std::vector<std::string> found;
  const auto table = os::read_file("/proc/self/mountinfo", kMaxProc).value_or("");
  for (const auto line : split(table, '\n')) {
    if (line.find(" - cgroup") == std::string_view::npos) continue;
    const std::string top = std::string(split(line, ' ')[4]) + host.cgroup_parent();
    std::error_code error;
    if (!fs::is_directory(top, error)) continue;
    found.push_back(top);
    for (auto it = fs::recursive_directory_iterator(top, error); !error && it != fs::recursive_directory_iterator();
         it.increment(error)) {
      if (it->is_directory(error)) found.push_back(it->path().string());
    }
  }
  return found;
}

Lines mounts(const TestHost& host) {
  Lines lines;
  add_mounts("PID 1", os::read_file("/proc/1/mountinfo", kMaxProc).value_or("unreadable"), lines);
  add_mounts("the server", proc(host.daemon_pid(), "mountinfo"), lines);
  return lines;
}

HostState look(const TestHost& host) {
  HostState state;
  state.lines = mounts(host);
  add_links(state.lines);
  add_rules(state.lines);
  for (const auto& folder : cgroups_of(host)) state.lines.insert("cgroup: " + folder);
  add_processes(host, state.lines);
  add_namespace_fds(host.daemon_pid(), state.lines);
  add_files(host.state(), state.lines);
  add_files(host.root() + "/network", state.lines);
  add_files(host.root() + "/images/containers", state.lines);
  add_files(host.root() + "/images/tmp", state.lines);
  return state;
}

std::string difference(const Lines& before, const Lines& now) {
  std::string text;
  std::vector<std::string> lines;
  std::ranges::set_difference(now, before, std::back_inserter(lines));
  for (const auto& line : lines) text.append("+ ").append(line).append("\n");
  lines.clear();
  std::ranges::set_difference(before, now, std::back_inserter(lines));
  for (const auto& line : lines) {
    // What the daemon had put there to be deleted may be deleted.
    if (line.find("/images/tmp/") == std::string::npos) text.append("- ").append(line).append("\n");
  }
  return text;
}

std::string leftovers(const TestHost& host, const HostState& before, std::chrono::milliseconds timeout) {
  std::string text;
  const bool clean = wait_until(timeout, [&] {
    text = difference(before.lines, look(host).lines);
    return text.empty();
  });
  return clean ? "" : text;
}

pid_t shim_of(const std::string& pod_id) {
  const auto found = os::find_processes([&pod_id](const std::vector<std::string>& words) {
    return words.front().ends_with("containerd-shim-berth-v2") && std::ranges::find(words, pod_id) != words.end();
  });
  return found && !found->empty() ? found->front().pid : 0;
}

}  // namespace berth::test
