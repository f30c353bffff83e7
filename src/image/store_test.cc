#include "image/store.h"

#include <gmock/gmock.h>
#include <gtest/gtest.h>

#include <latch>
#include <thread>

#include "base/strings.h"
#include "image/testing/http_server.h"
#include "image/testing/store_fixture.h"
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
using testing::serve_image;
using testing::ServerRequest;
using testing::TarBuilder;

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
    const std::string shared = sandbox_.dir() + "/store/layers/" + common.diff_id.substr(7);
    ASSERT_TRUE(store->remove(a->id));
    EXPECT_TRUE(os::exists(shared));
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

}  // namespace
}  // namespace berth::image
