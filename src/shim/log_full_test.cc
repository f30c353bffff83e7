#include <fcntl.h>
#include <gtest/gtest.h>
#include <linux/fs.h>
#include <sched.h>
#include <sys/ioctl.h>
#include <sys/mount.h>
#include <unistd.h>

#include <memory>

#include "event/loop.h"
#include "os/file.h"
#include "shim/log_file.h"
#include "shim/log_stream.h"
#include "shim/scratch.h"
#include "shim/test_support.h"

// What happens when the disk is full: a tmpfs of two pages in a mount namespace of this process alone.
namespace berth::shim {
namespace {

class LogFullTest : public ::testing::Test {
 protected:
  void SetUp() override {
    if (::unshare(CLONE_NEWNS) != 0) GTEST_SKIP() << "needs root: unshare a mount namespace";
    ASSERT_EQ(::mount(nullptr, "/", nullptr, MS_REC | MS_PRIVATE, nullptr), 0);
    ASSERT_EQ(::mount("tmpfs", folder_.path().c_str(), "tmpfs", 0, "size=64k"), 0);
    auto loop = event::Loop::create();
    ASSERT_TRUE(loop);
    loop_ = std::move(*loop);
    scratch_ = std::make_unique<Scratch>(*loop_, LogStream::out_bytes(kMaxLine));
    auto file = LogFile::open(path_);
    ASSERT_TRUE(file);
    file_ = std::move(*file);
    out_ = std::make_unique<LogStream>(*file_, StreamName::kStdout, kMaxLine, *scratch_);
    fill_.reset(::open((folder_ / "filler").c_str(), O_WRONLY | O_CREAT | O_CLOEXEC, 0600));
  }
  void TearDown() override {
    if (IsSkipped()) return;
    fill_.reset();
    out_.reset();
    file_.reset();
    EXPECT_EQ(::umount2(folder_.path().c_str(), MNT_DETACH), 0);
  }
  /// Takes so much of the 64 KiB away.
  void fill(off_t bytes) { ASSERT_EQ(::posix_fallocate(fill_.get(), 0, bytes), 0); }
  void make_room() { ASSERT_EQ(::ftruncate(fill_.get(), 0), 0); }

  static constexpr std::size_t kMaxLine = 16384;
  test::TempFolder folder_;
  const std::string path_ = folder_ / "0.log";
  std::unique_ptr<event::Loop> loop_;
  std::unique_ptr<Scratch> scratch_;
  std::unique_ptr<LogFile> file_;
  std::unique_ptr<LogStream> out_;
  UniqueFd fill_;
};

TEST_F(LogFullTest, WholeLinesStayTheRestIsCountedAndWritingGoesOn) {
  fill(48 << 10);
  std::uint64_t written = 0;
  const auto write_lines = [&](int first, int last) {
    std::string block;
    for (int i = first; i < last; ++i) block += "line " + std::to_string(i) + "\n";
    written += block.size();
    out_->write(block);
  };
  write_lines(0, 1000);  // 50 KB of entries into 16 KiB
  const auto kept = test::read_log(path_);
  ASSERT_FALSE(kept.empty());
  ASSERT_LT(kept.size(), 1000U);
  std::uint64_t kept_bytes = 0;
  for (std::size_t i = 0; i < kept.size(); ++i) {
    ASSERT_EQ(kept[i].tag + kept[i].text, "Fline " + std::to_string(i));
    kept_bytes += kept[i].text.size() + 1;
  }
  EXPECT_EQ(file_->bytes_dropped(), written - kept_bytes);

  // Full for good: no half line either.
  write_lines(1000, 1500);
  EXPECT_EQ(file_->bytes_dropped() + kept_bytes, written);
  EXPECT_EQ(test::read_log(path_).size(), kept.size());

  make_room();
  const std::uint64_t dropped = file_->bytes_dropped();
  write_lines(1500, 1600);
  const auto after = test::read_log(path_);
  ASSERT_EQ(after.size(), kept.size() + 100);
  EXPECT_EQ(after.back().text, "line 1599");
  for (const auto& entry : after) EXPECT_NE(entry.tag, "BROKEN");
  EXPECT_EQ(file_->bytes_dropped(), dropped);
}

TEST_F(LogFullTest, APieceThatCannotBeTakenBackIsALineOfItsOwn) {
  fill(56 << 10);
  // An administrator's `chattr +a`: nothing can be cut off.
  const UniqueFd flags(::open(path_.c_str(), O_RDONLY | O_CLOEXEC));
  int append_only = FS_APPEND_FL;
  ASSERT_EQ(::ioctl(flags.get(), FS_IOC_SETFLAGS, &append_only), 0);
  const std::string line(9000, 'x');
  out_->write(line + "\n");
  const auto torn = os::read_file(path_, 1U << 20).value_or("");
  ASSERT_GT(torn.size(), 4000U);
  ASSERT_FALSE(torn.ends_with('\n'));
  make_room();
  out_->write("one\ntwo\n");
  const auto entries = test::plain_log(path_);
  ASSERT_EQ(entries.size(), 3U);
  EXPECT_EQ(entries[1], "stdout F one");
  EXPECT_EQ(entries[2], "stdout F two");
}

}  // namespace
}  // namespace berth::shim
