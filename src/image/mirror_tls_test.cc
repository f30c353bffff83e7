#include <gmock/gmock.h>
#include <gtest/gtest.h>

#include <filesystem>
#include <fstream>

#include "image/store.h"
#include "image/testing/image_builder.h"
#include "image/testing/sandbox.h"
#include "image/testing/tar_builder.h"

// TLS settings of hosts.toml, against Debian's docker-registry.
namespace berth::image {
namespace {

using ::testing::AllOf;
using testing::build_image;
using testing::DockerRegistry;
using testing::gzip_layer;
using ::testing::HasSubstr;
using testing::run_program;
using testing::Sandbox;
using testing::TarBuilder;
using testing::write_oci_layout;

class MirrorTlsTest : public ::testing::Test {
 protected:
  MirrorTlsTest() : image_(build_image({gzip_layer(TarBuilder().file("f", "x").finish())})) {}

  [[nodiscard]] std::string at(const std::string& name) const { return sandbox_.dir() + "/" + name; }
  /// A certificate that is its own authority: NAME.crt and NAME.key.
  void certify(const std::string& name) const {
    ASSERT_EQ(run_program({"openssl", "req", "-x509", "-newkey", "ec", "-pkeyopt", "ec_paramgen_curve:prime256v1",
                           "-nodes", "-days", "2", "-subj", "/CN=" + name, "-addext", "subjectAltName=IP:127.0.0.1",
                           "-keyout", at(name + ".key"), "-out", at(name + ".crt")}),
              "");
  }
  void push(const std::string& host, const std::vector<std::string>& more = {}) const {
    std::filesystem::remove_all(at("layout"));
    write_oci_layout(at("layout"), {{"t", image_}});
    std::vector<std::string> argv = {
        "skopeo", "copy", "--quiet", "--insecure-policy", "--dest-tls-verify=false", "--preserve-digests"};
    argv.insert(argv.end(), more.begin(), more.end());
    argv.insert(argv.end(), {"oci:" + at("layout") + ":t", "docker://" + host + "/app:t"});
    ASSERT_EQ(run_program(argv), "");
  }
  /// "" or the error of a pull of reg.invalid/app:t whose server is `address` with the settings `more`.
  std::string pull(const std::string& address, const std::string& more) const {
    const std::string dir = at("certs.d/reg.invalid");
    std::filesystem::create_directories(dir);
    std::ofstream(dir + "/hosts.toml") << "server = \"" << address << "\"\n" << more;
    auto store = Store::open(sandbox_.store_options());
    if (!store) return store.error().text();
    const auto info = (*store)->pull("reg.invalid/app:t", {});
    if (!info) return info.error().text();
    EXPECT_TRUE((*store)->remove(info->id));
    return "";
  }

  Sandbox sandbox_;
  testing::BuiltImage image_;
};

TEST_F(MirrorTlsTest, TrustsWhatTheFileSays) {
  sandbox_.run([&] {
    certify("server");
    certify("other");
    const DockerRegistry registry(sandbox_.dir(), {.cert = at("server.crt"), .key = at("server.key")});
    push(registry.host());
    const std::string https = "https://" + registry.host();
    EXPECT_THAT(pull(https, ""), HasSubstr("certificate of " + registry.host() + " is not trusted"));
    EXPECT_THAT(pull(https, "ca = \"" + at("other.crt") + "\""), HasSubstr("is not trusted"));
    EXPECT_EQ(pull(https, "ca = \"" + at("server.crt") + "\""), "");
    EXPECT_EQ(pull(https, "ca = [\"../../other.crt\", \"../../server.crt\"]"), "");
    EXPECT_EQ(pull(https, "skip_verify = true"), "");
    // http with TLS settings means https first.
    EXPECT_EQ(pull("http://" + registry.host(), "skip_verify = true"), "");
    EXPECT_THAT(pull(https, "ca = \"absent.crt\""),
                AllOf(HasSubstr("the authorities' file"), HasSubstr("/certs.d/reg.invalid/absent.crt cannot be used")));
    EXPECT_THAT(pull(https, "skip_verify = true\nclient = \"" + at("server.key") + "\""),
                AllOf(HasSubstr("the client certificate"), HasSubstr("server.key cannot be used")));
  });
}

TEST_F(MirrorTlsTest, HttpWithTlsSettingsFallsBackToHttp) {
  sandbox_.run([&] {
    const DockerRegistry registry(sandbox_.dir(), {});
    push(registry.host());
    EXPECT_EQ(pull("http://" + registry.host(), "skip_verify = true"), "");
  });
}

TEST_F(MirrorTlsTest, ShowsTheClientCertificateThatTheServerWants) {
  sandbox_.run([&] {
    for (const char* name : {"server", "one", "two"}) certify(name);
    const DockerRegistry registry(sandbox_.dir(),
                                  {.cert = at("server.crt"), .key = at("server.key"), .client_ca = at("two.crt")});
    std::filesystem::create_directories(at("skopeo"));
    std::filesystem::copy_file(at("two.crt"), at("skopeo/client.cert"));
    std::filesystem::copy_file(at("two.key"), at("skopeo/client.key"));
    push(registry.host(), {"--dest-cert-dir=" + at("skopeo")});
    const std::string https = "https://" + registry.host();
    const std::string ca = "ca = \"" + at("server.crt") + "\"\n";
    const auto pair = [this](const std::string& name) {
      return "[\"" + at(name + ".crt") + "\", \"" + at(name + ".key") + "\"]";
    };
    EXPECT_NE(pull(https, ca), "");
    EXPECT_NE(pull(https, ca + "client = [" + pair("one") + "]"), "");
    EXPECT_EQ(pull(https, ca + "client = [" + pair("two") + "]"), "");
    EXPECT_EQ(pull(https, ca + "client = [" + pair("one") + ", " + pair("two") + "]"), "");
    EXPECT_EQ(pull(https, ca + "client = [" + pair("two") + ", " + pair("one") + "]"), "");
    ASSERT_EQ(
        run_program({"sh", "-c", "cat '" + at("two.crt") + "' '" + at("two.key") + "' > '" + at("two.pem") + "'"}), "");
    EXPECT_EQ(pull(https, ca + "client = \"" + at("two.pem") + "\""), "");
    // The same from the folder of the host, without a word in hosts.toml.
    const std::string folder = at("certs.d/127.0.0.1_" + std::to_string(registry.port()) + "_");
    std::filesystem::create_directories(folder);
    std::filesystem::copy_file(at("server.crt"), folder + "/ca.crt");
    std::filesystem::copy_file(at("two.crt"), folder + "/mine.cert");
    std::filesystem::copy_file(at("two.key"), folder + "/mine.key");
    EXPECT_EQ(pull(https, ""), "");
  });
}

}  // namespace
}  // namespace berth::image
