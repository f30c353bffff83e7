#include <gmock/gmock.h>
#include <gtest/gtest.h>
#include <signal.h>
#include <sys/stat.h>

#include <cstdlib>
#include <filesystem>
#include <fstream>

#include "base/base64.h"
#include "image/store.h"
#include "image/testing/http_server.h"
#include "image/testing/sandbox.h"
#include "image/testing/tar_builder.h"

// The node's own logins, for pulls that bring none.
namespace berth::image {
namespace {

using ::testing::AllOf;
using testing::build_image;
using testing::BuiltImage;
using testing::gzip_layer;
using ::testing::HasSubstr;
using testing::HttpServer;
using ::testing::Not;
using testing::Reply;
using testing::Sandbox;
using testing::serve_image;
using testing::ServerRequest;
using testing::TarBuilder;

class AuthFileTest : public ::testing::Test {
 protected:
  AuthFileTest() : image_(build_image({gzip_layer(TarBuilder().file("f", "x").finish())})) {
    ::signal(SIGPIPE, SIG_IGN);
    ::setenv("PATH", (sandbox_.dir() + ":" + ::getenv("PATH")).c_str(), 1);
  }

  [[nodiscard]] std::string file() const { return sandbox_.dir() + "/config.json"; }
  void write(const std::string& text) const { std::ofstream(file()) << text; }
  std::unique_ptr<Store> open_store() const {
    StoreOptions options = sandbox_.store_options();
    options.auth_file = file();
    auto store = Store::open(options);
    EXPECT_TRUE(store) << store.error().text();
    return store ? std::move(*store) : nullptr;
  }
  /// A registry that wants this user and password.
  HttpServer::Handler wanting(const std::string& login) {
    return [this, login](const ServerRequest& request, Reply& reply) {
      const auto it = request.headers.find("authorization");
      if (it == request.headers.end() || it->second != "Basic " + base64_encode(login)) {
        return reply.answer(401, "", {"WWW-Authenticate: Basic realm=\"x\""});
      }
      serve_image(image_, request, reply);
    };
  }
  static std::string auths(const std::string& host, const std::string& login) {
    return "{\"auths\": {\"" + host + "\": {\"auth\": \"" + base64_encode(login) + "\"}}}";
  }

  Sandbox sandbox_;
  BuiltImage image_;
};

TEST_F(AuthFileTest, IsReadForEachPullThatBringsNoLogin) {
  sandbox_.run([&] {
    HttpServer registry(wanting("node:pw"));
    auto store = open_store();
    const std::string name = registry.host() + "/app:t";
    auto info = store->pull(name, {});
    ASSERT_FALSE(info);
    EXPECT_EQ(info.error().code(), Code::kDenied);
    EXPECT_THAT(info.error().text(), AllOf(HasSubstr("asks for a user name and password"),
                                           HasSubstr("auth_file gave no login"), HasSubstr(file())));
    write(auths(registry.host(), "node:pw"));
    info = store->pull(name, {});
    ASSERT_TRUE(info) << info.error().text();
    write("{");
    ASSERT_TRUE(store->remove(info->id));
    info = store->pull(name, {});
    ASSERT_FALSE(info);
    EXPECT_THAT(info.error().text(), HasSubstr(file()));
    // The login that the caller brings goes before the file's.
    write(auths(registry.host(), "other:pw"));
    PullOptions options;
    options.auth.username = "node";
    options.auth.password = "pw";
    EXPECT_TRUE(store->pull(name, options));
    options.auth.password = "wr0ng";
    write(auths(registry.host(), "node:pw"));
    info = store->pull(name, options);
    ASSERT_FALSE(info);
    EXPECT_THAT(info.error().text(), HasSubstr("does not accept the login"));
  });
}

TEST_F(AuthFileTest, OpenRegistriesNeedNone) {
  sandbox_.run([&] {
    HttpServer registry([this](const ServerRequest& request, Reply& reply) { serve_image(image_, request, reply); });
    write("{");
    EXPECT_TRUE(open_store()->pull(registry.host() + "/app:t", {}));
  });
}

TEST_F(AuthFileTest, HasTheMirrorsLoginToo) {
  sandbox_.run([&] {
    HttpServer registry(wanting("reg:pw"));
    HttpServer mirror(wanting("mirror:pw"));
    const std::string dir = sandbox_.dir() + "/certs.d/" + registry.host();
    std::filesystem::create_directories(dir);
    std::ofstream(dir + "/hosts.toml") << "[host.\"http://" << mirror.host() << "\"]\n";
    write(auths(mirror.host(), "mirror:pw"));
    PullOptions options;
    options.auth.username = "reg";
    options.auth.password = "pw";
    const auto info = open_store()->pull(registry.host() + "/app:t", options);
    ASSERT_TRUE(info) << info.error().text();
    EXPECT_TRUE(registry.log().empty());
  });
}

TEST_F(AuthFileTest, HelpersGiveLoginsAndIdentityTokens) {
  sandbox_.run([&] {
    const auto helper = [this](const std::string& script) {
      const std::string path = sandbox_.dir() + "/docker-credential-fixed";
      std::ofstream(path) << "#!/bin/sh\n" << script << "\n";
      ::chmod(path.c_str(), 0755);
    };
    HttpServer registry(wanting("helper:pw"));
    write(R"({"credHelpers": {")" + registry.host() + R"(": "fixed"}})");
    helper("[ \"$1 $(cat)\" = 'get " + registry.host() + "' ] && echo '{\"Username\":\"helper\",\"Secret\":\"pw\"}'");
    auto store = open_store();
    auto info = store->pull(registry.host() + "/app:t", {});
    ASSERT_TRUE(info) << info.error().text();
    ASSERT_TRUE(store->remove(info->id));
    helper("echo 'locked: s3cret' >&2; exit 1");
    info = store->pull(registry.host() + "/app:t", {});
    ASSERT_FALSE(info);
    EXPECT_EQ(info.error().code(), Code::kDenied);
    EXPECT_THAT(info.error().text(), HasSubstr("docker-credential-fixed exits with 1"));

    const auto form = std::make_shared<std::string>();
    HttpServer tokens([form](const ServerRequest& request, Reply& reply) {
      *form = request.body;
      reply.answer(200, R"({"access_token":"t"})");
    });
    HttpServer other([this, &tokens](const ServerRequest& request, Reply& reply) {
      if (request.headers.contains("authorization") && request.headers.at("authorization") == "Bearer t") {
        return void(serve_image(image_, request, reply));
      }
      reply.answer(401, "", {"WWW-Authenticate: Bearer realm=\"http://" + tokens.host() + "/t\",service=\"s\""});
    });
    write(R"({"credsStore": "fixed"})");
    helper(R"(echo '{"Username":"<token>","Secret":"identity"}')");
    info = store->pull(other.host() + "/app:t", {});
    ASSERT_TRUE(info) << info.error().text();
    EXPECT_THAT(*form, HasSubstr("refresh_token=identity"));
  });
}

}  // namespace
}  // namespace berth::image
