#include "image/reference.h"

#include <gtest/gtest.h>

namespace berth::image {
namespace {

const std::string kDigest = "sha256:" + std::string(64, 'a');

struct Good {
  std::string text, registry, repository, tag, digest;
};

TEST(Reference, FillsInWhatIsLeftOut) {
  const std::vector<Good> cases = {
      {"busybox", "docker.io", "library/busybox", "latest", ""},
      {"busybox:1.36", "docker.io", "library/busybox", "1.36", ""},
      {"team/app", "docker.io", "team/app", "latest", ""},
      {"docker.io/busybox", "docker.io", "library/busybox", "latest", ""},
      {"index.docker.io/library/busybox", "docker.io", "library/busybox", "latest", ""},
      {"localhost/a", "localhost", "a", "latest", ""},
      {"localhost:5000/a:b", "localhost:5000", "a", "b", ""},
      {"127.0.0.1:5000/a/b/c:v1.2_x-y", "127.0.0.1:5000", "a/b/c", "v1.2_x-y", ""},
      {"[::1]:5000/a", "[::1]:5000", "a", "latest", ""},
      {"[fd00::1]/a/b@" + kDigest, "[fd00::1]", "a/b", "", kDigest},
      {"registry.k8s.io/pause:3.10", "registry.k8s.io", "pause", "3.10", ""},
      {"EXAMPLE/a", "EXAMPLE", "a", "latest", ""},
      {"a@" + kDigest, "docker.io", "library/a", "", kDigest},
      {"quay.io/a:t@" + kDigest, "quay.io", "a", "t", kDigest},
      {"q.io/a__b/c---d/e.f_g", "q.io", "a__b/c---d/e.f_g", "latest", ""},
  };
  for (const Good& c : cases) {
    const auto got = parse_reference(c.text);
    ASSERT_TRUE(got) << c.text << ": " << got.error().text();
    EXPECT_EQ(got->registry, c.registry) << c.text;
    EXPECT_EQ(got->repository, c.repository) << c.text;
    EXPECT_EQ(got->tag, c.tag) << c.text;
    EXPECT_EQ(got->digest, c.digest) << c.text;
  }
}

TEST(Reference, WritesItsNames) {
  const auto both = parse_reference("quay.io/a:t@" + kDigest);
  ASSERT_TRUE(both);
  EXPECT_EQ(both->tagged(), "quay.io/a:t");
  EXPECT_EQ(both->canonical(), "quay.io/a@" + kDigest);
  EXPECT_EQ(both->to_string(), both->canonical());
  EXPECT_EQ(parse_reference("busybox")->to_string(), "docker.io/library/busybox:latest");
}

TEST(Reference, OtherDefaultRegistryHasNoLibrary) {
  const auto got = parse_reference("busybox", "mirror.example:5000");
  ASSERT_TRUE(got);
  EXPECT_EQ(got->to_string(), "mirror.example:5000/busybox:latest");
}

TEST(Reference, RefusesWhatIsNoName) {
  const std::vector<std::string> cases = {"",
                                          "/",
                                          "a/",
                                          "/a",
                                          "a//b",
                                          "Busybox",
                                          "a:",
                                          "a:-x",
                                          "a:.x",
                                          "a@",
                                          "a@sha256:abc",
                                          "a@md5:" + std::string(32, 'a'),
                                          "a@sha256:" + std::string(64, 'A'),
                                          "a b",
                                          "a..b",
                                          "a___b",
                                          "-a",
                                          "a-",
                                          "_a",
                                          "a/.b",
                                          "../a",
                                          "localhost:99999/a",
                                          "localhost:0/a",
                                          "localhost:x/a",
                                          "[::1/a",
                                          "[::g]/a",
                                          "x..y/a",
                                          "-x.y/a",
                                          std::string(64, 'a'),
                                          "a:" + std::string(129, 't'),
                                          std::string(300, 'a'),
                                          std::string(5000, 'a'),
                                          std::string("a\0b", 3),
                                          "a:b:c",
                                          "http://x/a",
                                          "a@b@" + kDigest};
  for (const std::string& text : cases) {
    const auto got = parse_reference(text);
    ASSERT_FALSE(got) << text << " became " << got->to_string();
    EXPECT_EQ(got.error().code(), Code::kInvalid) << text;
  }
}

TEST(Reference, KnowsLoopback) {
  for (const char* host : {"localhost", "LOCALHOST", "127.0.0.1", "127.9.9.9", "::1"})
    EXPECT_TRUE(is_loopback_host(host)) << host;
  for (const char* host : {"localhost.example", "128.0.0.1", "::2", "0.0.0.0", "127.0.0.1.example", ""}) {
    EXPECT_FALSE(is_loopback_host(host)) << host;
  }
}

TEST(Reference, MatchesPatterns) {
  for (const char* text : {"a.b", "a:80", "[::1]:5000", "*.lan", "*.lan:5000"})
    EXPECT_TRUE(valid_registry_pattern(text)) << text;
  for (const char* text : {"", "*", "*.", "*a.b", "a.*", "http://a", "*.*.b"})
    EXPECT_FALSE(valid_registry_pattern(text)) << text;
  EXPECT_TRUE(registry_pattern_matches("Reg.lan", "reg.LAN", 5000));
  EXPECT_TRUE(registry_pattern_matches("*.lan", "a.b.lan", 80));
  EXPECT_TRUE(registry_pattern_matches("*.lan:5000", "a.lan", 5000));
  EXPECT_FALSE(registry_pattern_matches("*.lan:5000", "a.lan", 80));
  EXPECT_FALSE(registry_pattern_matches("*.lan", "lan", 80));
  EXPECT_FALSE(registry_pattern_matches("*.lan", "evillan", 80));
  EXPECT_FALSE(registry_pattern_matches("reg.lan:1", "reg.lan", 2));
}

TEST(Reference, SplitsHostAndPort) {
  EXPECT_EQ(split_host_port("[::1]:80").host, "::1");
  EXPECT_EQ(split_host_port("[::1]:80").port, 80U);
  EXPECT_EQ(split_host_port("a.b").port, 0U);
  EXPECT_EQ(split_host_port("a.b:443").port, 443U);
}

}  // namespace
}  // namespace berth::image
