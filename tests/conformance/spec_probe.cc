// What a container's program sees, told as JSON: the conformance suite runs this as the containers' program. Static,
// since the root file systems hold nothing else but busybox.
#include <fcntl.h>
#include <grp.h>
#include <sched.h>
#include <signal.h>
#include <sys/ioctl.h>
#include <sys/personality.h>
#include <sys/prctl.h>
#include <sys/resource.h>
#include <sys/stat.h>
#include <sys/syscall.h>
#include <sys/sysmacros.h>
#include <sys/utsname.h>
#include <time.h>
#include <unistd.h>

#include <cerrno>
#include <cstdio>
#include <cstdlib>
#include <cstring>
#include <fstream>
#include <iostream>
#include <map>
#include <nlohmann/json.hpp>
#include <sstream>
#include <string>
#include <vector>

namespace {

using Json = nlohmann::json;

constexpr int kIoprioWhoProcess = 1;  // <linux/ioprio.h>, which glibc has no wrapper for
constexpr int kIoprioClassShift = 13;
constexpr std::size_t kMaxLink = 4096;

// sched_getattr(2): <linux/sched/types.h> and <sched.h> do not go together.
struct SchedAttr {
  std::uint32_t size;
  std::uint32_t policy;
  std::uint64_t flags;
  std::int32_t nice;
  std::uint32_t priority;
  std::uint64_t runtime;
  std::uint64_t deadline;
  std::uint64_t period;
};

std::string read_all(const std::string& path) {
  std::ifstream file(path);
  std::ostringstream text;
  text << file.rdbuf();
  return text.str();
}

std::vector<std::string> words_of(const std::string& line) {
  std::istringstream in(line);
  std::vector<std::string> words;
  for (std::string word; in >> word;) words.push_back(word);
  return words;
}

std::string link_of(const std::string& path) {
  std::string target(kMaxLink, '\0');
  const ssize_t length = ::readlink(path.c_str(), target.data(), target.size());
  target.resize(length > 0 ? static_cast<std::size_t>(length) : 0);
  return target;
}

Json namespaces() {
  Json all = Json::object();
  for (const char* kind : {"cgroup", "ipc", "mnt", "net", "pid", "time", "user", "uts"})
    all[kind] = link_of(std::string("/proc/self/ns/") + kind);
  return all;
}

// proc_pid_mountinfo(5): number, parent, device, root, place, options, tags..., "-", type, source, superblock options.
Json mounts() {
  Json all = Json::array();
  std::istringstream lines(read_all("/proc/self/mountinfo"));
  for (std::string line; std::getline(lines, line);) {
    const auto words = words_of(line);
    std::size_t dash = 6;
    Json tags = Json::array();
    while (dash < words.size() && words[dash] != "-") tags.push_back(words[dash++]);
    if (dash + 3 > words.size()) continue;
    all.push_back({{"id", words[0]},
                   {"parent", words[1]},
                   {"root", words[3]},
                   {"place", words[4]},
                   {"options", words[5]},
                   {"tags", tags},
                   {"type", words[dash + 1]},
                   {"source", words[dash + 2]},
                   {"super", dash + 3 < words.size() ? words[dash + 3] : ""}});
  }
  return all;
}

Json status() {
  Json all = Json::object();
  std::istringstream lines(read_all("/proc/self/status"));
  for (std::string line; std::getline(lines, line);) {
    const auto colon = line.find(":\t");
    if (colon != std::string::npos) all[line.substr(0, colon)] = line.substr(colon + 2);
  }
  return all;
}

Json limits() {
  static const std::map<std::string, int> kinds{{"RLIMIT_AS", RLIMIT_AS},
                                                {"RLIMIT_CORE", RLIMIT_CORE},
                                                {"RLIMIT_CPU", RLIMIT_CPU},
                                                {"RLIMIT_DATA", RLIMIT_DATA},
                                                {"RLIMIT_FSIZE", RLIMIT_FSIZE},
                                                {"RLIMIT_LOCKS", RLIMIT_LOCKS},
                                                {"RLIMIT_MEMLOCK", RLIMIT_MEMLOCK},
                                                {"RLIMIT_NICE", RLIMIT_NICE},
                                                {"RLIMIT_NOFILE", RLIMIT_NOFILE},
                                                {"RLIMIT_NPROC", RLIMIT_NPROC},
                                                {"RLIMIT_RSS", RLIMIT_RSS},
                                                {"RLIMIT_RTPRIO", RLIMIT_RTPRIO},
                                                {"RLIMIT_RTTIME", RLIMIT_RTTIME},
                                                {"RLIMIT_STACK", RLIMIT_STACK},
                                                {"RLIMIT_SIGPENDING", RLIMIT_SIGPENDING},
                                                {"RLIMIT_MSGQUEUE", RLIMIT_MSGQUEUE}};
  Json all = Json::object();
  for (const auto& [name, kind] : kinds) {
    rlimit limit{};
    if (::getrlimit(static_cast<__rlimit_resource_t>(kind), &limit) == 0)
      all[name] = {{"soft", limit.rlim_cur}, {"hard", limit.rlim_max}};
  }
  return all;
}

Json scheduling() {
  SchedAttr attributes{};
  attributes.size = sizeof attributes;
  Json all = Json::object();
  if (::syscall(SYS_sched_getattr, 0, &attributes, sizeof attributes, 0) == 0) {
    all["policy"] = attributes.policy;
    all["nice"] = attributes.nice;
    all["priority"] = attributes.priority;
    all["flags"] = attributes.flags;
    all["runtime"] = attributes.runtime;
    all["deadline"] = attributes.deadline;
    all["period"] = attributes.period;
  }
  const long value = ::syscall(SYS_ioprio_get, kIoprioWhoProcess, 0);
  all["io_class"] = value >> kIoprioClassShift;
  all["io_priority"] = value & ((1 << kIoprioClassShift) - 1);
  return all;
}

Json ids() {
  std::vector<gid_t> list(static_cast<std::size_t>(::getgroups(0, nullptr)));
  list.resize(static_cast<std::size_t>(::getgroups(static_cast<int>(list.size()), list.data())));
  uid_t uid[3] = {};
  gid_t gid[3] = {};
  ::getresuid(&uid[0], &uid[1], &uid[2]);
  ::getresgid(&gid[0], &gid[1], &gid[2]);
  return {{"uid", uid},
          {"gid", gid},
          {"groups", list},
          {"uid_map", words_of(read_all("/proc/self/uid_map"))},
          {"gid_map", words_of(read_all("/proc/self/gid_map"))}};
}

const char* type_of(mode_t mode) {
  switch (mode & S_IFMT) {
    case S_IFREG:
      return "file";
    case S_IFDIR:
      return "folder";
    case S_IFLNK:
      return "link";
    case S_IFCHR:
      return "c";
    case S_IFBLK:
      return "b";
    case S_IFIFO:
      return "p";
    case S_IFSOCK:
      return "socket";
    default:
      return "other";
  }
}

Json file(const std::string& path) {
  struct stat about{};
  if (::lstat(path.c_str(), &about) != 0) return {{"type", "absent"}};
  Json all{{"type", type_of(about.st_mode)},
           {"mode", about.st_mode & 07777},
           {"uid", about.st_uid},
           {"gid", about.st_gid},
           {"size", about.st_size}};
  if (S_ISLNK(about.st_mode)) all["target"] = link_of(path);
  if (S_ISCHR(about.st_mode) || S_ISBLK(about.st_mode))
    all["device"] = std::to_string(major(about.st_rdev)) + ":" + std::to_string(minor(about.st_rdev));
  return all;
}

// 0 or the error of opening, and of moving one byte in that direction.
int try_file(const std::string& path, int flags) {
  const int fd = ::open(path.c_str(), flags | O_NONBLOCK | O_NOCTTY | O_CLOEXEC, 0600);
  if (fd < 0) return errno;
  char byte = 'x';
  ssize_t moved = 0;
  if ((flags & O_ACCMODE) == O_RDONLY && (flags & O_DIRECTORY) == 0) moved = ::read(fd, &byte, 1);
  if ((flags & O_ACCMODE) == O_WRONLY) moved = ::write(fd, &byte, 1);
  const int error = moved < 0 ? errno : 0;
  ::close(fd);
  return error;
}

// For each path: what it is, and what reading and writing say. Of a folder: whether it is empty, and making a file.
Json access(const std::vector<std::string>& paths) {
  Json all = Json::object();
  for (const auto& path : paths) {
    Json one = file(path);
    if (one["type"] == "folder") {
      const std::string inside = path + "/.probe";
      one["write"] = try_file(inside, O_WRONLY | O_CREAT | O_EXCL);
      if (one["write"] == 0) ::unlink(inside.c_str());
      one["read"] = try_file(path, O_RDONLY | O_DIRECTORY);
    } else {
      one["read"] = try_file(path, O_RDONLY);
      one["write"] = try_file(path, O_WRONLY);
    }
    all[path] = std::move(one);
  }
  return all;
}

Json open_descriptors() {
  Json all = Json::array();
  for (int fd = 0; fd < 256; ++fd) {
    if (::fcntl(fd, F_GETFD) >= 0) all.push_back(fd);
  }
  return all;
}

Json terminal() {
  winsize size{};
  if (::isatty(0) == 0 || ::ioctl(0, TIOCGWINSZ, &size) != 0) return nullptr;
  return {{"rows", size.ws_row}, {"columns", size.ws_col}, {"name", link_of("/proc/self/fd/0")}};
}

Json devices() {
  Json all = Json::object();
  for (const char* path : {"/dev/null", "/dev/zero", "/dev/full", "/dev/random", "/dev/urandom", "/dev/tty",
                           "/dev/console", "/dev/ptmx", "/dev/fd", "/dev/stdin", "/dev/stdout", "/dev/stderr"})
    all[path] = file(path);
  return all;
}

Json report(int argc, char** argv) {
  utsname names{};
  ::uname(&names);
  timespec monotonic{};
  ::clock_gettime(CLOCK_MONOTONIC, &monotonic);
  const mode_t mask = ::umask(0);
  ::umask(mask);
  std::string cwd(kMaxLink, '\0');
  cwd = ::getcwd(cwd.data(), cwd.size()) == nullptr ? "" : cwd.c_str();
  Json environment = Json::array();
  for (char** variable = environ; *variable != nullptr; ++variable) environment.push_back(*variable);
  Json args = Json::array();
  for (int i = 0; i < argc; ++i) args.push_back(argv[i]);
  return {{"args", args},
          {"env", environment},
          {"pid", ::getpid()},
          {"session", ::getsid(0)},
          {"cwd", cwd},
          {"umask", mask},
          {"ids", ids()},
          {"namespaces", namespaces()},
          {"mounts", mounts()},
          {"status", status()},
          {"limits", limits()},
          {"scheduling", scheduling()},
          {"devices", devices()},
          {"terminal", terminal()},
          {"descriptors", open_descriptors()},
          {"hostname", names.nodename},
          {"domainname", names.domainname},
          {"machine", names.machine},
          {"personality", ::personality(0xffffffff)},
          {"oom_score_adj", words_of(read_all("/proc/self/oom_score_adj"))},
          {"cgroup", words_of(read_all("/proc/self/cgroup"))},
          {"seconds", monotonic.tv_sec}};
}

// A harmless call of each name; its errno, or 0. What a filter does shows before the kernel looks at the arguments.
Json calls(const std::vector<std::string>& names) {
  Json all = Json::object();
  for (const auto& name : names) {
    long answer = -1;
    errno = 0;
    if (name == "getcwd") {
      char place[kMaxLink];
      answer = ::syscall(SYS_getcwd, place, sizeof place);
    } else if (name == "getppid") {
      answer = ::syscall(SYS_getppid);
    } else if (name == "sync") {
      answer = ::syscall(SYS_sync);
    } else if (name == "personality0" || name == "personality8") {
      answer = ::syscall(SYS_personality, name == "personality8" ? PER_LINUX32 : PER_LINUX);
    } else if (name == "mkdir") {
      answer = ::syscall(SYS_mkdirat, AT_FDCWD, "/tmp/made", 0700);
    } else {
      errno = EINVAL;
    }
    all[name] = answer < 0 ? errno : 0;
  }
  return all;
}

// Says "ready", then waits for one signal, says its number and ends with it as exit code.
int signals() {
  sigset_t all;
  ::sigfillset(&all);
  ::sigprocmask(SIG_BLOCK, &all, nullptr);
  std::cout << "ready" << std::endl;
  for (;;) {
    int number = 0;
    if (::sigwait(&all, &number) != 0) return 1;
    if (number == SIGCHLD || number == SIGCONT) continue;
    std::cout << "signal " << number << std::endl;
    return number;
  }
}

}  // namespace

int main(int argc, char** argv) {
  const std::string what = argc > 1 ? argv[1] : "report";
  const std::vector<std::string> rest(argv + (argc > 2 ? 2 : argc), argv + argc);
  if (what == "signals") return signals();
  if (what == "exit") return rest.empty() ? 0 : std::atoi(rest[0].c_str());
  Json all;
  if (what == "access") {
    all = access(rest);
  } else if (what == "calls") {
    all = calls(rest);
  } else {
    all = report(argc, argv);
  }
  std::cout << all.dump(-1, ' ', false, Json::error_handler_t::replace) << std::endl;
  if (what == "wait") signals();
  return 0;
}
