// The forms in which a layer may be kept show the same files: each is made of the same archives, put over one another,
// and compared file by file. Needs root, and a kernel that mounts EROFS from files.
#include <fcntl.h>
#include <gmock/gmock.h>
#include <gtest/gtest.h>
#include <sys/mount.h>
#include <sys/stat.h>

#include <cstdlib>
#include <filesystem>
#include <random>

#include "image/archive_layer.h"
#include "image/directory_layer.h"
#include "image/disk.h"
#include "image/erofs_mount.h"
#include "image/erofs_reader.h"
#include "image/image_index.h"
#include "image/implied_dirs.h"
#include "image/layer_tree_builder.h"
#include "image/tar_reader.h"
#include "image/testing/tar_builder.h"
#include "image/testing/tree_text.h"
#include "os/file.h"
#include "os/mount.h"

namespace berth::image {
namespace {

using testing::describe_tree;
using testing::TarBuilder;

using Files = std::map<std::string, std::string>;

Result<LayerStats> fill(LayerForm& form, std::string_view archive) {
  TarReader reader({}, form.entries());
  BERTH_TRY(form.raw(as_bytes(archive)), "raw");
  BERTH_TRY(reader.push(as_bytes(archive)), "read");
  BERTH_TRY(reader.finish(), "read");
  return form.finish();
}

class LayerFormsTest : public ::testing::Test {
 protected:
  void SetUp() override {
    std::string name = "/tmp/berth-forms-XXXXXX";
    ASSERT_NE(::mkdtemp(name.data()), nullptr);
    top_ = name;
    if (const auto works = probe_erofs(top_); !works) GTEST_SKIP() << works.error().text();
    auto disk = Disk::open(top_ + "/store");
    ASSERT_TRUE(disk) << disk.error().text();
    disk_ = std::make_unique<Disk>(std::move(*disk));
  }
  void TearDown() override {
    disk_.reset();
    std::filesystem::remove_all(top_);
  }
  void clear() {
    for (const char* folder : {"/dirs", "/store/layers", "/store/images"}) {
      std::filesystem::remove_all(top_ + folder);
      std::filesystem::create_directory(top_ + folder);
    }
  }

  /// As overlayfs shows the unpacked layers, or the error's code.
  Result<Files> as_directories(const std::vector<std::string>& archives) {
    std::vector<LayerStats> layers;
    std::size_t first = 0;
    for (std::size_t i = 0; i < archives.size(); ++i) {
      const std::string folder = top_ + "/dirs/" + std::to_string(i);
      std::filesystem::create_directory(folder);
      BERTH_ASSIGN(const auto form, DirectoryLayer::start(folder, UINT64_MAX), "directory");
      BERTH_ASSIGN(layers.emplace_back(), fill(*form, archives[i]), "directory");
      if (layers.back().root_opaque) first = i;
    }
    std::vector<std::string> lower;  // top first
    for (std::size_t i = first; i < archives.size(); ++i) {
      const std::string tree = top_ + "/dirs/" + std::to_string(i) + "/fs";
      BERTH_TRY(adopt_lower_attributes(tree, layers[i].implied_dirs, lower, true), "directory");
      lower.insert(lower.begin(), tree);
    }
    std::filesystem::create_directory(top_ + "/dirs/empty");
    lower.push_back(top_ + "/dirs/empty");
    BERTH_ASSIGN(const UniqueFd context, os::fs_open("overlay"), "overlay");
    for (const auto& path : lower) BERTH_TRY(os::fs_set(context.get(), "lowerdir+", path.c_str()), "overlay");
    BERTH_ASSIGN(const UniqueFd tree, os::fs_mount(context.get(), 0), "overlay");
    return describe_tree(path_of(tree.get()));
  }

  /// As the merged index shows the archives.
  Result<Files> as_archives(const std::vector<std::string>& archives) {
    std::vector<LayerRecord> layers;
    std::vector<std::string> paths;
    for (std::size_t i = 0; i < archives.size(); ++i) {
      BERTH_ASSIGN(const std::string id, sha256_of(std::to_string(i) + archives[i]), "name");
      std::filesystem::create_directory(disk_->layer_dir(id));
      BERTH_ASSIGN(const auto form, ArchiveLayer::start(disk_->layer_dir(id), UINT64_MAX), "archive");
      BERTH_ASSIGN(const LayerStats stats, fill(*form, archives[i]), "archive");
      if (stats.root_opaque) {
        layers.clear();
        paths.clear();
      }
      layers.push_back({.diff_id = id,
                        .archive_bytes = stats.archive_bytes,
                        .has_root_entry = stats.has_root_entry,
                        .implied_dirs = stats.implied_dirs});
      paths.push_back(disk_->archive_path(id));
    }
    const std::string index = top_ + "/store/images/test.erofs";
    BERTH_TRY(write_image_index(*disk_, layers, index), "index");
    BERTH_ASSIGN(const UniqueFd tree, mount_erofs(index, paths), "mount");
    return describe_tree(path_of(tree.get()));
  }

