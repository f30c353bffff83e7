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
#include <latch>
#include <thread>

#include "base/strings.h"
#include "image/testing/http_server.h"
#include "image/testing/sandbox.h"
#include "image/testing/tar_builder.h"
#include "os/file.h"
#include "spec/image.h"

// The store over a well-behaved stand-in registry. Needs root.
namespace berth::image {
namespace {

using testing::build_image;
using testing::BuiltImage;
using testing::BuiltLayer;
using testing::digest_of;
using ::testing::ElementsAre;
using testing::gzip_layer;
using ::testing::HasSubstr;
using testing::HttpServer;
using ::testing::IsEmpty;
using testing::Reply;
using testing::Sandbox;
using testing::serve_image;
using testing::ServerRequest;
using testing::TarBuilder;

std::string content(const std::string& path) {
  std::ifstream in(path);
  return {std::istreambuf_iterator<char>(in), {}};
}

BuiltLayer layer(const std::string& name, const std::string& text = "x") {
  return gzip_layer(TarBuilder().file(name, text).finish());
}

class StoreTest : public ::testing::Test {
 protected:
  /// Runs `work` beside a registry that serves images_ ("repository:tag").
  void with_registry(const std::function<void(HttpServer&)>& work) {
    sandbox_.run([&] {
      HttpServer server([this](const ServerRequest& request, Reply& reply) { serve(request, reply); });
      work(server);
    });
  }
  void serve(const ServerRequest& request, Reply& reply) {
    if (hook_) hook_(request);
    std::map<std::string, BuiltImage> images;
    {
      const MutexLock lock(images_mutex_);
      images = images_;
    }
    for (const auto& [name, image] : images) {
      const std::size_t colon = name.find(':');
      const std::string prefix = "/v2/" + name.substr(0, colon) + "/";
      if (!request.target.starts_with(prefix)) continue;
      const std::string rest = request.target.substr(prefix.size());
      const bool wanted = rest == "manifests/" + name.substr(colon + 1) ||
                          rest == "manifests/" + image.manifest_digest() || rest.starts_with("blobs/");
      if (wanted && serve_image(image, request, reply)) return;
    }
    reply.answer(404, "");
  }
  std::unique_ptr<Store> open() {
    auto store = Store::open(sandbox_.store_options());
    EXPECT_TRUE(store) << store.error().text();
    return store ? std::move(*store) : nullptr;
  }
  static std::size_t blob_fetches(const HttpServer& server, const std::string& digest) {
    std::size_t count = 0;
    for (const std::string& line : server.log()) count += line.ends_with("/blobs/" + digest) ? 1U : 0U;
    return count;
  }
  [[nodiscard]] std::vector<std::string> store_leftovers() const {
    return testing::leftovers(sandbox_.dir() + "/store");
  }

