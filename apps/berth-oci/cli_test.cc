#include <fcntl.h>
#include <gmock/gmock.h>
#include <pty.h>
#include <sys/mount.h>
#include <sys/stat.h>

#include <atomic>
#include <csignal>
#include <thread>

#include "base/strings.h"
#include "oci_fixture.h"
#include "os/socket.h"
#include "os/spawn.h"
#include "output.h"
#include "spec/json_text.h"

/// The program as its callers see it. Needs root.
namespace berth::oci {
namespace {

using testing::default_spec;
using ::testing::HasSubstr;
using testing::lines_of;
using ::testing::Not;
using testing::program;
using testing::run_words;

class CliTest : public testing::OciTest {
 protected:
  void TearDown() override {
    OciTest::TearDown();
    EXPECT_FALSE(os::exists("/sys/fs/cgroup/memory/" + bundle_.name()));
  }
  void write_script(const std::string& script) { write_config(default_spec(bundle_, {"/bin/sh", "-c", script})); }
  void wait_for(const std::string& wanted) {
    for (int i = 0; i < 5000 && status() != wanted; ++i) ::usleep(1000);
    EXPECT_EQ(status(), wanted);
  }
  /// create or detached run keep the descriptors they get: files, so that reading does not wait for the container.
  int detached(const std::string& words, const std::string& out = "/dev/null") {
    const std::string line = "cd " + bundle_.path() + " && " + program() + " --root " + root() + " " + words + " > " +
                             out + " 2>&1 < /dev/null";
    const int status_word = std::system(line.c_str());  // NOLINT: a test's own words
    return WEXITSTATUS(status_word);
  }
};

TEST_F(CliTest, RunGivesOutputAndExitCode) {
  write_script("echo out; echo err >&2; cat; exit 23");
  const auto output = oci({"run", bundle_.name()}, "from stdin");
  EXPECT_EQ(output.exit_code, 23);
  EXPECT_EQ(output.out, "out\nfrom stdin");
  EXPECT_EQ(output.err, "err\n");
  EXPECT_FALSE(os::exists(root() + "/" + bundle_.name()));
}

TEST_F(CliTest, TheWholeLife) {
  write_script("trap 'exit 0' TERM; echo started > /tmp/started; while :; do sleep 0.01; done");
  const std::string pid_file = bundle_.path() + "/pid";
  ASSERT_EQ(detached("create --pid-file " + pid_file + " " + bundle_.name()), 0);
  EXPECT_EQ(status(), "created");
  EXPECT_FALSE(os::exists(bundle_.path() + "/rootfs/tmp/started"));
  EXPECT_THAT(oci({"list"}).out, HasSubstr("created"));
  EXPECT_EQ(oci({"create", bundle_.name()}).exit_code, 1);
  EXPECT_THAT(oci({"create", bundle_.name()}).err, HasSubstr("container with given ID already exists"));
  EXPECT_EQ(oci({"start", bundle_.name()}).exit_code, 0);
  EXPECT_EQ(status(), "running");
  EXPECT_THAT(oci({"start", bundle_.name()}).err, HasSubstr("cannot start a container that is running or has stopped"));
  EXPECT_THAT(oci({"delete", bundle_.name()}).err, HasSubstr("that is not stopped: running"));
  const std::string pid = os::read_file(pid_file, 100).value_or("");
  EXPECT_THAT(oci({"state", bundle_.name()}).out, HasSubstr("\"pid\": " + pid));
  EXPECT_THAT(oci({"ps", bundle_.name()}).out, HasSubstr(pid));
  EXPECT_THAT(oci({"ps", "-f", "json", bundle_.name()}).out, HasSubstr(pid));
  EXPECT_EQ(oci({"pause", bundle_.name()}).exit_code, 0);
  EXPECT_EQ(status(), "paused");
  EXPECT_EQ(oci({"exec", bundle_.name(), "true"}).exit_code, 255);
  EXPECT_EQ(oci({"resume", bundle_.name()}).exit_code, 0);
  EXPECT_EQ(oci({"update", "--memory", "33554432", bundle_.name()}).exit_code, 0);
  const bool v2 = os::exists("/sys/fs/cgroup/cgroup.controllers");
  const std::string limit = v2 ? "/sys/fs/cgroup/" + bundle_.name() + "/memory.max"
                               : "/sys/fs/cgroup/memory/" + bundle_.name() + "/memory.limit_in_bytes";
  EXPECT_EQ(os::read_file(limit, 100).value_or(""), "33554432\n");
  while (!os::exists(bundle_.path() + "/rootfs/tmp/started")) ::usleep(1000);
  EXPECT_EQ(oci({"kill", bundle_.name()}).exit_code, 0);
  wait_for("stopped");
  EXPECT_THAT(oci({"kill", bundle_.name(), "KILL"}).err, HasSubstr("container not running"));
  EXPECT_EQ(oci({"delete", bundle_.name()}).exit_code, 0);
  EXPECT_THAT(oci({"state", bundle_.name()}).err, HasSubstr("container does not exist"));
}

TEST_F(CliTest, ExecGivesTheIdentityThatWasAskedFor) {
  // CVE-2026-30892 (crun): --user 1 was taken for 0. CVE-2022-29162 (runc): --cap filled the inheritable set.
  auto spec = default_spec(bundle_, {"/bin/sleep", "1000"});
  spec.process->capabilities->inheritable = {"CAP_CHOWN"};
  write_config(spec);
  ASSERT_EQ(detached("run --detach " + bundle_.name()), 0);
  const auto exec_as = [this](const std::string& user) {
    return oci({"exec", "--user", user, "--cap", "CAP_CHOWN", "--cap", "CAP_NET_ADMIN", bundle_.name(), "sh", "-c",
                "id -u; id -g; grep -E 'CapInh|CapAmb' /proc/self/status"});
  };
  const std::string caps = "CapInh:\t0000000000000001\nCapAmb:\t0000000000000001\n";
  EXPECT_EQ(exec_as("1").out, "1\n0\n" + caps);
  EXPECT_EQ(exec_as("1:2").out, "1\n2\n" + caps);
  for (const char* const wrong :
       {"", ":1", "1:", "-1", "+1", " 1", "1x", "0x1", "4294967295", "1:4294967295", "4294967296", "1:2:3", "web"}) {
    const auto refused = exec_as(wrong);
    EXPECT_EQ(refused.out, "") << wrong;
    EXPECT_EQ(refused.exit_code, 255) << wrong;
  }
}

TEST_F(CliTest, ExecRunsWithItsFlags) {
  write_script("sleep 1000");
  ASSERT_EQ(detached("run --detach " + bundle_.name()), 0);
  const auto output =
      oci({"exec", "--user", "1000:1001", "--cwd", "/tmp", "--env", "A=b", "--additional-gids", "7", "--cap",
           "CAP_NET_ADMIN", bundle_.name(), "sh", "-c", "id; pwd; echo $A; grep CapAmb /proc/self/status; exit 12"});
  EXPECT_EQ(output.exit_code, 12);
  EXPECT_THAT(output.out, HasSubstr("uid=1000(web) gid=1001 groups=7\n/tmp\nb\nCapAmb:\t0000000000000000\n"));
  EXPECT_EQ(oci({"exec", bundle_.name(), "-c"}).exit_code, 255) << "words after the id are the command's";
  const auto missing = oci({"exec", bundle_.name(), "nosuch"});
  EXPECT_EQ(missing.exit_code, 255);
  EXPECT_THAT(missing.err, HasSubstr("executable file not found in $PATH"));
  spec::Process process;
  process.args = {"/bin/echo", "by file"};
  process.cwd = "/";
  ASSERT_TRUE(os::write_file_atomic(bundle_.path() + "/p.json", spec::write_process(process)).has_value());
  EXPECT_EQ(oci({"exec", "--process", "p.json", bundle_.name()}).out, "by file\n");
  ASSERT_EQ(detached("exec --detach --pid-file x " + bundle_.name() + " sleep 1000"), 0);
  const std::string pid = os::read_file(bundle_.path() + "/x", 100).value_or("");
  EXPECT_THAT(oci({"ps", "-f", "json", bundle_.name()}).out, HasSubstr(pid));
  EXPECT_EQ(oci({"delete", "--force", bundle_.name()}).exit_code, 0);
  EXPECT_FALSE(os::exists("/proc/" + pid));
}

TEST_F(CliTest, ATerminalIsRelayed) {
  auto spec = default_spec(bundle_, {"/bin/sh", "-c", "tty; read line; echo got $line; exit 8"});
  spec.process->terminal = true;
  write_config(spec);
  int master = -1;
  const pid_t pid = ::forkpty(&master, nullptr, nullptr, nullptr);
  if (pid == 0) {
    if (::chdir(bundle_.path().c_str()) != 0) ::_exit(99);
    ::execl(program().c_str(), "berth-oci", "--root", root().c_str(), "run", bundle_.name().c_str(), nullptr);
    ::_exit(98);
  }
  const UniqueFd terminal(master);
  std::string text;
  bool typed = false;
  char buffer[512];
  for (ssize_t n = 0; (n = ::read(master, buffer, sizeof buffer)) > 0;) {
    text.append(buffer, static_cast<std::size_t>(n));
    if (!typed && text.find("/dev/pts/0") != std::string::npos) typed = ::write(master, "hello\r", 6) == 6;
  }
  int wait_word = 0;
  ASSERT_EQ(::waitpid(pid, &wait_word, 0), pid);
  EXPECT_EQ(WEXITSTATUS(wait_word), 8) << text;
  EXPECT_THAT(text, HasSubstr("got hello"));
}

TEST_F(CliTest, SignalsAreForwarded) {
  write_script("trap 'echo caught; exit 17' TERM; echo ready > /tmp/ready; while :; do sleep 0.01; done");
  os::SpawnOptions options;
  options.argv = {program(), "--root", root(), "run", bundle_.name()};
  options.env = {"PATH=/bin"};
  options.cwd = bundle_.path();
  auto child = os::spawn(options);
  ASSERT_TRUE(child.has_value());
  while (!os::exists(bundle_.path() + "/rootfs/tmp/ready")) ::usleep(1000);
  ASSERT_EQ(::kill(child->pid, SIGTERM), 0);
  EXPECT_EQ(os::wait_exit(*child).value_or(-1), 17);
}

TEST_F(CliTest, WhatCannotBeSaysWhy) {
  EXPECT_THAT(oci({"run", bundle_.name()}).err, HasSubstr("config.json not found"));
  ASSERT_TRUE(os::write_file_atomic(bundle_.path() + "/config.json", "{\"ociVersion\": 5}").has_value());
  EXPECT_THAT(oci({"run", bundle_.name()}).err, HasSubstr("ociVersion"));
  write_script("true");
  EXPECT_THAT(oci({"run", "../evil"}).err, HasSubstr("invalid container ID format"));
  EXPECT_THAT(oci({"--systemd-cgroup", "run", "x"}).err, HasSubstr("for systemd cgroups, got"));
  EXPECT_THAT(oci({"checkpoint", "x"}).err, HasSubstr("container does not exist"));
  EXPECT_THAT(oci({"run"}).err, HasSubstr("requires exactly 1 argument(s)"));
  EXPECT_THAT(oci({"run", "--wish", "x"}).err, HasSubstr("flag provided but not defined: -wish"));
  EXPECT_THAT(oci({"kill", "x"}).err, HasSubstr("container does not exist"));
  EXPECT_EQ(oci({"delete", "x"}).exit_code, 1);
  EXPECT_EQ(oci({"delete", "--force", "x"}).exit_code, 0);
  auto spec = default_spec(bundle_, {"true"});
  spec.process->terminal = true;
  write_config(spec);
  EXPECT_THAT(oci({"create", bundle_.name()}).err,
              HasSubstr("cannot allocate tty if berth-oci will detach without setting console socket"));
  spec.process->terminal = false;
  spec.process->args = {"nosuch"};
  write_config(spec);
  const auto log = bundle_.path() + "/log";
  const auto output = oci({"--log", log, "--log-format", "json", "create", bundle_.name()});
  EXPECT_EQ(output.exit_code, 1);
  const auto line = spec::parse_json(os::read_file(log, 1U << 16).value_or(""));
  ASSERT_TRUE(line.has_value());
  EXPECT_EQ(line->string_or("level"), "error");
  EXPECT_THAT(std::string(line->string_or("msg")), HasSubstr("executable file not found in $PATH"));
  EXPECT_FALSE(os::exists(root() + "/" + bundle_.name()));
}

TEST_F(CliTest, TheSpecThatItWritesRuns) {
  EXPECT_EQ(oci({"spec"}).exit_code, 0);
  EXPECT_THAT(oci({"spec"}).err, HasSubstr("File config.json exists"));
  auto spec = spec::parse_spec(os::read_file(bundle_.path() + "/config.json", 1U << 16).value_or(""));
  ASSERT_TRUE(spec.has_value()) << spec.error().text();
  ASSERT_TRUE(spec::validate(*spec).has_value());
  for (const char* folder : {"proc", "dev", "sys"})
    ASSERT_TRUE(os::make_dirs(bundle_.path() + "/rootfs/" + folder).has_value());
  spec->process->terminal = false;
  spec->process->args = {"/bin/echo", "works"};
  write_config(*spec);
  EXPECT_EQ(oci({"run", bundle_.name()}).out, "works\n");
  const auto features = spec::parse_json(oci({"features"}).out);
  ASSERT_TRUE(features.has_value());
  EXPECT_EQ(features->string_or("ociVersionMax"), "1.3.0");
}

TEST_F(CliTest, EventsAreStatisticsAndOomKills) {
  // A child of its shell takes more than the limit once it is told to; before the trap is set, init ignores the signal.
  auto spec = default_spec(
      bundle_, {"/bin/sh", "-c", "trap '(tail /dev/zero)' USR1; echo trapped; while :; do sleep 0.01; done"});
  spec.linux->resources.emplace();
  spec.linux->resources->memory.emplace();
  spec.linux->resources->memory->limit = 16 << 20;
  spec.linux->resources->memory->swap = 16 << 20;
  write_config(spec);
  const std::string output = bundle_.path() + "/output";
  ASSERT_EQ(detached("run --detach " + bundle_.name(), output), 0);
  const auto once = oci({"events", "--stats", bundle_.name()});
  ASSERT_EQ(once.exit_code, 0) << once.err;
  const auto stats = spec::parse_json(once.out);
  ASSERT_TRUE(stats.has_value()) << once.out;
  EXPECT_EQ(stats->string_or("type", ""), "stats");
  EXPECT_EQ(stats->string_or("id", ""), bundle_.name());
  const auto* const data = stats->get("data");
  EXPECT_GT(data->get("cpu")->get("usage")->get("total")->as_int().value_or(0), 0);
  EXPECT_EQ(data->get("memory")->get("usage")->get("limit")->as_int().value_or(0), 16 << 20);
  EXPECT_GE(data->get("pids")->get("current")->as_int().value_or(0), 1);
  const std::string log = bundle_.path() + "/events";
  std::thread watcher([this, &log] { EXPECT_EQ(detached("events --interval 100ms " + bundle_.name(), log), 0); });
  const auto seen = [](const std::string& file, const std::string& word) {
    for (int i = 0; i < 10'000; ++i) {
      if (os::read_file(file, 1 << 20).value_or("").find(word) != std::string::npos) return true;
      ::usleep(1000);
    }
    return false;
  };
  EXPECT_TRUE(seen(output, "trapped"));
  EXPECT_TRUE(seen(log, R"("type":"stats")"));
  EXPECT_EQ(oci({"kill", bundle_.name(), "USR1"}).exit_code, 0);
  EXPECT_TRUE(seen(log, R"({"type":"oom","id":")" + bundle_.name() + "\"}"));
  EXPECT_EQ(oci({"kill", bundle_.name(), "KILL"}).exit_code, 0);
  watcher.join();  // it ends with the container
  EXPECT_THAT(oci({"events", "--stats", bundle_.name()}).err, HasSubstr("is not running"));
  EXPECT_THAT(oci({"events", "--interval", "never", bundle_.name()}).err, HasSubstr("is no duration"));
}

TEST_F(CliTest, ReadinessIsHandedOnToTheServiceManager) {
  write_script("[ -S \"$NOTIFY_SOCKET\" ] || exit 9; sleep 1000");
  const std::string manager_path = bundle_.path() + "/manager";
  const auto manager = os::unix_datagram_bind(manager_path, 0600);
  ASSERT_TRUE(manager.has_value());
  const auto with_manager = [&](const std::string& words) {
    const std::string line = "cd " + bundle_.path() + " && NOTIFY_SOCKET=" + manager_path + " " + program() +
                             " --root " + root() + " " + words + " > /dev/null 2>&1 < /dev/null";
    return WEXITSTATUS(std::system(line.c_str()));  // NOLINT: a test's own words
  };
  ASSERT_EQ(with_manager("create " + bundle_.name()), 0);
  std::atomic<bool> started = false;
  std::thread start([&] {
    EXPECT_EQ(with_manager("start " + bundle_.name()), 0);
    started = true;
  });
  wait_for("running");
  EXPECT_FALSE(started);
  const auto state = spec::parse_json(oci({"state", bundle_.name()}).out);
  const std::string pid = std::to_string(state->get("pid")->as_int().value_or(0));
  // As the program inside says it, by the path that it sees.
  const std::string inside = "/proc/" + pid + "/root/run/notify/notify.sock";
  ASSERT_TRUE(os::unix_datagram_send(inside, "STATUS=nearly\n").has_value());
  ASSERT_TRUE(os::unix_datagram_send(inside, "READY=1\nSTATUS=there\n").has_value());
  start.join();
  char buffer[256];
  const auto told = os::receive_some(manager->get(), buffer);
  ASSERT_TRUE(told && *told);
  EXPECT_EQ(std::string_view(buffer, **told), "READY=1\nMAINPID=" + pid + "\n");
}

#ifndef __SANITIZE_ADDRESS__  // needs the static program: in the container's root there is no libasan.so
TEST_F(CliTest, ItsExecutableCannotBeOpenedForWritingFromInside) {
  // CVE-2019-5736, the self-exec: the program is a script whose interpreter is the runtime itself.
  auto spec = default_spec(
      bundle_, {"/bin/sh", "-c",
                "printf '#!/proc/self/exe\\n' > /tmp/trap; chmod +x /tmp/trap; readlink /proc/self/exe; echo done"});
  write_config(spec);
  EXPECT_THAT(oci({"run", bundle_.name()}).out, HasSubstr("done"));
  // Run as the first program, the kernel takes our executable as interpreter; it must be on a read-only mount then.
  ASSERT_TRUE(os::write_file_atomic(bundle_.path() + "/rootfs/trap", "#!/proc/self/exe\n", 0755).has_value());
  spec.process->args = {"/trap"};
  write_config(spec);
  const auto output = oci({"run", bundle_.name()});
  EXPECT_THAT(output.out + output.err, HasSubstr("no such command"));
  spec.process->args = {"/bin/sleep", "1000"};
  write_config(spec);
  ASSERT_EQ(detached("create " + bundle_.name()), 0);
  const auto state = spec::parse_json(oci({"state", bundle_.name()}).out);
  const std::string exe = "/proc/" + std::to_string(state->get("pid")->as_int().value_or(0)) + "/exe";
  const auto writable = os::open_file(exe, O_WRONLY);
  ASSERT_FALSE(writable.has_value());
  EXPECT_THAT(writable.error().errno_value(), ::testing::AnyOf(EROFS, ETXTBSY));
  struct stat st{};
  ASSERT_EQ(::stat(exe.c_str(), &st), 0);
  const UniqueFd held(::open(exe.c_str(), O_PATH | O_CLOEXEC));
  oci({"delete", "--force", bundle_.name()});
  // Nothing executes it any more, the classic moment to overwrite it through a descriptor that was kept.
  const auto reopen = [&held] { return os::open_file("/proc/self/fd/" + std::to_string(held.get()), O_WRONLY); };
  auto reopened = reopen();
  // But for other tests, which run at the same time.
  for (int i = 0; i < 20'000 && !reopened && reopened.error().errno_value() == ETXTBSY; ++i) {
    ::usleep(1000);
    reopened = reopen();
  }
  ASSERT_FALSE(reopened.has_value());
  EXPECT_EQ(reopened.error().errno_value(), EROFS);
}
#endif

TEST_F(CliTest, KilledInTheMiddleItCanBeDeleted) {
  write_script("sleep 1000");
  ASSERT_TRUE(os::make_dirs(root() + "/" + bundle_.name()).has_value());
  EXPECT_THAT(oci({"delete", bundle_.name()}).err, HasSubstr("container does not exist"));
  EXPECT_EQ(oci({"delete", "--force", bundle_.name()}).exit_code, 0);
  EXPECT_FALSE(os::exists(root() + "/" + bundle_.name()));
}

/// The flags of masks and read-only copies differ (runc and crun drop nosuid, nodev and noexec from them; ours adds):
/// the places are compared, not those. The same configuration through ours, runc and crun, in a mount namespace where
/// crun finds its way about.
TEST_F(CliTest, SameAnswersAsRuncAndCrun) {
  auto spec = default_spec(
      bundle_, {"/bin/sh", "-c",
                "id; pwd; hostname; umask; env | sort; grep -E 'Cap|NoNewPrivs|Seccomp:' /proc/self/status; ulimit -n; "
                "cat /proc/sys/net/ipv4/ip_forward; "
                "for d in null zero full random urandom tty; do stat -c '%n %t:%T %a %F' /dev/$d; done; for l in fd "
                "stdin stdout stderr ptmx; do readlink /dev/$l; done; "
                "awk '{print $5, $5 ~ \"^/(proc|sys)/\" ? \"-\" : $6}' /proc/self/mountinfo | grep -v cgroup | sort; "
                "ls /proc/self/fd | wc -l; cat /proc/keys | wc -c; ls /sys/firmware | wc -l; "
                "touch /proc/sys/x 2>&1; echo x > /ro/x; exit 3"});
  spec.process->env = {"PATH=/bin", "B=2", "A=1"};
  spec.process->no_new_privileges = true;
  spec.process->rlimits = {{.type = "RLIMIT_NOFILE", .hard = 512, .soft = 512, .extra = {}}};
  spec.linux->sysctl = {{"net.ipv4.ip_forward", "1"}};
  spec.process->user.additional_gids = {5, 6};
  spec.linux->resources.emplace().memory.emplace().limit = 100 << 20;
  spec::Mount ro;
  ro.destination = "/ro";
  ro.type = "bind";
  ro.source = bundle_.path();
  ro.options = {"bind", "ro", "nosuid"};
  spec.mounts.push_back(ro);
  ASSERT_EQ(std::system(("ln -sf busybox " + bundle_.path() + "/rootfs/bin/sort; mkdir -p " + bundle_.path() +
                         "/rootfs/proc " + bundle_.path() +  // NOLINT
                         "/rootfs/sys " + bundle_.path() + "/rootfs/dev " + bundle_.path() + "/rootfs/ro")
                            .c_str()),
            0);
  ASSERT_EQ(std::system(("ln -sf busybox " + bundle_.path() + "/rootfs/bin/ulimit; ln -sf busybox " + bundle_.path() +
                         "/rootfs/bin/rm")
                            .c_str()),
            0);  // NOLINT
  write_config(spec);
  const auto with = [&](const std::string& runtime) {
    const std::string script = "umount /sys/fs/cgroup/unified 2>/dev/null; exec " + runtime + " --root " + root() +
                               "-" + runtime.substr(runtime.rfind('/') + 1) + " run " + bundle_.name();
    const auto output = run_words({"unshare", "-m", "sh", "-c", script}, bundle_.path());
    EXPECT_EQ(output.exit_code, 3) << runtime << output.err;
    return output.out + output.err;
  };
  const std::string ours = with(program());
  for (const char* other : {"/usr/sbin/runc", "/usr/bin/crun"}) {
    if (!os::exists(other)) continue;
    std::string theirs = with(other);
    EXPECT_EQ(ours, theirs) << other;
    ASSERT_TRUE(
        os::remove_tree(root() + "-" + std::string(other).substr(std::string(other).rfind('/') + 1)).has_value());
  }
  ASSERT_TRUE(os::remove_tree(root() + "-berth-oci").has_value());
}

}  // namespace
}  // namespace berth::oci
