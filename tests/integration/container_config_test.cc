// What a container's configuration asks for is looked at from inside, and at the cgroup from outside.
#include <gmock/gmock.h>
#include <sys/stat.h>

#include <fstream>
#include <functional>

#include "base/strings.h"
#include "fixture.h"
#include "os/caps.h"
#include "os/file.h"
#include "wait.h"

namespace berth::test {
namespace {

struct WithLayers {
  static TestHostOptions options() { return {.images = {"busybox", "layered"}}; }
};

class ContainerConfigTest : public HostTest<WithLayers> {
 protected:
  using Change = std::function<void(pb::ContainerConfig&)>;

  void SetUp() override {
    HostTest::SetUp();
    if (HasFatalFailure()) return;
    config_ = host().pod_config("pod");
    config_.mutable_linux()->mutable_security_context()->set_privileged(true);
    pod_ = must(cri().run_pod(config_));
  }
  // A container that sleeps, changed.
  std::string run(const Change& change, const std::string& name = "main") {
    auto config = host().shell_config(name, "exec sleep 1000");
    change(config);
    return must(cri().run(pod_, config, config_));
  }
  // A line of /proc/1/status: "CapEff" gives "00000000a80425fb".
  static std::string status_field(const std::string& id, const std::string& name) {
    const auto line = must(cri().shell(id, "grep '^" + name + ":' /proc/1/status"));
    return std::string(trim(std::string_view(line).substr(line.find(':') + 1)));
  }
  static std::uint64_t caps(const std::string& id, const std::string& set) {
    return parse_number<std::uint64_t>(status_field(id, set), 16).value_or(~0ULL);
  }
  // A file of the container's cgroup, by its v1 controller and name or by its v2 name.
  static std::string cgroup_value(const std::string& id, const std::string& controller, const std::string& v1,
                                  const std::string& v2) {
    for (const auto& folder : cgroups_of(host())) {
      if (folder.find(id) == std::string::npos) continue;
      for (const auto& [part, file] :
           {std::pair(std::string("/sys/fs/cgroup/" + controller), v1), std::pair(std::string(), v2)}) {
        const std::string path = folder + "/" + file;
        if (!file.empty() && folder.starts_with(part) && os::exists(path)) {
          return std::string(trim(os::read_file(path, 4096).value_or("unreadable")));
        }
      }
    }
    return "no cgroup";
  }
  static auto& security(pb::ContainerConfig& config) { return *config.mutable_linux()->mutable_security_context(); }
  static pb::Mount& add_mount(pb::ContainerConfig& config, const std::string& host_path, const std::string& path) {
    auto& mount = *config.add_mounts();
    mount.set_host_path(host_path);
    mount.set_container_path(path);
    return mount;
  }

