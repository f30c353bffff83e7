#include "network/cni_plugin.h"

#include <gmock/gmock.h>
#include <gtest/gtest.h>
#include <poll.h>
#include <sys/syscall.h>
#include <unistd.h>

#include <chrono>
#include <cstdlib>

#include "base/strings.h"
#include "base/unique_fd.h"
#include "network/plugins_fixture_test.h"

namespace berth::network {
namespace {

using testing::AllOf;
using testing::HasSubstr;
using testing::Not;

class CniPluginTest : public testing::Test {
 protected:
  Result<std::string> run(const std::string& script, std::chrono::milliseconds timeout = std::chrono::seconds(20)) {
    plugins_.add("demo", script);
    CniCall call;
    call.command = "ADD";
    call.type = "demo";
    call.container_id = "c1";
    call.netns = "/proc/1/ns/net";
    call.ifname = "eth0";
    call.args = "K8S_POD_NAME=p";
    call.input = R"({"name":"n"})";
    call.timeout = timeout;
    call.stop = stop_.get_token();
    return run_cni_plugin({"/nonexistent", plugins_.dir()}, call);
  }
  TestPlugins plugins_;
  std::stop_source stop_;
};

TEST_F(CniPluginTest, GetsItsEnvironmentAndInput) {
  ::setenv("CNI_LEFTOVER", "x", 1);
  const auto out = run("cat > input; env | grep ^CNI_ | sort > env; echo '{}'");
  ::unsetenv("CNI_LEFTOVER");
  ASSERT_TRUE(out) << out.error().text();
  EXPECT_EQ(*out, "{}\n");
  EXPECT_EQ(plugins_.read("input"), R"({"name":"n"})");
  EXPECT_EQ(plugins_.read("env"),
            "CNI_ARGS=K8S_POD_NAME=p\nCNI_COMMAND=ADD\nCNI_CONTAINERID=c1\nCNI_IFNAME=eth0\n"
            "CNI_NETNS=/proc/1/ns/net\nCNI_PATH=/nonexistent:" +
                plugins_.dir() + "\n");
}

TEST_F(CniPluginTest, ItsErrorIsTold) {
  const auto out = run(R"(echo 'warn: full' >&2; echo '{"code":11,"msg":"no address","details":"range 1"}'; exit 1)");
  ASSERT_FALSE(out);
  EXPECT_EQ(out.error().code(), Code::kUnavailable);
  EXPECT_EQ(out.error().text(), "CNI plugin demo failed at ADD: no address; range 1 (stderr: warn: full)");
}

TEST_F(CniPluginTest, GarbageAndSilenceAreTold) {
  const auto garbage = run("echo 'panic: nil map'; exit 2");
  ASSERT_FALSE(garbage);
  EXPECT_THAT(garbage.error().text(), AllOf(HasSubstr("exit code 2"), HasSubstr("panic: nil map")));
  const auto silent = run("exit 3");
  ASSERT_FALSE(silent);
  EXPECT_THAT(silent.error().text(), HasSubstr("exit code 3"));
  const auto crash = run("kill -SEGV $$");
  ASSERT_FALSE(crash);
  EXPECT_THAT(crash.error().text(), HasSubstr("killed by signal 11"));
}

TEST_F(CniPluginTest, AHangEndsAtTheTimeoutWithAllItsProcesses) {
  const auto start = std::chrono::steady_clock::now();
  const auto out = run("sleep 1000 & echo $! > child; sleep 1000", std::chrono::milliseconds(500));
  ASSERT_FALSE(out);
  EXPECT_EQ(out.error().code(), Code::kTimeout);
  EXPECT_THAT(out.error().text(), HasSubstr("demo"));
  EXPECT_LT(std::chrono::steady_clock::now() - start, std::chrono::seconds(10));
  const auto child = parse_number<int>(trim(plugins_.read("child")));
  ASSERT_TRUE(child);
  // Killed with its group: it is gone or about to be.
  const UniqueFd pidfd(static_cast<int>(::syscall(SYS_pidfd_open, *child, 0)));
  pollfd wait{pidfd.get(), POLLIN, 0};
  EXPECT_TRUE(!pidfd || ::poll(&wait, 1, 20'000) == 1);
}

TEST_F(CniPluginTest, ChildrenThatKeepThePipesDoNotHoldUs) {
  const auto start = std::chrono::steady_clock::now();
  const auto out = run("sleep 1000 & echo '{}'");
  ASSERT_TRUE(out) << out.error().text();
  EXPECT_LT(std::chrono::steady_clock::now() - start, std::chrono::seconds(10));
}

TEST_F(CniPluginTest, EndlessOutputIsCutOff) {
  const auto out = run("exec cat /dev/zero");
  ASSERT_FALSE(out);
  EXPECT_EQ(out.error().code(), Code::kExhausted);
  const auto noise = run("exec cat /dev/zero >&2");
  ASSERT_FALSE(noise);
  EXPECT_EQ(noise.error().code(), Code::kExhausted);
}

TEST_F(CniPluginTest, InputThatNobodyReadsIsNoFailure) {
  EXPECT_TRUE(run("exec 0<&-; echo '{}'"));
}

TEST_F(CniPluginTest, CanBeCalledOff) {
  stop_.request_stop();
  const auto out = run("sleep 1000");
  ASSERT_FALSE(out);
  EXPECT_EQ(out.error().code(), Code::kCancelled);
}

TEST_F(CniPluginTest, MissingProgramsSayWhere) {
  CniCall call;
  call.command = "DEL";
  call.type = "absent";
  const auto out = run_cni_plugin({"/a", "/b"}, call);
  ASSERT_FALSE(out);
  EXPECT_EQ(out.error().code(), Code::kUnavailable);
  EXPECT_THAT(out.error().text(), HasSubstr("CNI plugin absent is not in /a, /b"));
  plugins_.put("demo", "not executable");
  call.type = "demo";
  EXPECT_EQ(run_cni_plugin({plugins_.dir()}, call).error().code(), Code::kUnavailable);
  plugins_.add("odd", "");
  plugins_.put("odd", "#!/no/such/interpreter\n");
  call.type = "odd";
  EXPECT_EQ(run_cni_plugin({plugins_.dir()}, call).error().code(), Code::kUnavailable);
}

TEST_F(CniPluginTest, ControlCharactersDoNotReachTheLog) {
  const auto out = run(R"(printf '\033[2Jboo\n' >&2; exit 1)");
  ASSERT_FALSE(out);
  EXPECT_THAT(out.error().text(), Not(HasSubstr("\033")));
}

}  // namespace
}  // namespace berth::network