  Sandbox sandbox_;
  Mutex images_mutex_;  ///< for changes while a server runs
  std::map<std::string, BuiltImage> images_;
  std::function<void(const ServerRequest&)> hook_;
};

TEST_F(StoreTest, SharesLayersAndRemovesWhatNobodyUses) {
  const BuiltLayer common = layer("common"), only_a = layer("a"), only_b = layer("b");
  images_ = {{"a:1", build_image({common, only_a})}, {"b:1", build_image({common, only_b})}};
  with_registry([&](HttpServer& server) {
    auto store = open();
    const auto a = store->pull(server.host() + "/a:1", {});
    const auto b = store->pull(server.host() + "/b:1", {});
    ASSERT_TRUE(a && b);
    EXPECT_EQ(blob_fetches(server, digest_of(common.blob)), 1U);
    EXPECT_EQ(store->list().size(), 2U);
    ASSERT_TRUE(store->find(a->id));
    EXPECT_TRUE(store->find(a->id.substr(7)));
    EXPECT_TRUE(store->find(a->id.substr(7, 12)));
    EXPECT_TRUE(store->find(a->repo_digests[0]));
    EXPECT_FALSE(store->find("sha256:" + std::string(64, '0')));
    EXPECT_FALSE(store->find("busybox"));
    EXPECT_FALSE(store->find("no such name !"));
    const std::string shared_tree = store->layer_dirs(b->id)->at(1);
    ASSERT_TRUE(store->remove(a->id));
    EXPECT_TRUE(os::exists(shared_tree + "/common"));
    EXPECT_EQ(store->remove(a->id).error().code(), Code::kNotFound);
    store.reset();
    store = open();  // what is on disk is what was in memory
    ASSERT_EQ(store->list().size(), 1U);
    EXPECT_EQ(store->list()[0].repo_tags, b->repo_tags);
    EXPECT_EQ(store->list()[0].repo_digests, b->repo_digests);
    EXPECT_EQ(store->list()[0].size_bytes, b->size_bytes);
    ASSERT_TRUE(store->remove(server.host() + "/b:1"));
    store.reset();
    EXPECT_THAT(store_leftovers(), IsEmpty());
  });
}

TEST_F(StoreTest, ConcurrentPullsOfOneImageJoin) {
  images_ = {{"a:1", build_image({layer("one"), layer("two"), layer("three"), layer("four"), layer("five")})}};
  with_registry([&](HttpServer& server) {
    auto store = open();
    // The manifest is answered when all callers are there, so that none comes too late to join.
    std::latch all(4);
    hook_ = [&](const ServerRequest& request) {
      if (request.target.ends_with("/manifests/1")) all.wait();
    };
    std::vector<std::jthread> callers;
    std::atomic<int> good{0};
    std::atomic<int> reports{0};
    for (int i = 0; i < 4; ++i) {
      callers.emplace_back([&] {
        PullOptions options;
        bool counted = false;
        options.progress = [&](const LayerProgress& p) {
          if (p.state == LayerState::kDone && !counted) {
            counted = true;
            ++reports;
          }
        };
        all.count_down();
        if (store->pull(server.host() + "/a:1", options)) ++good;
      });
    }
    callers.clear();
    EXPECT_EQ(good, 4);
    EXPECT_EQ(reports, 4);
    for (const BuiltLayer& l : images_.at("a:1").layers) EXPECT_EQ(blob_fetches(server, digest_of(l.blob)), 1U);
  });
}

TEST_F(StoreTest, ACallerThatLeavesDoesNotEndTheOthersPull) {
  images_ = {{"a:1", build_image({layer("one")})}};
  with_registry([&](HttpServer& server) {
    auto store = open();
    std::latch left(1), first_waits(1), second_waits(1);
    const std::string digest = digest_of(images_.at("a:1").layers[0].blob);
    hook_ = [&](const ServerRequest& request) {
      if (request.target.ends_with("/blobs/" + digest)) left.wait();
    };
    // A caller is in once it hears of the layer: the second one is told what the first has heard.
    const auto telling = [](std::latch& latch) {
      return [&latch, once = std::make_shared<std::once_flag>()](const LayerProgress&) {
        std::call_once(*once, [&latch] { latch.count_down(); });
      };
    };
    std::stop_source stop;
    Result<ImageInfo> first = fail(Code::kInternal, "not run");
    Result<ImageInfo> second = first;
    {
      std::jthread leaver([&] {
        PullOptions options;
        options.stop = stop.get_token();
        options.progress = telling(first_waits);
        first = store->pull(server.host() + "/a:1", options);
        left.count_down();
      });
      first_waits.wait();
      std::jthread stayer([&] {
        PullOptions options;
        options.progress = telling(second_waits);
        second = store->pull(server.host() + "/a:1", options);
      });
      second_waits.wait();
      stop.request_stop();
    }
    ASSERT_FALSE(first);
    EXPECT_EQ(first.error().code(), Code::kCancelled);
    ASSERT_TRUE(second) << second.error().text();
  });
}

TEST_F(StoreTest, TwoImagesAtOnceFetchACommonLayerOnce) {
  const BuiltLayer common = layer("common", std::string(200'000, 'c'));
  images_ = {{"a:1", build_image({common}, {.label = "a"})}, {"b:1", build_image({common}, {.label = "b"})}};
  with_registry([&](HttpServer& server) {
    auto store = open();
    std::vector<std::jthread> callers;
    std::atomic<int> good{0};
    for (const char* name : {"/a:1", "/b:1"}) {
      callers.emplace_back([&, name] {
        if (store->pull(server.host() + name, {})) ++good;
      });
    }
    callers.clear();
    EXPECT_EQ(good, 2);
    EXPECT_EQ(blob_fetches(server, digest_of(common.blob)), 1U);
  });
}

TEST_F(StoreTest, ChoosesThePlatformOfAnIndex) {
  const BuiltImage amd = build_image({layer("amd")}), arm = build_image({layer("arm")}, {.architecture = "arm64"});
  spec::Index index;
  index.media_type = spec::kOciIndexType;
  for (const auto& [image, arch] : {std::pair(&arm, "arm64"), std::pair(&amd, "amd64")}) {
    spec::Descriptor entry;
    entry.media_type = image->manifest_type;
    entry.digest = image->manifest_digest();
    entry.size = image->manifest.size();
    entry.platform.emplace();
    entry.platform->os = "linux";
    entry.platform->architecture = arch;
    index.manifests.push_back(entry);
  }
  const std::string body = spec::write_index(index);
  sandbox_.run([&] {
    HttpServer server([&](const ServerRequest& request, Reply& reply) {
      if (request.target.ends_with("/manifests/t"))
        return reply.answer(200, body, {"Content-Type: " + std::string(spec::kOciIndexType)});
      const bool is_arm = request.target.ends_with(arm.manifest_digest());
      serve_image(is_arm ? arm : amd, request, reply);
    });
    auto store = open();
    const auto info = store->pull(server.host() + "/app:t", {});
    ASSERT_TRUE(info) << info.error().text();
    EXPECT_EQ(info->id, amd.config_digest());
    EXPECT_THAT(info->repo_digests, ElementsAre(server.host() + "/app@" + digest_of(body)));
    EXPECT_TRUE(store->find(server.host() + "/app@" + digest_of(body)));
    StoreOptions other = sandbox_.store_options();
    other.root += "-s390x";
    other.platform = "linux/s390x";
    const auto missing = (*Store::open(other))->pull(server.host() + "/app:t", {});
    ASSERT_FALSE(missing);
    EXPECT_THAT(missing.error().text(),
                HasSubstr("no image for linux/s390x in the index; it has linux/amd64, linux/arm64"));
  });
}

TEST_F(StoreTest, ATagMovesFromImageToImage) {
  images_ = {{"a:1", build_image({layer("old")})}};
  with_registry([&](HttpServer& server) {
    auto store = open();
    const auto old = store->pull(server.host() + "/a:1", {});
    {
      const MutexLock lock(images_mutex_);
      images_["a:1"] = build_image({layer("new")});
    }
    const auto fresh = store->pull(server.host() + "/a:1", {});
    ASSERT_TRUE(old && fresh);
    EXPECT_NE(old->id, fresh->id);
    EXPECT_EQ(store->find(server.host() + "/a:1")->id, fresh->id);
    const auto before = store->find(old->id);
    ASSERT_TRUE(before);
    EXPECT_THAT(before->repo_tags, IsEmpty());
    EXPECT_THAT(before->repo_digests,
                ElementsAre(server.host() + "/a@" + digest_of(build_image({layer("old")}).manifest)));
    // By digest: the tag that comes with it says nothing.
    const auto by_digest = store->pull(server.host() + "/a:9@" + images_.at("a:1").manifest_digest(), {});
    ASSERT_TRUE(by_digest) << by_digest.error().text();
    EXPECT_EQ(by_digest->id, fresh->id);
    EXPECT_THAT(by_digest->repo_tags, ElementsAre(server.host() + "/a:1"));
  });
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
    const std::string tree = store->layer_dirs(info->id)->at(0);
    ASSERT_TRUE(store->remove(info->id));
    EXPECT_TRUE(store->list().empty());
    EXPECT_EQ(content(tree + "/file"), "text");
    EXPECT_EQ(store->prepare_rootfs("c2", info->id, std::nullopt).error().code(), Code::kNotFound);
    store.reset();
    store = open();
    EXPECT_TRUE(store->list().empty());
    EXPECT_THAT(store->rootfs_holders(), ElementsAre("c1"));
    EXPECT_TRUE(store->layer_dirs(info->id));
    EXPECT_EQ(content(tree + "/file"), "text");
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
    EXPECT_EQ(first->type, "overlay");
    const auto again = store->prepare_volume("v1", info->id);
    ASSERT_TRUE(again);
    EXPECT_EQ(first->options, again->options);
    const std::string tree = store->layer_dirs(info->id)->at(0);
    ASSERT_EQ(first->options.size(), 1U);
    // Two folders even of one layer, and no place to write to.
    EXPECT_TRUE(first->options[0].starts_with("lowerdir=" + tree + ":")) << first->options[0];
    ASSERT_TRUE(store->prepare_rootfs("c1", info->id, std::nullopt));
    ASSERT_TRUE(store->remove(info->id));
    ASSERT_TRUE(store->remove_rootfs("c1"));
    EXPECT_EQ(content(tree + "/file"), "text");
    store.reset();
    store = open();
    EXPECT_THAT(store->rootfs_holders(), ElementsAre("v1"));
    EXPECT_EQ(content(tree + "/file"), "text");
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
    EXPECT_EQ(store->layer_dirs(twice->id)->size(), 3U);  // overlayfs refuses one folder twice
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

TEST_F(StoreTest, OneProcessOwnsARoot) {
  auto store = open();
  const auto second = Store::open(sandbox_.store_options());
  ASSERT_FALSE(second);
  EXPECT_EQ(second.error().code(), Code::kPrecondition);
  StoreOptions bad = sandbox_.store_options();
  bad.root = sandbox_.dir() + "/a:b";
  EXPECT_EQ(Store::open(bad).error().code(), Code::kInvalid);
  bad = sandbox_.store_options();
  bad.insecure_registries = {"http://x"};
  EXPECT_EQ(Store::open(bad).error().code(), Code::kInvalid);
}

TEST_F(StoreTest, DropsWhatACrashLeft) {
  images_ = {{"a:1", build_image({layer("file")})}, {"b:1", build_image({layer("other")})}};
  with_registry([&](HttpServer& server) {
    auto store = open();
    const auto a = store->pull(server.host() + "/a:1", {});
    const auto b = store->pull(server.host() + "/b:1", {});
    ASSERT_TRUE(a && b);
    const std::string layer_of_a = std::filesystem::path(store->layer_dirs(a->id)->at(0)).parent_path();
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
