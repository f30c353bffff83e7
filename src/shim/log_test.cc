#include <fcntl.h>
#include <gmock/gmock.h>
#include <gtest/gtest.h>
#include <sys/stat.h>

#include <regex>
#include <thread>

#include "event/loop.h"
#include "os/file.h"
#include "shim/log_file.h"
#include "shim/log_stream.h"
#include "shim/pump.h"
#include "shim/scratch.h"
#include "shim/test_support.h"

namespace berth::shim {
namespace {

using test::plain_log;
using test::read_log;
using testing::ElementsAre;
using testing::IsEmpty;

class LogTest : public testing::Test {
 protected:
  void SetUp() override {
    auto loop = event::Loop::create();
    ASSERT_TRUE(loop);
    loop_ = std::move(*loop);
    open(16);
  }
  void TearDown() override { out_.reset(); }

  void open(std::size_t limit) {
    scratch_ = std::make_unique<Scratch>(*loop_, LogStream::out_bytes(limit));
    auto file = LogFile::open(path_);
    ASSERT_TRUE(file);
    file_ = std::move(*file);
    out_ = std::make_unique<LogStream>(*file_, StreamName::kStdout, limit, *scratch_);
    err_ = std::make_unique<LogStream>(*file_, StreamName::kStderr, limit, *scratch_);
  }

