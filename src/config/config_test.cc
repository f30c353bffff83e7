#include "config/config.h"

#include <gtest/gtest.h>
#include <sys/stat.h>
#include <unistd.h>

#include <cstdlib>
#include <filesystem>
#include <fstream>

namespace berth::config {
namespace {

std::string error_of(std::string_view text) {
  const auto loaded = load_text(text, "c.toml");
  return loaded ? "" : loaded.error().text();
}

Config loaded(std::string_view text) {
  const auto result = load_text(text, "c.toml");
  EXPECT_TRUE(result) << (result ? "" : result.error().text());
  return result ? result->config : Config{};
}

/// A folder of its own for each test.
class Files : public ::testing::Test {
 protected:
  Files() {
    char name[] = "/tmp/berth-config-test-XXXXXX";
    EXPECT_NE(::mkdtemp(name), nullptr);
    folder_ = name;
  }
  ~Files() override { std::filesystem::remove_all(folder_); }
  std::string write(const std::string& name, std::string_view text) const {
    const std::string path = folder_ + "/" + name;
    std::filesystem::create_directories(std::filesystem::path(path).parent_path());
    std::ofstream(path) << text;
    return path;
  }
  std::string folder_;
};

TEST(Config, DefaultsArePinned) {
  EXPECT_EQ(loaded(""), Config{});
  const Config config;
  EXPECT_EQ(config.root, "/var/lib/berth");
  EXPECT_EQ(config.state, "/run/berth");
  EXPECT_EQ(config.listen, "/run/berth/berth.sock");
  EXPECT_EQ(config.cgroup.driver, "cgroupfs");
  EXPECT_EQ(config.handlers.at("berth").engine, "process");
}

TEST(Config, ReadsEveryKey) {
  const Config config = loaded(R"(
root = "/r"
state = "/s"
listen = "unix:///s/l.sock"
log_level = "debug"
[cgroup]
driver = "cgroupfs"
parent = "/pods/berth"
[network]
conf_dir = "/c"
bin_dirs = ["/b1", "/b2"]
bridge = "br1"
subnet = "10.1.2.0/24"
mtu = 1400
masquerade = false
host_ports = false
plugin_timeout_s = 5
[image]
platform = "linux/arm64/v8"
default_registry = "registry.example:5000"
insecure_registries = ["10.0.0.1:5000", "*.lab.example", "[fd00::1]:5000"]
layers = "directory"
max_parallel_layers = 8
pull_progress_timeout_s = 10
max_layer_bytes = 1048576
hosts_dir = "/etc/containerd/certs.d"
auth_file = "/root/.docker/config.json"
[log]
max_line_bytes = 2048
[runtime]
shim = "/opt/shim"
default_handler = "crun"
exec_output_limit = 4096
stats_period_s = 1
[stream]
program = "/opt/stream"
address = "fd00::1"
port = 10010
tls_cert = "/c.pem"
tls_key = "/k.pem"
[handlers.crun]
engine = "external"
binary = "/usr/bin/crun"
[handlers.kata]
shim = "/opt/kata/shim"
[handlers.micro]
engine = "vm"
)");
  EXPECT_EQ(config.root, "/r");
  EXPECT_EQ(config.state, "/s");
  EXPECT_EQ(config.listen, "/s/l.sock");
  EXPECT_EQ(config.log_level, "debug");
  EXPECT_EQ(config.cgroup.parent, "/pods/berth");
  EXPECT_EQ(config.network.conf_dir, "/c");
  EXPECT_EQ(config.network.bin_dirs, (std::vector<std::string>{"/b1", "/b2"}));
  EXPECT_EQ(config.network.bridge, "br1");
  EXPECT_EQ(config.network.subnet, "10.1.2.0/24");
  EXPECT_EQ(config.network.mtu, 1400U);
  EXPECT_FALSE(config.network.masquerade);
  EXPECT_FALSE(config.network.host_ports);
  EXPECT_EQ(config.network.plugin_timeout_s, 5U);
  EXPECT_EQ(config.image.platform, "linux/arm64/v8");
  EXPECT_EQ(config.image.default_registry, "registry.example:5000");
  EXPECT_EQ(config.image.insecure_registries.size(), 3U);
  EXPECT_EQ(config.image.layers, "directory");
  EXPECT_EQ(config.image.hosts_dir, "/etc/containerd/certs.d");
  EXPECT_EQ(config.image.auth_file, "/root/.docker/config.json");
  EXPECT_EQ(config.image.max_parallel_layers, 8U);
  EXPECT_EQ(config.image.pull_progress_timeout_s, 10U);
  EXPECT_EQ(config.image.max_layer_bytes, 1048576U);
  EXPECT_EQ(config.log.max_line_bytes, 2048U);
  EXPECT_EQ(config.runtime.shim, "/opt/shim");
  EXPECT_EQ(config.runtime.default_handler, "crun");
  EXPECT_EQ(config.runtime.exec_output_limit, 4096U);
  EXPECT_EQ(config.runtime.stats_period_s, 1U);
  EXPECT_EQ(config.stream.program, "/opt/stream");
  EXPECT_EQ(config.stream.address, "fd00::1");
  EXPECT_EQ(config.stream.port, 10010U);
  EXPECT_EQ(config.stream.tls_cert, "/c.pem");
  EXPECT_EQ(config.stream.tls_key, "/k.pem");
  EXPECT_EQ(config.handlers.at("crun"), (Handler{.engine = "external", .binary = "/usr/bin/crun"}));
  EXPECT_EQ(config.handlers.at("kata"), (Handler{.shim = "/opt/kata/shim"}));
  EXPECT_EQ(config.handlers.at("micro").engine, "vm");
  EXPECT_EQ(config.handlers.at("berth").engine, "process");
}

TEST(Config, UnknownKeysAreRefusedWithASuggestion) {
  EXPECT_EQ(error_of("rot = \"/r\""), "c.toml:1: unknown key rot; did you mean \"root\"?");
  EXPECT_EQ(error_of("[network]\nbridgee = \"b\""), "c.toml:2: unknown key network.bridgee; did you mean \"bridge\"?");
  EXPECT_EQ(error_of("[netwrok]\nmtu = 1\nnested.deep = 2"),
            "c.toml:1: unknown section [netwrok]; did you mean \"network\"?");
  EXPECT_EQ(error_of("[handlers.x]\nengin = \"vm\"\nengine = \"vm\""),
            "c.toml:2: unknown key handlers.x.engin; did you mean \"engine\"?");
  EXPECT_EQ(error_of("mtu = 1"), "c.toml:1: unknown key mtu; did you mean \"network.mtu\"?");
  EXPECT_EQ(error_of("[image]\nsubnet = \"\""), "c.toml:2: unknown key image.subnet; did you mean \"network.subnet\"?");
  EXPECT_EQ(error_of("[log]\nzzzzzzzzzz = 1"), "c.toml:2: unknown key log.zzzzzzzzzz");
  EXPECT_EQ(error_of("[network.mtu]\nx = 1"), "c.toml:1: network.mtu: expected a whole number, found a section");
  EXPECT_EQ(error_of("[root]\nx = 1"), "c.toml:1: root is a key, not a section");
  EXPECT_EQ(error_of("network = 1"), "c.toml:1: network is a section, write [network]");
  EXPECT_EQ(error_of("[[network]]\nmtu = 1"), "c.toml:1: network is a section, write [network]");
  EXPECT_EQ(error_of("handlers = 1"), "c.toml:1: handlers is a section, write [handlers]");
  EXPECT_EQ(error_of("[handlers]\nx = 1"), "c.toml:2: handlers.x is a section, write [handlers.x]");
  EXPECT_EQ(error_of("\"a\\u0001\\nb\" = 1"), "c.toml:1: unknown key a??b");
}

TEST(Config, AllFaultsAreReportedAtOnce) {
  EXPECT_EQ(error_of("root = 5\nlisten = \"relative\"\n[network]\nmtu = 12\nmasquerade = \"yes\"\n[bogus]\n"),
            "c.toml:1: root: expected a string, found a whole number\n"
            "c.toml:2: listen: \"relative\" must be the absolute path of a unix socket\n"
            "c.toml:4: network.mtu: must be 0 or from 68 to 65535\n"
            "c.toml:5: network.masquerade: expected true or false, found a string\n"
            "c.toml:6: unknown section [bogus]");
  std::string many;
  for (int i = 0; i < 60; ++i) many.append("zzzzzzz" + std::to_string(i) + " = 1\n");
  const std::string text = error_of(many);
  EXPECT_EQ(std::count(text.begin(), text.end(), '\n'), 50);
  EXPECT_TRUE(text.ends_with("\nand 10 more")) << text;
}

TEST(Config, ValuesAreChecked) {
  const std::pair<const char*, const char*> cases[] = {
      {"root = \"r\"", "root: \"r\" must be an absolute path"},
      {"root = \"/a\\u0000b\"", "root: \"/a?b\" must not hold a NUL byte"},
      {"log_level = \"loud\"", "log_level: \"loud\" must be one of debug, info, warn, error"},
      {"cgroup.driver = \"none\"", "cgroup.driver: \"none\" must be \"cgroupfs\", \"systemd\" or \"auto\""},
      {"cgroup.parent = \"/\"",
       "cgroup.parent: \"/\" must be a cgroup below the root, like \"/berth\", or a slice, like \"berth.slice\""},
      {"cgroup.parent = \"a--b.slice\"", "cgroup.parent: \"a--b.slice\" must be the name of a slice"},
      {"cgroup.parent = \"-.slice\"", "cgroup.parent: \"-.slice\" must be the name of a slice"},
      {"cgroup.parent = \"/a/../b\"", "cgroup.parent: \"/a/../b\" must not have empty, \".\" or \"..\" parts"},
      {"network.bin_dirs = [\"/a\", \"b\"]", "network.bin_dirs: \"b\" must be an absolute path"},
      {"network.bin_dirs = [\"/a\", 1]", "network.bin_dirs: expected a list of strings, found a list"},
      {"network.bin_dirs = \"/a\"", "network.bin_dirs: expected a list of strings, found a string"},
      {"network.bridge = \"0123456789abcdef\"",
       "network.bridge: \"0123456789abcdef\" must be an interface name of 1 to 15 bytes"},
      {"network.subnet = \"10.88.0.0\"", "network.subnet: \"10.88.0.0\" must be an IPv4 network like \"10.88.0.0/16\""},
      {"network.subnet = \"10.88.0.1/16\"", "network.subnet: \"10.88.0.1/16\" has bits set behind the prefix"},
      {"network.subnet = \"10.88.0.0/31\"", "network.subnet: \"10.88.0.0/31\" the prefix must be from /8 to /30"},
      {"network.subnet = \"10.256.0.0/16\"",
       "network.subnet: \"10.256.0.0/16\" must be an IPv4 network like \"10.88.0.0/16\""},
      {"network.mtu = -1", "network.mtu: must be 0 or from 68 to 65535"},
      {"network.mtu = 1.5", "network.mtu: expected a whole number, found a number with a fraction"},
      {"image.layers = \"btrfs\"", "image.layers: \"btrfs\" must be one of auto, erofs, directory"},
      {"image.max_parallel_layers = 0", "image.max_parallel_layers: must be from 1 to 64"},
      {"image.platform = \"amd64\"", "image.platform: \"amd64\" must be like \"linux/amd64\" or \"linux/arm64/v8\""},
      {"image.default_registry = \"https://docker.io\"",
       "image.default_registry: \"https://docker.io\" must be host or host:port, without a scheme and a path"},
      {"image.insecure_registries = [\"ok:1\", \"a/b\"]",
       "image.insecure_registries: \"a/b\" must be host, host:port or *.domain, without a scheme and a path"},
      {"image.insecure_registries = [\"h:99999\"]",
       "image.insecure_registries: \"h:99999\" must be host, host:port or *.domain, without a scheme and a path"},
      {"stream.address = \"localhost\"", "stream.address: \"localhost\" must be an IPv4 or IPv6 address"},
      {"stream.port = 65536", "stream.port: must be from 0 to 65535"},
      {"stream.tls_key = \"/k\"", "stream.tls_cert: a certificate needs its tls_key, and the other way round"},
      {"runtime.default_handler = \"gone\"", "runtime.default_handler: there is no [handlers.gone]"},
      {"handlers.x.engine = \"proces\"",
       "handlers.x.engine: \"proces\" must be one of process, external, vm, unikernel, wasm, sandbox; did you mean "
       "\"process\"?\nc.toml:1: handlers.x: needs an engine or a shim"},
      {"[handlers.x]", "handlers.x: needs an engine or a shim"},
      {"handlers.x.engine = \"external\"", "handlers.x: engine \"external\" needs a binary"},
      {"handlers.x = {engine = \"vm\", binary = \"/b\"}",
       "handlers.x: binary and root are for engine \"external\" and for shims only"},
      {"handlers.x = {engine = \"vm\", shim = \"/b\"}", "handlers.x: a shim of its own takes no engine"},
      {"handlers.\"A b\".engine = \"vm\"", "[handlers.A b]: a handler's name has 1 to 63 of a-z, 0-9 and \"-\""},
  };
  for (const auto& [text, expected] : cases) EXPECT_EQ(error_of(text), std::string("c.toml:1: ") + expected) << text;
  const std::string longest = "/" + std::string(106, 's');
  EXPECT_EQ(error_of("listen = \"" + longest + "\""), "");
  EXPECT_EQ(error_of("listen = \"" + longest + "s\""),
            "c.toml:1: listen: \"" + longest.substr(0, 64) + "\" is 108 bytes long, a socket path has at most 107");
}

TEST(Config, TheDriverOfCgroups) {
  for (const char* driver : {"cgroupfs", "systemd", "auto"}) {
    EXPECT_EQ(loaded(std::string("cgroup.driver = \"") + driver + "\"").cgroup.driver, driver);
  }
  EXPECT_EQ(loaded("cgroup.parent = \"berth-pods.slice\"").cgroup.parent, "berth-pods.slice");
}

TEST(Config, CodesTellWhatIsWrong) {
  const auto code = [](std::string_view text) { return load_text(text, "c.toml").error().code(); };
  EXPECT_EQ(code("root = 1"), Code::kInvalid);
  EXPECT_EQ(code(std::string((1U << 20) + 1, '\n')), Code::kExhausted);
}

TEST(Config, AShimTakesTheDefaultHandlersEngineAway) {
  const Config config = loaded("handlers.berth.shim = \"/opt/other\"");
  EXPECT_EQ(config.handlers.at("berth"), (Handler{.shim = "/opt/other"}));
}

TEST(Toml, SyntaxFaultsNameTheLine) {
  EXPECT_TRUE(error_of("root = \"/r\"\nstate = \n").starts_with("c.toml:2: ")) << error_of("root = \"/r\"\nstate = \n");
  EXPECT_TRUE(error_of("root = \"/r\"\n\nroot = \"/s\"\n").starts_with("c.toml:3: "));
  EXPECT_TRUE(error_of("root = \"\xff\"").starts_with("c.toml:1: "));
  EXPECT_TRUE(error_of("[~x]").starts_with("c.toml:1: "));
  EXPECT_TRUE(error_of("mtu = 1mtu = 1.5").starts_with("c.toml:1: "));
}

TEST(Toml, CharactersBeyondAsciiAreTakenInQuotesAndRefusedElsewhere) {
  EXPECT_TRUE(error_of("\nroot = \"\"\u038e").starts_with("c.toml:2: "));
  EXPECT_TRUE(error_of("root =1\"\u038e").starts_with("c.toml:1: "));
  EXPECT_TRUE(error_of("\u038e = 1").starts_with("c.toml:1: "));
  EXPECT_EQ(error_of("root = \"/\u038e\" # \u038e\nstate = '/\u038e'"), "");
  EXPECT_EQ(error_of("\xEF\xBB\xBFroot = \"/r\""), "");
  EXPECT_EQ(loaded("root = \"\"\"/a\\\n  \u038e\"\"\"").root, "/a\u038e");
  EXPECT_EQ(loaded("root = \"\"\"/a\\\"b\\\\\"\"\"").root, "/a\"b\\");
}

TEST(Toml, NestingIsBounded) {
  std::string dots = "a";
  for (int i = 0; i < 100'000; ++i) dots.append(".a");
  EXPECT_EQ(error_of("\n" + dots + " = 1"), "c.toml:2: a key has too many dots");
  EXPECT_EQ(error_of("[" + dots + "]"), "c.toml:1: a key has too many dots");
  EXPECT_EQ(error_of("x = {y = \"\"\"\n\\\"\"\"\"\"\", " + dots + " = 1}"), "c.toml:2: a key has too many dots");
  EXPECT_EQ(error_of("x = '''a''''', y.z = 'b' #" + dots).find("dots"), std::string::npos);
  const std::string arrays = "x = " + std::string(100'000, '[');
  EXPECT_TRUE(error_of(arrays).starts_with("c.toml:1: ")) << error_of(arrays).substr(0, 200);
  const std::string tables = "x = " + [] {
    std::string text;
    for (int i = 0; i < 10'000; ++i) text.append("{a=");
    return text;
  }();
  EXPECT_TRUE(error_of(tables).starts_with("c.toml:1: "));
  // Dots in strings and comments are no nesting.
  EXPECT_EQ(error_of("root = \"/" + std::string(200, '.') + "\" # " + std::string(200, '.')), "");
}

TEST_F(Files, DropInsFollowInOrderAndFlagsWin) {
  const std::string main =
      write("config.toml", "root = \"/main\"\nstate = \"/main\"\n[network]\nbin_dirs = [\"/a\", \"/b\"]\n");
  write("config.d/20-late.toml", "root = \"/late\"\n[network]\nbin_dirs = [\"/c\"]\n");
  write("config.d/10-early.toml", "root = \"/early\"\nstate = \"/early\"\nlisten = \"/early\"\n");
  write("config.d/.hidden.toml", "syntax error");
  write("config.d/readme.txt", "syntax error");
  const auto result = load({.path = main,
                            .path_is_explicit = true,
                            .flags = {{"listen", "unix:///flag", "--listen"},
                                      {"network.mtu", "1500", "--mtu"},
                                      {"network.masquerade", "false", "--masquerade"},
                                      {"image.insecure_registries", "a:1,b", "--insecure"}}});
  ASSERT_TRUE(result) << result.error().text();
  EXPECT_EQ(result->config.root, "/late");
  EXPECT_EQ(result->config.state, "/early");
  EXPECT_EQ(result->config.listen, "/flag");
  EXPECT_EQ(result->config.network.mtu, 1500U);
  EXPECT_FALSE(result->config.network.masquerade);
  EXPECT_EQ(result->config.network.bin_dirs, std::vector<std::string>{"/c"});
  EXPECT_EQ(result->config.image.insecure_registries, (std::vector<std::string>{"a:1", "b"}));
  EXPECT_EQ(result->files,
            (std::vector<std::string>{main, folder_ + "/config.d/10-early.toml", folder_ + "/config.d/20-late.toml"}));
  EXPECT_EQ(result->origins.at("root"), folder_ + "/config.d/20-late.toml:1");
  EXPECT_EQ(result->origins.at("listen"), "flag --listen");

  const std::string dump = result->dump();
  EXPECT_NE(dump.find("root = \"/late\"  # " + folder_ + "/config.d/20-late.toml:1\n"), std::string::npos) << dump;
  EXPECT_NE(dump.find("listen = \"/flag\"  # flag --listen\n"), std::string::npos) << dump;
  EXPECT_NE(dump.find("bridge = \"berth0\"  # default\n"), std::string::npos) << dump;
  EXPECT_NE(dump.find("[handlers.berth]\nengine = \"process\"  # default\n"), std::string::npos) << dump;
  EXPECT_EQ(loaded(dump), result->config);
}

TEST_F(Files, OneHandlerMayComeFromTwoFiles) {
  const std::string main = write("c.toml", "[handlers.x]\nengine = \"external\"\nbinary = \"/a\"\n");
  write("c.d/1.toml", "[handlers.x]\nbinary = \"/b\"\n");
  const auto result = load({.path = main});
  ASSERT_TRUE(result) << result.error().text();
  EXPECT_EQ(result->config.handlers.at("x"), (Handler{.engine = "external", .binary = "/b"}));
}

TEST_F(Files, FaultsOfAllFilesAndFlagsComeTogether) {
  const std::string main = write("c.toml", "[");
  const std::string second = write("c.d/a.toml", "rot = 1\n");
  const auto result = load({.path = main,
                            .flags = {{"network.mtu", "big", "--mtu"},
                                      {"network.mtu", "9", "--mtu"},
                                      {"nothing", "9", "--nothing"},
                                      {"network.host_ports", "yes", "--host-ports"}}});
  ASSERT_FALSE(result);
  const std::string& text = result.error().text();
  EXPECT_TRUE(text.starts_with(main + ":1: ")) << text;
  EXPECT_NE(text.find("\n" + second + ":1: unknown key rot; did you mean \"root\"?\n"), std::string::npos) << text;
  EXPECT_NE(text.find("\nflag --mtu: network.mtu: expected a whole number, found a string\n"), std::string::npos)
      << text;
  EXPECT_NE(text.find("\nflag --mtu: network.mtu: must be 0 or from 68 to 65535\n"), std::string::npos) << text;
  EXPECT_NE(text.find("\nflag --nothing: unknown key nothing\n"), std::string::npos) << text;
  EXPECT_TRUE(text.ends_with("\nflag --host-ports: network.host_ports: expected true or false, found a string"))
      << text;
}

TEST_F(Files, AMissingFileIsFineUnlessNamed) {
  const std::string path = folder_ + "/none.toml";
  const auto quiet = load({.path = path});
  ASSERT_TRUE(quiet) << quiet.error().text();
  EXPECT_EQ(quiet->config, Config{});
  EXPECT_TRUE(quiet->files.empty());
  const auto named = load({.path = path, .path_is_explicit = true});
  ASSERT_FALSE(named);
  EXPECT_EQ(named.error().code(), Code::kNotFound);
  EXPECT_EQ(named.error().text(), path + ": open: No such file or directory");
}

TEST_F(Files, OnlyRegularFilesAreRead) {
  ASSERT_EQ(::mkfifo((folder_ + "/fifo.toml").c_str(), 0600), 0);
  const auto fifo = load({.path = folder_ + "/fifo.toml", .path_is_explicit = true});
  ASSERT_FALSE(fifo);
  EXPECT_EQ(fifo.error().text(), folder_ + "/fifo.toml: is not a regular file");
  EXPECT_FALSE(load({.path = folder_, .path_is_explicit = true}));
  const std::string big = write("big.toml", std::string((1U << 20) + 1, '\n'));
  EXPECT_EQ(load({.path = big}).error().code(), Code::kExhausted);
}

TEST_F(Files, ADanglingDropInIsAFault) {
  std::filesystem::create_directories(folder_ + "/c.d");
  std::filesystem::create_symlink("/nowhere/at/all", folder_ + "/c.d/x.toml");
  const auto result = load({.path = folder_ + "/c.toml"});
  ASSERT_FALSE(result);
  EXPECT_EQ(result.error().text(), folder_ + "/c.d/x.toml: open: No such file or directory");
}

}  // namespace
}  // namespace berth::config
