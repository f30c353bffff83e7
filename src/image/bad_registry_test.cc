#include <gmock/gmock.h>
#include <gtest/gtest.h>

#include <chrono>
#include <filesystem>
#include <thread>

#include "base/strings.h"
#include "image/store.h"
#include "image/testing/http_server.h"
#include "image/testing/sandbox.h"
#include "image/testing/tar_builder.h"
#include "spec/image.h"

// Registries that lie, stall and break. Each must give an error that says so, leave nothing, and not spoil the next
// pull.
namespace berth::image {
namespace {

using ::testing::AllOf;
using testing::build_image;
using testing::BuiltImage;
using testing::digest_of;
using ::testing::ElementsAre;
using testing::gzip_layer;
using ::testing::HasSubstr;
using testing::HttpServer;
using testing::is_blob;
using testing::noise;
using testing::plain_layer;
using testing::Reply;
using testing::Sandbox;
using testing::serve_image;
using testing::ServerRequest;
using testing::TarBuilder;

class BadRegistryTest : public ::testing::Test {
 protected:
  BadRegistryTest()
      : image_(build_image({gzip_layer(TarBuilder().dir("d/").file("d/f", noise(500'000)).finish())})),
        layer_digest_(digest_of(image_.layers[0].blob)) {}

  /// Pulls from a server with `handler`, expects the failure `code` with a text that `text` matches, and that the store
  /// is empty and then pulls a good image.
  void expect_failure(const HttpServer::Handler& handler, Code code, const ::testing::Matcher<std::string>& text,
                      StoreOptions options = {}, const std::string& tag = "t", PullOptions pull = {}) {
    sandbox_.run([&] {
      HttpServer bad(handler);
      HttpServer good([this](const ServerRequest& request, Reply& reply) { serve_image(image_, request, reply); });
      StoreOptions all = sandbox_.store_options();
      all.progress_timeout_s = options.progress_timeout_s == 60 ? 2 : options.progress_timeout_s;
      all.max_layer_bytes = options.max_layer_bytes;
      auto store = Store::open(all);
      ASSERT_TRUE(store) << store.error().text();
      const auto begin = std::chrono::steady_clock::now();
      const auto info = (*store)->pull(bad.host() + "/app:" + tag, std::move(pull));
      EXPECT_LT(std::chrono::steady_clock::now() - begin, std::chrono::seconds(20));
      ASSERT_FALSE(info);
      EXPECT_EQ(code_name(info.error().code()), code_name(code)) << info.error().text();
      EXPECT_THAT(info.error().text(), text);
      EXPECT_TRUE((*store)->list().empty());
      EXPECT_EQ((*store)->usage().used_bytes, 0U);
      EXPECT_THAT(testing::leftovers(all.root), ElementsAre());
      const auto after = (*store)->pull(good.host() + "/app:t", {});
      EXPECT_TRUE(after) << after.error().text();
      if (after) {
        EXPECT_TRUE((*store)->remove(after->id));
      }
      store->reset();
      EXPECT_THAT(testing::leftovers(all.root), ElementsAre());
      log_ = bad.log();
    });
  }
  /// A registry that is honest about all but the layer.
  HttpServer::Handler with_layer(std::function<void(const ServerRequest&, Reply&)> answer) {
    return [this, answer](const ServerRequest& request, Reply& reply) {
      if (is_blob(request, layer_digest_)) return answer(request, reply);
      serve_image(image_, request, reply);
    };
  }
  static HttpServer::Handler serving(const BuiltImage& image) {
    return [image](const ServerRequest& request, Reply& reply) {
      if (!serve_image(image, request, reply)) reply.answer(404, "");
    };
  }

  Sandbox sandbox_;
  BuiltImage image_;
  std::string layer_digest_;
  std::vector<std::string> log_;
};

TEST_F(BadRegistryTest, NotThere) {
  expect_failure(
      [](const ServerRequest&, Reply& reply) {
        reply.answer(404, R"({"errors":[{"code":"MANIFEST_UNKNOWN","message":"manifest unknown"}]})");
      },
      Code::kNotFound, AllOf(HasSubstr("has no manifest app:t"), HasSubstr("MANIFEST_UNKNOWN: manifest unknown")));
}

TEST_F(BadRegistryTest, StallsBeforeTheManifest) {
  expect_failure([](const ServerRequest&, Reply& reply) { reply.hang(); }, Code::kTimeout,
                 HasSubstr("sent nothing for 2 s"));
}

TEST_F(BadRegistryTest, StallsInTheMiddleOfALayer) {
  expect_failure(with_layer([this](const ServerRequest&, Reply& reply) {
                   const std::string& blob = image_.layers[0].blob;
                   reply.send("HTTP/1.1 200 OK\r\nContent-Length: " + std::to_string(blob.size()) + "\r\n\r\n" +
                              blob.substr(0, 100'000));
                   reply.hang();
                 }),
                 Code::kTimeout, AllOf(HasSubstr("layer " + layer_digest_), HasSubstr("sent nothing for 2 s")));
}

TEST_F(BadRegistryTest, WrongContentLength) {
  expect_failure(
      with_layer([this](const ServerRequest&, Reply& reply) { reply.answer(200, image_.layers[0].blob + "more"); }),
      Code::kCorrupt, AllOf(HasSubstr(layer_digest_), HasSubstr("announces"), HasSubstr("the manifest says")));
}

TEST_F(BadRegistryTest, MoreBytesThanTheManifestSays) {
  expect_failure(with_layer([this](const ServerRequest&, Reply& reply) {
                   reply.send("HTTP/1.1 200 OK\r\nConnection: close\r\n\r\n" + image_.layers[0].blob + noise(100'000));
                 }),
                 Code::kCorrupt, HasSubstr("sends more than the"));
}

TEST_F(BadRegistryTest, EndsEarlyAgainAndAgain) {
  expect_failure(with_layer([](const ServerRequest& request, Reply& reply) {
                   if (request.headers.contains("range")) return reply.answer(416, "");
                   reply.send("HTTP/1.1 200 OK\r\nConnection: close\r\n\r\nonly this");
                 }),
                 Code::kCorrupt, AnyOf(HasSubstr("sent 9 of the"), HasSubstr("damaged"), HasSubstr("has less of")));
}

TEST_F(BadRegistryTest, AlwaysTruncated) {
  expect_failure(
      with_layer([this](const ServerRequest&, Reply& reply) {
        reply.send("HTTP/1.1 200 OK\r\nContent-Length: " + std::to_string(image_.layers[0].blob.size()) + "\r\n\r\n");
      }),
      Code::kUnavailable, AllOf(HasSubstr("after 5 tries"), HasSubstr("broke")));
}

TEST_F(BadRegistryTest, LayerDigestMismatch) {
  std::string other = image_.layers[0].blob;
  other[other.size() / 2] = static_cast<char>(other[other.size() / 2] ^ 0x40);
  expect_failure(with_layer([other](const ServerRequest&, Reply& reply) { reply.answer(200, other); }), Code::kCorrupt,
                 AllOf(HasSubstr("layer " + layer_digest_), AnyOf(HasSubstr("digest mismatch"), HasSubstr("gzip"))));
}

TEST_F(BadRegistryTest, PlainLayerDigestMismatch) {
  const std::string tar = TarBuilder().file("f", noise(5000)).finish();
  image_ = build_image({plain_layer(tar)});
  layer_digest_ = digest_of(tar);
  std::string other = tar;
  other[700] = static_cast<char>(other[700] ^ 1);
  expect_failure(with_layer([other](const ServerRequest&, Reply& reply) { reply.answer(200, other); }), Code::kCorrupt,
                 HasSubstr("digest mismatch: the registry sent sha256:"));
}

TEST_F(BadRegistryTest, DiffIdMismatch) {
  auto layer = gzip_layer(TarBuilder().file("f", "x").finish());
  layer.diff_id = digest_of("something else");
  expect_failure(serving(build_image({layer})), Code::kCorrupt, HasSubstr("the image configuration says"));
}

TEST_F(BadRegistryTest, ConfigurationDigestMismatch) {
  expect_failure(
      [this](const ServerRequest& request, Reply& reply) {
        if (is_blob(request, image_.config_digest())) return reply.answer(200, std::string(image_.config.size(), ' '));
        serve_image(image_, request, reply);
      },
      Code::kCorrupt, AllOf(HasSubstr("configuration"), HasSubstr("digest mismatch")));
}

TEST_F(BadRegistryTest, ManifestDigestMismatch) {
  expect_failure(
      [this](const ServerRequest&, Reply& reply) {
        reply.answer(200, image_.manifest,
                     {"Content-Type: " + image_.manifest_type, "Docker-Content-Digest: " + digest_of("x")});
      },
      Code::kCorrupt, HasSubstr("digest mismatch"));
}

TEST_F(BadRegistryTest, LayerCountMismatch) {
  BuiltImage image = build_image({gzip_layer(TarBuilder().file("f", "x").finish())});
  auto manifest = spec::parse_manifest(image.manifest);
  ASSERT_TRUE(manifest);
  manifest->layers.push_back(manifest->layers[0]);
  image.manifest = spec::write_manifest(*manifest);
  expect_failure(serving(image), Code::kCorrupt, HasSubstr("it lists 1 layers, the manifest 2"));
}

TEST_F(BadRegistryTest, NotAManifest) {
  expect_failure([](const ServerRequest&,
                    Reply& reply) { reply.answer(200, "<html>captive portal</html>", {"Content-Type: text/html"}); },
                 Code::kInvalid, HasSubstr("find the image"));
}

TEST_F(BadRegistryTest, SchemaOne) {
  expect_failure(
      [](const ServerRequest&, Reply& reply) {
        reply.answer(200, R"({"schemaVersion":1,"name":"a","fsLayers":[]})",
                     {"Content-Type: application/vnd.docker.distribution.manifest.v1+prettyjws"});
      },
      Code::kUnsupported, HasSubstr("schema 1"));
}

TEST_F(BadRegistryTest, NoContainerImage) {
  auto manifest = spec::parse_manifest(image_.manifest);
  ASSERT_TRUE(manifest);
  manifest->config.media_type = "application/vnd.cncf.helm.config.v1+json";
  BuiltImage chart = image_;
  chart.manifest = spec::write_manifest(*manifest);
  expect_failure(serving(chart), Code::kUnsupported, HasSubstr("no container image"));
}

TEST_F(BadRegistryTest, OtherArchitecture) {
  expect_failure(serving(build_image({gzip_layer(TarBuilder().finish())}, {.architecture = "s390x"})), Code::kNotFound,
                 HasSubstr("is for linux/s390x, not for linux/amd64"));
}

TEST_F(BadRegistryTest, RedirectLoop) {
  expect_failure(
      [](const ServerRequest& request, Reply& reply) {
        reply.answer(307, "",
                     {"Location: " + std::string(request.target.ends_with("?again") ? "/v2/app/manifests/t"
                                                                                    : "/v2/app/manifests/t?again")});
      },
      Code::kUnavailable, HasSubstr("redirects in circles"));
}

TEST_F(BadRegistryTest, EndlessRedirects) {
  expect_failure(
      [count = std::make_shared<std::atomic<int>>(0)](const ServerRequest&, Reply& reply) {
        reply.answer(302, "", {"Location: /v2/x" + std::to_string((*count)++)});
      },
      Code::kUnavailable, HasSubstr("more than 10 redirects"));
}

TEST_F(BadRegistryTest, RedirectToAnotherScheme) {
  for (const char* location : {"file:///etc/passwd", "ftp://127.0.0.1/", "http://user:pw@127.0.0.1/"}) {
    expect_failure([location](const ServerRequest&,
                              Reply& reply) { reply.answer(302, "", {std::string("Location: ") + location}); },
                   Code::kUnavailable, HasSubstr("redirect: address"));
  }
}

TEST_F(BadRegistryTest, LoginLoop) {
  PullOptions pull;
  pull.auth.username = "me";
  pull.auth.password = "wrong-s3cret";
  expect_failure(
      [](const ServerRequest&, Reply& reply) { reply.answer(401, "", {"WWW-Authenticate: Basic realm=\"x\""}); },
      Code::kDenied, AllOf(HasSubstr("does not accept the login"), Not(HasSubstr("s3cret"))), {}, "t", pull);
  EXPECT_EQ(log_.size(), 2U);
}

TEST_F(BadRegistryTest, LoginsAndRedirectsInCircles) {
  PullOptions pull;
  pull.auth.username = "me";
  pull.auth.password = "s3cret";
  const auto challenge = [](const ServerRequest& request) {
    return "WWW-Authenticate: Bearer realm=\"http://" + request.headers.at("host") + "/token\",service=\"s\"";
  };
  const auto is_token = [](const ServerRequest& request) { return request.target.starts_with("/token"); };
  const auto expect = [&](const HttpServer::Handler& handler, Code code, const std::string& text,
                          std::size_t requests) {
    SCOPED_TRACE(text);
    expect_failure(handler, code, AllOf(HasSubstr(text), Not(HasSubstr("s3cret"))), {}, "t", pull);
    EXPECT_EQ(log_.size(), requests);
  };
  // A token for each login, and none that is good.
  expect(
      [&](const ServerRequest& request, Reply& reply) {
        if (is_token(request)) return reply.answer(200, R"({"token":"t"})");
        reply.answer(401, "", {challenge(request)});
      },
      Code::kDenied, "does not accept the login", 3);
  // The token service wants a login itself.
  expect([&](const ServerRequest& request, Reply& reply) { reply.answer(401, "", {challenge(request)}); },
         Code::kDenied, "refuses the credentials (status 401)", 2);
  // The token service redirects to itself.
  expect(
      [&](const ServerRequest& request, Reply& reply) {
        if (is_token(request)) return reply.answer(307, "", {"Location: " + request.target});
        reply.answer(401, "", {challenge(request)});
      },
      Code::kDenied, "answers status 307", 2);
  // A redirect, then a login without end.
  expect(
      [&](const ServerRequest& request, Reply& reply) {
        if (is_token(request)) return reply.answer(200, R"({"token":"t"})");
        if (!request.target.ends_with("?moved"))
          return reply.answer(307, "", {"Location: " + request.target + "?moved"});
        reply.answer(401, "", {challenge(request)});
      },
      Code::kDenied, "does not accept the login", 5);
  // A login, then a redirect without end.
  expect(
      [&](const ServerRequest& request, Reply& reply) {
        if (is_token(request)) return reply.answer(200, R"({"token":"t"})");
        if (!request.headers.contains("authorization")) return reply.answer(401, "", {challenge(request)});
        reply.answer(307, "", {"Location: " + request.target});
      },
      Code::kUnavailable, "redirects in circles", 3);
  // The login is good only before the redirect.
  expect(
      [&](const ServerRequest& request, Reply& reply) {
        if (is_token(request)) return reply.answer(200, R"({"token":"t"})");
        if (request.target.ends_with("?moved") || !request.headers.contains("authorization")) {
          return reply.answer(401, "", {challenge(request)});
        }
        reply.answer(307, "", {"Location: " + request.target + "?moved"});
      },
      Code::kDenied, "does not accept the login", 4);
  // Another host, which gets no login and wants one.
  sandbox_.run([&] {
    HttpServer other([&](const ServerRequest& request, Reply& reply) {
      EXPECT_FALSE(request.headers.contains("authorization"));
      reply.answer(401, "", {challenge(request)});
    });
    expect(
        [&](const ServerRequest&, Reply& reply) { reply.answer(307, "", {"Location: http://" + other.host() + "/x"}); },
        Code::kDenied, "the host that the registry redirects to asks for credentials", 1);
    EXPECT_EQ(other.log().size(), 1U);
  });
}

TEST_F(BadRegistryTest, NoCredentials) {
  expect_failure(
      [](const ServerRequest&, Reply& reply) { reply.answer(401, "", {"WWW-Authenticate: Basic realm=\"x\""}); },
      Code::kDenied, HasSubstr("asks for a user name and password"));
  expect_failure([](const ServerRequest&, Reply& reply) { reply.answer(401, "", {"WWW-Authenticate: Negotiate"}); },
                 Code::kDenied, HasSubstr("not supported: negotiate"));
  expect_failure([](const ServerRequest&, Reply& reply) { reply.answer(401, ""); }, Code::kDenied,
                 HasSubstr("not supported: nothing"));
  expect_failure(
      [](const ServerRequest&, Reply& reply) { reply.answer(401, "", {"WWW-Authenticate: Basic realm=\"x"}); },
      Code::kUnavailable, HasSubstr("WWW-Authenticate header"));
}

TEST_F(BadRegistryTest, TokenServiceThatIsPlainTextElsewhere) {
  PullOptions pull;
  pull.auth.username = "me";
  pull.auth.password = "secret";
  expect_failure(
      [](const ServerRequest&, Reply& reply) {
        reply.answer(401, "", {"WWW-Authenticate: Bearer realm=\"http://192.0.2.1/token\""});
      },
      Code::kDenied, HasSubstr("credentials are not sent to 192.0.2.1 over http"), {}, "t", pull);
}

TEST_F(BadRegistryTest, RateLimit) {
  expect_failure([](const ServerRequest&, Reply& reply) { reply.answer(429, "", {"Retry-After: 600"}); },
                 Code::kUnavailable, AllOf(HasSubstr("come back in 600 s"), HasSubstr("limits the rate")));
  EXPECT_EQ(log_.size(), 1U);
}

TEST_F(BadRegistryTest, HugeHeaders) {
  expect_failure(
      [](const ServerRequest&, Reply& reply) {
        std::string head = "HTTP/1.1 200 OK\r\n";
        for (int i = 0; i < 4000; ++i) head += "X-" + std::to_string(i) + ": " + std::string(80, 'h') + "\r\n";
        reply.send(head + "\r\n");
      },
      Code::kExhausted, HasSubstr("more than 64 KiB of headers"));
}

TEST_F(BadRegistryTest, HugeManifest) {
  expect_failure([](const ServerRequest&, Reply& reply) { reply.answer(200, std::string(5 << 20, ' ')); },
                 Code::kExhausted, HasSubstr("exceeds 4194304 bytes"));
}

TEST_F(BadRegistryTest, HugeConfiguration) {
  auto manifest = spec::parse_manifest(image_.manifest);
  ASSERT_TRUE(manifest);
  manifest->config.size = 1ULL << 40;
  BuiltImage huge = image_;
  huge.manifest = spec::write_manifest(*manifest);
  expect_failure(serving(huge), Code::kExhausted, HasSubstr("larger than 4 MiB"));
}

TEST_F(BadRegistryTest, AnotherRange) {
  expect_failure(with_layer([this](const ServerRequest& request, Reply& reply) {
                   const std::string& blob = image_.layers[0].blob;
                   if (request.headers.contains("range")) {
                     return reply.answer(206, blob,
                                         {"Content-Range: bytes 0-" + std::to_string(blob.size() - 1) + "/" +
                                          std::to_string(blob.size())});
                   }
                   reply.send("HTTP/1.1 200 OK\r\nContent-Length: " + std::to_string(blob.size()) + "\r\n\r\n" +
                              blob.substr(0, 50'000));
                 }),
                 Code::kCorrupt, HasSubstr("answered another range"));
}

TEST_F(BadRegistryTest, MaliciousLayers) {
  const auto failing = [&](const std::string& tar, Code code, const std::string& text) {
    const auto layer = gzip_layer(tar);
    expect_failure(serving(build_image({layer})), code,
                   AllOf(HasSubstr("layer " + digest_of(layer.blob)), HasSubstr(text)));
  };
  failing(TarBuilder().file("../../../../tmp/berth-escape", "x").finish(), Code::kCorrupt,
          "entry \"../../../../tmp/berth-escape\"");
  failing(TarBuilder().symlink("l", "/tmp").file("l/berth-escape", "x").finish(), Code::kCorrupt,
          "entry \"l/berth-escape\"");
  failing(TarBuilder().hard_link("h", "/etc/passwd").finish(), Code::kCorrupt,
          "hard link target \"/etc/passwd\" is not in this layer");
  failing(TarBuilder().file("f", std::string(4000, 'x')).unfinished().substr(0, 3000), Code::kCorrupt,
          "truncated at entry \"f\"");
  failing(TarBuilder().file("f", "x").finish() + "trailing", Code::kCorrupt, "bytes follow the end of the archive");
  EXPECT_FALSE(std::filesystem::exists("/tmp/berth-escape"));

  auto cut = gzip_layer(TarBuilder().file("f", noise(100'000)).finish());
  cut.blob.resize(cut.blob.size() / 2);
  expect_failure(serving(build_image({cut})), Code::kCorrupt,
                 AllOf(HasSubstr(digest_of(cut.blob)), HasSubstr("gzip stream is truncated")));
  auto trailing = gzip_layer(TarBuilder().file("f", "x").finish());
  trailing.blob += "trailing";
  expect_failure(serving(build_image({trailing})), Code::kCorrupt, HasSubstr("bytes follow the gzip stream"));
}

TEST_F(BadRegistryTest, Bombs) {
  StoreOptions options;
  options.max_layer_bytes = 10 << 20;
  const auto large = gzip_layer(TarBuilder().file("zeros", std::string(30 << 20, '\0')).finish());
  ASSERT_LT(large.blob.size(), 1U << 20);
  expect_failure(serving(build_image({large})), Code::kExhausted, HasSubstr("a layer may unpack to 10485760"), options);
  TarBuilder many;
  for (int i = 0; i < 30; ++i) many.file("zeros" + std::to_string(i), std::string(1 << 20, '\0'));
  expect_failure(serving(build_image({gzip_layer(many.finish())})), Code::kExhausted,
                 HasSubstr("unpacks to more than the 10485760 bytes"), options);
}

TEST_F(BadRegistryTest, CancelledInTheMiddle) {
  std::stop_source stop;
  PullOptions pull;
  pull.stop = stop.get_token();
  expect_failure(with_layer([this, &stop](const ServerRequest&, Reply& reply) {
                   const std::string& blob = image_.layers[0].blob;
                   reply.send("HTTP/1.1 200 OK\r\nContent-Length: " + std::to_string(blob.size()) + "\r\n\r\n" +
                              blob.substr(0, 100'000));
                   stop.request_stop();
                   reply.hang();
                 }),
                 Code::kCancelled, HasSubstr("was cancelled"), {}, "t", pull);
}

}  // namespace
}  // namespace berth::image
