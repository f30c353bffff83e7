#include <fcntl.h>
#include <gmock/gmock.h>
#include <sched.h>
#include <sys/stat.h>
#include <unistd.h>

#include "base/strings.h"
#include "engine/process/test_container.h"
#include "os/user_namespace.h"

/// Containers in a user namespace that is there already, with others that it owns: as those of a pod are.
namespace berth::engine::process {
namespace {

using testing::EngineTest;
using ::testing::HasSubstr;
using testing::lines_of;

class UserNamespaceTest : public EngineTest {
 protected:
  void SetUp() override {
    EngineTest::SetUp();
    const std::string map = "0 100000 65536\n";
    auto made = os::make_user_namespace(map, map, CLONE_NEWNET | CLONE_NEWIPC | CLONE_NEWUTS);
    ASSERT_TRUE(made) << made.error().text();
    pod_ = std::move(*made);
    ASSERT_EQ(std::system(("chown -R 100000:100000 " + bundle_.path() + "/rootfs").c_str()), 0);  // NOLINT
  }
  /// A container of the pod.
  spec::Spec pod_spec(const std::string& script, bool host_network = false) {
    auto spec = script_spec(script);
    const auto path = [](const UniqueFd& fd) {
      return "/proc/" + std::to_string(::getpid()) + "/fd/" + std::to_string(fd.get());
    };
    auto& all = spec.linux->namespaces;
    for (auto& entry : all) {
      if (entry.type == spec::NamespaceType::kNetwork) entry.path = path(pod_.network);
      if (entry.type == spec::NamespaceType::kIpc) entry.path = path(pod_.ipc);
      if (entry.type == spec::NamespaceType::kUts) entry.path = path(pod_.uts);
    }
    if (host_network) {
      std::erase_if(all, [](const auto& entry) {
        return entry.type == spec::NamespaceType::kNetwork || entry.type == spec::NamespaceType::kUts;
      });
      spec.hostname.clear();
    }
    all.push_back({.type = spec::NamespaceType::kUser, .path = path(pod_.user), .extra = {}});
    // As a pod's: said as well, though the namespace has them already.
    spec.linux->uid_mappings = {{.container_id = 0, .host_id = 100000, .size = 65536, .extra = {}}};
    spec.linux->gid_mappings = spec.linux->uid_mappings;
    return spec;
  }
  static std::string inode(const UniqueFd& fd) {
    struct stat st{};
    EXPECT_EQ(::fstat(fd.get(), &st), 0);
    return std::to_string(st.st_ino);
  }

  os::UserNamespace pod_;
};

TEST_F(UserNamespaceTest, IsJoinedWithWhatItOwns) {
  const auto out =
      run(pod_spec("cat /proc/self/uid_map; for n in user net ipc uts; do stat -L -c $n=%i /proc/self/ns/$n;"
                   " done; id -u; hostname; grep ' /sys ' /proc/self/mountinfo; ls /sys/class/net;"
                   " hostname other && ip link set lo up && echo administers"))
          .out;
  EXPECT_THAT(out, HasSubstr("100000      65536\n"));
  EXPECT_THAT(out, HasSubstr("user=" + inode(pod_.user) + "\nnet=" + inode(pod_.network) + "\nipc=" + inode(pod_.ipc) +
                             "\nuts=" + inode(pod_.uts) + "\n0\nberth-test\n"));
  EXPECT_THAT(out, HasSubstr(" - sysfs "));
  EXPECT_THAT(out, HasSubstr("lo\n"));
  EXPECT_THAT(out, ::testing::Not(HasSubstr("administers"))) << "without the capabilities";
}

TEST_F(UserNamespaceTest, CapabilitiesCountInsideAlone) {
  auto spec = pod_spec(
      "ip link set lo up && hostname other && mount -t tmpfs x /tmp && echo administers;"
      " mknod /tmp/node b 7 0 || echo no device; echo 1 > /proc/sys/kernel/panic || echo not the host");
  auto& caps = *spec.process->capabilities;
  for (auto* set : {&caps.bounding, &caps.effective, &caps.permitted}) {
    set->insert(set->end(), {"CAP_NET_ADMIN", "CAP_SYS_ADMIN"});
  }
  spec.linux->readonly_paths.clear();
  const auto out = run(spec).out;
  EXPECT_THAT(out, HasSubstr("administers\n"));
  EXPECT_THAT(out, HasSubstr("no device\n"));
  EXPECT_THAT(out, HasSubstr("not the host\n"));
}

TEST_F(UserNamespaceTest, OnTheHostsNetworkItsSysfsIsShown) {
  struct stat st{};
  ASSERT_EQ(::stat("/proc/self/ns/net", &st), 0);
  const auto out =
      run(pod_spec("readlink /proc/self/ns/net; test -d /sys/class/net/lo && echo shown; touch /sys/class/x 2>&1;"
                   " awk '$5 ~ \"^/sys\" {print $5, $6}' /proc/self/mountinfo",
                   true))
          .out;
  EXPECT_THAT(out, HasSubstr("net:[" + std::to_string(st.st_ino) + "]\nshown\n"));
  EXPECT_THAT(out, HasSubstr("Read-only file system"));
  EXPECT_THAT(out, HasSubstr("/sys ro,nosuid,nodev,noexec"));
  for (const auto line : split(out, '\n')) {
    const bool ours = !line.starts_with("/sys/") || line.starts_with("/sys/fs/cgroup") || line.starts_with("/sys/firm");
    EXPECT_TRUE(ours) << "from below the host's: " << line;
    EXPECT_EQ(line.find(" rw,"), std::string::npos) << line;
  }
}

TEST_F(UserNamespaceTest, TheScoreOfTheOomKillerIsSet) {
  auto spec = pod_spec("exec sleep 100");
  spec.process->oom_score_adj = 567;
  const auto container = create(spec);
  ASSERT_TRUE(container);
  ASSERT_TRUE(container->start());
  EXPECT_EQ(lines_of("/proc/" + std::to_string(container->init().pid) + "/oom_score_adj").at(0), "567");
  auto pipe = os::make_pipe();
  ASSERT_TRUE(pipe);
  ExecRequest request;
  request.process = *spec.process;
  request.process.args = {"/bin/sh", "-c", "cat /proc/self/oom_score_adj; stat -L -c %i /proc/self/ns/user; id -u"};
  request.process.oom_score_adj = 789;
  request.stdio = {-1, pipe->write.get(), pipe->write.get()};
  auto process = container->exec(request);
  ASSERT_TRUE(process) << process.error().text();
  pipe->write.reset();
  EXPECT_EQ(os::read_all(pipe->read.get(), 1000).value_or(""), "789\n" + inode(pod_.user) + "\n0\n");
  EXPECT_TRUE(os::reap_pidfd(process->pidfd.get()));
  finish(*container);
}

}  // namespace
}  // namespace berth::engine::process
