// The containers' logs, as the kubelet reads them.
#include <gmock/gmock.h>

#include <filesystem>
#include <fstream>
#include <regex>

#include "base/strings.h"
#include "fixture.h"
#include "log_lines.h"
#include "wait.h"

namespace berth::test {
namespace {

struct WithLogger {
  static TestHostOptions options() { return {.images = {"busybox", "logger"}}; }
};

class LogTest : public HostTest<WithLogger> {
 protected:
  void SetUp() override {
    HostTest::SetUp();
    if (HasFatalFailure()) return;
    config_ = host().pod_config("pod");
    pod_ = must(cri().run_pod(config_));
  }
  static std::string path(const std::string& name = "main") { return host().logs("pod") + "/" + name + ".log"; }
  // What a container whose whole program is `script` has logged.
  std::vector<LogLine> lines_of(const std::string& script) {
    const auto id = must(cri().run(pod_, host().shell_config("main", script), config_));
    must(cri().wait_exited(id));
    return must(read_log(path()));
  }

  pb::PodSandboxConfig config_;
  std::string pod_;
};

TEST_F(LogTest, BothStreamsInTheCriFormat) {
  const auto lines = lines_of("echo one; echo two >&2; echo; echo 'with  spaces '; echo '{\"json\": true}'");
  std::vector<std::string> out;
  std::vector<std::string> err;
  std::string last;
  for (const auto& line : lines) {
    EXPECT_EQ(line.tag, "F");
    (line.stream == "stdout" ? out : err).push_back(line.text);
    EXPECT_TRUE(std::regex_match(line.time, std::regex(R"(\d{4}-\d\d-\d\dT\d\d:\d\d:\d\d\.\d{9}Z)"))) << line.time;
  }
  EXPECT_THAT(out, testing::ElementsAre("one", "", "with  spaces ", "{\"json\": true}"));
  EXPECT_THAT(err, testing::ElementsAre("two"));
}

TEST_F(LogTest, TimesNeverGoBack) {
  const auto lines = lines_of("for i in 1 2 3 4 5 6 7 8 9; do echo $i; done");
  ASSERT_EQ(lines.size(), 9U);
  for (std::size_t i = 1; i < lines.size(); ++i) EXPECT_LE(lines[i - 1].time, lines[i].time);
}

TEST_F(LogTest, LongLinesAreSplitAndNothingIsLost) {
  const auto lines =
      lines_of("head -c 40000 /dev/zero | tr '\\0' x; echo; head -c 16384 /dev/zero | tr '\\0' y; echo; printf end");
  std::vector<std::string> tags;
  std::vector<std::size_t> sizes;
  for (const auto& line : lines) {
    tags.push_back(line.tag);
    sizes.push_back(line.text.size());
  }
  EXPECT_THAT(sizes, testing::ElementsAre(16384, 16384, 7232, 16384, 3));
  EXPECT_THAT(tags, testing::ElementsAre("P", "P", "F", "F", testing::AnyOf("P", "F")));
}

TEST_F(LogTest, BinaryBytesAreKept) {
  const auto lines = lines_of("printf '\\000\\001\\377\\r\\n'");
  ASSERT_EQ(lines.size(), 1U);
  EXPECT_EQ(lines[0].text, std::string("\0\1\377\r", 4));
}

TEST_F(LogTest, ReopenGoesOnInANewFileAndLosesNothing) {
  const auto id = must(cri().run(pod_, host().container_config("main", "logger"), config_));
  pb::ReopenContainerLogRequest reopen;
  reopen.set_container_id(id);
  for (int turn = 1; turn <= 3; ++turn) {
    ASSERT_TRUE(wait_until(std::chrono::seconds(20), [] {
      std::error_code error;
      return std::filesystem::file_size(path(), error) > 10'000 && !error;
    }));
    std::filesystem::rename(path(), path() + "." + std::to_string(turn));
    ASSERT_TRUE(ok(cri().call(&Runtime::ReopenContainerLog, reopen)));
    EXPECT_TRUE(std::filesystem::exists(path()));
  }
  must(cri().stop(id, 30));
  std::vector<LogLine> all;
  for (const auto& file : {path() + ".1", path() + ".2", path() + ".3", path()}) {
    const auto part = must(read_log(file));
    all.insert(all.end(), part.begin(), part.end());
  }
  EXPECT_EQ(check_numbered(all), "");
}

TEST_F(LogTest, ReopenWithoutARunningContainerMakesNoFile) {
  const auto id = must(cri().run(pod_, host().shell_config("main", "echo x"), config_));
  must(cri().wait_exited(id));
  std::filesystem::remove(path());
  pb::ReopenContainerLogRequest reopen;
  reopen.set_container_id(id);
  EXPECT_TRUE(fails(cri().call(&Runtime::ReopenContainerLog, reopen), Code::kPrecondition, "exited"));
  EXPECT_FALSE(std::filesystem::exists(path()));
  reopen.set_container_id(std::string(64, 'd'));
  EXPECT_TRUE(fails(cri().call(&Runtime::ReopenContainerLog, reopen), Code::kNotFound));
}

TEST_F(LogTest, ATerminalJoinsBothStreams) {
  auto config = host().shell_config("main", "tty; echo err >&2; exec sleep 1000");
  config.set_tty(true);
  const auto id = must(cri().run(pod_, config, config_));
  ASSERT_TRUE(wait_until(std::chrono::seconds(10), [] {
    const auto lines = read_log(path());
    return lines && lines->size() >= 2;
  }));
  const auto lines = must(read_log(path()));
  EXPECT_TRUE(lines[0].text.starts_with("/dev/")) << lines[0].text;
  for (const auto& line : lines) EXPECT_EQ(line.stream, "stdout");
  EXPECT_TRUE(lines[1].text.starts_with("err")) << lines[1].text;
  EXPECT_TRUE(ok(cri().shell(id, "test -c /dev/console && echo to the terminal > /proc/1/fd/1")));
  EXPECT_TRUE(wait_until(std::chrono::seconds(10), [] { return must(read_log(path())).size() >= 3; }));
}

TEST_F(LogTest, WithoutALogPathTheOutputGoesNowhere) {
  auto config = host().shell_config("main", "echo x; exec sleep 1000");
  config.clear_log_path();
  const auto id = must(cri().run(pod_, config, config_));
  EXPECT_EQ(must(cri().status(id)).log_path(), "");
  EXPECT_TRUE(ok(cri().shell(id, "echo y > /proc/1/fd/1")));
}

TEST_F(LogTest, ALogPathMayHaveFolders) {
  auto config = host().shell_config("main", "echo deep");
  config.set_log_path("a/b/0.log");
  const auto id = must(cri().run(pod_, config, config_));
  must(cri().wait_exited(id));
  const auto lines = must(read_log(host().logs("pod") + "/a/b/0.log"));
  ASSERT_EQ(lines.size(), 1U);
  EXPECT_EQ(lines[0].text, "deep");
}

}  // namespace
}  // namespace berth::test
