// Pods on a network that a CNI conflist describes: the reference plugins, found and run by the daemon.
#include "fixture.h"
#include "os/file.h"
#include "wait.h"

namespace berth::test {
namespace {

struct WithConflist {
  static TestHostOptions options() {
    return {.conflist = R"({"cniVersion": "1.0.0", "name": "reference", "plugins": [
      {"type": "bridge", "bridge": "cni-test0", "isGateway": true, "ipMasq": true, "hairpinMode": true,
       "ipam": {"type": "host-local", "dataDir": "@DIR@/ipam", "ranges": [[{"subnet": "10.91.0.0/24"}]], "routes": [{"dst": "0.0.0.0/0"}]}},
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

}  // namespace
}  // namespace berth::test
