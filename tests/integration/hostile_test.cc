// Broken and malicious input through the daemon's doors: each gives a clear error and leaves nothing, and the daemon
// goes on.
#include <grpcpp/channel.h>
#include <grpcpp/generic/generic_stub.h>
#include <grpcpp/support/proto_buffer_reader.h>
#include <sys/socket.h>

#include <array>
#include <functional>

#include "fixture.h"
#include "image/testing/http_server.h"
#include "oci_layout.h"
#include "os/file.h"
#include "os/pidfd.h"
#include "os/socket.h"
#include "wait.h"

namespace berth::test {
namespace {

namespace http = ::berth::image::testing;

struct Plain {
  static TestHostOptions options() {
    return {.config = "[image]\npull_progress_timeout_s = 2\nmax_layer_bytes = 4194304\n"};
  }
};

class HostileTest : public HostTest<Plain> {
 protected:
  void SetUp() override {
    HostTest::SetUp();
    if (HasFatalFailure()) return;
    daemon_ = host().daemon_pid();
    before_ = look(host());
  }
  void TearDown() override {
    // The same process answers, and can still run a pod.
    EXPECT_TRUE(host().daemon_alive());
    EXPECT_EQ(host().daemon_pid(), daemon_);
    EXPECT_TRUE(ok(cri().call(&Runtime::Version, pb::VersionRequest())));
    EXPECT_EQ(leftovers(host(), before_), "");
    HostTest::TearDown();
  }

  // Sends bytes that need be no message of the method.
  static grpc::Status call_raw(const std::string& method, const std::string& bytes) {
    grpc::GenericStub stub(cri().channel());
    grpc::ClientContext context;
    context.set_deadline(std::chrono::system_clock::now() + CriClient::kTimeout);
    grpc::CompletionQueue queue;
    const grpc::Slice slice(bytes);
    const grpc::ByteBuffer request(&slice, 1);
    const auto reader = stub.PrepareUnaryCall(&context, method, request, &queue);
    reader->StartCall();
    grpc::ByteBuffer reply;
    grpc::Status status;
    reader->Finish(&reply, &status, nullptr);
    void* tag = nullptr;
    bool good = false;
    queue.Next(&tag, &good);
    return status;
  }
  // What the peer of a socket does with garbage: true when it closes the connection within 20 s.
  static bool closes_after(const std::string& path, const std::string& bytes) {
    const auto socket = must(os::unix_connect(path, std::chrono::seconds(5)));
    iovec part{const_cast<char*>(bytes.data()), bytes.size()};  // NOLINT: not written to
    ignore(os::send_some(socket.get(), {&part, 1}), "it may close at once");
    const auto deadline = std::chrono::steady_clock::now() + std::chrono::seconds(20);
    std::array<char, 4096> buffer{};
    while (std::chrono::steady_clock::now() < deadline) {
      const auto readable = os::wait_readable(socket.get(), std::chrono::milliseconds(200));
      if (!readable || !*readable) continue;
      const auto got = os::receive_some(socket.get(), buffer);
      if (!got || (*got && **got == 0)) return true;
    }
    return false;
  }

