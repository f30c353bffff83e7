#include "image/hosts_config.h"

#include <gmock/gmock.h>
#include <gtest/gtest.h>

#include <cstdlib>
#include <filesystem>
#include <fstream>

namespace berth::image {
namespace {

using ::testing::AllOf;
using ::testing::ElementsAre;
using ::testing::HasSubstr;
using ::testing::StartsWith;

constexpr const char* kPath = "/etc/berth/certs.d/reg/hosts.toml";

HostsConfig parsed(std::string_view text) {
  auto hosts = parse_hosts(text, kPath);
  EXPECT_TRUE(hosts) << (hosts ? "" : hosts.error().text());
  return hosts ? *hosts : HostsConfig{};
}

std::string error_of(std::string_view text) {
  const auto hosts = parse_hosts(text, kPath);
  return hosts ? "" : hosts.error().text();
}

TEST(HostsConfig, ReadsEveryKey) {
  const HostsConfig hosts = parsed(R"(
server = "https://upstream.example:8443/base"
ca = ["/abs/a.pem", "b.pem"]

[host."https://Zeta.lan"]
capabilities = ["pull", "Resolve", "push"]
ca = "zeta.crt"
client = "both.pem"
skip_verify = true
dial_timeout = "1.5s"
[host."https://Zeta.lan".header]
x-one = "1"
x-two = ["2", "3"]

[host."http://10.1.2.3:5000/v2/proxy/"]
capabilities = ["pull"]
override_path = true
client = ["a.pem", "/b.pem"]

[host."alpha.lan"]
client = [["c.cert", "c.key"], ["d.pem", ""]]
)");
  EXPECT_THAT(hosts.warnings, ElementsAre());
  ASSERT_EQ(hosts.mirrors.size(), 3U);  // in the order of the file
  const HostConfig& zeta = hosts.mirrors[0];
  EXPECT_EQ(zeta.scheme, "https");
  EXPECT_EQ(zeta.authority, "zeta.lan");
  EXPECT_EQ(zeta.path, "/v2");
  EXPECT_TRUE(zeta.can_pull);
  EXPECT_TRUE(zeta.can_resolve);
  EXPECT_TRUE(zeta.tls.skip_verify);
  EXPECT_THAT(zeta.tls.authorities, ElementsAre("/etc/berth/certs.d/reg/zeta.crt"));
  EXPECT_THAT(zeta.tls.clients, ElementsAre(ClientPair{"/etc/berth/certs.d/reg/both.pem", ""}));
  EXPECT_THAT(zeta.headers, ElementsAre("x-one: 1", "x-two: 2", "x-two: 3"));
  EXPECT_EQ(zeta.dial_timeout.count(), 1500);
  const HostConfig& plain = hosts.mirrors[1];
  EXPECT_EQ(plain.scheme, "http");
  EXPECT_EQ(plain.authority, "10.1.2.3:5000");
  EXPECT_EQ(plain.path, "/v2/proxy");
  EXPECT_TRUE(plain.can_pull);
  EXPECT_FALSE(plain.can_resolve);
  EXPECT_THAT(plain.tls.clients, ElementsAre(ClientPair{"/etc/berth/certs.d/reg/a.pem", ""}, ClientPair{"/b.pem", ""}));
  const HostConfig& alpha = hosts.mirrors[2];
  EXPECT_EQ(alpha.scheme, "https");
  EXPECT_EQ(alpha.authority, "alpha.lan");
  EXPECT_THAT(alpha.tls.clients,
              ElementsAre(ClientPair{"/etc/berth/certs.d/reg/c.cert", "/etc/berth/certs.d/reg/c.key"},
                          ClientPair{"/etc/berth/certs.d/reg/d.pem", ""}));
  EXPECT_EQ(hosts.server.authority, "upstream.example:8443");
  EXPECT_EQ(hosts.server.path, "/base/v2");
  EXPECT_THAT(hosts.server.tls.authorities, ElementsAre("/abs/a.pem", "/etc/berth/certs.d/reg/b.pem"));
}

TEST(HostsConfig, WithoutAServerTheRegistryComesLast) {
  const HostsConfig hosts = parsed("capabilities = [\"push\"]\nskip_verify = true\n[host.\"https://m\"]\n");
  EXPECT_EQ(hosts.server.scheme, "");
  EXPECT_TRUE(hosts.server.can_pull);  // who could, otherwise
  EXPECT_TRUE(hosts.server.can_resolve);
  EXPECT_TRUE(hosts.server.tls.skip_verify);
  EXPECT_TRUE(parsed("").mirrors.empty());
}

TEST(HostsConfig, DockersNameMeansItsRegistry) {
  EXPECT_EQ(parsed("server = \"https://docker.io\"").server.authority, "registry-1.docker.io");
  EXPECT_EQ(parsed("server = \"registry-1.docker.io/v2\"").server.path, "/v2");
  EXPECT_EQ(parsed("server = \"https://a/b\"\noverride_path = true").server.path, "/b");
  EXPECT_EQ(parsed("server = \"https://a\"\noverride_path = true").server.path, "");
}

TEST(HostsConfig, WarnsOfWhatItDoesNotKnow) {
  const HostsConfig hosts = parsed(
      "[host.\"https://m\"]\nproxy = \"http://p\"\ncapabilities = [\"pull\", \"referrers\"]\n[plugins]\na = 1\n");
  EXPECT_THAT(hosts.warnings, ElementsAre(AllOf(StartsWith(std::string(kPath) + ":4: "), HasSubstr("plugins")),
                                          AllOf(StartsWith(std::string(kPath) + ":2: "), HasSubstr("proxy")),
                                          AllOf(StartsWith(std::string(kPath) + ":3: "), HasSubstr("referrers"))));
  EXPECT_TRUE(hosts.mirrors.at(0).can_pull);
  EXPECT_FALSE(hosts.mirrors.at(0).can_resolve);
}

TEST(HostsConfig, NamesTheLineOfEachFault) {
  for (const auto& [text, where, what] : std::vector<std::tuple<std::string, std::string, std::string>>{
           {"a = 1\nb = [\n", ":", ""},
           {"\nserver = 1", ":2: ", "server: must be a string, not a whole number"},
           {"host = \"x\"", ":1: ", "must be tables"},
           {"[host.\"https://a\"]\nca = 1", ":2: ", "ca: must be the name of a file"},
           {"[host.\"https://a\"]\nca = [\"\"]", ":2: ", "is no name of a file"},
           {"[host.\"https://a\"]\nclient = [[\"a\"]]", ":2: ", "a pair is a certificate and its key"},
           {"[host.\"https://a\"]\nclient = [[\"a\", 1]]", ":2: ", "client: must be the name of a file"},
           {"[host.\"https://a\"]\nskip_verify = \"yes\"", ":2: ", "must be true or false, not a string"},
           {"[host.\"https://a\"]\noverride_path = 1", ":2: ", "must be true or false"},
           {"[host.\"https://a\"]\ndial_timeout = 5", ":2: ", "must be a duration"},
           {"[host.\"https://a\"]\ncapabilities = \"pull\"", ":2: ", "must be a list"},
           {"[host.\"https://a\"]\nheader = \"x\"", ":2: ", "header: must be a table"},
           {"[host.\"https://a\".header]\n\"x y\" = \"1\"", ":2: ", "is no name of a header"},
           {"[host.\"https://a\".header]\nx = \"1\\r\\nHost: b\"", ":2: ", "no control characters"},
           {"[host.\"https://a\".header]\nx = \"" + std::string(20000, 'x') + "\"", ":1: ", "bytes of headers"},
           {"\n[host.\"ftp://a\"]", ":2: ", "no http or https address"},
           {"\n[host.\"https://me:pw@a\"]", ":2: ", "user name or password"},
           {"\n[host.\"https://a/?b\"]", ":2: ", "query"},
           {std::string(300'000, '#'), ":1: ", "larger than 262144 bytes"},
       }) {
    EXPECT_THAT(error_of(text), AllOf(StartsWith(kPath + where), HasSubstr(what))) << text.substr(0, 100);
  }
  std::string many;
  for (int i = 0; i < 65; ++i) many += "[host.\"https://m" + std::to_string(i) + "\"]\n";
  EXPECT_THAT(error_of(many), HasSubstr("more than 64 hosts"));
}

TEST(HostsConfig, ReadsGosDurations) {
  const auto ms = [](std::string_view text) {
    const auto time = parse_go_duration(text);
    return time ? time->count() : -1;
  };
  EXPECT_EQ(ms("1s"), 1000);
  EXPECT_EQ(ms("250ms"), 250);
  EXPECT_EQ(ms("1m30s"), 90'000);
  EXPECT_EQ(ms(".5s"), 500);
  EXPECT_EQ(ms("1h"), 3'600'000);
  EXPECT_EQ(ms("10us"), 1);
  EXPECT_EQ(ms("0"), 0);
  for (const char* text : {"", "1", "s", "-1s", "1 s", "1sec", "1.2.3s", "25h", "1e3s", "99999999999999999999h"}) {
    EXPECT_EQ(ms(text), -1) << text;
  }
}

TEST(HostsConfig, FindsTheFolderAsContainerdDoes) {
  EXPECT_THAT(host_folders("/d", "reg:5000"), ElementsAre("/d/reg_5000_", "/d/reg:5000", "/d/_default"));
  EXPECT_THAT(host_folders("/d", "docker.io"), ElementsAre("/d/docker.io", "/d/_default"));
  EXPECT_THAT(host_folders("/d", "[::1]:5000"), ElementsAre("/d/[::1]_5000_", "/d/[::1]:5000", "/d/_default"));
  EXPECT_THAT(host_folders("/d", "[::1]"), ElementsAre("/d/[::1]", "/d/_default"));

  char name[] = "/tmp/berth-hosts-test-XXXXXX";
  ASSERT_NE(::mkdtemp(name), nullptr);
  const std::filesystem::path dir = name;
  const auto write = [&dir](const std::string& folder, std::string_view text) {
    std::filesystem::create_directories(dir / folder);
    std::ofstream(dir / folder / "hosts.toml") << text;
  };
  const auto first = [&dir](const std::string& registry) {
    const auto hosts = load_hosts(dir, registry);
    if (!hosts) return hosts.error().text();
    return hosts->mirrors.empty() ? std::string() : hosts->mirrors.front().authority;
  };
  EXPECT_EQ(first("reg:5000"), "");
  write("_default", "[host.\"https://default\"]");
  EXPECT_EQ(first("reg:5000"), "default");
  write("reg:5000", "[host.\"https://colon\"]");
  EXPECT_EQ(first("reg:5000"), "colon");
  write("reg_5000_", "[host.\"https://underscore\"]");
  EXPECT_EQ(first("reg:5000"), "underscore");
  std::filesystem::create_directories(dir / "quay.io");  // certificates alone: no mirrors
  EXPECT_EQ(first("quay.io"), "");
  write("docker.io", "server = \n");
  EXPECT_THAT(first("docker.io"), HasSubstr(dir.string() + "/docker.io/hosts.toml:1: "));
  std::filesystem::create_directories(dir / "folder" / "hosts.toml");
  EXPECT_THAT(first("folder"), HasSubstr("no regular file"));
  std::filesystem::remove_all(dir);
}

}  // namespace
}  // namespace berth::image