  void expect_same(const std::vector<std::string>& archives) {
    clear();
    const auto directories = as_directories(archives);
    const auto indexes = as_archives(archives);
    ASSERT_EQ(directories.has_value(), indexes.has_value())
        << (directories ? "" : directories.error().text()) << " | " << (indexes ? "" : indexes.error().text());
    if (!directories) {
      EXPECT_EQ(directories.error().code(), indexes.error().code())
          << directories.error().text() << " | " << indexes.error().text();
      return;
    }
    ++compared_;
    files_ += directories->size();
    for (const auto& [path, text] : *directories) {
      const auto other = indexes->find(path);
      EXPECT_EQ(other == indexes->end() ? "absent" : other->second, text) << path;
    }
    for (const auto& [path, text] : *indexes) EXPECT_TRUE(directories->contains(path)) << path << " " << text;
  }

  std::string top_;
  std::unique_ptr<Disk> disk_;
  unsigned compared_ = 0;
  std::size_t files_ = 0;
};

TEST_F(LayerFormsTest, EachKindOfFile) {
  const std::string capability("\x01\0\0\x02\0\x04\0\0\0\0\0\0\0\0\0\0\0\0\0\0", 20);
  const std::string long_name(255, 'n');
  std::string deep;
  for (int i = 0; i < 30; ++i) deep += "folder-" + std::to_string(i) + "/";
  expect_same({TarBuilder()
                   .dir("./", {.mode = 0711, .uid = 7, .gid = 8, .mtime = 11})
                   .dir("d/", {.mode = 02775, .uid = 1, .gid = 50, .mtime = -12})
                   .file("d/plain", "hello", {.mode = 0666, .mtime = 13})
                   .file("empty", "")
                   .file("block", std::string(512, 'b'))
                   .file("more", std::string(70000, 'm'), {.uid = 4'000'000'000U, .gid = 3'999'999'999U})
                   .file("suid", "x", {.mode = 06755, .uid = 1000, .gid = 1001})
                   .pax({{"SCHILY.xattr.security.capability", capability},
                         {"SCHILY.xattr.user.note", std::string(3000, 'n')},
                         {"SCHILY.xattr.user.empty", ""},
                         {"SCHILY.xattr.trusted.overlay.opaque", "y"},
                         {"SCHILY.xattr.security.selinux", "l"},
                         {"mtime", "1234567890.123456789"}})
                   .file("caps", "x", {.mode = 0755, .uid = 3})
                   .pax({{"SCHILY.xattr.user.note", "n"}})
                   .dir("noted/")
                   .hard_link("d/link", "suid")
                   .hard_link("d/link2", "d/link")
                   .symlink("to", "/outside/../x", {.mode = 0777, .uid = 9, .mtime = 14})
                   .symlink("short", "x")
                   .pax({{"linkpath", std::string(4000, 'l')}})
                   .symlink("long-link", "cut")
                   .pax({{"linkpath", std::string(448, 'l')}})
                   .symlink("link-448", "cut")
                   .pax({{"linkpath", std::string(449, 'l')}})
                   .symlink("link-449", "cut")
                   .node("null", '3', {.mode = 0666, .uid = 4, .major = 1, .minor = 3})
                   .node("many", '3', {.mode = 0600, .major = 0xfff, .minor = 0xfffff})
                   .node("disk", '4', {.mode = 0660, .major = 8, .minor = 1})
                   .node("pipe", '6', {.mode = 0622})
                   .gnu_long('L', long_name)
                   .file("cut", "long name")
                   .file(deep + "file", "x")
                   .finish()});
  EXPECT_EQ(compared_, 1U);
}

TEST_F(LayerFormsTest, FoldersOfEverySize) {
  TarBuilder archive;
  // Around a block's and an inline tail's end.
  for (int count = 0; count < 90; ++count) {
    const std::string folder = "d" + std::to_string(count);
    archive.dir(folder);
    for (int i = 0; i < count; ++i) archive.file(folder + "/" + std::string(1 + i % 7, 'f') + std::to_string(i), "");
  }
  archive.dir("big");
  for (int i = 0; i < 5000; ++i) archive.file("big/some-file-" + std::to_string(i * 7919 % 5000), std::to_string(i));
  expect_same({archive.finish()});
  EXPECT_EQ(compared_, 1U);
}

TEST_F(LayerFormsTest, LayersOverOneAnother) {
  expect_same({TarBuilder()
                   .dir("etc/", {.mode = 0750, .uid = 5, .mtime = 100})
                   .file("etc/one", "1")
                   .file("etc/two", "2")
                   .hard_link("etc/two-too", "etc/two")
                   .dir("var/", {.mode = 0701, .gid = 6, .mtime = 101})
                   .file("var/a/b/c", "deep")
                   .dir("gone/")
                   .file("gone/file", "x")
                   .file("becomes-folder", "x")
                   .dir("becomes-file/")
                   .file("becomes-file/inside", "x")
                   .symlink("link", "etc")
                   .finish(),
               TarBuilder()
                   .file("etc/.wh.one", "")
                   .file("etc/three", "3")
                   .file(".wh.gone", "")
                   .file("var/a/.wh..wh..opq", "")
                   .file("var/a/new", "n")
                   .dir("becomes-folder/")
                   .file("becomes-folder/x", "x")
                   .file("becomes-file", "now")
                   .finish(),
               TarBuilder().file("gone/again", "y").file("etc/.wh.two", "").file("var/z", "z").finish()});
  // Nothing below a link of a lower layer, in either form.
  expect_same({TarBuilder().dir("real").symlink("link", "real").finish(), TarBuilder().file("link/x", "x").finish()});
  EXPECT_EQ(compared_, 1U);
}

/// Archives that no builder makes, out of few names, so that everything meets everything.
class Archives final {
 public:
  /// Every other seed makes archives without entries that are refused, so that more of the others meet.
  explicit Archives(unsigned seed) : random_(seed), good_(seed % 2 == 0) {}

