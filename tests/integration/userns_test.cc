// Pods with user namespaces: what they are inside, what they are outside, and what is left of them.
#include <signal.h>
#include <sys/stat.h>
#include <unistd.h>

#include <cstdlib>
#include <filesystem>
#include <fstream>
#include <functional>

#include "base/strings.h"
#include "fixture.h"
#include "wait.h"

namespace berth::test {
namespace {

constexpr std::uint32_t kFirst = 1000000;  // the host's id for 0 inside
constexpr std::uint32_t kFirstGroup = 2000000;
constexpr std::uint32_t kCount = 65536;
constexpr std::chrono::seconds kPatience{20};

void add_range(google::protobuf::RepeatedPtrField<pb::IDMapping>& list, std::uint32_t host, std::uint32_t inside = 0,
               std::uint32_t length = kCount) {
  auto& range = *list.Add();
  range.set_host_id(host);
  range.set_container_id(inside);
  range.set_length(length);
}

void give_ids(pb::NamespaceOption& options, std::uint32_t first = kFirst) {
  auto& user = *options.mutable_userns_options();
  user.set_mode(pb::POD);
  add_range(*user.mutable_uids(), first);
  add_range(*user.mutable_gids(), first - kFirst + kFirstGroup);
}

pb::NamespaceOption& options_of(pb::PodSandboxConfig& config) {
  return *config.mutable_linux()->mutable_security_context()->mutable_namespace_options();
}
pb::NamespaceOption& options_of(pb::ContainerConfig& config) {
  return *config.mutable_linux()->mutable_security_context()->mutable_namespace_options();
}

/// crun, which says in addition that it can what it can.
std::string telling_runtime() {
  static const std::string path = "/tmp/berth-test-runtime-" + std::to_string(::getpid());
  const std::string script =
      "#!/bin/sh\n[ \"$1\" = features ] || exec /usr/bin/crun \"$@\"\n"
      "echo '{\"linux\":{\"namespaces\":[\"user\"],\"mountExtensions\":{\"idmap\":{\"enabled\":true}}}}'\n";
  EXPECT_TRUE(os::write_file_atomic(path, script, 0755));
  std::atexit([] { ::unlink(path.c_str()); });
  return path;
}

struct Plain {
  static TestHostOptions options() {
    static const std::string runtime = telling_runtime();
    return {.config =
                "[runtime]\nstats_period_s = 1\n[handlers.berth]\nengine = \"process\"\n"
                "[handlers.mute]\nengine = \"external\"\nbinary = \"/bin/false\"\n"
                "[handlers.other-shim]\nshim = \"/bin/true\"\n"
                "[handlers.telling]\nengine = \"external\"\nbinary = \"" +
                runtime + "\"\n",
            .images = {"busybox", "configured"}};
  }
};

class UsernsTest : public HostTest<Plain> {
 protected:
  void SetUp() override {
    HostTest::SetUp();
    if (HasFatalFailure()) return;
    // A pod before, so that what the first one makes for all is there already.
    must(cri().end_pod(start("before", host().shell_config("main", "exec sleep 1000")).pod));
    before_ = look(host());
  }
  void TearDown() override {
    HostTest::TearDown();
    EXPECT_EQ(leftovers(host(), before_), "");
    EXPECT_EQ(held_by_daemon(), 0) << "user namespaces";
  }

