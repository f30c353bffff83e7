// Pods on a network that a CNI conflist describes: the reference plugins, found and run by the daemon.
#include <chrono>
#include <filesystem>

#include "base/strings.h"
#include "fixture.h"
#include "os/file.h"
#include "wait.h"

namespace berth::test {
namespace {

struct WithConflist {
  static TestHostOptions options() {
    return {.conflist = R"({"cniVersion": "1.0.0", "name": "reference", "plugins": [
      {"type": "bridge", "bridge": "cni-test0", "isGateway": true, "ipMasq": true, "hairpinMode": true,
       "ipam": {"type": "host-local", "dataDir": "@DIR@/ipam", "ranges": [[{"subnet": "10.91.0.0/24"}], [{"subnet": "fd91::/64"}]], "routes": [{"dst": "0.0.0.0/0"}]}},
      {"type": "portmap", "capabilities": {"portMappings": true}}]})"};
  }
};

class CniTest : public HostTest<WithConflist> {
 protected:
  // The bridge and the plugins' own chains come with the first pod and stay.
  static HostState after_the_first_pod() {
    auto config = host().pod_config("first");
    config.add_port_mappings()->set_host_port(18079);
    config.mutable_port_mappings(0)->set_container_port(80);
    must(cri().end_pod(must(cri().run_pod(config))));
    return look(host());
  }
};

TEST_F(CniTest, APodGetsItsAddressFromThePluginAndGivesItBack) {
  const auto before = after_the_first_pod();
  auto config = host().pod_config("web");
  auto& port = *config.add_port_mappings();
  port.set_host_port(18081);
  port.set_container_port(80);
  const auto pod = must(cri().run_pod(config));
  const auto container = must(cri().run(pod, host().container_config("web", "busybox"), config));
  const auto ip = must(cri().pod_status(pod)).network().ip();
  EXPECT_TRUE(ip.starts_with("10.91.0.")) << ip;
  const auto more = must(cri().pod_status(pod)).network().additional_ips();
  ASSERT_EQ(more.size(), 1);
  EXPECT_TRUE(more[0].ip().starts_with("fd91::")) << more[0].ip();
  EXPECT_NE(must(cri().shell(container, "ip addr show eth0")).find(more[0].ip() + "/64"), std::string::npos);
  for (const auto& [address, number] : {std::pair(ip, 80U), std::pair(std::string("10.91.0.1"), 18081U)}) {
    Result<std::string> page;
    EXPECT_TRUE(wait_until(std::chrono::seconds(10), [&] { return (page = http_get(address, number)).has_value(); }))
        << address << ": " << page.error().text();
  }
  EXPECT_NE(must(cri().shell(container, "ip route")).find("default via 10.91.0.1"), std::string::npos);
  EXPECT_NE(must(cri().shell(container, "cat /etc/hosts")).find(ip), std::string::npos);
  must(cri().stop_pod(pod));
  EXPECT_FALSE(http_get("10.91.0.1", 18081, "/", std::chrono::seconds(2)));
  must(cri().remove_pod(pod));
  EXPECT_EQ(leftovers(host(), before), "");
}

TEST_F(CniTest, TheStatusNamesTheNetwork) {
  pb::StatusRequest request;
  request.set_verbose(true);
  EXPECT_NE(must(cri().call(&Runtime::Status, request)).info().at("berth").find("\"reference\""), std::string::npos);
}

TEST_F(CniTest, AnAddressThatIsNoneIsRefusedAndNothingIsLeft) {
  const auto before = after_the_first_pod();
  // The reference portmap plugin takes any text here and makes a rule without the address, open to all.
  auto config = host().pod_config("bad");
  auto& port = *config.add_port_mappings();
  port.set_host_port(18082);
  port.set_container_port(80);
  port.set_host_ip("not-an-address");
  const auto refused = cri().run_pod(config);
  EXPECT_FALSE(refused);
  if (!refused) {
    EXPECT_NE(refused.error().text().find("not-an-address"), std::string::npos) << refused.error().text();
  }
  EXPECT_EQ(leftovers(host(), before), "");
}

TEST_F(CniTest, PodsSurviveARestartOfTheDaemon) {
  const auto config = host().pod_config("stays");
  const auto pod = must(cri().run_pod(config));
  const auto ip = must(cri().pod_status(pod)).network().ip();
  host().kill9_daemon();
  ASSERT_TRUE(ok(host().start_daemon()));
  EXPECT_EQ(must(cri().pod_status(pod)).network().ip(), ip);
  EXPECT_TRUE(ok(cri().end_pod(pod)));
}

