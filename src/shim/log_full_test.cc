#include <fcntl.h>
#include <gtest/gtest.h>
#include <linux/fs.h>
#include <sched.h>
#include <sys/ioctl.h>
#include <sys/mount.h>
#include <unistd.h>

#include "event/loop.h"
#include "os/file.h"
#include "shim/log_file.h"
#include "shim/log_stream.h"
#include "shim/scratch.h"
#include "shim/test_support.h"

// What happens when the disk is full: a tmpfs of two pages in a mount namespace of this process alone.
namespace berth::shim {
namespace {

TEST(LogFullTest, WholeLinesStayTheRestIsCountedAndWritingGoesOn) {
  if (::unshare(CLONE_NEWNS) != 0) GTEST_SKIP() << "needs root: unshare a mount namespace";
  test::TempFolder folder;
  ASSERT_EQ(::mount(nullptr, "/", nullptr, MS_REC | MS_PRIVATE, nullptr), 0);
  ASSERT_EQ(::mount("tmpfs", folder.path().c_str(), "tmpfs", 0, "size=64k"), 0);
  const std::string path = folder / "0.log";
  const std::string filler = folder / "filler";
  {
    auto loop = event::Loop::create();
    ASSERT_TRUE(loop);
    Scratch scratch(**loop, LogStream::out_bytes(16384));
    auto file = LogFile::open(path);
    ASSERT_TRUE(file);
    LogStream out(**file, StreamName::kStdout, 16384, scratch);
    const UniqueFd fill(::open(filler.c_str(), O_WRONLY | O_CREAT | O_CLOEXEC, 0600));
    ASSERT_EQ(::posix_fallocate(fill.get(), 0, 48 << 10), 0);

    std::uint64_t written = 0;
    const auto write_lines = [&](int first, int last) {
      std::string block;
      for (int i = first; i < last; ++i) block += "line " + std::to_string(i) + "\n";
      written += block.size();
      out.write(block);
    };
    write_lines(0, 1000);  // 50 KB of entries into 16 KiB
    const auto kept = test::read_log(path);
    ASSERT_FALSE(kept.empty());
    ASSERT_LT(kept.size(), 1000U);
    std::uint64_t kept_bytes = 0;
    for (std::size_t i = 0; i < kept.size(); ++i) {
      ASSERT_EQ(kept[i].tag + kept[i].text, "Fline " + std::to_string(i));
      kept_bytes += kept[i].text.size() + 1;
    }
    EXPECT_EQ((*file)->bytes_dropped(), written - kept_bytes);

    // Full for good: no half line either.
    write_lines(1000, 1500);
    EXPECT_EQ((*file)->bytes_dropped() + kept_bytes, written);
    EXPECT_EQ(test::read_log(path).size(), kept.size());

    ASSERT_EQ(::ftruncate(fill.get(), 0), 0);
    const std::uint64_t dropped = (*file)->bytes_dropped();
    write_lines(1500, 1600);
    const auto after = test::read_log(path);
    ASSERT_EQ(after.size(), kept.size() + 100);
    EXPECT_EQ(after.back().text, "line 1599");
    for (const auto& entry : after) EXPECT_NE(entry.tag, "BROKEN");
    EXPECT_EQ((*file)->bytes_dropped(), dropped);
  }
  EXPECT_EQ(::umount2(folder.path().c_str(), MNT_DETACH), 0);
}

TEST(LogFullTest, APieceThatCannotBeTakenBackIsALineOfItsOwn) {
  if (::unshare(CLONE_NEWNS) != 0) GTEST_SKIP() << "needs root: unshare a mount namespace";
  test::TempFolder folder;
  ASSERT_EQ(::mount(nullptr, "/", nullptr, MS_REC | MS_PRIVATE, nullptr), 0);
  ASSERT_EQ(::mount("tmpfs", folder.path().c_str(), "tmpfs", 0, "size=64k"), 0);
  const std::string path = folder / "0.log";
  {
    auto loop = event::Loop::create();
    ASSERT_TRUE(loop);
    Scratch scratch(**loop, LogStream::out_bytes(16384));
    auto file = LogFile::open(path);
    ASSERT_TRUE(file);
    LogStream out(**file, StreamName::kStdout, 16384, scratch);
    const UniqueFd fill(::open((folder / "filler").c_str(), O_WRONLY | O_CREAT | O_CLOEXEC, 0600));
    ASSERT_EQ(::posix_fallocate(fill.get(), 0, 56 << 10), 0);
    // An administrator's `chattr +a`: nothing can be cut off.
    const UniqueFd flags(::open(path.c_str(), O_RDONLY | O_CLOEXEC));
    int append_only = FS_APPEND_FL;
    ASSERT_EQ(::ioctl(flags.get(), FS_IOC_SETFLAGS, &append_only), 0);
    const std::string line(9000, 'x');
    out.write(line + "\n");
    const auto torn = os::read_file(path, 1U << 20).value_or("");
    ASSERT_GT(torn.size(), 4000U);
    ASSERT_FALSE(torn.ends_with('\n'));
    ASSERT_EQ(::ftruncate(fill.get(), 0), 0);
    out.write("one\ntwo\n");
    const auto entries = test::plain_log(path);
    ASSERT_EQ(entries.size(), 3U);
    EXPECT_EQ(entries[1], "stdout F one");
    EXPECT_EQ(entries[2], "stdout F two");
  }
  EXPECT_EQ(::umount2(folder.path().c_str(), MNT_DETACH), 0);
}

}  // namespace
}  // namespace berth::shim