  pb::PodSandboxConfig config_;
  std::string pod_;
};

TEST_F(ContainerConfigTest, CommandArgumentsAndEnvironment) {
  auto config = host().container_config("main", "busybox", {"/bin/sh", "-c", "echo \"$0|$1|$A|$B\"; exec sleep 1000"});
  config.add_args("zero");
  config.add_args("one two");
  for (const auto& [key, value] : {std::pair("A", "first"), std::pair("B", "x=y z"), std::pair("A", "last")}) {
    auto& env = *config.add_envs();
    env.set_key(key);
    env.set_value(value);
  }
  const auto id = must(cri().run(pod_, config, config_));
  EXPECT_EQ(must(cri().shell(id, "tr '\\0' '|' < /proc/1/cmdline")), "sleep|1000|");
  EXPECT_TRUE(wait_until(std::chrono::seconds(10), [] {
    std::ifstream in(host().logs("pod") + "/main.log");
    const std::string log{std::istreambuf_iterator<char>(in), {}};
    return log.find(" stdout F zero|one two|last|x=y z\n") != std::string::npos;
  }));
  EXPECT_NE(must(cri().shell(id, "tr '\\0' '\\n' < /proc/1/environ")).find("PATH=/usr/local/bin:/usr/bin:/bin\n"),
            std::string::npos);
}

TEST_F(ContainerConfigTest, TheImagesCommandWithOtherArguments) {
  auto config = host().container_config("main", "busybox");
  for (const auto* arg : {"/bin/sleep", "1234"}) config.add_args(arg);
  const auto id = must(cri().run(pod_, config, config_));
  EXPECT_EQ(must(cri().shell(id, "tr '\\0' '|' < /proc/1/cmdline")), "/bin/sleep|1234|");
}

TEST_F(ContainerConfigTest, UserGroupAndSupplementalGroups) {
  const auto id = run([](auto& config) {
    security(config).mutable_run_as_user()->set_value(1234);
    security(config).mutable_run_as_group()->set_value(5678);
    security(config).add_supplemental_groups(42);
  });
  EXPECT_EQ(must(cri().shell(id, "id -u; id -g; id -G")), "1234\n5678\n5678 42\n");
  const auto user = must(cri().status(id)).user().linux();
  EXPECT_EQ(user.uid(), 1234);
  EXPECT_EQ(user.gid(), 5678);
  EXPECT_THAT(user.supplemental_groups(), testing::ElementsAre(5678, 42));
  const auto named = run([](auto& config) { security(config).set_run_as_username("app"); }, "named");
  EXPECT_EQ(must(cri().shell(named, "id -un; id -gn; id -G; echo $HOME")), "app\napp\n1000 2000\n/work\n");
  // A user who is not root has none of the capabilities in effect.
  EXPECT_EQ(caps(named, "CapEff"), 0U);
  const auto strict = run(
      [](auto& config) {
        security(config).set_run_as_username("app");
        security(config).add_supplemental_groups(42);
        security(config).set_supplemental_groups_policy(pb::Strict);
      },
      "strict");
  EXPECT_EQ(must(cri().shell(strict, "id -G")), "1000 42\n") << "not those of the image's /etc/group";
}

TEST_F(ContainerConfigTest, WorkingDirectoryIsMadeWhenAbsent) {
  const auto id = run([](auto& config) { config.set_working_dir("/made/for/it"); });
  EXPECT_EQ(must(cri().shell(id, "readlink /proc/1/cwd")), "/made/for/it\n");
}

TEST_F(ContainerConfigTest, MountsOfTheHost) {
  const std::string volume = host().dir() + "/volume";
  ASSERT_TRUE(ok(os::make_dirs(volume)));
  ASSERT_TRUE(ok(os::write_file_atomic(volume + "/file", "from the host\n")));
  const std::string made = host().dir() + "/made-by-the-mount";
  const auto id = run([&](auto& config) {
    add_mount(config, volume, "/volume");
    add_mount(config, volume, "/readonly").set_readonly(true);
    add_mount(config, volume + "/file", "/etc/one-file");
    add_mount(config, volume, "/deep/er/place");
    add_mount(config, made, "/made");
    add_mount(config, volume, "/noexec").add_mount_options("noexec");
  });
  const auto told = must(cri().status(id)).mounts();
  ASSERT_EQ(told.size(), 6);
  EXPECT_EQ(told[1].host_path(), volume);
  EXPECT_EQ(told[1].container_path(), "/readonly");
  EXPECT_TRUE(told[1].readonly());
  EXPECT_EQ(must(cri().shell(id, "cat /volume/file /readonly/file /etc/one-file /deep/er/place/file")),
            "from the host\nfrom the host\nfrom the host\nfrom the host\n");
  must(cri().shell(id, "echo from inside > /volume/new"));
  EXPECT_EQ(must(os::read_file(volume + "/new", 100)), "from inside\n");
  EXPECT_TRUE(fails(cri().shell(id, "echo x > /readonly/other"), Code::kInternal, "Read-only"));
  EXPECT_TRUE(os::exists(made));
  EXPECT_NE(must(cri().shell(id, "grep ' /noexec ' /proc/1/mountinfo")).find("noexec"), std::string::npos);
  // None of it is seen outside.
  EXPECT_EQ(must(os::read_file("/proc/self/mountinfo", 1U << 20)).find(volume), std::string::npos);
}

TEST_F(ContainerConfigTest, ASymlinkInTheImageDoesNotLeadAMountOut) {
  const std::string volume = host().dir() + "/volume2";
  const std::string outside = host().dir() + "/outside";
  ASSERT_TRUE(ok(os::make_dirs(volume)));
  ASSERT_TRUE(ok(os::make_dirs(outside)));
  ASSERT_TRUE(ok(os::write_file_atomic(volume + "/marker", "here\n")));
  // The first container plants a link in a volume that the second one has mounted, at the place of its next mount.
  const auto planter = run([&](auto& config) { add_mount(config, outside, "/planted"); }, "planter");
  must(cri().shell(planter, "ln -s ../../../../../.." + host().dir() + "/trap /planted/link"));
  const auto id = run([&](auto& config) {
    add_mount(config, outside, "/planted");
    add_mount(config, volume, "/planted/link");
  });
  EXPECT_EQ(must(cri().shell(id, "cat /planted/link/marker")), "here\n");
  EXPECT_FALSE(os::exists(host().dir() + "/trap"));
}

TEST_F(ContainerConfigTest, ReadOnlyRoot) {
  const auto id = run([](auto& config) { security(config).set_readonly_rootfs(true); });
  EXPECT_TRUE(fails(cri().shell(id, "echo x > /file"), Code::kInternal, "Read-only"));
  EXPECT_TRUE(fails(cri().shell(id, "echo x > /etc/hosts"), Code::kInternal, "Read-only"));
  EXPECT_TRUE(ok(cri().shell(id, "echo x > /dev/shm/file && echo x > /dev/null")));
}

TEST_F(ContainerConfigTest, WhatAContainerWritesIsItsOwn) {
  const auto one = run([](auto&) {}, "one");
  must(cri().shell(one, "echo changed > /www/index.html; rm /bin/vi; chmod 700 /data"));
  const auto two = run([](auto&) {}, "two");
  EXPECT_EQ(must(cri().shell(two, "cat /www/index.html; ls /bin/vi; stat -c %a /data")),
            "<h1>a page from a pod</h1>\n/bin/vi\n755\n");
}

TEST_F(ContainerConfigTest, LayersAreStacked) {
  const auto id = must(cri().run(pod_, host().container_config("main", "layered"), config_));
  EXPECT_EQ(must(cri().shell(id, "ls /data; ls /data/dir; cat /data/kept /data/link; stat -c %h /data/one")),
            "dir\nkept\nlink\none\nnew\nkept\none\n2\n");
}

TEST_F(ContainerConfigTest, Capabilities) {
  const std::uint64_t net_admin = 1ULL << 12U;
  const std::uint64_t chown = 1ULL << 0U;
  const auto plain = run([](auto&) {}, "plain");
  EXPECT_EQ(caps(plain, "CapEff"), 0xa80425fbULL & os::bounding_caps());
  EXPECT_EQ(caps(plain, "CapInh"), 0U);
  const auto none =
      run([](auto& config) { security(config).mutable_capabilities()->add_drop_capabilities("ALL"); }, "none");
  EXPECT_EQ(caps(none, "CapEff"), 0U);
  EXPECT_EQ(caps(none, "CapBnd"), 0U);
  const auto changed = run(
      [](auto& config) {
        security(config).mutable_capabilities()->add_add_capabilities("NET_ADMIN");
        security(config).mutable_capabilities()->add_drop_capabilities("CAP_CHOWN");
      },
      "changed");
  EXPECT_EQ(caps(changed, "CapEff"), ((0xa80425fbULL | net_admin) & ~chown) & os::bounding_caps());
  const auto ambient = run(
      [](auto& config) {
        security(config).mutable_run_as_user()->set_value(1000);
        security(config).mutable_capabilities()->add_add_ambient_capabilities("NET_BIND_SERVICE");
      },
      "ambient");
  EXPECT_EQ(caps(ambient, "CapEff"), 1ULL << 10U);
}

TEST_F(ContainerConfigTest, Privileged) {
  const auto id = run([](auto& config) { security(config).set_privileged(true); });
  EXPECT_EQ(caps(id, "CapEff"), os::bounding_caps());
  EXPECT_EQ(status_field(id, "Seccomp"), "0");
  EXPECT_TRUE(ok(cri().shell(id, "mount -t tmpfs none /tmp && umount /tmp")));
}

TEST_F(ContainerConfigTest, NoNewPrivileges) {
  const auto id = run([](auto& config) { security(config).set_no_new_privs(true); });
  EXPECT_EQ(status_field(id, "NoNewPrivs"), "1");
  const auto without = run([](auto&) {}, "without");
  EXPECT_EQ(status_field(without, "NoNewPrivs"), "0");
}

TEST_F(ContainerConfigTest, SeccompProfiles) {
  const auto id = run([](auto& config) {
    security(config).mutable_seccomp()->set_profile_type(pb::SecurityProfile::RuntimeDefault);
    security(config).mutable_capabilities()->add_add_capabilities("SYS_TIME");
  });
  EXPECT_EQ(status_field(id, "Seccomp"), "2");
  EXPECT_FALSE(cri().shell(id, "unshare -U true"));
  const auto unconfined =
      run([](auto& config) { security(config).mutable_seccomp()->set_profile_type(pb::SecurityProfile::Unconfined); },
          "unconfined");
  EXPECT_EQ(status_field(unconfined, "Seccomp"), "0");
  // An own profile: mkdir(2) alone is refused, with an errno that nothing else gives.
  const std::string profile = host().dir() + "/profile.json";
  ASSERT_TRUE(ok(os::write_file_atomic(profile, R"({"defaultAction": "SCMP_ACT_ALLOW", "syscalls": [
      {"names": ["mkdir", "mkdirat"], "action": "SCMP_ACT_ERRNO", "errnoRet": 62}]})")));
  const auto local = run(
      [&profile](auto& config) {
        security(config).mutable_seccomp()->set_profile_type(pb::SecurityProfile::Localhost);
        security(config).mutable_seccomp()->set_localhost_ref(profile);
      },
      "local");
  EXPECT_TRUE(fails(cri().shell(local, "mkdir /tmp/x"), Code::kInternal, "Timer expired"));
  EXPECT_TRUE(ok(cri().shell(local, "touch /tmp/x")));
}

TEST_F(ContainerConfigTest, MaskedAndReadOnlyPaths) {
  const auto id = run([](auto& config) {
    security(config).add_masked_paths("/proc/kcore");
    security(config).add_masked_paths("/www");
    security(config).add_readonly_paths("/proc/sys");
    security(config).add_readonly_paths("/data");
  });
  EXPECT_EQ(must(cri().shell(id, "head -c 1 /proc/kcore | wc -c; ls /www")), "0\n");
  EXPECT_TRUE(fails(cri().shell(id, "echo x > /data/x"), Code::kInternal, "Read-only"));
  EXPECT_TRUE(fails(cri().shell(id, "echo 1 > /proc/sys/net/ipv4/ip_forward"), Code::kInternal, "Read-only"));
}

TEST_F(ContainerConfigTest, Devices) {
  const auto id = run([](auto& config) {
    auto& device = *config.add_devices();
    device.set_host_path("/dev/zero");
    device.set_container_path("/dev/my-zero");
    device.set_permissions("r");
  });
  EXPECT_EQ(must(cri().shell(id,
                             "head -c 2 /dev/my-zero | wc -c; echo x > /dev/null; head -c 1 /dev/urandom | wc -c; "
                             "test -c /dev/tty && test -c /dev/full && test -L /dev/fd && echo all")),
            "2\n1\nall\n");
  EXPECT_TRUE(
      fails(cri().shell(id, "mknod /tmp/disk b 254 0 && head -c 1 /tmp/disk"), Code::kInternal, "not permitted"));
}

TEST_F(ContainerConfigTest, LimitsAreInTheCgroupAndCanBeChanged) {
  const auto id = run([](auto& config) {
    auto& limits = *config.mutable_linux()->mutable_resources();
    limits.set_memory_limit_in_bytes(64 << 20);
    limits.set_cpu_quota(50'000);
    limits.set_cpu_period(80'000);
    limits.set_cpu_shares(512);
    limits.set_cpuset_cpus("0");
    limits.set_cpuset_mems("0");
    limits.set_oom_score_adj(500);
    // What every kubelet sends, here without a hugetlb controller.
    limits.add_hugepage_limits()->set_page_size("2MB");
  });
  EXPECT_EQ(cgroup_value(id, "memory", "memory.limit_in_bytes", "memory.max"), "67108864");
  EXPECT_EQ(cgroup_value(id, "cpu", "cpu.shares", ""), "512");
  EXPECT_EQ(cgroup_value(id, "cpu", "cpu.cfs_quota_us", ""), "50000");
  EXPECT_EQ(cgroup_value(id, "cpu", "cpu.cfs_period_us", ""), "80000");
  EXPECT_EQ(cgroup_value(id, "cpuset", "cpuset.cpus", "cpuset.cpus"), "0");
  EXPECT_EQ(cgroup_value(id, "cpuset", "cpuset.mems", "cpuset.mems"), "0");
  EXPECT_EQ(must(cri().shell(id, "cat /proc/1/oom_score_adj")), "500\n");
  EXPECT_EQ(must(cri().status(id)).resources().linux().memory_limit_in_bytes(), 64 << 20);

  pb::UpdateContainerResourcesRequest update;
  update.set_container_id(id);
  update.mutable_linux()->set_memory_limit_in_bytes(96 << 20);
  update.mutable_linux()->set_cpu_quota(70'000);
  for (int i = 0; i < 2; ++i) EXPECT_TRUE(ok(cri().call(&Runtime::UpdateContainerResources, update)));
  EXPECT_EQ(cgroup_value(id, "memory", "memory.limit_in_bytes", "memory.max"), "100663296");
  EXPECT_EQ(cgroup_value(id, "cpu", "cpu.cfs_quota_us", ""), "70000");
  EXPECT_EQ(cgroup_value(id, "cpu", "cpu.shares", ""), "512") << "not asked for, not changed";
  const auto limits = must(cri().status(id)).resources().linux();
  EXPECT_EQ(limits.memory_limit_in_bytes(), 96 << 20);
  EXPECT_EQ(limits.cpu_quota(), 70'000);
  EXPECT_EQ(limits.cpu_shares(), 512);

  update.set_container_id(std::string(64, 'c'));
  EXPECT_TRUE(fails(cri().call(&Runtime::UpdateContainerResources, update), Code::kNotFound));
}

TEST_F(ContainerConfigTest, TheCgroupIsBelowThePods) {
  const auto id = run([](auto&) {});
  const std::string wanted = config_.linux().cgroup_parent() + "/" + id;
  EXPECT_NE(must(os::read_file("/proc/self/mountinfo", 1U << 20)).find("cgroup"), std::string::npos);
  bool found = false;
  for (const auto& folder : cgroups_of(host())) found = found || folder.find(wanted) != std::string::npos;
  EXPECT_TRUE(found) << wanted;
}

}  // namespace
}  // namespace berth::test