  pid_t daemon_ = 0;
  HostState before_;
};

TEST_F(HostileTest, RequestsThatDoNotParse) {
  const std::string garbage("\xff\xff\xff\xff\xff\xff\xff\xff\xff\xff\xff\x7f garbage", 20);
  for (const auto* method : {"RunPodSandbox", "CreateContainer", "ListContainers", "ExecSync", "Status"}) {
    const auto status = call_raw(std::string("/runtime.v1.RuntimeService/") + method, garbage);
    EXPECT_FALSE(status.ok()) << method;
  }
  EXPECT_FALSE(call_raw("/runtime.v1.ImageService/PullImage", garbage).ok());
  EXPECT_EQ(call_raw("/runtime.v1.RuntimeService/NoSuchMethod", "").error_code(), grpc::StatusCode::UNIMPLEMENTED);
  // A message in a message a thousand deep.
  std::string deep;
  for (int i = 0; i < 1000; ++i) {
    std::string outer("\x0a", 1);
    for (auto left = deep.size();; left >>= 7U) {
      outer.push_back(static_cast<char>(left < 128 ? left : (left & 127U) | 128U));
      if (left < 128) break;
    }
    deep = outer + deep;
  }
  EXPECT_FALSE(call_raw("/runtime.v1.RuntimeService/RunPodSandbox", deep).ok());
}

TEST_F(HostileTest, AMessageThatIsTooLarge) {
  pb::PodSandboxConfig config = host().pod_config("large");
  (*config.mutable_annotations())["blob"] = std::string(17U << 20, 'x');
  EXPECT_TRUE(fails(cri().run_pod(config), Code::kExhausted, "larger"));
  // One that is just allowed is a matter of the request alone.
  pb::ListPodSandboxRequest list;
  (*list.mutable_filter()->mutable_label_selector())["blob"] = std::string(15U << 20, 'x');
  EXPECT_TRUE(ok(cri().call(&Runtime::ListPodSandbox, list)));
}

TEST_F(HostileTest, GarbageOnTheCriSocket) {
  EXPECT_TRUE(closes_after(host().socket(), "GET / HTTP/1.1\r\nHost: x\r\n\r\n"));
  EXPECT_TRUE(closes_after(host().socket(), std::string(100'000, '\xfe')));
  // The preface of HTTP/2 and a frame that claims 16 MiB.
  EXPECT_TRUE(
      closes_after(host().socket(),
                   std::string("PRI * HTTP/2.0\r\n\r\nSM\r\n\r\n\xff\xff\xff\x04\x00\x00\x00\x00\x00 and more", 42)));
  // Connections that say nothing cost others nothing.
  std::vector<UniqueFd> silent;
  for (int i = 0; i < 200; ++i) silent.push_back(must(os::unix_connect(host().socket(), std::chrono::seconds(5))));
  EXPECT_TRUE(ok(cri().call(&Runtime::Version, pb::VersionRequest())));
}

TEST_F(HostileTest, FramesThatAreTooLargeForAShim) {
  const auto config = host().pod_config("pod");
  const auto pod = must(cri().run_pod(config));
  const auto id = must(cri().run(pod, host().shell_config("main", "exec sleep 1000"), config));
  const std::string socket = host().state() + "/pods/" + pod + "/shim.sock";
  // Headers of ttrpc: length, stream, type, flags. 16 MiB - 1 is refused as a call; nearly 4 GiB is no ttrpc at all.
  EXPECT_TRUE(closes_after(socket, std::string("\xff\xff\xff\xff\x00\x00\x00\x01\x01\x00", 10)));
  EXPECT_TRUE(closes_after(socket, std::string("GET / HTTP/1.1\r\n\r\n")));
  {
    const auto half = must(os::unix_connect(socket, std::chrono::seconds(5)));
    std::string bytes("\x00\xff\xff\xff\x00\x00\x00\x01\x01\x00 not all of it", 24);
    iovec part{bytes.data(), bytes.size()};
    EXPECT_TRUE(ok(os::send_some(half.get(), {&part, 1})));
    EXPECT_EQ(must(cri().shell(id, "echo still here")), "still here\n");
  }
  EXPECT_EQ(must(cri().shell(id, "echo still here")), "still here\n");
  must(cri().end_pod(pod));
}

// ---- a registry that lies ----

struct Registry {
  std::vector<Blob> blobs;
  // May answer in place of the registry.
  std::function<bool(const http::ServerRequest&, http::Reply&)> spoil = [](const auto&, auto&) { return false; };

  void operator()(const http::ServerRequest& request, http::Reply& reply) const {
    if (spoil(request, reply)) return;
    if (request.target == "/v2/") return reply.answer(200, "{}");
    if (request.target.find("/manifests/") != std::string::npos) {
      const auto& manifest = blobs.back();
      return reply.answer(200, manifest.bytes,
                          {"Content-Type: " + manifest.media_type, "Docker-Content-Digest: " + manifest.digest});
    }
    for (const auto& blob : blobs) {
      if (request.target.ends_with(blob.digest)) return reply.answer(200, blob.bytes);
    }
    reply.answer(404, R"({"errors": [{"code": "BLOB_UNKNOWN", "message": "no such blob"}]})");
  }
};

class HostileRegistryTest : public HostileTest {
 protected:
  // Pulls from a registry that serves `image` but for what `spoil` does.
  static Result<std::string> pull(const Image& image, decltype(Registry::spoil) spoil = {},
                                  const pb::AuthConfig& auth = {}) {
    Registry registry;
    registry.blobs = make_blobs(image);
    if (spoil) registry.spoil = std::move(spoil);
    const http::HttpServer server(registry);
    pb::PullImageRequest request;
    request.mutable_image()->set_image(server.host() + "/evil/image:latest");
    *request.mutable_auth() = auth;
    BERTH_ASSIGN(const auto reply, cri().call(&Images::PullImage, request), "pull");
    return reply.image_ref();
  }
  static Image with_layer(const TarBuilder& tar) { return {{tar.finish()}, {{"Cmd", {"/bin/true"}}}}; }
  static Image harmless() { return with_layer(TarBuilder().dir("bin").file("bin/true", "#!/bin/sh\n", 0755)); }
  void TearDown() override {
    EXPECT_EQ(must(cri().call(&Images::ListImages, pb::ListImagesRequest())).images_size(), 1);
    EXPECT_FALSE(os::exists(host().dir() + "/escaped"));
    EXPECT_FALSE(os::exists("/tmp/berth-escaped"));
    HostileTest::TearDown();
  }
};

TEST_F(HostileRegistryTest, TheHarmlessOneIsPulled) {
  const auto id = pull(harmless());
  ASSERT_TRUE(ok(id));
  pb::RemoveImageRequest request;
  request.mutable_image()->set_image(*id);
  EXPECT_TRUE(ok(cri().call(&Images::RemoveImage, request)));
}

/// A registry that gives nothing to whoever does not say `wanted`, and sends him to `challenge`, "@HOST@" in which is
/// itself; there it gives the token "t0ken" for the identity token "who-i-am".
auto asking(const std::string& wanted, const std::string& challenge) {
  return [wanted, challenge](const http::ServerRequest& request, http::Reply& reply) {
    if (request.target == "/token") {
      const bool known = request.body.find("refresh_token=who-i-am") != std::string::npos;
      reply.answer(known ? 200 : 401, R"({"token": "t0ken"})");
      return true;
    }
    const auto said = request.headers.find("authorization");
    if (said != request.headers.end() && said->second == wanted) return false;
    std::string answer = challenge;
    if (const auto at = answer.find("@HOST@"); at != std::string::npos)
      answer.replace(at, 6, request.headers.at("host"));
    reply.answer(401, "", {"WWW-Authenticate: " + answer});
    return true;
  };
}

TEST_F(HostileRegistryTest, WhoAsksForCredentialsGetsThoseOfTheRequest) {
  const std::string basic = "Basic realm=\"x\"";
  const std::string bearer = "Bearer realm=\"http://@HOST@/token\"";
  const std::string me = "Basic bWU6czNjcmV0";  // me:s3cret
  const auto accepted = [](const pb::AuthConfig& auth, const std::string& wanted, const std::string& challenge) {
    const auto id = pull(harmless(), asking(wanted, challenge), auth);
    EXPECT_TRUE(ok(id)) << auth.ShortDebugString();
    if (!id) return;
    pb::RemoveImageRequest request;
    request.mutable_image()->set_image(*id);
    EXPECT_TRUE(ok(cri().call(&Images::RemoveImage, request)));
  };
  pb::AuthConfig auth;
  EXPECT_TRUE(fails(pull(harmless(), asking(me, basic), auth), Code::kDenied));
  auth.set_username("me");
  auth.set_password("s3cret");
  accepted(auth, me, basic);
  auth.set_server_address("elsewhere.example");
  EXPECT_TRUE(fails(pull(harmless(), asking(me, basic), auth), Code::kDenied)) << "they are another registry's";
  auth.Clear();
  auth.set_auth("bWU6czNjcmV0");
  accepted(auth, me, basic);
  auth.Clear();
  auth.set_registry_token("r3gistry");
  accepted(auth, "Bearer r3gistry", bearer);
  auth.Clear();
  auth.set_identity_token("who-i-am");
  accepted(auth, "Bearer t0ken", bearer);
  const auto log = host().daemon_log(1U << 20);
  for (const auto* secret : {"s3cret", "bWU6czNjcmV0", "r3gistry", "who-i-am", "t0ken"}) {
    EXPECT_EQ(log.find(secret), std::string::npos) << secret;
  }
}

TEST_F(HostileRegistryTest, ContentThatIsNotWhatItsDigestSays) {
  const auto image = harmless();
  const auto layer = make_blobs(image)[0];
  EXPECT_TRUE(fails(pull(image,
                         [&layer](const auto& request, auto& reply) {
                           if (!request.target.ends_with(layer.digest)) return false;
                           auto bytes = layer.bytes;
                           bytes[bytes.size() / 2] = static_cast<char>(bytes[bytes.size() / 2] ^ 1);
                           reply.answer(200, bytes);
                           return true;
                         }),
                    Code::kCorrupt));
  const auto config = make_blobs(image)[1];
  EXPECT_TRUE(fails(pull(image,
                         [&config](const auto& request, auto& reply) {
                           if (!request.target.ends_with(config.digest)) return false;
                           reply.answer(200, std::string(config.bytes.size(), ' '));
                           return true;
                         }),
                    Code::kCorrupt));
}

TEST_F(HostileRegistryTest, ContentThatEndsEarlyOrGoesOn) {
  const auto image = harmless();
  const auto layer = make_blobs(image)[0];
  for (const bool longer : {false, true}) {
    EXPECT_FALSE(pull(image, [&](const auto& request, auto& reply) {
      if (!request.target.ends_with(layer.digest)) return false;
      reply.answer(200, longer ? layer.bytes + layer.bytes : layer.bytes.substr(0, layer.bytes.size() / 2));
      return true;
    })) << longer;
  }
}

TEST_F(HostileRegistryTest, ARegistryThatStalls) {
  const auto image = harmless();
  const auto start = std::chrono::steady_clock::now();
  EXPECT_TRUE(fails(pull(image,
                         [](const auto& request, auto& reply) {
                           if (request.target.find("/blobs/") == std::string::npos) return false;
                           reply.hang();
                           return true;
                         }),
                    Code::kTimeout));
  EXPECT_LT(std::chrono::steady_clock::now() - start, std::chrono::seconds(40));
}

TEST_F(HostileRegistryTest, RedirectsInACircle) {
  EXPECT_FALSE(pull(harmless(), [](const auto& request, auto& reply) {
    if (request.target.find("/blobs/") == std::string::npos) return false;
    reply.answer(307, "", {"Location: " + request.target});
    return true;
  }));
}

TEST_F(HostileRegistryTest, LayersThatLeaveTheirRoot) {
  const std::string up = "../../../../../../../../../..";
  const std::string target = up + "/tmp/berth-escaped";
  const std::pair<const char*, TarBuilder> kLayers[] = {
      {"dots", TarBuilder().file(target, "x")},
      {"through a link", TarBuilder().symlink("out", up + "/tmp").file("out/berth-escaped", "x")},
      {"through an absolute link", TarBuilder().symlink("out", "/tmp").file("out/berth-escaped", "x")},
      {"hard link", TarBuilder().hard_link("passwd", up + "/etc/passwd")},
      {"hard link through a link", TarBuilder().symlink("etc", "/etc").hard_link("mine", "etc/passwd")},
  };
  for (const auto& [name, tar] : kLayers) {
    SCOPED_TRACE(name);
    // Refused, or kept inside: either way nothing appears outside, which TearDown looks at.
    const auto id = pull(with_layer(tar));
    if (!id) {
      EXPECT_TRUE(fails(id, Code::kCorrupt));
      continue;
    }
    pb::RemoveImageRequest request;
    request.mutable_image()->set_image(*id);
    EXPECT_TRUE(ok(cri().call(&Images::RemoveImage, request)));
  }
}

TEST_F(HostileRegistryTest, ArchivesThatAreBrokenOrTooLarge) {
  EXPECT_TRUE(fails(pull(with_layer(TarBuilder().lying_file("big", 1ULL << 40U, "little"))), Code::kExhausted));
  EXPECT_FALSE(pull(with_layer(TarBuilder().lying_file("big", 100'000, "little"))));
  // 64 MiB of nothing in 64 KiB.
  EXPECT_TRUE(fails(pull(with_layer(TarBuilder().file("bomb", std::string(64U << 20, '\0')))), Code::kExhausted));
  EXPECT_FALSE(pull({{std::string(100'000, 'g')}, {}}));
}

TEST_F(HostileRegistryTest, ManifestsThatAreNone) {
  const std::pair<const char*, std::string> kManifests[] = {
      {"no JSON", "<html>"},
      {"nothing", ""},
      {"deep", std::string(100'000, '[')},
      {"large", "{\"a\": \"" + std::string(20U << 20, 'x') + "\"}"},
      {"no layers", R"({"schemaVersion": 2})"},
      {"digest that is a path", R"({"schemaVersion": 2, "mediaType": "application/vnd.oci.image.manifest.v1+json",
         "config": {"mediaType": "application/vnd.oci.image.config.v1+json", "digest": "sha256:../../../../etc/passwd", "size": 5},
         "layers": []})"},
  };
  for (const auto& [name, manifest] : kManifests) {
    SCOPED_TRACE(name);
    EXPECT_FALSE(pull(harmless(), [text = manifest](const auto& request, auto& reply) {
      if (request.target.find("/manifests/") == std::string::npos) return false;
      reply.answer(200, text, {"Content-Type: application/vnd.oci.image.manifest.v1+json"});
      return true;
    }));
  }
}

}  // namespace
}  // namespace berth::test
