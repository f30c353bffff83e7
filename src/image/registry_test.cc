#include <gmock/gmock.h>
#include <gtest/gtest.h>

#include <filesystem>
#include <fstream>

#include "image/store.h"
#include "image/testing/image_builder.h"
#include "image/testing/sandbox.h"
#include "image/testing/tar_builder.h"
#include "os/file.h"

// Pulls from Debian's docker-registry, filled by skopeo, inside a network namespace of the test's own.
namespace berth::image {
namespace {

using testing::build_image;
using testing::DockerRegistry;
using testing::gzip_layer;
using testing::plain_layer;
using testing::run_program;
using testing::Sandbox;
using testing::TarBuilder;
using testing::zstd_layer;
using ::testing::ElementsAre;
using ::testing::HasSubstr;

std::string content(const std::string& path) {
  std::ifstream in(path);
  return {std::istreambuf_iterator<char>(in), {}};
}

testing::BuiltImage sample(const std::string& label = {}) {
  const std::string base = TarBuilder().dir("etc/").file("etc/os-release", "NAME=test\n").dir("bin/").file("bin/sh", std::string(300'000, 'x'), {.mode = 04755}).finish();
  const std::string middle = TarBuilder().dir("etc/").file("etc/added", "second layer\n").finish();
  const std::string top = TarBuilder().dir("etc/").file("etc/.wh.os-release", "").finish();
  return build_image({gzip_layer(base), zstd_layer(middle), plain_layer(top)}, {.label = label});
}

class RegistryTest : public ::testing::Test {
 protected:
  /// Copies `images` into the registry under `repository` with skopeo.
  void push(const std::string& host, const std::string& repository, const std::map<std::string, testing::BuiltImage>& images,
            std::vector<std::string> more = {}) {
    const std::string layout = sandbox_.dir() + "/layout";
    std::filesystem::remove_all(layout);
    write_oci_layout(layout, images);
    for (const auto& [tag, image] : images) {
      std::vector<std::string> argv = {"skopeo", "copy", "--quiet", "--insecure-policy", "--dest-tls-verify=false", "--preserve-digests"};
      argv.insert(argv.end(), more.begin(), more.end());
      argv.push_back("oci:" + layout + ":" + tag);
      argv.push_back("docker://" + host + "/" + repository + ":" + tag);
      ASSERT_EQ(run_program(argv), "");
    }
  }
  Sandbox sandbox_;
};

TEST_F(RegistryTest, PullsUnpacksAndRemoves) {
  sandbox_.run([&] {
    const DockerRegistry registry(sandbox_.dir(), {});
    const auto image = sample();
    push(registry.host(), "team/app", {{"v1", image}});
    auto store = Store::open(sandbox_.store_options());
    ASSERT_TRUE(store) << store.error().text();
    std::map<std::string, LayerState> states;
    PullOptions options;
    options.progress = [&](const LayerProgress& p) { states[p.digest] = p.state; };
    const auto info = (*store)->pull(registry.host() + "/team/app:v1", options);
    ASSERT_TRUE(info) << info.error().text();
    EXPECT_EQ(info->id, image.config_digest());
    EXPECT_THAT(info->repo_tags, ElementsAre(registry.host() + "/team/app:v1"));
    EXPECT_THAT(info->repo_digests, ElementsAre(registry.host() + "/team/app@" + image.manifest_digest()));
    EXPECT_THAT(info->config.config.cmd, ElementsAre("/bin/sh"));
    EXPECT_EQ(states.size(), 3U);
    for (const auto& [digest, state] : states) EXPECT_EQ(state, LayerState::kDone);

    const auto dirs = (*store)->layer_dirs(info->id);
    ASSERT_TRUE(dirs);
    ASSERT_EQ(dirs->size(), 3U);
    EXPECT_EQ(content(dirs->at(1) + "/etc/added"), "second layer\n");
    EXPECT_EQ(content(dirs->at(2) + "/bin/sh").size(), 300'000U);
    struct stat st {};
    ASSERT_EQ(::stat((dirs->at(2) + "/bin/sh").c_str(), &st), 0);
    EXPECT_EQ(st.st_mode & 07777, 04755U);

    const auto again = (*store)->pull(registry.host() + "/team/app:v1", {});
    ASSERT_TRUE(again) << again.error().text();
    EXPECT_EQ(again->id, info->id);
    EXPECT_GT((*store)->usage().used_bytes, 300'000U);
    ASSERT_TRUE((*store)->remove(registry.host() + "/team/app:v1"));
    EXPECT_TRUE((*store)->list().empty());
    EXPECT_EQ((*store)->usage().used_bytes, 0U);
    store->reset();
    EXPECT_THAT(testing::leftovers(sandbox_.dir() + "/store"), ElementsAre());
  });
}

}  // namespace
}  // namespace berth::image
