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

using ::testing::AllOf;
using testing::build_image;
using testing::DockerRegistry;
using ::testing::ElementsAre;
using testing::gzip_layer;
using ::testing::HasSubstr;
using ::testing::Not;
using testing::plain_layer;
using testing::run_program;
using testing::Sandbox;
using testing::TarBuilder;
using testing::write_oci_layout;
using testing::zstd_layer;

std::string content(const std::string& path) {
  std::ifstream in(path);
  return {std::istreambuf_iterator<char>(in), {}};
}

testing::BuiltImage sample(const std::string& label = {}) {
  const std::string base = TarBuilder()
                               .dir("etc/")
                               .file("etc/os-release", "NAME=test\n")
                               .dir("bin/")
                               .file("bin/sh", std::string(300'000, 'x'), {.mode = 04755})
                               .finish();
  const std::string middle = TarBuilder().dir("etc/").file("etc/added", "second layer\n").finish();
  const std::string top = TarBuilder().dir("etc/").file("etc/.wh.os-release", "").finish();
  return build_image({gzip_layer(base), zstd_layer(middle), plain_layer(top)}, {.label = label});
}

class RegistryTest : public ::testing::Test {
 protected:
  /// Copies `images` into the registry under `repository` with skopeo.
  void push(const std::string& host, const std::string& repository,
            const std::map<std::string, testing::BuiltImage>& images, std::vector<std::string> more = {}) {
    const std::string layout = sandbox_.dir() + "/layout";
    std::filesystem::remove_all(layout);
    write_oci_layout(layout, images);
    for (const auto& [tag, image] : images) {
      std::vector<std::string> argv = {
          "skopeo", "copy", "--quiet", "--insecure-policy", "--dest-tls-verify=false", "--preserve-digests"};
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
    // Merged into one, or each layer by itself.
    ASSERT_TRUE(dirs->paths.size() == 1U || dirs->paths.size() == 3U) << dirs->paths.size();
    const std::string& middle = dirs->paths.size() == 1 ? dirs->paths.front() : dirs->paths.at(1);
    EXPECT_EQ(content(middle + "/etc/added"), "second layer\n");
    EXPECT_EQ(content(dirs->paths.back() + "/bin/sh").size(), 300'000U);
    struct stat st{};
    ASSERT_EQ(::stat((dirs->paths.back() + "/bin/sh").c_str(), &st), 0);
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

TEST_F(RegistryTest, PullsDockerSchemaTwo) {
  sandbox_.run([&] {
    const DockerRegistry registry(sandbox_.dir(), {});
    const std::string layout = sandbox_.dir() + "/layout";
    const std::string tar = TarBuilder().dir("d/").file("d/f", "content").finish();
    write_oci_layout(layout, {{"v2", build_image({gzip_layer(tar)})}});
    ASSERT_EQ(run_program({"skopeo", "copy", "--quiet", "--insecure-policy", "--dest-tls-verify=false", "--format",
                           "v2s2", "oci:" + layout + ":v2", "docker://" + registry.host() + "/app:v2"}),
              "");
    auto store = Store::open(sandbox_.store_options());
    ASSERT_TRUE(store);
    const auto info = (*store)->pull(registry.host() + "/app:v2", {});
    ASSERT_TRUE(info) << info.error().text();
    EXPECT_EQ(content((*store)->layer_dirs(info->id)->paths.at(0) + "/d/f"), "content");
  });
}

TEST_F(RegistryTest, AsksForAPassword) {
  sandbox_.run([&] {
    const std::string passwords = sandbox_.dir() + "/htpasswd";
    ASSERT_EQ(run_program({"htpasswd", "-Bbc", passwords, "me", "s3cret"}), "");
    const DockerRegistry registry(sandbox_.dir(), {.htpasswd = passwords});
    push(registry.host(), "app", {{"t", sample()}}, {"--dest-creds=me:s3cret"});
    auto store = Store::open(sandbox_.store_options());
    ASSERT_TRUE(store);
    const std::string name = registry.host() + "/app:t";
    auto info = (*store)->pull(name, {});
    ASSERT_FALSE(info);
    EXPECT_EQ(info.error().code(), Code::kDenied);
    EXPECT_THAT(info.error().text(), HasSubstr("asks for a user name and password"));
    PullOptions options;
    options.auth.username = "me";
    options.auth.password = "wr0ng";
    info = (*store)->pull(name, options);
    ASSERT_FALSE(info);
    EXPECT_EQ(info.error().code(), Code::kDenied);
    EXPECT_THAT(info.error().text(), AllOf(HasSubstr("does not accept the login"), Not(HasSubstr("wr0ng"))));
    options.auth = {};
    options.auth.auth = "bWU6czNjcmV0";  // me:s3cret
    options.auth.server_address = "https://" + registry.host();
    info = (*store)->pull(name, options);
    EXPECT_TRUE(info) << info.error().text();
  });
}

TEST_F(RegistryTest, SpeaksTlsWithItsOwnAuthority) {
  sandbox_.run([&] {
    const std::string dir = sandbox_.dir();
    const std::string cert = dir + "/server.crt", key = dir + "/server.key";
    ASSERT_EQ(run_program({"openssl", "req", "-x509", "-newkey", "ec", "-pkeyopt", "ec_paramgen_curve:prime256v1",
                           "-nodes", "-days", "2", "-subj", "/CN=test", "-addext", "subjectAltName=IP:127.0.0.1",
                           "-keyout", key, "-out", cert}),
              "");
    const DockerRegistry registry(dir, {.cert = cert, .key = key});
    push(registry.host(), "app", {{"t", sample()}});
    const std::string name = registry.host() + "/app:t";
    {
      auto store = Store::open(sandbox_.store_options());
      ASSERT_TRUE(store);
      const auto info = (*store)->pull(name, {});
      ASSERT_FALSE(info);
      EXPECT_THAT(info.error().text(),
                  AllOf(HasSubstr("certificate of " + registry.host() + " is not trusted"), HasSubstr("self")));
    }
    const std::string trusted = dir + "/certs.d/" + registry.host();
    ASSERT_TRUE(os::make_dirs(trusted));
    std::filesystem::copy_file(cert, trusted + "/ca.crt");
    auto store = Store::open(sandbox_.store_options());
    ASSERT_TRUE(store);
    const auto info = (*store)->pull(name, {});
    ASSERT_TRUE(info) << info.error().text();

    const DockerRegistry redirecting(dir, {.cert = cert, .key = key, .redirect_blobs = "http://127.0.0.1:9/"});
    push(redirecting.host(), "app", {{"t", sample("other")}});
    ASSERT_TRUE(os::make_dirs(dir + "/certs.d/" + redirecting.host()));
    std::filesystem::copy_file(cert, dir + "/certs.d/" + redirecting.host() + "/ca.crt");
    const auto refused = (*store)->pull(redirecting.host() + "/app:t", {});
    ASSERT_FALSE(refused);
    EXPECT_EQ(refused.error().code(), Code::kDenied);
    EXPECT_THAT(refused.error().text(), HasSubstr("a redirect from https to http (127.0.0.1:9) is refused"));
  });
}

}  // namespace
}  // namespace berth::image
