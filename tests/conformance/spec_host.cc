#include "spec_host.h"

#include <fcntl.h>
#include <sys/mount.h>
#include <sys/stat.h>
#include <unistd.h>

#include <algorithm>
#include <csignal>
#include <stdexcept>

#include "base/strings.h"
#include "isolation.h"
#include "os/cgroup.h"
#include "os/file.h"
#include "os/pidfd.h"
#include "wait.h"

namespace berth::test {

namespace {

constexpr std::chrono::seconds kCommandTimeout{30};
constexpr std::chrono::seconds kSettleTimeout{10};
constexpr std::size_t kLimit = 8U << 20;

std::string test_folder() {
  const char* const folder = std::getenv("BERTH_BIN_DIR");  // NOLINT(concurrency-mt-unsafe): set before main
  return (folder != nullptr ? std::string(folder) : "build/release/bin") + "/../tests";
}

/// The suite and the rule's name without what the runtimes' parameter adds to both.
std::string rule_name() {
  const auto* const info = ::testing::UnitTest::GetInstance()->current_test_info();
  std::string suite = info->test_suite_name();
  std::string name = info->name();
  return suite.substr(suite.find('/') + 1) + "." + name.substr(0, name.find('/'));
}

Json base_mounts() {
  const auto mount = [](const char* place, const char* type, const char* source, std::vector<std::string> options) {
    return Json{{"destination", place}, {"type", type}, {"source", source}, {"options", std::move(options)}};
  };
  return Json::array({mount("/proc", "proc", "proc", {}),
                      mount("/dev", "tmpfs", "tmpfs", {"nosuid", "strictatime", "mode=755", "size=65536k"}),
                      mount("/dev/pts", "devpts", "devpts",
                            {"nosuid", "noexec", "newinstance", "ptmxmode=0666", "mode=0620", "gid=5"}),
                      mount("/dev/shm", "tmpfs", "shm", {"nosuid", "noexec", "nodev", "mode=1777", "size=65536k"}),
                      mount("/dev/mqueue", "mqueue", "mqueue", {"nosuid", "noexec", "nodev"}),
                      mount("/sys", "sysfs", "sysfs", {"nosuid", "noexec", "nodev", "ro"}),
                      mount("/tmp", "tmpfs", "tmpfs", {"nosuid", "nodev", "mode=1777"})});
}

/// What `runc spec` writes, less the cgroup file systems, which few rules are about.
Json base_config(const std::string& cgroup) {
  const Json caps{"CAP_AUDIT_WRITE", "CAP_KILL", "CAP_NET_BIND_SERVICE"};
  Json config{{"ociVersion", "1.0.2"}, {"hostname", "conformance"}, {"mounts", base_mounts()}};
  config["root"] = {{"path", "rootfs"}, {"readonly", true}};
  config["process"] = {{"terminal", false},
                       {"user", {{"uid", 0}, {"gid", 0}}},
                       {"args", {"/bin/probe", "report"}},
                       {"env", {"PATH=/bin:/usr/bin", "TERM=xterm"}},
                       {"cwd", "/"},
                       {"capabilities", {{"bounding", caps}, {"effective", caps}, {"permitted", caps}}},
                       {"rlimits", Json::array({{{"type", "RLIMIT_NOFILE"}, {"hard", 1024}, {"soft", 1024}}})},
                       {"noNewPrivileges", true}};
  Json namespaces = Json::array();
  for (const char* type : {"pid", "network", "ipc", "uts", "mount"}) namespaces.push_back({{"type", type}});
  config["linux"] = {
      {"cgroupsPath", cgroup},
      {"resources", {{"devices", Json::array({{{"allow", false}, {"access", "rwm"}}})}}},
      {"namespaces", std::move(namespaces)},
      {"maskedPaths", {"/proc/kcore", "/proc/keys", "/proc/latency_stats", "/proc/timer_list", "/sys/firmware"}},
      {"readonlyPaths", {"/proc/bus", "/proc/fs", "/proc/irq", "/proc/sys", "/proc/sysrq-trigger"}}};
  return config;
}

std::string mounts_now() {
  return os::read_file("/proc/self/mountinfo", kLimit).value_or("");
}

/// A process of the test's: in one of its cgroups, or started with a path of its folder.
std::string process_of(const std::string& name) {
  for (const auto& entry : os::list_dir("/proc").value_or(std::vector<std::string>())) {
    if (!parse_number<pid_t>(entry)) continue;
    for (const char* file : {"/cgroup", "/cmdline"}) {
      const auto text = os::read_file("/proc/" + entry + file, kLimit).value_or("");
      if (text.find(name + "/") != std::string::npos) return entry + file + ": " + text;
    }
  }
  return "";
}

/// The cgroups below `path`, which are taken away: "" when there was none but `path` itself.
std::string take_cgroups(const std::string& path) {
  std::string left;
  const auto layout = os::find_cgroups("/sys/fs/cgroup");
  if (!layout) return layout.error().text();
  for (const auto& hierarchy : layout->hierarchies) {
    for (const auto& child : os::child_cgroups(hierarchy.root.get(), path).value_or(std::vector<std::string>()))
      left += " " + hierarchy.name + path + "/" + child;
    if (const auto gone = os::remove_cgroup(hierarchy.root.get(), path); !gone) left += " " + gone.error().text();
  }
  return left;
}

}  // namespace

std::vector<Runtime> spec_runtimes() {
  auto all = runtimes();
  if (os::exists("/usr/bin/crun")) all.push_back({"crun", "/usr/bin/crun"});
  return all;
}

Json mount_at(const Json& report, const std::string& place) {
  Json found;
  if (!report.contains("mounts")) return found;
  for (const auto& mount : report["mounts"]) {
    if (mount["place"] == place) found = mount;
  }
  return found;
}

std::vector<std::string> options_of(const Json& mount) {
  std::vector<std::string> all;
  if (!mount.is_object()) return all;
  const auto text = mount["options"].get<std::string>();
  for (const auto word : split(text, ',')) all.emplace_back(word);
  return all;
}

std::string propagation_of(const Json& mount) {
  if (!mount.is_object()) return "absent";
  for (const auto& tag : mount["tags"]) {
    const auto text = tag.get<std::string>();
    if (text.starts_with("shared:")) return "shared";
    if (text.starts_with("master:")) return "slave";
    if (text == "unbindable") return text;
  }
  return "private";
}

std::string own_namespace(const std::string& kind) {
  char text[64] = {};
  const std::string path = "/proc/self/ns/" + kind;
  return ::readlink(path.c_str(), text, sizeof text - 1) > 0 ? std::string(text) : std::string();
}

void SpecTest::SetUp() {
  static int counter = 0;
  name_ = "berth-test-" + std::to_string(::getpid()) + "-spec" + std::to_string(++counter);
  folder_ = "/tmp/" + name_;
  ASSERT_TRUE(os::make_dirs(folder_).has_value());
  ASSERT_EQ(::mount("berth-test", folder_.c_str(), "tmpfs", MS_NOSUID, "mode=755"), 0);
  make_rootfs();
  config = base_config(cgroup());
  mounts_before_ = mounts_now();
  differences_ = differences(runtime().name, rule_name());
  if (!differences_.empty()) {
    using Catcher = ::testing::ScopedFakeTestPartResultReporter;
    catcher_ = std::make_unique<Catcher>(Catcher::INTERCEPT_ONLY_CURRENT_THREAD, &caught_);
  }
}

void SpecTest::make_rootfs() const {
  for (const char* place : {"bin", "dev", "etc", "proc", "sys", "tmp", "home"})
    ASSERT_TRUE(os::make_dirs(rootfs() + "/" + place).has_value());
  const auto copied = run_program({"/bin/sh", "-c",
                                   "cd \"$1\"/bin && cp \"$0\" probe && cp /bin/busybox busybox && for word in sh cat "
                                   "true sleep ls mount touch id stat mkdir uname readlink env; do ln -s busybox "
                                   "$word; done",
                                   test_folder() + "/spec_probe", rootfs()});
  ASSERT_TRUE(copied && copied->code == 0) << (copied ? copied->err : copied.error().text());
}

void SpecTest::TearDown() {
  end_containers();
  for (auto& holder : holders_) holder.kill();
  check_nothing_left();
  if (!catcher_) return;
  catcher_.reset();
  std::vector<bool> seen(differences_.size());
  for (int i = 0; i < caught_.size(); ++i) {
    const auto& part = caught_.GetTestPartResult(i);
    if (part.skipped()) GTEST_SKIP() << part.message();
    bool expected = false;
    for (std::size_t row = 0; row < differences_.size(); ++row) {
      if (std::string_view(part.message()).find(differences_[row].shows) == std::string_view::npos) continue;
      seen[row] = true;
      expected = true;
    }
    EXPECT_TRUE(expected) << "a failure that no row of the differences has: " << part.file_name() << ":"
                          << part.line_number() << ": " << part.message();
  }
  for (std::size_t row = 0; row < differences_.size(); ++row)
    EXPECT_TRUE(seen[row]) << "a difference that is none any more: " << differences_[row].shows;
}

void SpecTest::end_containers() {
  for (const auto& id : os::list_dir(folder_ + "/state").value_or(std::vector<std::string>()))
    oci({"delete", "--force", id});
}

void SpecTest::check_nothing_left() {
  EXPECT_TRUE(os::list_dir(folder_ + "/state").value_or(std::vector<std::string>()).empty()) << "state is left";
  std::string process;
  EXPECT_TRUE(wait_until(kSettleTimeout,
                         [&] {
                           process = process_of(name_);
                           return process.empty();
                         }))
      << "a process is left: " << process;
  EXPECT_EQ(mounts_now(), mounts_before_) << "mounts are left";
  const std::string groups = take_cgroups("/" + name_);
  EXPECT_EQ(groups, "") << "cgroups are left";
  EXPECT_EQ(::umount2(folder_.c_str(), MNT_DETACH), 0);
  EXPECT_TRUE(os::remove_tree(folder_).has_value());
}

void SpecTest::add_mount(const std::string& place, const std::string& type, const std::string& source,
                         const std::vector<std::string>& options) {
  config["mounts"].push_back({{"destination", place}, {"type", type}, {"source", source}, {"options", options}});
}

void SpecTest::drop_namespace(const std::string& type) {
  Json kept = Json::array();
  for (const auto& one : config["linux"]["namespaces"]) {
    if (one["type"] != type) kept.push_back(one);
  }
  config["linux"]["namespaces"] = std::move(kept);
}

void SpecTest::set_namespace(const std::string& type, const std::string& path) {
  drop_namespace(type);
  Json one{{"type", type}};
  if (!path.empty()) one["path"] = path;
  config["linux"]["namespaces"].push_back(std::move(one));
}

Ran SpecTest::oci(std::vector<std::string> words, const std::vector<std::string>& more_env) {
  const std::string what = join(words, " ");
  words.insert(words.begin(), {runtime().path, "--root", folder_ + "/state"});
  // Files, not pipes: a created container keeps them open. One after another: `output()` is create's.
  const std::string call = folder_ + "/" + (words[3] == "create" ? "create" : std::to_string(++calls_));
  Ran ran{-1, "", ""};
  {
    const auto out = os::open_file(call + ".out", O_WRONLY | O_CREAT | O_APPEND);
    const auto err = os::open_file(call + ".err", O_WRONLY | O_CREAT | O_TRUNC);
    EXPECT_TRUE(out && err);
    if (!out || !err) return ran;
    os::SpawnOptions options;
    options.argv = std::move(words);
    options.env = own_environment();
    options.env.insert(options.env.end(), more_env.begin(), more_env.end());
    options.cwd = bundle();
    options.fds = {{out->get(), 1}, {err->get(), 2}};
    const auto child = os::spawn(options);
    EXPECT_TRUE(child.has_value()) << (child ? "" : child.error().text());
    if (!child) return ran;
    if (!os::wait_readable(child->pidfd.get(), kCommandTimeout).value_or(false)) {
      ADD_FAILURE() << what << " does not end";
      ignore(os::pidfd_signal(child->pidfd.get(), SIGKILL), "it may have ended now");
    }
    ran.code = os::wait_exit(*child).value_or(-1);
  }
  ran.out = os::read_file(call + ".out", kLimit).value_or("");
  ran.err = os::read_file(call + ".err", kLimit).value_or("");
  return ran;
}

void SpecTest::write_config() const {
  write(bundle() + "/config.json", config.dump(2));
}

void SpecTest::write(const std::string& path, const std::string& text, mode_t mode) const {
  const auto written = os::write_file_atomic(path, text, mode);
  ASSERT_TRUE(written.has_value()) << written.error().text();
}

Ran SpecTest::create(const std::string& id, const std::vector<std::string>& flags) {
  write_config();
  std::vector<std::string> words{"create", "--bundle", bundle()};
  words.insert(words.end(), flags.begin(), flags.end());
  words.push_back(id);
  return oci(std::move(words));
}

Ran SpecTest::create_and_start(const std::string& id) {
  Ran created = create(id);
  return created.code == 0 ? start(id) : created;
}

Json SpecTest::state(const std::string& id) {
  const Ran ran = oci({"state", id});
  if (ran.code != 0) return nullptr;
  return Json::parse(ran.out, nullptr, false);
}

std::string SpecTest::status(const std::string& id) {
  const Json now = state(id);
  return now.is_object() && now.contains("status") ? now["status"].get<std::string>() : "none";
}

bool SpecTest::wait_status(const std::string& wanted, const std::string& id) {
  return wait_until(kSettleTimeout, [&] { return status(id) == wanted; });
}

std::string SpecTest::output() const {
  return os::read_file(folder_ + "/create.out", kLimit).value_or("");
}

bool SpecTest::wait_output(const std::string& part) const {
  return wait_until(kSettleTimeout, [&] { return output().find(part) != std::string::npos; });
}

Ran SpecTest::run_once() {
  write_config();
  return oci({"run", "--bundle", bundle(), kId});
}

Json SpecTest::parsed(const Ran& ran) {
  Json all = Json::parse(ran.out, nullptr, false);
  // The one way out of a test from a function with a value; the runtime's words are the failure's.
  if (ran.code != 0 || !all.is_object()) throw std::runtime_error("no report: " + ran.out + ran.err);
  return all;
}

Json SpecTest::report() {
  return parsed(run_once());
}

Json SpecTest::access(const std::vector<std::string>& paths) {
  std::vector<std::string> words{"/bin/probe", "access"};
  words.insert(words.end(), paths.begin(), paths.end());
  set_args(std::move(words));
  return parsed(run_once());
}

Json SpecTest::calls(const std::vector<std::string>& names) {
  std::vector<std::string> words{"/bin/probe", "calls"};
  words.insert(words.end(), names.begin(), names.end());
  set_args(std::move(words));
  return parsed(run_once());
}

std::string SpecTest::shell(const std::string& script) {
  set_shell(script);
  const Ran ran = run_once();
  EXPECT_EQ(ran.code, 0) << ran.err << ran.out;
  return ran.out;
}

void SpecTest::expect_refused(const std::string& what) {
  const Ran ran = create_and_start();
  EXPECT_NE(ran.code, 0) << what << " is not refused";
  if (ran.code != 0) {
    EXPECT_NE(ran.err, "") << what << " is refused without a word";
  }
  // A start that failed leaves what create made, to be deleted.
  end_containers();
}

pid_t SpecTest::hold_namespaces(const std::vector<std::string>& flags) {
  std::vector<std::string> words{"unshare"};
  words.insert(words.end(), flags.begin(), flags.end());
  const std::string log = folder_ + "/holder" + std::to_string(holders_.size());
  words.insert(words.end(), {"sh", "-c", "echo ready; exec sleep 1000"});
  auto process = Process::start(std::move(words), log);
  EXPECT_TRUE(process.has_value()) << (process ? "" : process.error().text());
  if (!process) return 0;
  holders_.push_back(std::move(*process));
  EXPECT_TRUE(wait_until(kSettleTimeout, [&] { return os::read_file(log, kLimit).value_or("") == "ready\n"; }));
  return holders_.back().pid();
}

std::string SpecTest::cgroup_file(const std::string& controller, const std::string& file) const {
  const auto text = os::read_file("/sys/fs/cgroup/" + controller + cgroup() + "/" + file, kLimit);
  return text ? std::string(trim(*text)) : "none";
}

}  // namespace berth::test
