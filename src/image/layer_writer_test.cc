#include "image/layer_writer.h"

#include <fcntl.h>
#include <gmock/gmock.h>
#include <gtest/gtest.h>
#include <sys/stat.h>
#include <sys/sysmacros.h>
#include <sys/xattr.h>
#include <unistd.h>

#include <cstdlib>
#include <filesystem>
#include <fstream>

#include "image/tar_reader.h"
#include "image/testing/tar_builder.h"
#include "os/file.h"

// Needs root: owners, devices and trusted attributes.
namespace berth::image {
namespace {

using ::testing::ElementsAre;
using ::testing::HasSubstr;
using testing::TarBuilder;
using ::testing::UnorderedElementsAre;

class LayerWriterTest : public ::testing::Test {
 protected:
  void SetUp() override {
    std::string name = "/tmp/berth-layer-XXXXXX";
    ASSERT_NE(::mkdtemp(name.data()), nullptr);
    top_ = name;
    root_ = top_ + "/root";
    // What an escape would hit.
    std::filesystem::create_directories(top_ + "/outside");
    std::ofstream(top_ + "/outside/secret") << "untouched";
  }
  void TearDown() override {
    EXPECT_EQ(content(top_ + "/outside/secret"), "untouched");
    EXPECT_EQ(names(top_ + "/outside"), std::vector<std::string>{"secret"});
    EXPECT_EQ(names(top_).size(), 2U);  // nothing beside root and outside
    std::filesystem::remove_all(top_);
  }

  /// Unpacks into a fresh root; "" or the error's text.
  std::string unpack(const std::string& archive) {
    std::filesystem::remove_all(root_);
    std::filesystem::create_directory(root_);
    const auto umask = current_umask();
    LayerWriter writer(UniqueFd(::open(root_.c_str(), O_RDONLY | O_DIRECTORY | O_CLOEXEC)), *umask);
    TarReader reader({}, writer);
    auto done = reader.push(as_bytes(archive));
    if (done) done = reader.finish();
    if (done) done = writer.finish();
    stats_ = writer.stats();
    return done ? std::string() : done.error().text();
  }
  static std::string content(const std::string& path) {
    std::ifstream in(path);
    return {std::istreambuf_iterator<char>(in), {}};
  }
  static std::vector<std::string> names(const std::string& path) {
    return os::list_dir(path).value_or(std::vector<std::string>{});
  }
  [[nodiscard]] struct stat lstat_of(const std::string& path) const {
    struct stat st{};
    EXPECT_EQ(::lstat((root_ + "/" + path).c_str(), &st), 0) << path;
    return st;
  }
  [[nodiscard]] std::string xattr(const std::string& path, const char* name) const {
    char value[256];
    const ssize_t size = ::lgetxattr((root_ + "/" + path).c_str(), name, value, sizeof value);
    return size < 0 ? "(none)" : std::string(value, static_cast<std::size_t>(size));
  }
  [[nodiscard]] bool is_whiteout(const std::string& path) const {
    const struct stat st = lstat_of(path);
    return S_ISCHR(st.st_mode) && st.st_rdev == makedev(0, 0);
  }

