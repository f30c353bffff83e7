#include <gmock/gmock.h>
#include <sys/stat.h>

#include <filesystem>
#include <fstream>

#include "image/testing/store_fixture.h"
#include "image/testing/tree_text.h"
#include "os/file.h"

namespace berth::image {
namespace {

using testing::build_image;
using ::testing::ElementsAre;
using testing::HttpServer;
using ::testing::IsEmpty;

/// Turns one byte of a file over.
void damage(const std::string& path, std::streamoff at) {
  ASSERT_EQ(::chmod(path.c_str(), 0600), 0) << path;
  std::fstream file(path, std::ios::in | std::ios::out | std::ios::binary);
  file.seekg(at);
  const char byte = static_cast<char>(file.get() ^ 0x40);
  file.seekp(at);
  file.put(byte);
  ASSERT_TRUE(file.good()) << path;
}

class StoreVerifyTest : public StoreTest {
 protected:
  /// An image of two layers, pulled; skips where layers are not archives.
  void with_image(const std::function<void(HttpServer&, Store&, const ImageInfo&)>& work) {
    images_ = {{"a:1", build_image({layer("one", "first"), layer("two", "second")})}};
    with_registry([&](HttpServer& server) {
      auto store = open();
      const auto info = store->pull(server.host() + "/a:1", {});
      ASSERT_TRUE(info) << info.error().text();
      const auto whole = store->verify(info->id, true, {});
      ASSERT_TRUE(whole) << whole.error().text();
      EXPECT_TRUE(whole->faults.empty());
      EXPECT_EQ(whole->verified_layers + whole->unpacked_layers, 2U);
      if (whole->unpacked_layers != 0) GTEST_SKIP() << "layers are unpacked here";
      work(server, *store, *info);
      store.reset();
    });
  }
  [[nodiscard]] std::string layer_file(std::size_t which, const char* name) const {
    return sandbox_.dir() + "/store/layers/" + images_.at("a:1").layers[which].diff_id.substr(7) + name;
  }
  static std::string content(const Store& store, const std::string& id, const std::string& name) {
    const auto folders = store.layer_dirs(id);
    return folders ? os::read_file(folders->paths.front() + "/" + name, 4096).value_or("unreadable")
                   : folders.error().text();
  }
};

TEST_F(StoreVerifyTest, IndexesAreMadeAgain) {
  with_image([&](HttpServer&, Store& store, const ImageInfo& info) {
    const std::string merged = sandbox_.dir() + "/store/images/" + info.id.substr(7) + ".erofs";
    const auto before = os::read_file(merged, 1U << 20).value_or("unreadable");
    damage(layer_file(0, "/index"), 1024 + 300);
    const auto seen = store.verify(info.id, false, {});
    ASSERT_TRUE(seen);
    ASSERT_EQ(seen->faults.size(), 1U);
    EXPECT_FALSE(seen->faults[0].mended);
    damage(merged, 1024 + 300);
    const auto mended = store.verify(info.id, true, {});
    ASSERT_TRUE(mended) << mended.error().text();
    ASSERT_EQ(mended->faults.size(), 2U);
    EXPECT_TRUE(mended->faults[0].mended && mended->faults[1].mended);
    EXPECT_THAT(mended->lost_names, IsEmpty());
    EXPECT_EQ(os::read_file(merged, 1U << 20).value_or("gone"), before);
    EXPECT_EQ(content(store, info.id, "one"), "first");
    EXPECT_TRUE(store.verify(info.id, false, {})->faults.empty());
  });
}

TEST_F(StoreVerifyTest, OnlyTheDamagedLayerIsFetchedAgain) {
  with_image([&](HttpServer& server, Store& store, const ImageInfo& info) {
    ASSERT_TRUE(store.prepare_rootfs("c1", info.id, std::nullopt));
    damage(layer_file(1, "/tar"), 512);
    const auto seen = store.verify(info.id, false, {});
    ASSERT_TRUE(seen);
    EXPECT_EQ(seen->faults.size(), 1U);
    EXPECT_EQ(store.list().size(), 1U);  // looking changes nothing
    const auto lost = store.verify(info.id, true, {});
    ASSERT_TRUE(lost) << lost.error().text();
    EXPECT_THAT(lost->lost_names, ElementsAre(server.host() + "/a:1", info.repo_digests[0]));
    EXPECT_THAT(store.list(), IsEmpty());
    const auto again = store.pull(server.host() + "/a:1", {});
    ASSERT_TRUE(again) << again.error().text();
    EXPECT_EQ(again->id, info.id);
    EXPECT_EQ(blob_fetches(server, testing::digest_of(images_.at("a:1").layers[0].blob)), 1U);
    EXPECT_EQ(blob_fetches(server, testing::digest_of(images_.at("a:1").layers[1].blob)), 2U);
    EXPECT_EQ(content(store, info.id, "two"), "second");
    EXPECT_TRUE(store.verify(info.id, false, {})->faults.empty());
    ASSERT_TRUE(store.remove_rootfs("c1"));
    ASSERT_TRUE(store.remove(info.id));
    EXPECT_EQ(store.usage().used_bytes, 0U);
  });
  if (IsSkipped()) return;
  EXPECT_THAT(store_leftovers(), IsEmpty());
}

TEST_F(StoreVerifyTest, ACutArchiveAndUnknownImages) {
  with_image([&](HttpServer&, Store& store, const ImageInfo& info) {
    std::filesystem::resize_file(layer_file(0, "/tar"), 700);
    const auto seen = store.verify(info.id, false, {});
    ASSERT_TRUE(seen) << seen.error().text();
    EXPECT_EQ(seen->faults.size(), 1U);
    EXPECT_EQ(store.verify("none", false, {}).error().code(), Code::kNotFound);
    std::stop_source stop;
    stop.request_stop();
    EXPECT_EQ(store.verify(info.id, false, stop.get_token()).error().code(), Code::kCancelled);
  });
}

}  // namespace
}  // namespace berth::image
