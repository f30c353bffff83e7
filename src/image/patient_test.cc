#include <gmock/gmock.h>
#include <gtest/gtest.h>

#include <atomic>

#include "base/strings.h"
#include "image/store.h"
#include "image/testing/http_server.h"
#include "image/testing/sandbox.h"
#include "image/testing/tar_builder.h"

// What a patient client gets over: broken connections, rate limits, logins.
namespace berth::image {
namespace {

using testing::build_image;
using testing::BuiltImage;
using testing::digest_of;
using ::testing::ElementsAre;
using testing::gzip_layer;
using testing::HttpServer;
using testing::is_blob;
using testing::noise;
using testing::Reply;
using testing::Sandbox;
using testing::serve_image;
using testing::ServerRequest;
using testing::TarBuilder;

class PatientTest : public ::testing::Test {
 protected:
  PatientTest()
      : image_(build_image({gzip_layer(TarBuilder().dir("d/").file("d/f", noise(500'000)).finish())})),
        layer_digest_(digest_of(image_.layers[0].blob)) {}

  HttpServer::Handler with_layer(std::function<void(const ServerRequest&, Reply&)> answer) {
    return [this, answer](const ServerRequest& request, Reply& reply) {
      if (is_blob(request, layer_digest_)) return answer(request, reply);
      serve_image(image_, request, reply);
    };
  }
  void expect_success(const HttpServer::Handler& handler, PullOptions pull = {}) {
    sandbox_.run([&] {
      HttpServer server(handler);
      auto store = Store::open(sandbox_.store_options());
      ASSERT_TRUE(store) << store.error().text();
      const auto info = (*store)->pull(server.host() + "/app:t", std::move(pull));
      ASSERT_TRUE(info) << info.error().text();
      EXPECT_EQ(info->id, image_.config_digest());
      log_ = server.log();
    });
  }

  Sandbox sandbox_;
  BuiltImage image_;
  std::string layer_digest_;
  std::vector<std::string> log_;
};

TEST_F(PatientTest, ResumesAfterResets) {
  const auto served = std::make_shared<std::atomic<int>>(0);
  const auto ranges = std::make_shared<std::vector<std::string>>();
  expect_success(with_layer([this, served, ranges](const ServerRequest& request, Reply& reply) {
    const std::string& blob = image_.layers[0].blob;
    std::size_t from = 0;
    if (const auto it = request.headers.find("range"); it != request.headers.end()) {
      ranges->push_back(it->second);
      from = parse_number<std::size_t>(std::string_view(it->second).substr(6, it->second.size() - 7)).value_or(0);
    }
    const std::string head = from == 0
                                 ? "HTTP/1.1 200 OK\r\n"
                                 : "HTTP/1.1 206 P\r\nContent-Range: bytes " + std::to_string(from) + "-" +
                                       std::to_string(blob.size() - 1) + "/" + std::to_string(blob.size()) + "\r\n";
    reply.send(head + "Content-Length: " + std::to_string(blob.size() - from) + "\r\n\r\n" + blob.substr(from, 90'000));
    ++*served;
  }));
  EXPECT_GE(*served, 5);
  EXPECT_GE(ranges->size(), 4U);
}

TEST_F(PatientTest, StartsAgainWhereRangesAreUnknown) {
  const auto count = std::make_shared<std::atomic<int>>(0);
  expect_success(with_layer([this, count](const ServerRequest&, Reply& reply) {
    const std::string& blob = image_.layers[0].blob;
    const bool first = (*count)++ == 0;
    reply.send("HTTP/1.1 200 OK\r\nConnection: close\r\nContent-Length: " + std::to_string(blob.size()) + "\r\n\r\n" +
               (first ? blob.substr(0, 123'456) : blob));
    if (first) reply.reset();
  }));
  EXPECT_EQ(*count, 2);
}

TEST_F(PatientTest, WaitsWhenAskedTo) {
  const auto count = std::make_shared<std::atomic<int>>(0);
  expect_success([this, count](const ServerRequest& request, Reply& reply) {
    const int turn = (*count)++;
    if (turn == 0) return reply.answer(429, "", {"Retry-After: 1"});
    if (turn == 1) return reply.answer(503, "");
    if (turn == 2) return reply.reset();
    serve_image(image_, request, reply);
  });
}

TEST_F(PatientTest, AResetIsNoProofOfTls) {
  const auto count = std::make_shared<std::atomic<int>>(0);
  expect_success([this, count](const ServerRequest& request, Reply& reply) {
    if ((*count)++ == 0) return reply.reset();
    serve_image(image_, request, reply);
  });
}

TEST_F(PatientTest, GetsATokenAndKeepsItFromOthers) {
  sandbox_.run([&] {
    const auto leaked = std::make_shared<std::atomic<bool>>(false);
    HttpServer storage([this, leaked](const ServerRequest& request, Reply& reply) {
      if (request.headers.contains("authorization")) *leaked = true;
      reply.answer(200, image_.layers[0].blob);
    });
    const auto token_auth = std::make_shared<std::string>();
    HttpServer tokens([token_auth](const ServerRequest& request, Reply& reply) {
      if (request.headers.contains("authorization")) *token_auth = request.headers.at("authorization");
      reply.answer(200, R"({"token":"the-token","expires_in":60})");
    });
    HttpServer registry([this, &storage, &tokens](const ServerRequest& request, Reply& reply) {
      const auto it = request.headers.find("authorization");
      if (it == request.headers.end() || it->second != "Bearer the-token") {
        return reply.answer(401, "",
                            {"WWW-Authenticate: Bearer realm=\"http://" + tokens.host() +
                             "/token?x=1\",service=\"my reg\",scope=\"repository:app:pull\""});
      }
      if (is_blob(request, layer_digest_))
        return reply.answer(307, "", {"Location: http://" + storage.host() + "/signed?a=b"});
      serve_image(image_, request, reply);
    });
    auto store = Store::open(sandbox_.store_options());
    ASSERT_TRUE(store);
    PullOptions options;
    options.auth.username = "me";
    options.auth.password = "pw";
    const auto info = (*store)->pull(registry.host() + "/app:t", options);
    ASSERT_TRUE(info) << info.error().text();
    EXPECT_FALSE(*leaked);
    EXPECT_EQ(*token_auth, "Basic bWU6cHc=");
    EXPECT_THAT(tokens.log(),
                ElementsAre("GET /token?x=1&scope=repository%3Aapp%3Apull&client_id=berth&service=my%20reg"));
    EXPECT_EQ(storage.log().size(), 1U);
  });
}

TEST_F(PatientTest, GivesPasswordsToTheRegistryAlone) {
  sandbox_.run([&] {
    const auto leaked = std::make_shared<std::atomic<bool>>(false);
    HttpServer storage([this, leaked](const ServerRequest& request, Reply& reply) {
      if (request.headers.contains("authorization")) *leaked = true;
      reply.answer(200, is_blob(request, layer_digest_) ? image_.layers[0].blob : image_.config);
    });
    HttpServer registry([this, &storage](const ServerRequest& request, Reply& reply) {
      const auto it = request.headers.find("authorization");
      if (it == request.headers.end() || it->second != "Basic bWU6cHc=") {
        return reply.answer(401, "", {"WWW-Authenticate: Basic realm=\"x\""});
      }
      if (request.target.find("/blobs/") == std::string::npos) return void(serve_image(image_, request, reply));
      reply.answer(302, "", {"Location: http://" + storage.host() + request.target});  // the same host, another port
    });
    auto store = Store::open(sandbox_.store_options());
    ASSERT_TRUE(store);
    PullOptions options;
    options.auth.username = "me";
    options.auth.password = "pw";
    const auto info = (*store)->pull(registry.host() + "/app:t", options);
    ASSERT_TRUE(info) << info.error().text();
    EXPECT_FALSE(*leaked);
    EXPECT_EQ(storage.log().size(), 2U);
    EXPECT_EQ(registry.log().size(), 4U);  // one login
  });
}

TEST_F(PatientTest, WaitsForTheTokenServiceToo) {
  sandbox_.run([&] {
    const auto count = std::make_shared<std::atomic<int>>(0);
    HttpServer tokens([count](const ServerRequest&, Reply& reply) {
      const int turn = (*count)++;
      if (turn == 0) return reply.answer(429, "");
      if (turn == 1) return reply.reset();
      reply.answer(200, R"({"token":"t"})");
    });
    HttpServer registry([this, &tokens](const ServerRequest& request, Reply& reply) {
      if (!request.headers.contains("authorization")) {
        return reply.answer(401, "", {"WWW-Authenticate: Bearer realm=\"http://" + tokens.host() + "/token\""});
      }
      serve_image(image_, request, reply);
    });
    auto store = Store::open(sandbox_.store_options());
    ASSERT_TRUE(store);
    const auto info = (*store)->pull(registry.host() + "/app:t", {});
    ASSERT_TRUE(info) << info.error().text();
    EXPECT_EQ(*count, 3);
  });
}

TEST_F(PatientTest, RefreshesAnIdentityToken) {
  sandbox_.run([&] {
    const auto form = std::make_shared<std::string>();
    HttpServer tokens([form](const ServerRequest& request, Reply& reply) {
      *form = request.method + " " + request.body;
      reply.answer(200, R"({"access_token":"t2"})");
    });
    HttpServer registry([this, &tokens](const ServerRequest& request, Reply& reply) {
      const auto it = request.headers.find("authorization");
      if (it == request.headers.end() || it->second != "Bearer t2") {
        return reply.answer(401, "",
                            {"WWW-Authenticate: Bearer realm=\"http://" + tokens.host() + "/oauth2\",service=\"s\""});
      }
      serve_image(image_, request, reply);
    });
    auto store = Store::open(sandbox_.store_options());
    ASSERT_TRUE(store);
    PullOptions options;
    options.auth.identity_token = "id/token";
    const auto info = (*store)->pull(registry.host() + "/app:t", options);
    ASSERT_TRUE(info) << info.error().text();
    EXPECT_EQ(
        *form,
        "POST "
        "grant_type=refresh_token&client_id=berth&service=s&scope=repository%3Aapp%3Apull&refresh_token=id%2Ftoken");
  });
}

}  // namespace
}  // namespace berth::image