  std::vector<std::string> some() {
    std::vector<std::string> out(1 + pick(4));
    for (auto& archive : out) archive = one();
    return out;
  }

 private:
  unsigned pick(unsigned count) { return static_cast<unsigned>(random_() % count); }
  std::string name() { return std::string(1, static_cast<char>('a' + pick(4))); }
  std::string path() {
    std::string out;
    for (unsigned depth = pick(3); depth != 0; --depth) out += name() + "/";
    return out;
  }
  testing::TarMeta meta() {
    constexpr std::uint32_t kModes[] = {0644, 0755, 0600, 04755, 02750, 01777, 0};
    return {.mode = kModes[pick(7)], .uid = pick(3) * 1000, .gid = pick(3) * 100, .mtime = 1'700'000'000 + pick(1000)};
  }
  std::string one() {
    TarBuilder out;
    if (pick(3) == 0) out.dir("./", meta());
    for (unsigned i = pick(20); i != 0; --i) {
      TarBuilder next = out;
      add(next);
      if (!good_ || accepted(next.finish())) out = next;
    }
    return out.finish();
  }
  static bool accepted(const std::string& archive) {
    LayerTreeBuilder builder;
    TarReader reader({}, builder);
    return reader.push(as_bytes(archive)).has_value();
  }
  void add(TarBuilder& out) {
    const std::string where = path();
    switch (pick(11)) {
      case 0:
      case 1:
      case 2:
        out.file(where + name(), std::string(pick(3) * pick(900), static_cast<char>('a' + pick(26))), meta());
        break;
      case 3:
      case 4:
      case 5:
        out.dir(where + name() + "/", meta());
        break;
      case 6:
        out.symlink(where + name(), pick(2) == 0 ? "/" + path() + name() : path() + name(), meta());
        break;
      case 7:
        out.hard_link(where + name(), path() + name());
        break;
      case 8:
        out.node(where + name(), "346"[pick(3)], meta());
        break;
      case 9:
        out.file(where + ".wh." + name(), "");
        break;
      default:
        out.file(where + ".wh..wh..opq", "");
    }
  }

  std::mt19937 random_;
  bool good_;
};

TEST_F(LayerFormsTest, WhateverTheArchivesHold) {
  const char* count = std::getenv("BERTH_LAYER_FORMS");
  const unsigned rounds = count == nullptr ? 600 : static_cast<unsigned>(std::strtoul(count, nullptr, 10));
  for (unsigned seed = 1; seed <= rounds && !HasFailure(); ++seed) {
    SCOPED_TRACE("seed " + std::to_string(seed));
    const auto archives = Archives(seed).some();
    expect_same(archives);
    for (std::size_t i = 0; HasFailure() && i < archives.size(); ++i) {
      const std::string path = "/tmp/berth-forms-" + std::to_string(i) + ".tar";
      EXPECT_TRUE(os::write_file_atomic(path, archives[i])) << "for a look with tar tv";
    }
  }
  std::printf("%u sets of layers, %zu files\n", compared_, files_);
  EXPECT_GT(compared_, rounds / 4);
}

}  // namespace
}  // namespace berth::image
