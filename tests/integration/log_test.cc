// The containers' logs, as the kubelet reads them.
#include <gmock/gmock.h>
#include <sys/mount.h>

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
  static TestHostOptions options() {
    return {.config = "[runtime]\nstats_period_s = 1\n", .images = {"busybox", "logger"}};
  }
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

// A file system of its own for one pod's logs, of that many bytes.
class SmallDisk {
 public:
  SmallDisk(std::string dir, const std::string& bytes) : dir_(std::move(dir)) {
    must(os::make_dirs(dir_));
    if (::mount("tmpfs", dir_.c_str(), "tmpfs", 0, ("size=" + bytes).c_str()) != 0) must<void>(fail_errno(errno, dir_));
  }
  SmallDisk(const SmallDisk&) = delete;
  SmallDisk& operator=(const SmallDisk&) = delete;
  SmallDisk(SmallDisk&&) = delete;
  SmallDisk& operator=(SmallDisk&&) = delete;
  ~SmallDisk() { EXPECT_EQ(::umount2(dir_.c_str(), MNT_DETACH), 0); }
  void grow(const std::string& bytes) const {
    EXPECT_EQ(::mount(nullptr, dir_.c_str(), nullptr, MS_REMOUNT, ("size=" + bytes).c_str()), 0);
  }

 private:
  const std::string dir_;
};

TEST_F(LogTest, AFullDiskStopsNobodyAndWhatItCostIsShown) {
  const SmallDisk disk(host().logs("full"), "64k");
  const auto config = host().pod_config("full");
  const auto pod = must(cri().run_pod(config));
  // 20,000 lines of 10 bytes, and as many once more when there is room again.
  const auto id =
      must(cri().run(pod,
                     host().shell_config("main",
                                         "count() { i=$1; while [ $i -lt $2 ]; do echo line $i; i=$((i + 1)); done; }\n"
                                         "count 10000 30000; touch /first; until [ -e /go ]; do sleep 0.02; done\n"
                                         "count 30000 31000; touch /second; until [ -e /end ]; do sleep 0.02; done"),
                     config));
  const auto reached = [&id](const std::string& mark) {
    return wait_until(std::chrono::seconds(30), [&] { return cri().shell(id, "test -e " + mark).has_value(); });
  };
  EXPECT_TRUE(reached("/first")) << "the writer is never held up";
  const auto log = host().logs("full") + "/main.log";
  const auto kept = must(read_log(log));
  ASSERT_FALSE(kept.empty());
  for (std::size_t i = 0; i < kept.size(); ++i) EXPECT_EQ(kept[i].text, "line " + std::to_string(10000 + i));
  const auto lost = (20000 - kept.size()) * 11;
  const auto shown = [&id] {
    pb::ContainerStatusRequest request;
    request.set_container_id(id);
    request.set_verbose(true);
    return must(cri().call(&Runtime::ContainerStatus, request)).info().at("berth");
  };
  const auto expected = "\"logBytesDropped\":" + std::to_string(lost);
  EXPECT_TRUE(wait_until(std::chrono::seconds(20), [&] { return shown().find(expected) != std::string::npos; }))
      << expected << " in " << shown();
  disk.grow("8m");
  must(cri().shell(id, "touch /go"));
  EXPECT_TRUE(reached("/second"));
  EXPECT_TRUE(wait_until(std::chrono::seconds(20), [&] { return must(read_log(log)).size() == kept.size() + 1000; }));
  EXPECT_EQ(must(read_log(log)).back().text, "line 30999");
  must(cri().shell(id, "touch /end"));
  EXPECT_NE(must(cri().wait_exited(id)).message().find(std::to_string(lost) + " bytes"), std::string::npos);
  EXPECT_NE(shown().find(expected), std::string::npos);
  must(cri().end_pod(pod));
}

}  // namespace
}  // namespace berth::test
