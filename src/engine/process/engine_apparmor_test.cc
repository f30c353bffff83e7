#include <fcntl.h>
#include <gmock/gmock.h>

#include <cstdlib>

#include "engine/process/test_container.h"

/// process.apparmorProfile where AppArmor is active: in the guest of tests/vm, which also brings the compiled profile
/// "berth-test" (tests/vm/berth-test.profile).
namespace berth::engine::process {
namespace {

using testing::EngineTest;
using ::testing::HasSubstr;

class AppArmorTest : public EngineTest {
 protected:
  void SetUp() override {
    EngineTest::SetUp();
    const char* const file = std::getenv("BERTH_APPARMOR_PROFILE");  // NOLINT(concurrency-mt-unsafe)
    if (file == nullptr) GTEST_SKIP() << "no compiled profile given";
    const auto profile = os::read_file(file, 1U << 20);
    ASSERT_TRUE(profile.has_value());
    const auto load = os::open_file("/sys/kernel/security/apparmor/.replace", O_WRONLY);
    ASSERT_TRUE(load.has_value()) << load.error().text();
    ASSERT_TRUE(os::write_all(load->get(), *profile).has_value());
  }
};

constexpr const char* kScript =
    "cat /proc/self/attr/current; mkdir -p /tmp/denied; echo x > /tmp/free && echo free; "
    "echo x > /tmp/denied/file || echo denied";

TEST_F(AppArmorTest, TheProfileHoldsForInit) {
  auto spec = script_spec(kScript);
  spec.process->apparmor_profile = "berth-test";
  const auto out = run(spec).out;
  EXPECT_THAT(out, HasSubstr("berth-test (enforce)\n"));
  EXPECT_THAT(out, HasSubstr("free\n"));
  EXPECT_THAT(out, HasSubstr("denied\n"));
}

TEST_F(AppArmorTest, TheProfileHoldsForAnExec) {
  auto container = create(script_spec("sleep 1000"));
  ASSERT_NE(container, nullptr);
  ASSERT_TRUE(container->start().has_value());
  auto pipe = os::make_pipe();
  ASSERT_TRUE(pipe.has_value());
  ExecRequest request;
  request.process = *script_spec(kScript).process;
  request.process.apparmor_profile = "berth-test";
  request.stdio = {-1, pipe->write.get(), pipe->write.get()};
  const auto process = container->exec(request);
  ASSERT_TRUE(process.has_value()) << process.error().text();
  pipe->write.reset();
  const auto out = os::read_all(pipe->read.get(), 1U << 16).value_or("");
  EXPECT_EQ(os::reap_pidfd(process->pidfd.get()).value_or(-1), 0);
  EXPECT_THAT(out, HasSubstr("berth-test (enforce)\n"));
  EXPECT_THAT(out, HasSubstr("denied\n"));
  finish(*container);
}

TEST_F(AppArmorTest, AProfileThatIsNotLoadedIsNamed) {
  auto spec = script_spec("true");
  spec.process->apparmor_profile = "no-such-profile";
  EXPECT_THAT(refused(spec).text(), HasSubstr("no-such-profile"));
}

}  // namespace
}  // namespace berth::engine::process
