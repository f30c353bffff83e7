#include "image/store.h"

#include <fcntl.h>
#include <gmock/gmock.h>
#include <gtest/gtest.h>
#include <sched.h>
#include <sys/mount.h>
#include <sys/stat.h>
#include <unistd.h>

#include <filesystem>
#include <fstream>

#include "base/strings.h"
#include "image/testing/http_server.h"
#include "image/testing/store_fixture.h"
#include "image/testing/tar_builder.h"
#include "os/file.h"
#include "spec/image.h"

// What containers and volumes get of the store, and hold. Needs root.
namespace berth::image {
namespace {

using testing::build_image;
using testing::BuiltLayer;
using testing::digest_of;
using ::testing::ElementsAre;
using testing::gzip_layer;
using ::testing::HasSubstr;
using testing::HttpServer;
using ::testing::IsEmpty;
using testing::TarBuilder;

std::string content(const std::string& path) {
  std::ifstream in(path);
  return {std::istreambuf_iterator<char>(in), {}};
}

TEST_F(StoreTest, ContainersHoldTheirLayers) {
  images_ = {{"a:1", build_image({layer("file", "text")})}};
  with_registry([&](HttpServer& server) {
    auto store = open();
    const auto info = store->pull(server.host() + "/a:1", {});
    ASSERT_TRUE(info);
    EXPECT_EQ(store->prepare_rootfs("c1", "sha256:" + std::string(64, '0'), std::nullopt).error().code(),
              Code::kNotFound);
    EXPECT_EQ(store->prepare_rootfs("../x", info->id, std::nullopt).error().code(), Code::kInvalid);
    const auto first = store->prepare_rootfs("c1", info->id, std::nullopt);
    ASSERT_TRUE(first) << first.error().text();
    const auto again = store->prepare_rootfs("c1", info->id, std::nullopt);
    ASSERT_TRUE(again);
    EXPECT_EQ(first->options, again->options);
    const auto tree = [&] { return store->layer_dirs(info->id)->paths.at(0); };
    ASSERT_TRUE(store->remove(info->id));
    EXPECT_TRUE(store->list().empty());
    EXPECT_EQ(content(tree() + "/file"), "text");
    EXPECT_EQ(store->prepare_rootfs("c2", info->id, std::nullopt).error().code(), Code::kNotFound);
    store.reset();
    store = open();
    EXPECT_TRUE(store->list().empty());
    EXPECT_THAT(store->rootfs_holders(), ElementsAre("c1"));
    EXPECT_TRUE(store->layer_dirs(info->id));
    EXPECT_EQ(content(tree() + "/file"), "text");
    // Pulled again it is an image again, and nothing is fetched twice.
    const auto back = store->pull(server.host() + "/a:1", {});
    ASSERT_TRUE(back) << back.error().text();
    EXPECT_EQ(blob_fetches(server, digest_of(images_.at("a:1").layers[0].blob)), 1U);
    ASSERT_TRUE(store->remove(info->id));
    ASSERT_TRUE(store->remove_rootfs("c1"));
    ASSERT_TRUE(store->remove_rootfs("c1"));
    ASSERT_TRUE(store->remove_rootfs("never-there"));
    EXPECT_THAT(store->rootfs_holders(), IsEmpty());
    EXPECT_EQ(store->usage().used_bytes, 0U);
    store.reset();
    EXPECT_THAT(store_leftovers(), IsEmpty());
  });
}

TEST_F(StoreTest, VolumesHoldTheirLayers) {
  images_ = {{"a:1", build_image({layer("file", "text")})}};
  with_registry([&](HttpServer& server) {
    auto store = open();
    const auto info = store->pull(server.host() + "/a:1", {});
    ASSERT_TRUE(info);
    EXPECT_EQ(store->prepare_volume("v1", "sha256:" + std::string(64, '0')).error().code(), Code::kNotFound);
    EXPECT_EQ(store->prepare_volume("../x", info->id).error().code(), Code::kInvalid);
    const auto first = store->prepare_volume("v1", info->id);
    ASSERT_TRUE(first) << first.error().text();
    const auto again = store->prepare_volume("v1", info->id);
    ASSERT_TRUE(again);
    EXPECT_EQ(first->options, again->options);
    const auto tree = [&] { return store->layer_dirs(info->id)->paths.at(0); };
    ASSERT_EQ(first->options.size(), 1U);
    // Two folders even of one layer, and no place to write to; a merged image as it is.
    const bool merged = first->type == "bind";
    EXPECT_EQ(merged ? first->source : first->options[0].substr(0, first->options[0].find(':')),
              (merged ? "" : "lowerdir=") + tree());
    ASSERT_TRUE(store->prepare_rootfs("c1", info->id, std::nullopt));
    ASSERT_TRUE(store->remove(info->id));
    ASSERT_TRUE(store->remove_rootfs("c1"));
    EXPECT_EQ(content(tree() + "/file"), "text");
    store.reset();
    store = open();
    EXPECT_THAT(store->rootfs_holders(), ElementsAre("v1"));
    EXPECT_EQ(content(tree() + "/file"), "text");
    ASSERT_TRUE(store->remove_rootfs("v1"));
    ASSERT_TRUE(store->remove_rootfs("v1"));
    EXPECT_EQ(store->usage().used_bytes, 0U);
    store.reset();
    EXPECT_THAT(store_leftovers(), IsEmpty());
  });
}

TEST_F(StoreTest, OverlayShowsTheMergedImage) {
  const std::string bottom = TarBuilder()
                                 .dir("./", {.mode = 0751})
                                 .dir("tmp/", {.mode = 01777, .uid = 0, .gid = 5})
                                 .dir("etc/")
                                 .file("etc/a", "a1")
                                 .file("etc/b", "b1")
                                 .dir("opt/")
                                 .file("opt/x", "x1")
                                 .file("opt/y", "y1")
                                 .dir("gone/")
                                 .file("gone/f", "1")
                                 .dir("remade/")
                                 .file("remade/old", "1")
                                 .finish();
  const std::string middle = TarBuilder()
                                 .dir("etc/")
                                 .file("etc/.wh.a", "")
                                 .file("etc/c", "c2")
                                 .file("opt/.wh..wh..opq", "")
                                 .file("opt/z", "z2")
                                 .file(".wh.gone", "")
                                 .file(".wh.remade", "")
                                 .dir("remade/")
                                 .file("remade/new", "2")
                                 .finish();
  const std::string top = TarBuilder().file("tmp/t", "t3").file("etc/b", "b3").finish();
  images_ = {{"a:1", build_image({gzip_layer(bottom), gzip_layer(middle), gzip_layer(top), gzip_layer(bottom)})},
             {"b:1", build_image({gzip_layer(bottom), gzip_layer(middle), gzip_layer(top)})}};
  with_registry([&](HttpServer& server) {
    auto store = open();
    const auto twice = store->pull(server.host() + "/a:1", {});
    const auto info = store->pull(server.host() + "/b:1", {});
    ASSERT_TRUE(twice && info);
    const auto lower = store->layer_dirs(twice->id)->paths.size();
    EXPECT_TRUE(lower == 1U || lower == 3U) << lower;  // overlayfs refuses one folder twice
    const std::string at = sandbox_.dir() + "/mnt";
    ASSERT_TRUE(os::make_dirs(at));
    // A mount namespace of this thread: it goes with the thread.
    std::jthread([&] {
      ASSERT_EQ(::unshare(CLONE_NEWNS), 0);
      ASSERT_EQ(::mount(nullptr, "/", nullptr, MS_REC | MS_PRIVATE, nullptr), 0);
      const auto mount_at = [&](const std::string& id, const std::string& container) {
        const auto rootfs = store->prepare_rootfs(container, id, std::nullopt);
        ASSERT_TRUE(rootfs);
        ASSERT_EQ(::mount("overlay", at.c_str(), "overlay", 0, join(rootfs->options, ",").c_str()), 0)
            << strerror(errno);
      };
      mount_at(info->id, "c1");
      const auto list = [&](const std::string& dir) { return *os::list_dir(at + dir); };
      EXPECT_THAT(list(""), ElementsAre("etc", "opt", "remade", "tmp"));
      EXPECT_THAT(list("/etc"), ElementsAre("b", "c"));
      EXPECT_EQ(content(at + "/etc/b"), "b3");
      EXPECT_THAT(list("/opt"), ElementsAre("z"));
      EXPECT_THAT(list("/remade"), ElementsAre("new"));
      EXPECT_THAT(list("/tmp"), ElementsAre("t"));
      struct stat st{};
      ASSERT_EQ(::stat((at + "/tmp").c_str(), &st), 0);  // the top layer has tmp/t and says nothing about tmp
      EXPECT_EQ(st.st_mode & 07777, 01777U);
      EXPECT_EQ(st.st_gid, 5U);
      ASSERT_EQ(::stat(at.c_str(), &st), 0);
      EXPECT_EQ(st.st_mode & 07777, 0751U);
      std::ofstream(at + "/etc/written") << std::string(10'000, 'w');
      ASSERT_EQ(::umount(at.c_str()), 0);
      mount_at(info->id, "c1");  // again: a volatile overlay's mark is taken away
      EXPECT_EQ(content(at + "/etc/written").size(), 10'000U);
      ASSERT_EQ(::umount(at.c_str()), 0);
      mount_at(twice->id, "c2");
      EXPECT_EQ(content(at + "/etc/a"), "a1");
      EXPECT_EQ(content(at + "/etc/b"), "b1");
      ASSERT_EQ(::umount(at.c_str()), 0);
    }).join();
    const auto usage = store->rootfs_usage("c1");
    ASSERT_TRUE(usage) << usage.error().text();
    EXPECT_GE(usage->used_bytes, 10'000U);
    EXPECT_EQ(usage->inodes_used, 3U);  // upper, etc, etc/written
    EXPECT_EQ(store->rootfs_usage("none").error().code(), Code::kNotFound);
    for (const char* id : {"c1", "c2"}) ASSERT_TRUE(store->remove_rootfs(id));
    for (const auto& image : store->list()) ASSERT_TRUE(store->remove(image.id));
    store.reset();
    EXPECT_THAT(store_leftovers(), IsEmpty());
  });
}

TEST_F(StoreTest, FilesBelowALowerLayersLinkAreRefused) {
  images_ = {
      {"a:1", build_image({gzip_layer(TarBuilder().dir("usr/").dir("usr/lib/").symlink("lib", "usr/lib").finish()),
                           layer("lib/x")})}};
  with_registry([&](HttpServer& server) {
    auto store = open();
    const auto info = store->pull(server.host() + "/a:1", {});
    ASSERT_FALSE(info);
    EXPECT_EQ(info.error().code(), Code::kUnsupported);
    EXPECT_THAT(info.error().text(), HasSubstr("puts files below \"lib\", which is a link in a lower layer"));
    store.reset();
    EXPECT_THAT(store_leftovers(), IsEmpty());
  });
}

TEST_F(StoreTest, DropsWhatACrashLeft) {
  images_ = {{"a:1", build_image({layer("file")})}, {"b:1", build_image({layer("other")})}};
  with_registry([&](HttpServer& server) {
    auto store = open();
    const auto a = store->pull(server.host() + "/a:1", {});
    const auto b = store->pull(server.host() + "/b:1", {});
    ASSERT_TRUE(a && b);
    const std::string layer_of_a = sandbox_.dir() + "/store/layers/" + images_.at("a:1").layers[0].diff_id.substr(7);
    store.reset();
    const std::string root = sandbox_.dir() + "/store";
    std::filesystem::create_directories(root + "/tmp/half/fs/deep");
    std::filesystem::create_directories(root + "/layers/" + std::string(64, 'e') + "/fs");
    std::filesystem::create_directories(root + "/containers/halfmade");
    std::ofstream(root + "/images/" + std::string(64, 'f') + ".json") << "";
    std::ofstream(root + "/refs/" + std::string(64, 'f') + ".json") << "{\"version\":1,";
    std::ofstream(root + "/meta/" + std::string(64, 'f') + ".tmp-1234") << "x";
    // As if the power had gone before the layer was flushed: another boot, no mark.
    std::string info = content(layer_of_a + "/info.json");
    const std::size_t boot = info.find("\"bootId\":\"") + 10;
    info.replace(boot, 4, "gone");
    if (const auto durable = info.find("\"durable\":true"); durable != std::string::npos) {
      info.replace(durable + 10, 4, "null");
    }
    std::ofstream(layer_of_a + "/info.json") << info;
    std::filesystem::remove(layer_of_a + "/synced");
    store = open();
    ASSERT_EQ(store->list().size(), 1U);
    EXPECT_EQ(store->list()[0].id, b->id);
    EXPECT_FALSE(store->find(server.host() + "/a:1"));
    EXPECT_THAT(store->rootfs_holders(), IsEmpty());
    EXPECT_TRUE(store->pull(server.host() + "/a:1", {}));
    for (const auto& image : store->list()) ASSERT_TRUE(store->remove(image.id));
    store.reset();
    EXPECT_THAT(store_leftovers(), IsEmpty());
  });
}

TEST_F(StoreTest, RemovesAnUpperFolderHoweverDeep) {
  images_ = {{"a:1", build_image({layer("file")})}};
  with_registry([&](HttpServer& server) {
    auto store = open();
    const auto info = store->pull(server.host() + "/a:1", {});
    ASSERT_TRUE(info);
    ASSERT_TRUE(store->prepare_rootfs("c1", info->id, std::nullopt));
    UniqueFd at(::open((sandbox_.dir() + "/store/containers/c1/upper").c_str(), O_RDONLY | O_DIRECTORY | O_CLOEXEC));
    for (int i = 0; i < 1500; ++i) {
      ASSERT_EQ(::mkdirat(at.get(), "d", 0755), 0);
      if (i % 100 == 0) {
        ASSERT_EQ(::mkdirat(at.get(), "e", 0755), 0);
      }
      at = UniqueFd(::openat(at.get(), "d", O_RDONLY | O_DIRECTORY | O_CLOEXEC));
    }
    at.reset();
    EXPECT_TRUE(store->rootfs_usage("c1"));
    ASSERT_TRUE(store->remove_rootfs("c1"));
    ASSERT_TRUE(store->remove(info->id));
    store.reset();
    EXPECT_THAT(store_leftovers(), IsEmpty());
  });
}

}  // namespace
}  // namespace berth::image