  static pb::PodSandboxConfig pod_config(const std::string& name = "pod") {
    auto config = host().pod_config(name);
    give_ids(options_of(config));
    return config;
  }
  static pb::ContainerConfig shell(const std::string& name, const std::string& script) {
    auto config = host().shell_config(name, script);
    give_ids(options_of(config));
    return config;
  }
  std::string run(const pb::ContainerConfig& config) {
    if (pod_.empty()) pod_ = must(cri().run_pod(config_));
    return must(cri().run(pod_, config, config_));
  }
  /// A container that sleeps, changed.
  std::string sleeper(
      const std::function<void(pb::ContainerConfig&)>& change = [](auto&) {}, const std::string& name = "main") {
    auto config = shell(name, "exec sleep 1000");
    change(config);
    return run(config);
  }
  static pb::Mount& add_mount(pb::ContainerConfig& config, const std::string& host_path, const std::string& path,
                              bool mapped) {
    auto& mount = *config.add_mounts();
    mount.set_host_path(host_path);
    mount.set_container_path(path);
    if (mapped) {
      add_range(*mount.mutable_uidmappings(), kFirst);
      add_range(*mount.mutable_gidmappings(), kFirstGroup);
    }
    return mount;
  }
  static std::string owner(const std::string& path) {
    struct stat st{};
    if (::lstat(path.c_str(), &st) != 0) return "missing";
    return std::to_string(st.st_uid) + ":" + std::to_string(st.st_gid);
  }
  /// How many user namespaces the daemon holds open.
  static int held_by_daemon() {
    int count = 0;
    std::error_code error;
    const std::string folder = "/proc/" + std::to_string(host().daemon_pid()) + "/fd";
    for (const auto& entry : std::filesystem::directory_iterator(folder, error)) {
      if (std::filesystem::read_symlink(entry.path(), error).string().starts_with("user:[")) ++count;
    }
    return count;
  }
  static std::string log(const std::string& name, const std::string& pod = "pod") {
    std::ifstream in(host().logs(pod) + "/" + name + ".log");
    return {std::istreambuf_iterator<char>(in), {}};
  }
  static pid_t pid_of(const std::string& container) {
    for (const pid_t pid : processes_of(host())) {
      const std::string folder = "/proc/" + std::to_string(pid);
      const auto groups = os::read_file(folder + "/cgroup", 65536).value_or("");
      if (groups.find(container) != std::string::npos) return pid;
    }
    return 0;
  }