  std::string top_, root_;
  LayerStats stats_;
};

TEST_F(LayerWriterTest, KeepsWhatTheArchiveSays) {
  const std::string capability("\x01\0\0\x02\0\x04\0\0\0\0\0\0\0\0\0\0\0\0\0\0", 20);
  ASSERT_EQ(unpack(TarBuilder()
                       .dir("./", {.mode = 0711, .uid = 7, .gid = 8, .mtime = 11})
                       .dir("d/", {.mode = 02775, .uid = 1, .gid = 50, .mtime = 12})
                       .file("d/plain", "hello", {.mode = 0666, .mtime = 13})
                       .file("suid", "x", {.mode = 06755, .uid = 1000, .gid = 1001})
                       .pax({{"SCHILY.xattr.security.capability", capability},
                             {"SCHILY.xattr.user.note", "n"},
                             {"SCHILY.xattr.trusted.overlay.opaque", "y"},
                             {"SCHILY.xattr.trusted.other", "y"},
                             {"SCHILY.xattr.user.overlay.opaque", "y"},
                             {"SCHILY.xattr.security.selinux", "l"}})
                       .file("caps", "x", {.mode = 0755, .uid = 3})
                       .hard_link("d/link", "suid")
                       .symlink("to", "/outside/../x", {.mode = 0777, .uid = 9, .mtime = 14})
                       .node("null", '3', {.mode = 0666, .uid = 4, .major = 1, .minor = 3})
                       .node("disk", '4', {.mode = 0660, .major = 8, .minor = 1})
                       .node("pipe", '6', {.mode = 0622})
                       .file("deep/er/file", "x")
                       .finish()),
            "");
  EXPECT_EQ(lstat_of("").st_mode & 07777, 0711U);
  EXPECT_EQ(lstat_of("").st_uid, 7U);
  EXPECT_EQ(lstat_of("").st_mtime, 11);
  EXPECT_EQ(lstat_of("d").st_mode & 07777, 02775U);
  EXPECT_EQ(lstat_of("d").st_gid, 50U);
  EXPECT_EQ(lstat_of("d").st_mtime, 12);  // although files came into it later
  EXPECT_EQ(lstat_of("d/plain").st_gid, 0U);
  EXPECT_EQ(lstat_of("d/plain").st_mode & 07777, 0666U);
  EXPECT_EQ(lstat_of("d/plain").st_mtime, 13);
  EXPECT_EQ(content(root_ + "/d/plain"), "hello");
  EXPECT_EQ(lstat_of("suid").st_mode & 07777, 06755U);
  EXPECT_EQ(lstat_of("suid").st_uid, 1000U);
  EXPECT_EQ(lstat_of("suid").st_nlink, 2U);
  EXPECT_EQ(lstat_of("d/link").st_ino, lstat_of("suid").st_ino);
  EXPECT_EQ(xattr("caps", "security.capability"), capability);
  EXPECT_EQ(xattr("caps", "user.note"), "n");
  EXPECT_EQ(xattr("caps", "trusted.overlay.opaque"), "(none)");
  EXPECT_EQ(xattr("caps", "trusted.other"), "(none)");
  EXPECT_EQ(xattr("caps", "user.overlay.opaque"), "(none)");
  EXPECT_EQ(stats_.dropped_xattrs, 4U);
  EXPECT_EQ(std::filesystem::read_symlink(root_ + "/to"), "/outside/../x");
  EXPECT_EQ(lstat_of("to").st_uid, 9U);
  EXPECT_EQ(lstat_of("to").st_mtime, 14);
  EXPECT_EQ(lstat_of("null").st_rdev, makedev(1, 3));
  EXPECT_EQ(lstat_of("null").st_mode & 07777, 0666U);
  EXPECT_TRUE(S_ISBLK(lstat_of("disk").st_mode));
  EXPECT_TRUE(S_ISFIFO(lstat_of("pipe").st_mode));
  EXPECT_EQ(lstat_of("deep/er").st_mode & 07777, 0755U);
  EXPECT_THAT(stats_.implied_dirs, ElementsAre("deep", "deep/er"));
  EXPECT_TRUE(stats_.has_root_entry);
}

TEST_F(LayerWriterTest, TurnsWhiteoutsIntoOverlayfsForm) {
  ASSERT_EQ(unpack(TarBuilder()
                       .dir("d/")
                       .file("d/.wh.gone", "")
                       .dir("opaque/")
                       .file("opaque/.wh..wh..opq", "")
                       .file("opaque/kept", "x")
                       .file(".wh..wh.aufs", "")
                       .dir("remade/")
                       .file(".wh.remade", "")
                       .file(".wh.again", "")
                       .dir("again/")
                       .file(".wh.file", "data in a whiteout")
                       .file("file", "new")
                       .file("first", "old")
                       .file(".wh.first", "")
                       .finish()),
            "");
  EXPECT_TRUE(is_whiteout("d/gone"));
  EXPECT_EQ(xattr("opaque", "trusted.overlay.opaque"), "y");
  EXPECT_EQ(content(root_ + "/opaque/kept"), "x");
  EXPECT_EQ(xattr("remade", "trusted.overlay.opaque"), "y");
  EXPECT_EQ(xattr("again", "trusted.overlay.opaque"), "y");
  EXPECT_EQ(content(root_ + "/file"), "new");
  EXPECT_EQ(content(root_ + "/first"), "old");
  EXPECT_THAT(names(root_), UnorderedElementsAre("d", "opaque", "remade", "again", "file", "first"));
}

TEST_F(LayerWriterTest, StaysInsideItsRoot) {
  const std::string outside = top_ + "/outside";
  EXPECT_THAT(unpack(TarBuilder().file("../outside/new", "x").finish()), HasSubstr("leaves the layer by \"..\""));
  EXPECT_THAT(unpack(TarBuilder().file("a/../../outside/secret", "x").finish()),
              HasSubstr("entry \"a/../../outside/secret\""));
  EXPECT_THAT(unpack(TarBuilder().hard_link("h", "../outside/secret").finish()), HasSubstr("leaves the layer by"));
  EXPECT_THAT(unpack(TarBuilder().hard_link("h", outside + "/secret").finish()), HasSubstr("is not in this layer"));
  EXPECT_THAT(unpack(TarBuilder().file(".wh...", "").finish()), HasSubstr("a whiteout of"));
  EXPECT_THAT(unpack(TarBuilder().file(".wh.", "").finish()), HasSubstr("a whiteout of"));

  // Absolute names are names below the root.
  ASSERT_EQ(unpack(TarBuilder().file(outside + "/secret", "inside").finish()), "");
  EXPECT_EQ(content(root_ + outside + "/secret"), "inside");

  // Through links, absolute and relative: followed inside the root only.
  for (const std::string& target :
       {outside, std::string("../outside"), std::string("../../../../../../..") + outside}) {
    const std::string answer = unpack(TarBuilder().symlink("link", target).file("link/secret", "hit").finish());
    EXPECT_THAT(answer, HasSubstr("a link on its path leads nowhere")) << target;
    EXPECT_THAT(unpack(TarBuilder().symlink("link", target).hard_link("h", "link/secret").finish()),
                HasSubstr("is not in this layer"));
    EXPECT_THAT(unpack(TarBuilder().symlink("link", target).file("link/.wh.secret", "").finish()),
                HasSubstr("leads nowhere"));
  }
  ASSERT_EQ(unpack(TarBuilder().dir("real/").symlink("link", "/real").file("link/f", "x").finish()), "");
  EXPECT_EQ(content(root_ + "/real/f"), "x");

  // A file over a link replaces the link and does not write through it.
  ASSERT_EQ(unpack(TarBuilder().symlink("link", outside + "/secret").file("link", "hit").finish()), "");
  EXPECT_EQ(content(root_ + "/link"), "hit");
  // A hard link to a symlink is the symlink; writing to its name replaces it.
  ASSERT_EQ(unpack(TarBuilder().symlink("a", outside + "/secret").hard_link("b", "a").file("b", "hit").finish()), "");
  EXPECT_EQ(content(root_ + "/b"), "hit");
  // Owner and mode of a symlink's target stay.
  ASSERT_EQ(unpack(TarBuilder().symlink("a", outside + "/secret", {.mode = 0, .uid = 99}).finish()), "");
  // A directory that becomes a link: what was postponed for it must not go through the link.
  ASSERT_EQ(unpack(TarBuilder().dir("d/", {.mode = 0}).dir("d/sub/", {.mode = 0}).symlink("d", outside).finish()), "");
  struct stat st{};
  ASSERT_EQ(::stat(outside.c_str(), &st), 0);
  EXPECT_NE(st.st_mode & 07777, 0U);
  EXPECT_EQ(st.st_uid, 0U);
}

TEST_F(LayerWriterTest, LaterEntriesReplaceEarlierOnes) {
  ASSERT_EQ(unpack(TarBuilder()
                       .dir("a/")
                       .file("a/b", "1")
                       .file("a", "file now")
                       .file("f", "old")
                       .dir("f/")
                       .file("f/in", "2")
                       .file("x", "one")
                       .file("x", "two")
                       .file("h", "one")
                       .hard_link("l", "h")
                       .file("h", "two")
                       .symlink("s", "1")
                       .symlink("s", "2")
                       .finish()),
            "");
  EXPECT_EQ(content(root_ + "/a"), "file now");
  EXPECT_EQ(content(root_ + "/f/in"), "2");
  EXPECT_EQ(content(root_ + "/x"), "two");
  EXPECT_EQ(content(root_ + "/l"), "one");
  EXPECT_EQ(content(root_ + "/h"), "two");
  EXPECT_EQ(std::filesystem::read_symlink(root_ + "/s"), "2");
}

TEST_F(LayerWriterTest, RefusesWhatCannotBe) {
  EXPECT_THAT(unpack(TarBuilder().file("f", "x").file("f/below", "x").finish()), HasSubstr("entry \"f/below\""));
  EXPECT_THAT(unpack(TarBuilder().symlink("a", "b").symlink("b", "a").file("a/x", "").finish()),
              HasSubstr("no directory"));
  EXPECT_THAT(unpack(TarBuilder().dir("d/").hard_link("h", "d").finish()), HasSubstr("is a directory"));
  EXPECT_THAT(unpack(TarBuilder().raw('0', ".", "", 0, "").finish()), HasSubstr("root of the layer is no directory"));
  EXPECT_THAT(unpack(TarBuilder().file(std::string(256, 'n'), "x").finish()), HasSubstr("longer than 255"));
  std::string deep;
  for (int i = 0; i < 500; ++i) deep += "d/";
  EXPECT_THAT(unpack(TarBuilder().file(deep + "f", "x").finish()), HasSubstr("deeper than 400"));
}

}  // namespace
}  // namespace berth::image
