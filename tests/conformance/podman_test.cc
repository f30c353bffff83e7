// podman of Debian as root, with our runtime and with the one that it is made for: the same answers.
#include <gmock/gmock.h>
#include <unistd.h>

#include "base/strings.h"
#include "os/file.h"
#include "peer_host.h"
#include "wait.h"

namespace berth::test {
namespace {

using ::testing::HasSubstr;
using ::testing::Not;

class PodmanTest : public PeerTest {
 protected:
  void SetUp() override {
    PeerTest::SetUp();
    import_image();
  }
  std::string inspect(const std::string& container, const std::string& field) {
    return must({"inspect", "--format", "{{" + field + "}}", container});
  }
};

INSTANTIATE_TEST_SUITE_P(Runtimes, PodmanTest, ::testing::ValuesIn(runtimes()), runtime_name);

TEST_P(PodmanTest, RunGivesOutputAndExitCode) {
  const Ran ran = run_once({}, {"sh", "-c", "echo out; echo err >&2; exit 7"});
  EXPECT_EQ(ran.code, 7);
  EXPECT_EQ(ran.out, "out\n");
  EXPECT_EQ(ran.err, "err\n");
  // podman makes its own exit codes out of the runtime's words.
  const Ran missing = run_once({}, {"nosuch"});
  EXPECT_EQ(missing.code, 127) << missing.err;
  EXPECT_THAT(missing.err, HasSubstr("exec: \"nosuch\": executable file not found in $PATH"));
  EXPECT_THAT(missing.err, Not(HasSubstr("level=error msg="))) << "the runtime's JSON log was not understood";
  const Ran folder_as_program = run_once({}, {"/etc"});
  EXPECT_EQ(folder_as_program.code, 126) << folder_as_program.err;
}

TEST_P(PodmanTest, ALifeFromCreateToRemove) {
  const std::string script = "echo hello; trap 'exit 3' TERM; touch /tmp/ready; while :; do sleep 0.05; done";
  must({"create", "--name", "life", "--network", "none", kImage, "sh", "-c", script});
  EXPECT_EQ(inspect("life", ".State.Status"), "created");
  must({"start", "life"});
  EXPECT_EQ(inspect("life", ".State.Status"), "running");
  EXPECT_TRUE(wait_until(std::chrono::seconds(20), [this] { return in("life", "test -f /tmp/ready").code == 0; }));
  EXPECT_EQ(in("life", "exit 5").code, 5);
  EXPECT_EQ(must({"logs", "life"}), "hello");
  must({"stop", "--time", "20", "life"});
  EXPECT_EQ(must({"wait", "life"}), "3");
  EXPECT_EQ(inspect("life", ".State.Status"), "exited");
  must({"start", "life"});
  EXPECT_EQ(inspect("life", ".State.Status"), "running");
  must({"kill", "--signal", "KILL", "life"});
  EXPECT_EQ(must({"wait", "life"}), "137");
  must({"restart", "--time", "0", "life"});
  EXPECT_EQ(inspect("life", ".State.Status"), "running");
  must({"rm", "--force", "--time", "0", "life"});
  EXPECT_EQ(must({"ps", "--all", "--quiet"}), "");
}

TEST_P(PodmanTest, APausedContainerStandsStill) {
  start("still", {}, {"sleep", "1000"});
  must({"pause", "still"});
  EXPECT_EQ(inspect("still", ".State.Status"), "paused");
  EXPECT_NE(in("still", "true").code, 0);
  must({"unpause", "still"});
  EXPECT_EQ(in("still", "true").code, 0);
  must({"exec", "--detach", "still", "sleep", "999"});
  EXPECT_THAT(must({"top", "still"}), HasSubstr("sleep 999"));
  EXPECT_THAT(must({"stats", "--no-stream", "--format", "{{.PIDs}}", "still"}), "2");
}

TEST_P(PodmanTest, ExecTakesUserFolderEnvironmentAndTerminal) {
  start("exec", {}, {"sleep", "1000"});
  EXPECT_EQ(must({"exec", "--user", "web", "--workdir", "/tmp", "--env", "X=y", "exec", "sh", "-c",
                  "id -u; id -g; pwd; echo $X"}),
            "1000\n1000\n/tmp\ny");
  EXPECT_EQ(must({"exec", "--tty", "exec", "tty"}), "/dev/pts/0");
  EXPECT_EQ(podman({"exec", "exec", "nosuch"}).code, 127);
  EXPECT_EQ(podman({"exec", "exec", "/etc"}).code, 126);
  const Ran privileged = podman({"exec", "--privileged", "exec", "grep", "CapEff", "/proc/self/status"});
  EXPECT_THAT(privileged.out, Not(HasSubstr("00000000800405fb")));
}

TEST_P(PodmanTest, LimitsAreInTheCgroup) {
  start("limits",
        {"--memory", "64m", "--memory-reservation", "32m", "--cpus", "0.5", "--cpu-shares", "256", "--pids-limit", "77",
         "--cpuset-cpus", "0"},
        {"sleep", "1000"});
  const std::string pid = inspect("limits", ".State.Pid");
  EXPECT_EQ(cgroup_value(pid, "memory", "memory.limit_in_bytes"), "67108864");
  EXPECT_EQ(cgroup_value(pid, "memory", "memory.soft_limit_in_bytes"), "33554432");
  EXPECT_EQ(cgroup_value(pid, "cpu", "cpu.cfs_quota_us"), "50000");
  EXPECT_EQ(cgroup_value(pid, "cpu", "cpu.shares"), "256");
  EXPECT_EQ(cgroup_value(pid, "pids", "pids.max"), "77");
  EXPECT_EQ(cgroup_value(pid, "cpuset", "cpuset.cpus"), "0");
}

TEST_P(PodmanTest, WhatAContainerMayIsWhatWasAskedFor) {
  const Ran read_only = run_once({"--read-only"}, {"sh", "-c", "touch /x; touch /tmp/x && echo tmp"});
  EXPECT_EQ(read_only.out, "tmp\n");
  EXPECT_THAT(read_only.err, HasSubstr("Read-only file system"));
  EXPECT_EQ(run_once({"--user", "web"}, {"id", "-un"}).out, "web\n");
  EXPECT_EQ(run_once({"--user", "4321:1234", "--group-add", "77"}, {"id", "-G"}).out, "1234 77\n");
  EXPECT_THAT(run_once({"--cap-drop", "ALL", "--cap-add", "CHOWN"}, {"grep", "CapEff", "/proc/self/status"}).out,
              HasSubstr("0000000000000001"));
  EXPECT_THAT(run_once({"--cap-drop", "ALL"}, {"grep", "CapBnd", "/proc/self/status"}).out,
              HasSubstr("0000000000000000"));
  const std::string status = run_once({"--security-opt", "no-new-privileges", "--security-opt", "seccomp=unconfined"},
                                      {"grep", "-E", "NoNewPrivs|Seccomp:", "/proc/self/status"})
                                 .out;
  EXPECT_EQ(status, "NoNewPrivs:\t1\nSeccomp:\t0\n");
  EXPECT_THAT(run_once({}, {"grep", "Seccomp:", "/proc/self/status"}).out, HasSubstr("2"));
  EXPECT_EQ(run_once({"--privileged"}, {"sh", "-c", "mount -t tmpfs x /tmp && echo mounted"}).out, "mounted\n");
}

TEST_P(PodmanTest, FilesAndDevicesAreWhereTheyShould) {
  write("data", "from the host\n");
  ASSERT_TRUE(os::make_dirs(folder() + "/shared").has_value());
  const Ran ran =
      run_once({"--volume", folder() + "/data:/data:ro", "--volume", folder() + "/shared:/shared", "--volume",
                "named:/named", "--tmpfs", "/scratch:size=1m,mode=0700", "--device", "/dev/zero:/dev/mine",
                "--hostname", "me", "--sysctl", "kernel.msgmax=9000", "--shm-size", "2m"},
               {"sh", "-c",
                "cat /data; touch /data 2>&1; touch /shared/x /named/y; stat -c '%a' /scratch; "
                "stat -c '%t:%T' /dev/mine; hostname; cat /proc/sys/kernel/msgmax; "
                "mount | grep -c 'on /dev/shm type tmpfs.*size=2048k'"});
  EXPECT_EQ(ran.code, 0) << ran.err;
  EXPECT_THAT(ran.out, HasSubstr("from the host\ntouch: /data: Read-only file system\n700\n1:5\nme\n9000\n1\n"));
  EXPECT_TRUE(os::exists(folder() + "/shared/x"));
  EXPECT_EQ(run_once({"--volume", "named:/named"}, {"ls", "/named"}).out, "y\n");
  must({"volume", "rm", "named"});
}

TEST_P(PodmanTest, NamespacesAreSharedOrNot) {
  const auto id_of = [](const char* kind) {
    char text[64] = {};
    const std::string path = std::string("/proc/self/ns/") + kind;
    return ::readlink(path.c_str(), text, sizeof text - 1) > 0 ? std::string(text) + "\n" : std::string();
  };
  for (const auto& [flag, kind] :
       {std::pair{"--pid", "pid"}, {"--ipc", "ipc"}, {"--uts", "uts"}, {"--network", "net"}}) {
    const std::string link = std::string("/proc/self/ns/") + kind;
    EXPECT_EQ(run_once({flag, "host"}, {"readlink", link}).out, id_of(kind)) << kind;
    EXPECT_NE(run_once({}, {"readlink", link}).out, id_of(kind)) << kind;
  }
  start("first", {}, {"sleep", "1000"});
  const Ran joined = run_once({"--pid", "container:first"}, {"ps"});
  EXPECT_THAT(joined.out, HasSubstr("sleep 1000"));
  const Ran mapped = run_once({"--uidmap", "0:100000:1000", "--gidmap", "0:200000:1000"},
                              {"cat", "/proc/self/uid_map", "/proc/self/gid_map"});
  EXPECT_THAT(mapped.out, HasSubstr("100000"));
  EXPECT_THAT(mapped.out, HasSubstr("200000"));
}

TEST_P(PodmanTest, APodSharesItsNetwork) {
  if (!os::exists("/usr/bin/catatonit")) GTEST_SKIP() << "catatonit is not installed: no program for the pod itself";
  must({"pod", "create", "--name", "pod", "--network", "none"});
  start("one", {"--pod", "pod"}, {"sleep", "1000"});
  start("two", {"--pod", "pod"}, {"sleep", "1000"});
  EXPECT_EQ(in("one", "readlink /proc/self/ns/net").out, in("two", "readlink /proc/self/ns/net").out);
  EXPECT_NE(in("one", "readlink /proc/self/ns/pid").out, in("two", "readlink /proc/self/ns/pid").out);
  EXPECT_THAT(must({"pod", "ps", "--format", "{{.Status}} {{.NumberOfContainers}}"}), "Running 3");
  must({"pod", "stop", "--time", "0", "pod"});
  must({"pod", "rm", "pod"});
  EXPECT_EQ(must({"ps", "--all", "--quiet"}), "");
}

TEST_P(PodmanTest, AHostPortLeadsToTheContainer) {
  if (!os::exists("/usr/lib/cni/portmap")) GTEST_SKIP() << "containernetworking-plugins is not installed";
  ASSERT_TRUE(os::make_dirs(folder() + "/cni").has_value());
  // A bridge of the test's network namespace, not podman's default one of the machine.
  write("cni/test.conflist", R"({"cniVersion": "0.4.0", "name": "test", "plugins": [
    {"type": "bridge", "bridge": "test0", "isGateway": true, "ipMasq": true, "hairpinMode": true,
     "ipam": {"type": "host-local", "dataDir": ")" +
                                 folder() + R"(/leases",
              "ranges": [[{"subnet": "10.213.0.0/24"}]]}},
    {"type": "portmap", "capabilities": {"portMappings": true}}]})");
  write("containers.conf",
        "[containers]\ndefault_ulimits = [\"nofile=1000:1000\", \"nproc=1000:1000\"]\n"
        "[engine]\ncgroup_manager = \"cgroupfs\"\nevents_logger = \"none\"\n"
        "[network]\nnetwork_backend = \"cni\"\ncni_plugin_dirs = [\"/usr/lib/cni\"]\nnetwork_config_dir = \"" +
            folder() + "/cni\"\n");
  start("web", {"--network", "test", "--publish", "127.0.0.1:8931:80"},
        {"sh", "-c", "echo from inside >/tmp/index.html; exec busybox httpd -f -p 80 -h /tmp"});
  std::string answer;
  EXPECT_TRUE(wait_until(std::chrono::seconds(20), [&] {
    answer = run({"curl", "-s", "--max-time", "2", "http://127.0.0.1:8931/index.html"}).out;
    return !answer.empty();
  }));
  EXPECT_EQ(answer, "from inside\n");
  EXPECT_THAT(must({"port", "web"}), HasSubstr("80/tcp -> 127.0.0.1:8931"));
  must({"rm", "--force", "--time", "0", "web"});
  EXPECT_NE(run({"curl", "-s", "--max-time", "2", "http://127.0.0.1:8931/index.html"}).code, 0);
}