  HostState before_;
  pb::PodSandboxConfig config_ = pod_config();
  std::string pod_;
};

TEST_F(UsernsTest, IdsInsideAndOutside) {
  const auto id = sleeper();
  const auto maps =
      must(cri().shell(id, "tr -s ' ' < /proc/self/uid_map; tr -s ' ' < /proc/self/gid_map; id -u; id -g"));
  EXPECT_EQ(maps, " 0 1000000 65536\n 0 2000000 65536\n0\n0\n");
  EXPECT_EQ(must(cri().shell(id, "stat -c %u:%g / /bin/busybox /etc/passwd /proc/1 /dev/shm /dev /tmp")),
            "0:0\n0:0\n0:0\n0:0\n0:0\n0:0\n0:0\n");
  must(cri().shell(id, "echo x > /made && mkdir /folder && chown 1234:5678 /folder && echo y >> /etc/passwd"));
  EXPECT_EQ(must(cri().shell(id, "stat -c %u:%g /made /folder /etc/passwd")), "0:0\n1234:5678\n0:0\n");
  const std::string upper = host().root() + "/images/containers/" + id + "/upper";
  EXPECT_EQ(owner(upper), "1000000:2000000");
  EXPECT_EQ(owner(upper + "/made"), "1000000:2000000");
  EXPECT_EQ(owner(upper + "/folder"), "1001234:2005678");
  EXPECT_EQ(owner(upper + "/etc/passwd"), "1000000:2000000") << "a file of the image, changed";
  const std::string process = "/proc/" + std::to_string(pid_of(id));
  EXPECT_EQ(owner(process + "/task"), "1000000:2000000");
  const auto status = must(os::read_file(process + "/status", 65536));
  EXPECT_NE(status.find("Uid:\t1000000\t1000000\t1000000\t1000000\n"), std::string::npos) << status;
}

TEST_F(UsernsTest, OneNamespaceForThePod) {
  const auto first = sleeper();
  const auto second = sleeper([](auto&) {}, "second");
  const std::string all = "for n in user net ipc uts; do readlink /proc/self/ns/$n; done";
  const auto mine = must(cri().shell(first, all));
  EXPECT_EQ(must(cri().shell(second, all)), mine);
  EXPECT_EQ(must(cri().shell(first, "for n in user net ipc uts; do readlink /proc/1/ns/$n; done")), mine) << "an exec";
  const auto host_user = std::filesystem::read_symlink("/proc/self/ns/user").string();
  EXPECT_FALSE(mine.starts_with(host_user + "\n")) << mine;
  const auto other_config = pod_config("other");
  const auto other = must(cri().run_pod(other_config));
  const auto third = must(cri().run(other, shell("main", "exec sleep 1000"), other_config));
  EXPECT_NE(must(cri().shell(third, "readlink /proc/self/ns/user")), mine.substr(0, mine.find('\n') + 1));
  // What all share they share in fact.
  must(cri().shell(first, "echo shared > /dev/shm/file"));
  EXPECT_EQ(must(cri().shell(second, "cat /dev/shm/file; stat -c %u:%g:%a /dev/shm")), "shared\n0:0:1777\n");
}

TEST_F(UsernsTest, AContainerAmongAnothersProcesses) {
  const auto target = sleeper();
  auto config = shell("debug", "exec sleep 2000");
  options_of(config).set_pid(pb::TARGET);
  options_of(config).set_target_id(target);
  const auto id = run(config);
  EXPECT_EQ(must(cri().shell(id, "tr '\\0' ' ' < /proc/1/cmdline; readlink /proc/1/ns/user")),
            "sleep 1000 " + must(cri().shell(target, "readlink /proc/self/ns/user")));
}

TEST_F(UsernsTest, OnePidNamespaceForThePod) {
  options_of(config_).set_pid(pb::POD);
  const auto share = [](auto& config) { options_of(config).set_pid(pb::POD); };
  const auto first = sleeper(share);
  const auto second = sleeper(share, "second");
  EXPECT_EQ(must(cri().shell(first, "readlink /proc/self/ns/pid")),
            must(cri().shell(second, "readlink /proc/self/ns/pid")));
  EXPECT_EQ(must(cri().shell(first, "cat /proc/1/comm; stat -c %u /proc/1; pidof sleep | wc -w")),
            "berth-pod-init\n65535\n2\n");
}

TEST_F(UsernsTest, ImagesAsVolumes) {
  const auto id = sleeper([](auto& config) {
    auto& mount = *config.add_mounts();
    mount.mutable_image()->set_image(TestHost::image("configured"));
    mount.set_container_path("/volume");
    mount.set_readonly(true);
  });
  EXPECT_EQ(must(cri().shell(id, "stat -c %u:%g /volume /volume/bin/busybox")), "0:0\n0:0\n");
}

TEST_F(UsernsTest, FilesOfThePodAndItsName) {
  const auto id = sleeper();
  EXPECT_EQ(must(cri().shell(id, "hostname; cat /etc/hostname")), "pod\npod\n");
  EXPECT_NE(must(cri().shell(id, "cat /etc/resolv.conf")).find("nameserver 192.0.2.53"), std::string::npos);
  EXPECT_NE(must(cri().shell(id, "cat /etc/hosts")).find("\tpod\n"), std::string::npos);
  EXPECT_EQ(must(cri().shell(id, "stat -c %u:%g /etc/hosts /etc/hostname /etc/resolv.conf")), "0:0\n0:0\n0:0\n");
  must(cri().shell(id, "echo '192.0.2.1 more' >> /etc/hosts && grep more /etc/hosts"));
  auto user = shell("user", "exec sleep 1000");
  user.mutable_linux()->mutable_security_context()->mutable_run_as_user()->set_value(1234);
  const auto unprivileged = run(user);
  EXPECT_NE(must(cri().shell(unprivileged, "cat /etc/hosts /etc/resolv.conf; id -u")).find("1234\n"),
            std::string::npos);
}

TEST_F(UsernsTest, StandardStreamsCanBeOpenedAgain) {
  run(shell("root", "echo one > /dev/stdout; echo two > /dev/stderr; exec sleep 1000"));
  auto user = shell("user", "echo three > /dev/stdout; exec sleep 1000");
  user.mutable_linux()->mutable_security_context()->mutable_run_as_user()->set_value(1234);
  const auto id = run(user);
  EXPECT_TRUE(wait_until(kPatience,
                         [] {
                           return log("root").find("stdout F one\n") != std::string::npos &&
                                  log("root").find("stderr F two\n") != std::string::npos &&
                                  log("user").find("stdout F three\n") != std::string::npos;
                         }))
      << log("root") << log("user");
  EXPECT_EQ(must(cri().shell(id, "echo four > /dev/stdout; cat < /dev/null > /dev/stderr")), "four\n");
  auto terminal = shell("terminal", "tty; id -u; stat -c %u $(tty); exec sleep 1000");
  terminal.set_tty(true);
  run(terminal);
  EXPECT_TRUE(wait_until(kPatience, [] { return log("terminal").find(" F 0\r\n") != std::string::npos; }))
      << log("terminal");
}

TEST_F(UsernsTest, VolumesWithMappings) {
  const std::string volume = host().dir() + "/volume";
  ASSERT_TRUE(ok(os::make_dirs(volume)));
  ASSERT_TRUE(ok(os::write_file_atomic(volume + "/roots", "secret\n", 0600)));
  ASSERT_TRUE(ok(os::write_file_atomic(volume + "/users", "x\n", 0600)));
  ASSERT_EQ(::chown((volume + "/users").c_str(), 1234, 5678), 0);
  const std::string ending = host().dir() + "/termination-log";
  ASSERT_TRUE(ok(os::write_file_atomic(ending, "", 0666)));
  const auto id = sleeper([&](auto& config) {
    add_mount(config, volume, "/mapped", true);
    add_mount(config, volume, "/readonly", true).set_readonly(true);
    add_mount(config, volume, "/plain", false);
    add_mount(config, ending, "/dev/termination-log", true);
  });
  EXPECT_EQ(must(cri().shell(id, "stat -c %u:%g /mapped /mapped/roots /mapped/users; cat /mapped/roots")),
            "0:0\n0:0\n1234:5678\nsecret\n");
  must(cri().shell(id, "echo new > /mapped/new; chown 7:8 /mapped/new; echo end > /dev/termination-log"));
  EXPECT_EQ(owner(volume + "/new"), "7:8") << "outside it is as it is inside";
  EXPECT_EQ(must(os::read_file(ending, 100)), "end\n");
  EXPECT_EQ(owner(ending), "0:0");
  EXPECT_TRUE(fails(cri().shell(id, "echo x > /readonly/y"), Code::kInternal, "Read-only"));
  EXPECT_EQ(must(cri().shell(id, "stat -c %u:%g /plain/roots")), "65534:65534\n");
  EXPECT_TRUE(fails(cri().shell(id, "cat /plain/roots"), Code::kInternal, "Permission denied"));
}

TEST_F(UsernsTest, AVolumeThatTakesNoMapIsRefused) {
  pod_ = must(cri().run_pod(config_));
  auto config = shell("main", "exec sleep 1000");
  add_mount(config, "/proc/sys", "/volume", true);
  EXPECT_TRUE(fails(cri().create(pod_, config, config_), Code::kUnsupported, "takes no id map"));
  // A mount below that takes none: not half of the tree.
  config.clear_mounts();
  add_mount(config, "/sys", "/volume", true);
  EXPECT_TRUE(fails(cri().create(pod_, config, config_), Code::kUnsupported, "takes no id map"));
  config.clear_mounts();
  must(cri().run(pod_, config, config_));
}

TEST_F(UsernsTest, ProcAndSys) {
  auto config = shell("main", "exec sleep 1000");
  for (const auto* path : {"/proc/kcore", "/proc/keys", "/sys/firmware"}) {
    config.mutable_linux()->mutable_security_context()->add_masked_paths(path);
  }
  config.mutable_linux()->mutable_security_context()->add_readonly_paths("/proc/sys");
  const auto id = run(config);
  const auto mounts = must(cri().shell(id, "awk '{print $5, $6, $(NF-2)}' /proc/self/mountinfo"));
  EXPECT_NE(mounts.find("/proc rw,nosuid,nodev,noexec,relatime proc\n"), std::string::npos) << mounts;
  EXPECT_NE(mounts.find("/sys ro,nosuid,nodev,noexec,relatime sysfs\n"), std::string::npos) << mounts;
  EXPECT_NE(mounts.find("/dev/mqueue rw,nosuid,nodev,noexec,relatime mqueue\n"), std::string::npos) << mounts;
  EXPECT_EQ(must(cri().shell(id, "ls /sys/class/net; cat /proc/kcore | wc -c; cat /proc/1/comm")),
            "eth0\nlo\n0\nsleep\n");
  EXPECT_EQ(must(cri().shell(id, "dd if=/dev/zero of=/dev/null bs=1 count=1 2> /dev/null; ls /dev/pts/ptmx")),
            "/dev/pts/ptmx\n");
}

TEST_F(UsernsTest, ItsNetwork) {
  auto config = host().container_config("web", "busybox");
  give_ids(options_of(config));
  const auto id = run(config);
  const auto address = must(cri().pod_status(pod_)).network().ip();
  EXPECT_TRUE(wait_until(kPatience, [&] { return http_get(address, 80).has_value(); }));
  EXPECT_NE(must(http_get(address, 80)).find("a page from a pod"), std::string::npos);
  EXPECT_NE(must(cri().shell(id, "ip addr show eth0")).find(address), std::string::npos);
}

TEST_F(UsernsTest, OnTheHostsNetwork) {
  options_of(config_).set_network(pb::NODE);
  auto config = shell("main", "exec sleep 1000");
  options_of(config).set_network(pb::NODE);
  const auto id = run(config);
  EXPECT_EQ(must(cri().shell(id, "readlink /proc/self/ns/net")),
            std::filesystem::read_symlink("/proc/" + std::to_string(host().daemon_pid()) + "/ns/net").string() + "\n");
  EXPECT_EQ(must(cri().shell(id,
                             "tr -s ' ' < /proc/self/uid_map; stat -c %u /bin/busybox; cat /dev/null /etc/hosts > "
                             "/dev/null; echo x > /dev/shm/x; ls -d /sys/class/net/lo")),
            " 0 1000000 65536\n0\n/sys/class/net/lo\n");
  const auto mounts = must(cri().shell(id, "awk '{print $5, $6, $(NF-2)}' /proc/self/mountinfo"));
  EXPECT_NE(mounts.find("/sys ro,nosuid,nodev,noexec,relatime sysfs\n"), std::string::npos) << mounts;
  EXPECT_EQ(mounts.find("/sys/kernel/"), std::string::npos) << "what the host has mounted below its own\n" << mounts;
  auto admin = shell("admin", "exec sleep 1000");
  options_of(admin).set_network(pb::NODE);
  admin.mutable_linux()->mutable_security_context()->mutable_capabilities()->add_add_capabilities("NET_ADMIN");
  EXPECT_TRUE(fails(cri().shell(run(admin), "ip link set lo mtu 1234"), Code::kInternal, "not permitted"));
}

TEST_F(UsernsTest, CapabilitiesCountInside) {
  const auto id = sleeper([](auto& config) {
    auto& capabilities = *config.mutable_linux()->mutable_security_context()->mutable_capabilities();
    for (const auto* name : {"SYS_ADMIN", "NET_ADMIN", "SYS_RESOURCE"}) {
      capabilities.add_add_capabilities(name);
    }
  });
  must(cri().shell(id, "mkdir /mnt; ip link set lo mtu 1234 && mount -t tmpfs x /mnt && hostname renamed"));
  EXPECT_EQ(must(cri().shell(id, "hostname")), "renamed\n");
  EXPECT_TRUE(fails(cri().shell(id, "mknod /tmp/disk b 8 0"), Code::kInternal, "not permitted"));
  EXPECT_TRUE(fails(cri().shell(id, "echo 1 > /proc/sys/kernel/panic"), Code::kInternal, "Permission denied"));
  EXPECT_TRUE(fails(cri().shell(id, "echo 3 > /proc/sys/vm/drop_caches"), Code::kInternal, "Permission denied"));
}

TEST_F(UsernsTest, PrivilegedIsPrivilegedInsideAlone) {
  config_.mutable_linux()->mutable_security_context()->set_privileged(true);
  const auto id =
      sleeper([](auto& config) { config.mutable_linux()->mutable_security_context()->set_privileged(true); });
  EXPECT_EQ(must(cri().shell(id, "awk '/^CapEff/ {print $2}' /proc/self/status")).substr(0, 8), "000001ff");
  EXPECT_EQ(must(cri().shell(id, "id -u; mkdir /mnt; mount -t tmpfs x /mnt && echo mounts")), "0\nmounts\n");
  EXPECT_TRUE(fails(cri().shell(id, "echo 1 > /proc/sys/kernel/panic"), Code::kInternal, "Permission denied"));
}

TEST_F(UsernsTest, SysctlsAndTheScoreOfTheOomKiller) {
  auto& sysctls = *config_.mutable_linux()->mutable_sysctls();
  sysctls["kernel.shm_rmid_forced"] = "1";
  sysctls["kernel.msgmax"] = "12345";
  sysctls["fs.mqueue.msg_max"] = "11";
  sysctls["net.ipv4.ip_local_port_range"] = "2000\t3000";
  const auto id = sleeper([](auto& config) { config.mutable_linux()->mutable_resources()->set_oom_score_adj(999); });
  EXPECT_EQ(must(cri().shell(id,
                             "cd /proc/sys; cat kernel/shm_rmid_forced kernel/msgmax fs/mqueue/msg_max "
                             "net/ipv4/ip_local_port_range")),
            "1\n12345\n11\n2000\t3000\n");
  EXPECT_EQ(must(cri().shell(id, "cat /proc/1/oom_score_adj /proc/self/oom_score_adj")), "999\n999\n");
}

TEST_F(UsernsTest, UsersOfTheImage) {
  auto config = host().container_config("main", "configured", {"/bin/sh", "-c", "exec sleep 1000"});
  give_ids(options_of(config));
  const auto id = run(config);
  EXPECT_EQ(must(cri().shell(id, "id -u; id -G; pwd")), "1000\n1000 2000\n/work/place\n");
  auto unmapped = shell("unmapped", "true");
  unmapped.mutable_linux()->mutable_security_context()->mutable_run_as_user()->set_value(kCount);
  EXPECT_FALSE(cri().run(pod_, unmapped, config_)) << "an id that is nobody's";
}

TEST_F(UsernsTest, Stats) {
  const auto id = sleeper();
  pb::ContainerStatsRequest request;
  request.set_container_id(id);
  EXPECT_GT(must(cri().call(&Runtime::ContainerStats, request)).stats().memory().usage_bytes().value(), 0U);
  pb::PodSandboxStatsRequest of_pod;
  of_pod.set_pod_sandbox_id(pod_);
  EXPECT_TRUE(wait_until(kPatience, [&] {
    return must(cri().call(&Runtime::PodSandboxStats, of_pod)).stats().linux().network().default_interface().name() ==
           "eth0";
  }));
}

TEST_F(UsernsTest, OverARestartOfTheDaemon) {
  const auto first = sleeper();
  const auto before = must(cri().shell(first, "readlink /proc/self/ns/user"));
  host().kill9_daemon();
  ASSERT_TRUE(ok(host().start_daemon()));
  EXPECT_EQ(must(cri().shell(first, "readlink /proc/self/ns/user; id -u")), before + "0\n");
  const auto second = sleeper([](auto&) {}, "second");
  EXPECT_EQ(must(cri().shell(second, "readlink /proc/self/ns/user; stat -c %u /bin/busybox")), before + "0\n");
  must(cri().stop(first, 1));
  must(cri().remove(first));
  EXPECT_EQ(must(cri().pod_status(pod_)).linux().namespaces().options().userns_options().uids(0).host_id(), kFirst);
}

TEST_F(UsernsTest, AKilledShimLeavesNothing) {
  const auto id = sleeper();
  ASSERT_EQ(::kill(shim_of(pod_), SIGKILL), 0);
  EXPECT_EQ(must(cri().wait_exited(id)).exit_code(), 137);
}

TEST_F(UsernsTest, StatusSaysWhatWorks) {
  pb::StatusRequest request;
  request.set_verbose(true);
  const auto status = must(cri().call(&Runtime::Status, request));
  const auto& info = status.info().at("berth");
  for (const auto& handler : status.runtime_handlers()) {
    const bool ours = handler.name().empty() || handler.name() == "berth";
    EXPECT_EQ(handler.features().user_namespaces(), ours || handler.name() == "telling") << handler.name() << info;
    EXPECT_EQ(handler.features().recursive_read_only_mounts(), ours) << handler.name() << info;
  }
  EXPECT_TRUE(status.features().user_namespaces_host_network());
  EXPECT_NE(info.find("does not tell its features"), std::string::npos) << info;
  EXPECT_FALSE(os::exists(host().root() + "/images/probe"));
  for (const auto* handler : {"mute", "other-shim"}) {
    EXPECT_TRUE(fails(cri().run_pod(config_, handler), Code::kUnsupported, "no user namespaces here"));
  }
}

/// A runtime that is no part of ours, which says that it can.
TEST_F(UsernsTest, BelowAnExternalRuntime) {
  if (!os::exists("/usr/bin/crun")) GTEST_SKIP() << "crun is not here";
  pod_ = must(cri().run_pod(config_, "telling"));
  const auto id = sleeper();
  EXPECT_EQ(must(cri().shell(id, "tr -s ' ' < /proc/self/uid_map; stat -c %u /bin/busybox; hostname; echo x > /made")),
            " 0 1000000 65536\n0\npod\n");
  EXPECT_EQ(owner(host().root() + "/images/containers/" + id + "/upper/made"), "1000000:2000000");
  const auto user = must(cri().shell(id, "readlink /proc/self/ns/user"));
  EXPECT_EQ(must(cri().shell(sleeper([](auto&) {}, "second"), "readlink /proc/self/ns/user")), user);
  auto on_host = pod_config("on-host");
  options_of(on_host).set_network(pb::NODE);
  EXPECT_TRUE(fails(cri().run_pod(on_host, "telling"), Code::kUnsupported, "own engine alone"));
}

TEST_F(UsernsTest, Refusals) {
  using User = pb::UserNamespace;
  const struct {
    std::function<void(pb::NamespaceOption&, User&)> change;
    const char* words;
  } kCases[] = {
      {[](auto&, User& user) { user.set_mode(pb::CONTAINER); }, "mode CONTAINER"},
      {[](auto&, User& user) { user.set_mode(pb::TARGET); }, "mode TARGET"},
      {[](auto&, User& user) { user.set_mode(pb::NODE); }, "mappings with mode NODE"},
      {[](auto&, User& user) { user.clear_uids(); }, "userns_options.uids: 0 ranges"},
      {[](auto&, User& user) { user.clear_gids(); }, "userns_options.gids: 0 ranges"},
      {[](auto&, User& user) { add_range(*user.mutable_uids(), 3000000, kCount); }, "uids: 2 ranges"},
      {[](auto&, User& user) { user.mutable_uids(0)->set_length(0); }, "length 0"},
      {[](auto&, User& user) { user.mutable_uids(0)->set_container_id(1); }, "no root"},
      {[](auto&, User& user) { user.mutable_gids(0)->set_host_id(4294967290U); }, "past 4294967294"},
      {[](pb::NamespaceOption& options, auto&) { options.set_pid(pb::NODE); }, "node's pids"},
      {[](pb::NamespaceOption& options, auto&) { options.set_ipc(pb::NODE); }, "node's IPC"},
  };
  for (const auto& refused : kCases) {
    SCOPED_TRACE(refused.words);
    auto config = pod_config();
    refused.change(options_of(config), *options_of(config).mutable_userns_options());
    EXPECT_TRUE(fails(cri().run_pod(config), Code::kInvalid, refused.words));
  }
  pod_ = must(cri().run_pod(config_));
  auto container = shell("main", "exec sleep 1000");
  options_of(container).clear_userns_options();
  EXPECT_TRUE(fails(cri().create(pod_, container, config_), Code::kInvalid, "is to have none"));
  give_ids(options_of(container), kFirst + 1);
  EXPECT_TRUE(fails(cri().create(pod_, container, config_), Code::kInvalid, "not those of its pod"));
  container = shell("main", "exec sleep 1000");
  options_of(container).set_pid(pb::NODE);
  EXPECT_TRUE(fails(cri().create(pod_, container, config_), Code::kInvalid, "node's pids"));
  container = shell("main", "exec sleep 1000");
  add_range(*add_mount(container, host().dir(), "/volume", false).mutable_uidmappings(), kFirst);
  EXPECT_TRUE(fails(cri().create(pod_, container, config_), Code::kInvalid, "belong together"));
  const auto plain_config = host().pod_config("plain");
  const auto plain = must(cri().run_pod(plain_config));
  EXPECT_TRUE(fails(cri().create(plain, shell("main", "true"), plain_config), Code::kInvalid, "its pod has none"));
}

}  // namespace
}  // namespace berth::test