  test::TempFolder folder_;
  std::string path_ = folder_ / "0.log";
  std::unique_ptr<event::Loop> loop_;
  std::unique_ptr<Scratch> scratch_;
  std::unique_ptr<LogFile> file_;
  std::unique_ptr<LogStream> out_;
  std::unique_ptr<LogStream> err_;
};

TEST_F(LogTest, LinesOfBothStreams) {
  out_->write("one\ntwo\n");
  err_->write("bad\n");
  out_->write("\n");
  EXPECT_THAT(plain_log(path_), ElementsAre("stdout F one", "stdout F two", "stderr F bad", "stdout F "));
  struct stat info{};
  ASSERT_EQ(::stat(path_.c_str(), &info), 0);
  EXPECT_EQ(info.st_mode & 0777U, 0640U);
}

TEST_F(LogTest, TimesHaveTheFormatAndRise) {
  for (int i = 0; i < 300; ++i) out_->write("a\nb\nc\n");
  const std::regex format(R"(\d{4}-\d\d-\d\dT\d\d:\d\d:\d\d\.\d{9}Z)");
  const auto entries = read_log(path_);
  ASSERT_EQ(entries.size(), 900U);
  for (std::size_t i = 0; i < entries.size(); ++i) {
    EXPECT_TRUE(std::regex_match(entries[i].time, format)) << entries[i].time;
    if (i > 0) {
      EXPECT_LT(entries[i - 1].time, entries[i].time);
    }
  }
}

TEST_F(LogTest, AnUnfinishedLineWaitsForItsEnd) {
  out_->write("hel");
  EXPECT_THAT(plain_log(path_), IsEmpty());
  out_->write("lo\nwor");
  err_->write("between\n");
  out_->write("ld\n");
  EXPECT_THAT(plain_log(path_), ElementsAre("stdout F hello", "stderr F between", "stdout F world"));
}

TEST_F(LogTest, LinesUpToTheLimitStayWhole) {
  out_->write("0123456789abcdef\n");
  out_->write("0123456789abcde");
  out_->write("f");
  out_->write("\n");
  EXPECT_THAT(plain_log(path_), ElementsAre("stdout F 0123456789abcdef", "stdout F 0123456789abcdef"));
}

TEST_F(LogTest, LongerLinesAreSplitWhereverTheReadsEnd) {
  const std::string line = "0123456789abcdef0123456789abcdefxyz\n";
  const auto want =
      testing::ElementsAreArray({"stdout P 0123456789abcdef", "stdout P 0123456789abcdef", "stdout F xyz"});
  out_->write(line);
  EXPECT_THAT(plain_log(path_), want);
  for (std::size_t cut = 1; cut < line.size(); ++cut) {
    ASSERT_EQ(::truncate(path_.c_str(), 0), 0);
    out_->write(line.substr(0, cut));
    out_->write(line.substr(cut));
    EXPECT_THAT(plain_log(path_), want) << "cut at " << cut;
  }
}

TEST_F(LogTest, AnEndWithoutNewlineIsPartial) {
  out_->write("no end");
  out_->flush();
  out_->flush();
  EXPECT_THAT(plain_log(path_), ElementsAre("stdout P no end"));
  out_->write(" yet\n");
  EXPECT_THAT(plain_log(path_), ElementsAre("stdout P no end", "stdout F  yet"));
}

TEST_F(LogTest, MoreEntriesThanTheBufferHolds) {
  const std::string lines(60'000, '\n');
  out_->write(lines);
  EXPECT_EQ(read_log(path_).size(), 60'000U);
  EXPECT_EQ(file_->bytes_dropped(), 0U);
}

TEST_F(LogTest, ALineOfTheLargestLimit) {
  open(LogStream::kMaxLineLimit);
  std::string line(LogStream::kMaxLineLimit, 'x');
  out_->write(line);
  out_->write("y\n");
  const auto entries = read_log(path_);
  ASSERT_EQ(entries.size(), 2U);
  EXPECT_EQ(entries[0].tag, "P");
  EXPECT_EQ(entries[0].text, line);
  EXPECT_EQ(entries[1].tag + entries[1].text, "Fy");
}

TEST_F(LogTest, ReopenSwitchesAfterARotation) {
  out_->write("old\npart");
  ASSERT_EQ(::rename(path_.c_str(), (folder_ / "0.log.1").c_str()), 0);
  out_->write("ial\n");
  ASSERT_TRUE(file_->reopen());
  out_->write("new\n");
  EXPECT_THAT(plain_log(folder_ / "0.log.1"), ElementsAre("stdout F old", "stdout F partial"));
  EXPECT_THAT(plain_log(path_), ElementsAre("stdout F new"));
}

TEST_F(LogTest, ReopenWithoutARotationGoesOnInTheSameFile) {
  out_->write("before\n");
  ASSERT_TRUE(file_->reopen());
  out_->write("after\n");
  EXPECT_THAT(plain_log(path_), ElementsAre("stdout F before", "stdout F after"));
}

TEST_F(LogTest, AFailedReopenKeepsTheOldFile) {
  ASSERT_EQ(::rename(path_.c_str(), (folder_ / "kept").c_str()), 0);
  ASSERT_EQ(::mkdir(path_.c_str(), 0700), 0);
  EXPECT_FALSE(file_->reopen());
  out_->write("still\n");
  EXPECT_THAT(plain_log(folder_ / "kept"), ElementsAre("stdout F still"));
}

TEST_F(LogTest, OnlyRegularFilesAreLogs) {
  const std::string fifo = folder_ / "fifo";
  ASSERT_EQ(::mkfifo(fifo.c_str(), 0600), 0);
  // A reader, so that opening it for writing succeeds.
  const UniqueFd reader(::open(fifo.c_str(), O_RDONLY | O_NONBLOCK | O_CLOEXEC));
  const auto file = LogFile::open(fifo);
  ASSERT_FALSE(file);
  EXPECT_EQ(file.error().code(), Code::kInvalid);
  EXPECT_EQ(LogFile::open(folder_ / "none/0.log").error().code(), Code::kNotFound);
}

TEST_F(LogTest, NoLineIsLostWhenTheLogIsRotatedUnderLoad) {
  constexpr int kLines = 50'000;
  auto pipe = os::make_pipe();
  ASSERT_TRUE(pipe);
  std::thread writer([fd = std::move(pipe->write)] {
    std::string block;
    for (int i = 0; i < kLines; ++i) {
      block += std::to_string(i) + "\n";
      if (block.size() > 3000 || i + 1 == kLines) {
        ignore(os::write_all(fd.get(), block), "seen by the reader");
        block.clear();
      }
    }
  });
  auto pump = Pump::start(*loop_, *scratch_, std::move(pipe->read), *out_);
  ASSERT_TRUE(pump);
  int rounds = 0;
  int rotations = 0;
  while (!(*pump)->ended()) {
    ASSERT_TRUE(loop_->run_once(std::chrono::seconds(10)));
    if (++rounds % 3 != 0) continue;
    ASSERT_EQ(::rename(path_.c_str(), (folder_ / ("rotated." + std::to_string(rotations++))).c_str()), 0);
    ASSERT_TRUE(file_->reopen());
  }
  writer.join();
  int next = 0;
  for (int file = 0; file <= rotations; ++file) {
    const std::string name = file < rotations ? folder_ / ("rotated." + std::to_string(file)) : path_;
    for (const auto& entry : read_log(name)) {
      ASSERT_EQ(entry.tag, "F");
      ASSERT_EQ(entry.text, std::to_string(next));
      ++next;
    }
  }
  EXPECT_EQ(next, kLines);
  EXPECT_GT(rotations, 1);
}

TEST_F(LogTest, APumpNeverWaitsForAnIdleWriter) {
  auto pipe = os::make_pipe();
  ASSERT_TRUE(pipe);
  auto pump = Pump::start(*loop_, *scratch_, std::move(pipe->read), *out_);
  ASSERT_TRUE(pump);
  ASSERT_TRUE(os::write_all(pipe->write.get(), "left\nhalf"));
  (*pump)->drain(1U << 20);
  EXPECT_THAT(plain_log(path_), ElementsAre("stdout F left", "stdout P half"));
  EXPECT_FALSE((*pump)->ended());
  ASSERT_TRUE(os::write_all(pipe->write.get(), "later\n"));
  ASSERT_TRUE(loop_->run_once(std::chrono::seconds(10)));
  EXPECT_THAT(plain_log(path_), testing::Contains("stdout F later"));
}

}  // namespace
}  // namespace berth::shim