TEST_P(PodmanTest, AnInitProcessIsPutInFront) {
  if (!os::exists("/usr/bin/catatonit")) GTEST_SKIP() << "catatonit is not installed: podman has no --init";
  const Ran ran = run_once({"--init"}, {"ps"});
  EXPECT_THAT(ran.out, HasSubstr("1 root     /run/podman-init -- ps"));
}

TEST_P(PodmanTest, HealthIsAskedByExec) {
  start("health", {"--health-cmd", "test -f /tmp/ok", "--health-interval", "disable"}, {"sleep", "1000"});
  EXPECT_EQ(podman({"healthcheck", "run", "health"}).code, 1);
  EXPECT_EQ(in("health", "touch /tmp/ok").code, 0);
  EXPECT_EQ(podman({"healthcheck", "run", "health"}).code, 0);
  EXPECT_EQ(inspect("health", ".State.Health.Status"), "healthy");
}

TEST_P(PodmanTest, RemovedAtItsEndItLeavesNothing) {
  const auto mounts_now = [] { return os::read_file("/proc/self/mountinfo", 1U << 20).value_or(""); };
  // The first container of all makes podman's own mounts.
  EXPECT_EQ(run_once({}, {"true"}).code, 0);
  const std::string mounts = mounts_now();
  for (int i = 0; i < 3; ++i) EXPECT_EQ(run_once({"--memory", "32m"}, {"sh", "-c", "sleep 1000 & exit 0"}).code, 0);
  EXPECT_EQ(must({"ps", "--all", "--quiet"}), "");
  EXPECT_EQ(mounts_now(), mounts);
  EXPECT_THAT(state_of(runtime()), ::testing::IsEmpty());
  for (const auto& entry : os::list_dir("/sys/fs/cgroup/memory/" + name()).value_or(std::vector<std::string>{})) {
    EXPECT_FALSE(entry.starts_with("libpod-") && !entry.starts_with("libpod-conmon-")) << entry;
  }
}

}  // namespace
}  // namespace berth::test