// A plugin's program may be away when a pod ends: an upgrade of the plugins, a node that is being taken down.
struct WithOwnPlugins {
  static TestHostOptions options() {
    auto options = WithConflist::options();
    // The reference bridge plugin takes its masquerade rules back only while the pod's namespace is there.
    const std::string masquerade = R"("ipMasq": true, )";
    options.conflist.erase(options.conflist.find(masquerade), masquerade.size());
    options.own_plugins = true;
    options.config = "[runtime]\nstats_period_s = 1\n";  // what is left is tried again every six rounds
    return options;
  }
};

class CniGoneTest : public HostTest<WithOwnPlugins> {
 protected:
  void SetUp() override {
    HostTest::SetUp();
    if (HasFatalFailure()) return;
    must(cri().end_pod(web("first").first));  // the bridge and the plugins' own chains come with the first pod
    before_ = look(host());
  }
  // A pod with a host port, and its address.
  static std::pair<std::string, std::string> web(const std::string& name) {
    auto config = host().pod_config(name);
    config.add_port_mappings()->set_host_port(18083);
    config.mutable_port_mappings(0)->set_container_port(80);
    const auto pod = must(cri().run_pod(config));
    must(cri().run(pod, host().container_config("web", "busybox"), config));
    return {pod, must(cri().pod_status(pod)).network().ip()};
  }
  static std::string path(const std::string& plugin) { return host().plugin_dir() + "/" + plugin; }
  static void take_away(const std::string& plugin) { must(os::remove_file(path(plugin))); }
  static void bring_back(const std::string& plugin) {
    std::filesystem::create_symlink(TestHost::kPlugins + ("/" + plugin), path(plugin));
  }
  // host-local keeps one file for each address that is taken.
  static bool taken(const std::string& ip) { return os::exists(host().dir() + "/ipam/reference/" + ip); }
  // What a kubelet does with a pod that it wants gone, and the words of the first failure.
  static std::string end_as_a_kubelet(const std::string& pod) {
    std::string first;
    for (int i = 0; i < 3; ++i) {
      const auto begun = std::chrono::steady_clock::now();
      const auto stopped = cri().stop_pod(pod);
      EXPECT_LT(std::chrono::steady_clock::now() - begun, std::chrono::seconds(10));
      if (stopped) break;
      if (first.empty()) first = stopped.error().text();
    }
    EXPECT_TRUE(ok(cri().remove_pod(pod)));
    EXPECT_TRUE(must(cri().pods()).empty());
    EXPECT_TRUE(must(cri().containers()).empty());
    return first;
  }
  static Ran fsck(std::vector<std::string> more = {}) {
    std::vector<std::string> argv = {TestHost::program("berth"), "--address", host().socket(), "fsck"};
    argv.insert(argv.end(), more.begin(), more.end());
    return must(run_program(argv));
  }

  HostState before_;
};

TEST_F(CniGoneTest, TheAddressReturnsWhenTheProgramDoes) {
  // The one that holds the address itself, the one that calls it, and the last of the chain.
  for (const std::string plugin : {"host-local", "bridge", "portmap"}) {
    SCOPED_TRACE(plugin);
    const auto [pod, ip] = web("gone");
    ASSERT_TRUE(taken(ip));
    take_away(plugin);
    EXPECT_NE(end_as_a_kubelet(pod).find(plugin), std::string::npos) << "the failure names the program";
    EXPECT_EQ(taken(ip), plugin != "portmap") << "only what needs the program waits for it";
    const auto seen = fsck();
    EXPECT_NE((seen.out + seen.err).find(pod), std::string::npos) << seen.out << seen.err;
    // A new pod does not get the address, nor is it kept from anything but what needs the program.
    bring_back(plugin);
    EXPECT_TRUE(wait_until(std::chrono::seconds(30), [&] { return leftovers(host(), before_, {}).empty(); }))
        << leftovers(host(), before_, {});
    EXPECT_FALSE(taken(ip));
    EXPECT_EQ(fsck().code, 0);
  }
}

TEST_F(CniGoneTest, ItAlsoReturnsByFsckAndByARestart) {
  for (const bool restart : {false, true}) {
    SCOPED_TRACE(restart ? "restart" : "fsck --repair");
    const auto [pod, ip] = web("gone");
    take_away("host-local");
    end_as_a_kubelet(pod);
    EXPECT_TRUE(taken(ip));
    if (restart) {
      host().kill9_daemon();
      bring_back("host-local");
      ASSERT_TRUE(ok(host().start_daemon()));
    } else {
      bring_back("host-local");
      const auto ran = fsck({"--repair"});
      EXPECT_EQ(ran.code, 0) << ran.out << ran.err;
    }
    EXPECT_FALSE(taken(ip));
    EXPECT_EQ(leftovers(host(), before_), "");
  }
}

}  // namespace
}  // namespace berth::test
