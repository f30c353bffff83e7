#include <arpa/inet.h>
#include <gmock/gmock.h>
#include <gtest/gtest.h>
#include <netinet/ip.h>
#include <netinet/tcp.h>
#include <sys/socket.h>

#include <array>
#include <chrono>
#include <cstring>
#include <filesystem>
#include <fstream>
#include <set>

#include "image/store.h"
#include "image/testing/http_server.h"
#include "image/testing/sandbox.h"
#include "image/testing/tar_builder.h"
#include "os/socket.h"
#include "os/tcp.h"

// Pulls by way of mirrors that hosts.toml names.
namespace berth::image {
namespace {

using ::testing::AllOf;
using testing::build_image;
using testing::BuiltImage;
using testing::digest_of;
using ::testing::Each;
using ::testing::ElementsAre;
using testing::gzip_layer;
using ::testing::HasSubstr;
using testing::HttpServer;
using testing::is_blob;
using ::testing::IsEmpty;
using testing::noise;
using ::testing::Not;
using testing::Reply;
using testing::Sandbox;
using testing::serve_image;
using testing::ServerRequest;
using ::testing::StartsWith;
using testing::TarBuilder;

class MirrorTest : public ::testing::Test {
 protected:
  MirrorTest()
      : image_(build_image({gzip_layer(TarBuilder().file("a", noise(400'000)).finish()),
                            gzip_layer(TarBuilder().file("b", noise(90'000)).finish()),
                            gzip_layer(TarBuilder().file("c", noise(50'000)).finish())})) {}

  HttpServer::Handler good() {
    return [this](const ServerRequest& request, Reply& reply) {
      if (!serve_image(image_, request, reply)) reply.answer(404, "");
    };
  }
  static HttpServer::Handler always(int status) {
    return [status](const ServerRequest&, Reply& reply) { reply.answer(status, ""); };
  }
  void configure(const std::string& registry, const std::string& text) const {
    const std::string dir = sandbox_.dir() + "/certs.d/" + registry;
    std::filesystem::create_directories(dir);
    std::ofstream(dir + "/hosts.toml") << text;
  }
  static std::string host(const std::string& name, const std::string& more = {}) {
    return "[host.\"http://" + name + "\"]\n" + more + "\n";
  }
  std::unique_ptr<Store> open_store() const {
    auto store = Store::open(sandbox_.store_options());
    EXPECT_TRUE(store) << store.error().text();
    return store ? std::move(*store) : nullptr;
  }
  /// Pulls once and takes the image away again.
  void expect_pull(Store& store, const std::string& name, PullOptions options = {}) const {
    const auto info = store.pull(name, std::move(options));
    ASSERT_TRUE(info) << info.error().text();
    EXPECT_EQ(info->id, image_.config_digest());
    EXPECT_TRUE(store.remove(info->id));
  }
  /// An address where nobody listens.
  static std::string nobody() {
    const auto listener = os::tcp_listen("127.0.0.1", 0);
    return "127.0.0.1:" + std::to_string(os::local_port(listener->get()).value_or(0));
  }

  Sandbox sandbox_;
  BuiltImage image_;
};

TEST_F(MirrorTest, AreAskedFirstAndToldTheRegistry) {
  sandbox_.run([&] {
    HttpServer registry(always(500));
    HttpServer mirror(good());
    configure(registry.host(), host(mirror.host()));
    expect_pull(*open_store(), registry.host() + "/team/app:t");
    EXPECT_THAT(registry.log(), IsEmpty());
    EXPECT_EQ(mirror.log().size(), 5U);
    const std::string ns = "?ns=127.0.0.1%3A" + std::to_string(registry.port());
    EXPECT_EQ(mirror.log().front(), "GET /v2/team/app/manifests/t" + ns);
    EXPECT_THAT(mirror.log(), Each(HasSubstr(ns)));
  });
}

TEST_F(MirrorTest, ThatMayNotResolveGiveTheBlobsAlone) {
  sandbox_.run([&] {
    HttpServer registry(good());
    HttpServer mirror(good());
    configure(registry.host(), host(mirror.host(), "capabilities = [\"pull\"]"));
    auto store = open_store();
    expect_pull(*store, registry.host() + "/app:t");
    EXPECT_THAT(registry.log(), ElementsAre("GET /v2/app/manifests/t"));
    EXPECT_EQ(mirror.log().size(), 4U);
    EXPECT_THAT(mirror.log(), Each(HasSubstr("/blobs/")));
    expect_pull(*store, registry.host() + "/app@" + image_.manifest_digest());  // a digest needs nobody to resolve it
    EXPECT_EQ(registry.log().size(), 1U);
  });
}

TEST_F(MirrorTest, ThatCannotGiveItAreFollowedByTheNext) {
  sandbox_.run([&] {
    HttpServer registry(good());
    const auto order = std::make_shared<std::vector<int>>();
    const auto noting = [order](int number, HttpServer::Handler then) {
      return [order, number, then](const ServerRequest& request, Reply& reply) {
        if (request.target.find("/manifests/") != std::string::npos) order->push_back(number);
        then(request, reply);
      };
    };
    HttpServer second(noting(2, always(404)));
    HttpServer first(noting(1, always(503)));
    HttpServer third(noting(3, [](const ServerRequest&, Reply& reply) { reply.reset(); }));
    HttpServer fourth(noting(4, always(403)));
    HttpServer fifth(noting(5, [](const ServerRequest& request, Reply& reply) {
      reply.answer(307, "", {"Location: " + request.target});  // in circles
    }));
    configure(registry.host(), host(first.host()) + host(nobody()) + host(second.host()) + host(third.host()) +
                                   host(fourth.host()) + host(fifth.host()));
    expect_pull(*open_store(), registry.host() + "/app:t");
    EXPECT_THAT(*order, ElementsAre(1, 2, 3, 4, 5));
    EXPECT_EQ(registry.log().size(), 5U);
    EXPECT_EQ(first.log().size(), 5U);  // what it lacks now it may have in a moment
  });
}

TEST_F(MirrorTest, ThatFailAreAllNamedInTheError) {
  sandbox_.run([&] {
    HttpServer registry(always(404));
    HttpServer first(always(503));
    const std::string dead = nobody();
    configure(registry.host(), host(first.host()) + host(dead));
    const auto info = open_store()->pull(registry.host() + "/app:t", {});
    ASSERT_FALSE(info);
    EXPECT_EQ(info.error().code(), Code::kNotFound);
    EXPECT_THAT(info.error().text(),
                AllOf(HasSubstr(registry.host() + " has no manifest app:t"), HasSubstr("status 503"),
                      HasSubstr("; mirrors: " + first.host()), HasSubstr("connect to " + dead)));
    EXPECT_EQ(registry.log().size(), 1U);
    EXPECT_EQ(first.log().size(), 1U);
  });
}

TEST_F(MirrorTest, AreTriedAgainWhileTheRegistryIsAway) {
  sandbox_.run([&] {
    const auto count = std::make_shared<std::atomic<int>>(0);
    HttpServer mirror([this, count](const ServerRequest& request, Reply& reply) {
      if ((*count)++ < 2) return reply.answer(503, "");
      serve_image(image_, request, reply);
    });
    const std::string dead = nobody();
    configure(dead, host(mirror.host()));
    expect_pull(*open_store(), dead + "/app:t");
    EXPECT_EQ(*count, 7);
  });
}

TEST_F(MirrorTest, AServerTakesThePlaceOfTheRegistry) {
  sandbox_.run([&] {
    HttpServer server(good());
    HttpServer plain(good());
    configure("_default", "server = \"http://" + server.host() + "/cache\"\n");
    configure("other.invalid_5000_", "server = \"http://" + plain.host() + "/api/proxy/\"\noverride_path = true\n");
    auto store = open_store();
    expect_pull(*store, "registry.invalid/team/app:t");
    EXPECT_EQ(server.log().front(), "GET /cache/v2/team/app/manifests/t?ns=registry.invalid");
    expect_pull(*store, "other.invalid:5000/team/app:t");
    EXPECT_EQ(plain.log().front(), "GET /api/proxy/team/app/manifests/t?ns=other.invalid%3A5000");
    expect_pull(*store, "busybox");
    EXPECT_THAT(server.log(), ::testing::Contains("GET /cache/v2/library/busybox/manifests/latest?ns=docker.io"));
  });
}

TEST_F(MirrorTest, TheFileIsReadForEachPull) {
  sandbox_.run([&] {
    HttpServer registry(always(404));
    HttpServer mirror(good());
    auto store = open_store();
    const std::string name = registry.host() + "/app:t";
    EXPECT_FALSE(store->pull(name, {}));
    configure(registry.host(), host(mirror.host()));
    expect_pull(*store, name);
    configure(registry.host(), "\n\n[host.\"http://" + mirror.host() + "\"]\ncapabilities = 7\n");
    const auto broken = store->pull(name, {});
    ASSERT_FALSE(broken);
    EXPECT_EQ(broken.error().code(), Code::kInvalid);
    EXPECT_THAT(broken.error().text(), HasSubstr("/certs.d/" + registry.host() + "/hosts.toml:4: capabilities"));
    configure(registry.host(), "server = \"http://" + mirror.host() + "\"\ncapabilities = [\"push\"]\n");
    const auto nobody_may = store->pull(name, {});
    ASSERT_FALSE(nobody_may);
    EXPECT_THAT(nobody_may.error().text(), HasSubstr("no host that hosts.toml names may give manifest app:t"));
    std::filesystem::remove_all(sandbox_.dir() + "/certs.d");
    EXPECT_FALSE(store->pull(name, {}));
  });
}

TEST_F(MirrorTest, NeverSeeTheRegistrysLogin) {
  sandbox_.run([&] {
    const auto leaked = std::make_shared<std::atomic<bool>>(false);
    HttpServer mirror([leaked](const ServerRequest& request, Reply& reply) {
      if (request.headers.contains("authorization")) *leaked = true;
      reply.answer(401, "", {"WWW-Authenticate: Basic realm=\"x\""});
    });
    HttpServer registry([this](const ServerRequest& request, Reply& reply) {
      const auto it = request.headers.find("authorization");
      if (it == request.headers.end() || it->second != "Basic bWU6cHc=") {
        return reply.answer(401, "", {"WWW-Authenticate: Basic realm=\"x\""});
      }
      serve_image(image_, request, reply);
    });
    configure(registry.host(), host(mirror.host()));
    PullOptions options;
    options.auth.username = "me";
    options.auth.password = "pw";
    auto store = open_store();
    expect_pull(*store, registry.host() + "/app:t", options);
    EXPECT_FALSE(*leaked);
    EXPECT_EQ(mirror.log().size(), 1U);  // it is not asked for each blob again

    // A login that names the mirror is the mirror's.
    options.auth.server_address = mirror.host();
    EXPECT_FALSE(store->pull(registry.host() + "/app:t", options));
    EXPECT_TRUE(*leaked);
  });
}

TEST_F(MirrorTest, HeadersAreForTheHostAlone) {
  sandbox_.run([&] {
    const auto seen = std::make_shared<std::vector<std::string>>();
    const auto noting = [seen](const std::string& who, const ServerRequest& request) {
      if (request.headers.contains("x-key")) seen->push_back(who + " " + request.headers.at("x-key"));
      if (request.headers.contains("authorization")) seen->push_back(who + " " + request.headers.at("authorization"));
    };
    HttpServer storage([this, noting](const ServerRequest& request, Reply& reply) {
      noting("storage", request);
      serve_image(image_, request, reply);
    });
    HttpServer mirror([this, noting, &storage](const ServerRequest& request, Reply& reply) {
      noting("mirror", request);
      if (is_blob(request, image_.config_digest())) {
        return reply.answer(307, "", {"Location: http://" + storage.host() + "/blobs/" + image_.config_digest()});
      }
      if (request.target.find("/blobs/") != std::string::npos) return reply.answer(404, "");
      serve_image(image_, request, reply);
    });
    HttpServer registry([this, noting](const ServerRequest& request, Reply& reply) {
      noting("registry", request);
      serve_image(image_, request, reply);
    });
    configure(registry.host(), host(mirror.host()) + "[host.\"http://" + mirror.host() +
                                   "\".header]\nX-Key = \"k\"\nAuthorization = \"Basic bTpw\"\n");
    expect_pull(*open_store(), registry.host() + "/app:t");
    EXPECT_EQ(storage.log().size(), 1U);
    EXPECT_THAT(*seen, Each(::testing::AnyOf(std::string("mirror k"), std::string("mirror Basic bTpw"))));
    EXPECT_GE(seen->size(), 4U);
  });
}

TEST_F(MirrorTest, AnAuthorizationHeaderAnswersTheTokenService) {
  sandbox_.run([&] {
    const auto token_auth = std::make_shared<std::string>();
    HttpServer tokens([token_auth](const ServerRequest& request, Reply& reply) {
      if (request.headers.contains("authorization")) *token_auth = request.headers.at("authorization");
      reply.answer(200, R"({"token":"t"})");
    });
    HttpServer mirror([this, &tokens](const ServerRequest& request, Reply& reply) {
      if (request.headers.contains("authorization") && request.headers.at("authorization") == "Bearer t") {
        return void(serve_image(image_, request, reply));
      }
      reply.answer(401, "", {"WWW-Authenticate: Bearer realm=\"http://" + tokens.host() + "/token\",service=\"s\""});
    });
    configure("reg.invalid", "server = \"http://" + mirror.host() + "\"\n[header]\nauthorization = \"Basic bTpw\"\n");
    auto store = open_store();
    expect_pull(*store, "reg.invalid/app:t");
    EXPECT_EQ(*token_auth, "Basic bTpw");
    configure("reg.invalid", "server = \"http://" + mirror.host() + "\"\n[header]\nauthorization = \"Token abc\"\n");
    const auto info = store->pull("reg.invalid/app:t", {});
    ASSERT_FALSE(info);
    EXPECT_EQ(info.error().code(), Code::kDenied);
    EXPECT_THAT(info.error().text(), AllOf(HasSubstr("the Authorization header of hosts.toml"), Not(HasSubstr("abc"))));
  });
}

TEST_F(MirrorTest, ABrokenBlobGoesOnWithTheNextHost) {
  sandbox_.run([&] {
    const std::string& blob = image_.layers[0].blob;
    const std::string digest = digest_of(blob);
    HttpServer mirror([&](const ServerRequest& request, Reply& reply) {
      if (!is_blob(request, digest)) return void(serve_image(image_, request, reply));
      if (request.headers.contains("range")) return reply.answer(500, "");
      reply.send("HTTP/1.1 200 OK\r\nContent-Length: " + std::to_string(blob.size()) + "\r\n\r\n" +
                 blob.substr(0, 100'000));
    });
    const auto range = std::make_shared<std::string>();
    HttpServer registry([&, range](const ServerRequest& request, Reply& reply) {
      if (request.headers.contains("range")) *range = request.headers.at("range");
      serve_image(image_, request, reply);
    });
    configure(registry.host(), host(mirror.host()));
    expect_pull(*open_store(), registry.host() + "/app:t");
    EXPECT_EQ(*range, "bytes=100000-");
    EXPECT_THAT(registry.log(), ElementsAre("GET /v2/app/blobs/" + digest));
  });
}

TEST_F(MirrorTest, AStalledMirrorIsGivenUp) {
  sandbox_.run([&] {
    HttpServer mirror([](const ServerRequest&, Reply& reply) { reply.hang(); });
    HttpServer registry(good());
    configure(registry.host(), host(mirror.host()));
    auto store = open_store();
    expect_pull(*store, registry.host() + "/app:t");
    EXPECT_EQ(mirror.log().size(), 1U);
    EXPECT_EQ(registry.log().size(), 5U);
  });
}

TEST_F(MirrorTest, BytesThatDoNotVerifyComeFromTheRegistry) {
  sandbox_.run([&] {
    std::string other = image_.layers[0].blob;
    other[other.size() / 2] = static_cast<char>(other[other.size() / 2] ^ 0x40);
    HttpServer lying([&](const ServerRequest& request, Reply& reply) {
      if (is_blob(request, digest_of(image_.layers[0].blob))) return reply.answer(200, other);
      serve_image(image_, request, reply);
    });
    HttpServer registry(good());
    configure(registry.host(), host(lying.host()));
    auto store = open_store();
    expect_pull(*store, registry.host() + "/app:t");
    const std::size_t asked = lying.log().size();
    expect_pull(*store, registry.host() + "/app:t");  // the registry comes first now
    EXPECT_EQ(lying.log().size(), asked);

    // A configuration and a manifest of other bytes.
    HttpServer config([&](const ServerRequest& request, Reply& reply) {
      if (is_blob(request, image_.config_digest())) return reply.answer(200, std::string(image_.config.size(), ' '));
      serve_image(image_, request, reply);
    });
    HttpServer manifest([&](const ServerRequest& request, Reply& reply) {
      if (request.target.find("/manifests/") != std::string::npos) return reply.answer(200, image_.manifest + " ");
      serve_image(image_, request, reply);
    });
    configure(registry.host(), host(config.host()));
    expect_pull(*store, registry.host() + "/app:t");
    configure(registry.host(), host(manifest.host()));
    expect_pull(*store, registry.host() + "/app@" + image_.manifest_digest());
    EXPECT_GE(manifest.log().size(), 1U);

    // Where all lie the error says so.
    HttpServer liar([&](const ServerRequest& request, Reply& reply) {
      if (is_blob(request, digest_of(image_.layers[0].blob))) return reply.answer(200, other);
      serve_image(image_, request, reply);
    });
    HttpServer mirror([&](const ServerRequest& request, Reply& reply) {
      if (is_blob(request, digest_of(image_.layers[0].blob))) return reply.answer(200, other);
      serve_image(image_, request, reply);
    });
    configure(liar.host(), host(mirror.host()));
    const auto info = store->pull(liar.host() + "/app:t", {});
    ASSERT_FALSE(info);
    EXPECT_EQ(info.error().code(), Code::kCorrupt);
    EXPECT_TRUE(store->list().empty());
  });
}

/// A port whose connections are never made: the queue of its listener is full, so that the kernel drops each SYN.
class BlackHole final {
 public:
  BlackHole() : listener_(*os::tcp_listen("127.0.0.1", 0, 0)), port_(os::local_port(listener_.get()).value_or(0)) {
    sockaddr_in address{};
    address.sin_family = AF_INET;
    address.sin_port = htons(static_cast<std::uint16_t>(port_));
    address.sin_addr.s_addr = htonl(INADDR_LOOPBACK);
    filler_.reset(::socket(AF_INET, SOCK_STREAM | SOCK_CLOEXEC, 0));
    EXPECT_EQ(::connect(filler_.get(), reinterpret_cast<sockaddr*>(&address), sizeof address), 0);
    raw_.reset(::socket(AF_INET, SOCK_RAW | SOCK_CLOEXEC | SOCK_NONBLOCK, IPPROTO_TCP));
    EXPECT_TRUE(raw_);
    const int size = 16 << 20;
    ::setsockopt(raw_.get(), SOL_SOCKET, SO_RCVBUFFORCE, &size, sizeof size);
  }
  [[nodiscard]] std::string host() const { return "127.0.0.1:" + std::to_string(port_); }
  /// How many connections were attempted so far: SYNs by their source port, since the kernel repeats them.
  std::size_t attempts() {
    std::array<unsigned char, 65536> packet{};
    for (;;) {
      const ssize_t size = ::recv(raw_.get(), packet.data(), packet.size(), 0);
      if (size <= 0) return sources_.size();
      iphdr ip{};
      tcphdr tcp{};
      std::memcpy(&ip, packet.data(), sizeof ip);
      if (static_cast<std::size_t>(size) < ip.ihl * 4U + sizeof tcp) continue;
      std::memcpy(&tcp, packet.data() + ip.ihl * 4U, sizeof tcp);
      if (tcp.syn == 1 && tcp.ack == 0 && ntohs(tcp.dest) == port_) sources_.insert(ntohs(tcp.source));
    }
  }

 private:
  UniqueFd listener_;
  unsigned port_;
  UniqueFd filler_;
  UniqueFd raw_;
  std::set<unsigned> sources_;
};

TEST_F(MirrorTest, ADeadOneCostsOneAttempt) {
  sandbox_.run([&] {
    HttpServer registry(good());
    BlackHole hole;
    ASSERT_EQ(hole.attempts(), 0U);
    configure(registry.host(), host(hole.host()));
    const auto begin = std::chrono::steady_clock::now();
    // It is due again after a minute: on a slow machine that is one more.
    const auto allowed = [begin] {
      return 1U + static_cast<unsigned>((std::chrono::steady_clock::now() - begin) / std::chrono::minutes(1));
    };
    auto store = open_store();
    expect_pull(*store, registry.host() + "/app:t");
    EXPECT_GE(hole.attempts(), 1U);
    EXPECT_LE(hole.attempts(), allowed());  // one manifest, one configuration, three layers at once
    for (int i = 0; i < 5; ++i) expect_pull(*store, registry.host() + "/other" + std::to_string(i) + ":t");
    EXPECT_LE(hole.attempts(), allowed());
    EXPECT_EQ(registry.log().size(), 30U);
  });
}

TEST_F(MirrorTest, ADeadRegistryIsNoHindrance) {
  sandbox_.run([&] {
    BlackHole hole;
    HttpServer mirror(good());
    configure(hole.host(), host(mirror.host()));
    auto store = open_store();
    expect_pull(*store, hole.host() + "/app:t");
    EXPECT_EQ(hole.attempts(), 0U);
  });
}

TEST_F(MirrorTest, ADeadOneIsAskedWhenNobodyElseHasIt) {
  sandbox_.run([&] {
    const auto away = std::make_shared<std::atomic<bool>>(true);
    HttpServer mirror([this, away](const ServerRequest& request, Reply& reply) {
      if (*away) return reply.hang();
      serve_image(image_, request, reply);
    });
    HttpServer registry(always(404));
    configure(registry.host(), host(mirror.host()));
    auto store = open_store();
    EXPECT_FALSE(store->pull(registry.host() + "/app:t", {}));
    *away = false;
    expect_pull(*store, registry.host() + "/app:t");
    EXPECT_THAT(registry.log(), Each(StartsWith("GET /v2/app/manifests/t")));
  });
}

}  // namespace
}  // namespace berth::image
