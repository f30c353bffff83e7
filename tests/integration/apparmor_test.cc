// The AppArmor profile of containers: in the guest of tests/vm, where AppArmor is on.
#include <gmock/gmock.h>

#include "base/strings.h"
#include "fixture.h"
#include "os/file.h"

namespace berth::test {
namespace {

using testing::HasSubstr;

struct Plain {
  static TestHostOptions options() { return {}; }
};

bool have_apparmor() {
  return os::exists("/sys/kernel/security/apparmor/profiles");
}

class AppArmorTest : public HostTest<Plain> {
 public:
  static void SetUpTestSuite() {
    if (have_apparmor()) HostTest::SetUpTestSuite();
  }

 protected:
  void SetUp() override {
    if (!have_apparmor()) GTEST_SKIP() << "no AppArmor here";
    HostTest::SetUp();
    // In the node's network: the guest has no bridge.
    config_ = host().pod_config("pod");
    auto& security = *config_.mutable_linux()->mutable_security_context();
    security.mutable_namespace_options()->set_network(pb::NODE);
    security.set_privileged(true);
    pod_ = must(cri().run_pod(config_));
  }
  void TearDown() override {
    if (have_apparmor()) HostTest::TearDown();
  }
  // With all that a container may have without being privileged, so that the profile alone is in the way.
  static pb::ContainerConfig strong(const std::string& name, const std::string& script = "exec sleep 1000") {
    auto config = host().shell_config(name, script);
    auto& security = *config.mutable_linux()->mutable_security_context();
    for (const char* capability : {"SYS_ADMIN", "SYS_PTRACE"}) {
      security.mutable_capabilities()->add_add_capabilities(capability);
    }
    return config;
  }
  static pb::SecurityProfile& profile(pb::ContainerConfig& config) {
    return *config.mutable_linux()->mutable_security_context()->mutable_apparmor();
  }
  std::string run(const pb::ContainerConfig& config) { return must(cri().run(pod_, config, config_)); }
  static std::string shell(const std::string& id, const std::string& script) {
    const auto ran = must(cri().exec(id, {"/bin/sh", "-c", script}));
    return std::string(trim(ran.stdout())) + std::string(trim(ran.stderr()));
  }
  static constexpr const char* kCurrent = "cat /proc/self/attr/current; cat /proc/1/attr/current";
  static constexpr const char* kMount = "mkdir -p /mnt && mount -t tmpfs none /mnt && echo mounted";
  // The value that it has: nothing of the machine changes.
  static constexpr const char* kSysctl =
      "v=$(cat /proc/sys/vm/swappiness) && echo $v > /proc/sys/vm/swappiness && echo written";

  pb::PodSandboxConfig config_;
  std::string pod_;
};

TEST_F(AppArmorTest, TheDefaultHoldsForContainersAndTheirExecs) {
  auto asked = strong("asked");
  profile(asked).set_profile_type(pb::SecurityProfile::RuntimeDefault);
  for (const auto& config : {strong("plain"), asked}) {
    const auto id = run(config);
    EXPECT_EQ(shell(id, kCurrent), "berth-default (enforce)\nberth-default (enforce)");
    EXPECT_THAT(shell(id, kMount), HasSubstr("Permission denied"));
    EXPECT_THAT(shell(id, kSysctl), HasSubstr("Permission denied"));
    // What is its own business stays so.
    EXPECT_EQ(shell(id, "v=$(cat /proc/sys/kernel/shmmni) && echo $v > /proc/sys/kernel/shmmni && echo written"),
              "written");
    EXPECT_EQ(shell(id, "echo x > /file && cat /file; echo 0 > /proc/self/oom_score_adj && echo own"), "x\nown");
    EXPECT_EQ(shell(id, "sleep 100 & kill $! && wait $! 2> /dev/null; echo $?"), "143");
    EXPECT_THAT(shell(id, "cat /proc/kcore | head -c 1"), HasSubstr("Permission denied"));
  }
}

TEST_F(AppArmorTest, ProcessesOfTheHostAreLeftAlone) {
  auto config = strong("neighbour");
  config.mutable_linux()->mutable_security_context()->mutable_namespace_options()->set_pid(pb::NODE);
  const std::string outside = "kill -0 " + std::to_string(host().daemon_pid()) + " && echo reached";
  EXPECT_THAT(shell(run(config), outside), HasSubstr("Permission denied"));
  config.mutable_metadata()->set_name("unconfined");
  profile(config).set_profile_type(pb::SecurityProfile::Unconfined);
  EXPECT_EQ(shell(run(config), outside), "reached");
}

TEST_F(AppArmorTest, AContainerIsToldToStop) {
  const auto id = run(strong("stopped", "trap 'exit 7' TERM; while :; do sleep 0.1; done"));
  ASSERT_TRUE(ok(cri().stop(id, 30)));
  EXPECT_EQ(must(cri().status(id)).exit_code(), 7);
}

TEST_F(AppArmorTest, UnconfinedAndPrivilegedHaveNone) {
  auto unconfined = strong("unconfined");
  profile(unconfined).set_profile_type(pb::SecurityProfile::Unconfined);
  auto privileged = strong("privileged");
  privileged.mutable_linux()->mutable_security_context()->set_privileged(true);
  for (const auto& config : {unconfined, privileged}) {
    const auto id = run(config);
    EXPECT_EQ(shell(id, kCurrent), "unconfined\nunconfined");
    EXPECT_EQ(shell(id, kMount), "mounted");
    EXPECT_EQ(shell(id, kSysctl), "written");
  }
}

TEST_F(AppArmorTest, DoctorTells) {
  const auto ran = must(run_program({TestHost::program("berth"), "--address", host().socket(), "doctor"}));
  EXPECT_THAT(ran.out, HasSubstr("AppArmor, with the profile berth-default")) << ran.err;
}

}  // namespace
}  // namespace berth::test
