// Sandboxes through the CRI: their life, what a retry does, and what containers share in them.
#include <filesystem>
#include <functional>
#include <map>
#include <set>
#include <thread>

#include "fixture.h"
#include "wait.h"

namespace berth::test {
namespace {

struct Plain {
  static TestHostOptions options() { return {}; }
};

class PodTest : public HostTest<Plain> {
 protected:
  static std::string sleeper(const std::string& pod, const pb::PodSandboxConfig& config, const std::string& name) {
    return must(cri().run(pod, host().shell_config(name, "exec sleep 1000"), config));
  }
};

TEST_F(PodTest, LivesFromReadyToGone) {
  auto config = host().pod_config("life");
  (*config.mutable_labels())["app"] = "web";
  (*config.mutable_annotations())["note"] = "as given; kept";
  const auto before = std::chrono::system_clock::now().time_since_epoch() / std::chrono::nanoseconds(1);
  const auto id = must(cri().run_pod(config));
  const auto after = std::chrono::system_clock::now().time_since_epoch() / std::chrono::nanoseconds(1);

  const auto status = must(cri().pod_status(id));
  EXPECT_EQ(status.id(), id);
  EXPECT_EQ(status.state(), pb::SANDBOX_READY);
  EXPECT_EQ(status.metadata().SerializeAsString(), config.metadata().SerializeAsString());
  EXPECT_GE(status.created_at(), before);
  EXPECT_LE(status.created_at(), after);
  EXPECT_EQ(status.labels().at("app"), "web");
  EXPECT_EQ(status.annotations().at("note"), "as given; kept");
  EXPECT_EQ(status.runtime_handler(), "");
  EXPECT_TRUE(status.network().ip().starts_with("10.88.")) << status.network().ip();
  EXPECT_EQ(status.linux().namespaces().options().network(), pb::POD);
  EXPECT_EQ(status.linux().namespaces().options().pid(), pb::CONTAINER);
  const auto listed = must(cri().pods());
  ASSERT_EQ(listed.size(), 1U);
  EXPECT_EQ(listed[0].id(), id);
  EXPECT_EQ(listed[0].metadata().SerializeAsString(), config.metadata().SerializeAsString());
  EXPECT_EQ(listed[0].state(), pb::SANDBOX_READY);
  EXPECT_EQ(listed[0].created_at(), status.created_at());
  EXPECT_EQ(listed[0].labels().at("app"), "web");
  EXPECT_EQ(listed[0].annotations().at("note"), "as given; kept");
  EXPECT_EQ(listed[0].runtime_handler(), "");

  must(cri().stop_pod(id));
  EXPECT_EQ(must(cri().pod_status(id)).state(), pb::SANDBOX_NOTREADY);
  must(cri().remove_pod(id));
  EXPECT_TRUE(must(cri().pods()).empty());
  EXPECT_TRUE(fails(cri().pod_status(id), Code::kNotFound));
}

TEST_F(PodTest, StopAndRemoveMayBeRepeatedAndKnowNoUnknownPod) {
  const auto config = host().pod_config("again");
  const auto id = must(cri().run_pod(config));
  sleeper(id, config, "main");
  for (int i = 0; i < 2; ++i) EXPECT_TRUE(ok(cri().stop_pod(id)));
  for (int i = 0; i < 2; ++i) EXPECT_TRUE(ok(cri().remove_pod(id)));
  EXPECT_TRUE(ok(cri().stop_pod(id)));
  const std::string unknown(64, 'a');
  EXPECT_TRUE(ok(cri().stop_pod(unknown)));
  EXPECT_TRUE(ok(cri().remove_pod(unknown)));
  EXPECT_TRUE(fails(cri().pod_status(unknown), Code::kNotFound));
  EXPECT_TRUE(fails(cri().pod_status(""), Code::kInvalid));
}

TEST_F(PodTest, RemoveTakesARunningPodDown) {
  const auto config = host().pod_config("running");
  const auto id = must(cri().run_pod(config));
  const auto container = sleeper(id, config, "main");
  EXPECT_TRUE(ok(cri().remove_pod(id)));
  EXPECT_TRUE(must(cri().pods()).empty());
  EXPECT_TRUE(must(cri().containers()).empty());
  EXPECT_TRUE(fails(cri().status(container), Code::kNotFound));
}

TEST_F(PodTest, StopEndsTheContainersAndKeepsTheirStatus) {
  const auto config = host().pod_config("stop");
  const auto id = must(cri().run_pod(config));
  const auto container = sleeper(id, config, "main");
  must(cri().stop_pod(id));
  const auto status = must(cri().status(container));
  EXPECT_EQ(status.state(), pb::CONTAINER_EXITED);
  EXPECT_EQ(status.exit_code(), 137);
  EXPECT_GT(status.finished_at(), status.started_at());
  EXPECT_TRUE(fails(cri().create(id, host().shell_config("late", "true"), config), Code::kPrecondition));
}

TEST_F(PodTest, TheStatusTellsOfItsContainers) {
  const auto config = host().pod_config("whole");
  const auto id = must(cri().run_pod(config));
  const auto running = sleeper(id, config, "running");
  const auto created = must(cri().create(id, host().shell_config("created", "true"), config));
  const auto other_config = host().pod_config("other");
  sleeper(must(cri().run_pod(other_config)), other_config, "main");
  pb::PodSandboxStatusRequest request;
  request.set_pod_sandbox_id(id);
  const auto before = std::chrono::system_clock::now().time_since_epoch() / std::chrono::nanoseconds(1);
  const auto answer = must(cri().call(&Runtime::PodSandboxStatus, request));
  EXPECT_GE(answer.timestamp(), before);
  std::map<std::string, pb::ContainerState> states;
  for (const auto& container : answer.containers_statuses()) states[container.id()] = container.state();
  EXPECT_EQ(states, (std::map<std::string, pb::ContainerState>{{running, pb::CONTAINER_RUNNING},
                                                               {created, pb::CONTAINER_CREATED}}));
}

TEST_F(PodTest, TheSameRequestAgainAnswersTheSamePod) {
  const auto config = host().pod_config("retry");
  const auto id = must(cri().run_pod(config));
  EXPECT_EQ(must(cri().run_pod(config)), id);
  EXPECT_EQ(must(cri().pods()).size(), 1U);
  auto next = config;
  next.mutable_metadata()->set_attempt(1);
  EXPECT_NE(must(cri().run_pod(next)), id);
  EXPECT_EQ(must(cri().pods()).size(), 2U);
}

TEST_F(PodTest, RequestsAtTheSameTimeJoin) {
  const auto config = host().pod_config("join");
  std::vector<std::thread> threads;
  std::vector<Result<std::string>> answers(8, fail(Code::kInternal, "no answer"));
  for (auto& answer : answers) {
    threads.emplace_back([&answer, &config] { answer = cri().run_pod(config); });
  }
  for (auto& thread : threads) thread.join();
  std::set<std::string> ids;
  for (const auto& answer : answers) {
    EXPECT_TRUE(ok(answer));
    if (answer) ids.insert(*answer);
  }
  EXPECT_EQ(ids.size(), 1U);
  EXPECT_EQ(must(cri().pods()).size(), 1U);
}

// A client that gives up does not undo the work: its retry gets the pod.
TEST_F(PodTest, ARetryAfterALostAnswerJoins) {
  const auto config = host().pod_config("impatient");
  pb::RunPodSandboxRequest request;
  *request.mutable_config() = config;
  const auto hasty = cri().call(&Runtime::RunPodSandbox, request, std::chrono::milliseconds(1));
  if (!hasty) {
    EXPECT_TRUE(fails(hasty, Code::kTimeout));
  }
  const auto id = must(cri().run_pod(config));
  const auto list = must(cri().pods());
  ASSERT_EQ(list.size(), 1U);
  EXPECT_EQ(list[0].id(), id);
}

TEST_F(PodTest, ListFiltersByIdStateAndLabels) {
  auto a = host().pod_config("a");
  (*a.mutable_labels())["app"] = "web";
  (*a.mutable_labels())["tier"] = "front";
  auto b = host().pod_config("b");
  (*b.mutable_labels())["app"] = "web";
  const auto id_a = must(cri().run_pod(a));
  const auto id_b = must(cri().run_pod(b));
  must(cri().stop_pod(id_b));

  const auto ids = [](const pb::PodSandboxFilter& filter) {
    std::set<std::string> found;
    for (const auto& pod : must(cri().pods(filter))) found.insert(pod.id());
    return found;
  };
  using Ids = std::set<std::string>;
  pb::PodSandboxFilter filter;
  EXPECT_EQ(ids(filter), (Ids{id_a, id_b}));
  filter.set_id(id_a);
  EXPECT_EQ(ids(filter), Ids{id_a});
  filter.clear_id();
  filter.mutable_state()->set_state(pb::SANDBOX_NOTREADY);
  EXPECT_EQ(ids(filter), Ids{id_b});
  filter.mutable_state()->set_state(pb::SANDBOX_READY);
  EXPECT_EQ(ids(filter), Ids{id_a});
  filter.clear_state();
  (*filter.mutable_label_selector())["app"] = "web";
  EXPECT_EQ(ids(filter), (Ids{id_a, id_b}));
  (*filter.mutable_label_selector())["tier"] = "front";
  EXPECT_EQ(ids(filter), Ids{id_a});
  (*filter.mutable_label_selector())["tier"] = "back";
  EXPECT_EQ(ids(filter), Ids{});
}

TEST_F(PodTest, ContainersShareNetworkIpcUtsAndShmButNotPidsAndMounts) {
  const auto config = host().pod_config("shared");
  const auto id = must(cri().run_pod(config));
  const auto web = must(cri().run(id, host().container_config("web", "busybox"), config));
  const auto other = sleeper(id, config, "other");
  const auto namespace_of = [](const std::string& container, const std::string& kind) {
    return must(cri().shell(container, "readlink /proc/1/ns/" + kind));
  };
  for (const auto* kind : {"net", "ipc", "uts"}) EXPECT_EQ(namespace_of(web, kind), namespace_of(other, kind)) << kind;
  for (const auto* kind : {"pid", "mnt"}) EXPECT_NE(namespace_of(web, kind), namespace_of(other, kind)) << kind;
  EXPECT_TRUE(wait_until(std::chrono::seconds(10), [&] {
    const auto page = cri().shell(other, "wget -q -O - http://127.0.0.1/");
    return page && *page == "<h1>a page from a pod</h1>\n";
  }));
  must(cri().shell(web, "echo seen > /dev/shm/file"));
  EXPECT_EQ(must(cri().shell(other, "cat /dev/shm/file")), "seen\n");
  EXPECT_EQ(must(cri().shell(other, "ps | grep -c '[h]ttpd' || true")), "0\n");
  must(cri().shell(web, "echo mine > /tmp/file"));
  EXPECT_EQ(must(cri().shell(other, "ls /tmp")), "");
}

TEST_F(PodTest, PodsAreApart) {
  const auto config_a = host().pod_config("one");
  const auto config_b = host().pod_config("two");
  const auto a = must(cri().run_pod(config_a));
  const auto b = must(cri().run_pod(config_b));
  const auto in_a = sleeper(a, config_a, "main");
  const auto in_b = sleeper(b, config_b, "main");
  for (const auto* kind : {"net", "ipc", "uts", "pid", "mnt"}) {
    const std::string look = std::string("readlink /proc/1/ns/") + kind;
    EXPECT_NE(must(cri().shell(in_a, look)), must(cri().shell(in_b, look))) << kind;
  }
  EXPECT_NE(must(cri().pod_status(a)).network().ip(), must(cri().pod_status(b)).network().ip());
}

TEST_F(PodTest, AnswersAtItsAddressAndReachesOtherPods) {
  const auto config = host().pod_config("web");
  const auto id = must(cri().run_pod(config));
  must(cri().run(id, host().container_config("web", "busybox"), config));
  const auto ip = must(cri().pod_status(id)).network().ip();
  Result<std::string> page;
  EXPECT_TRUE(wait_until(std::chrono::seconds(10), [&] { return (page = http_get(ip, 80)).has_value(); }));
  EXPECT_EQ(must(page), "<h1>a page from a pod</h1>\n");

  const auto client_config = host().pod_config("client");
  const auto client = must(cri().run_pod(client_config));
  const auto container = sleeper(client, client_config, "main");
  EXPECT_EQ(must(cri().shell(container, "wget -q -O - http://" + ip + "/")), "<h1>a page from a pod</h1>\n");
}

TEST_F(PodTest, HostPortsLeadIntoThePodUntilItStops) {
  auto config = host().pod_config("ports");
  auto& port = *config.add_port_mappings();
  port.set_host_port(18080);
  port.set_container_port(80);
  const auto id = must(cri().run_pod(config));
  must(cri().run(id, host().container_config("web", "busybox"), config));
  for (const auto& address : {std::string("127.0.0.1"), std::string("10.88.0.1")}) {
    Result<std::string> page;
    EXPECT_TRUE(wait_until(std::chrono::seconds(10), [&] { return (page = http_get(address, 18080)).has_value(); }))
        << address << ": " << page.error().text();
  }
  auto rival = host().pod_config("rival");
  *rival.mutable_port_mappings() = config.port_mappings();
  const auto taken = cri().run_pod(rival);
  EXPECT_FALSE(taken);
  if (!taken) {
    EXPECT_NE(taken.error().text().find("18080"), std::string::npos) << taken.error().text();
  }
  EXPECT_EQ(must(cri().pods()).size(), 1U);
  // A port is one of its protocol.
  auto udp = host().pod_config("udp");
  *udp.mutable_port_mappings() = config.port_mappings();
  udp.mutable_port_mappings(0)->set_protocol(pb::UDP);
  EXPECT_TRUE(ok(cri().run_pod(udp)));

  must(cri().stop_pod(id));
  EXPECT_FALSE(http_get("127.0.0.1", 18080, "/", std::chrono::seconds(2)));
  EXPECT_TRUE(ok(cri().run_pod(rival)));
}

TEST_F(PodTest, AHostPortOfOneAddressIsOpenThereAlone) {
  auto config = host().pod_config("local");
  auto& port = *config.add_port_mappings();
  port.set_host_ip("127.0.0.1");
  port.set_host_port(18081);
  port.set_container_port(80);
  const auto id = must(cri().run_pod(config));
  must(cri().run(id, host().container_config("web", "busybox"), config));
  EXPECT_TRUE(wait_until(std::chrono::seconds(10), [] { return http_get("127.0.0.1", 18081).has_value(); }));
  EXPECT_FALSE(http_get("10.88.0.1", 18081, "/", std::chrono::seconds(2)));
}

TEST_F(PodTest, HostNetworkIsTheHosts) {
  auto config = host().pod_config("node");
  config.clear_hostname();
  config.mutable_linux()->mutable_security_context()->mutable_namespace_options()->set_network(pb::NODE);
  const auto id = must(cri().run_pod(config));
  auto container_config = host().shell_config("main", "exec sleep 1000");
  container_config.mutable_linux()->mutable_security_context()->mutable_namespace_options()->set_network(pb::NODE);
  const auto container = must(cri().run(id, container_config, config));
  const auto ours = std::filesystem::read_symlink("/proc/self/ns/net").string() + "\n";
  EXPECT_EQ(must(cri().shell(container, "readlink /proc/1/ns/net")), ours);
  EXPECT_EQ(must(cri().pod_status(id)).network().ip(), "");
  EXPECT_EQ(must(cri().pod_status(id)).linux().namespaces().options().network(), pb::NODE);
}

TEST_F(PodTest, HostnameNamesAndDnsAreWhatWasAskedFor) {
  auto config = host().pod_config("named");
  config.set_hostname("web-0");
  auto& dns = *config.mutable_dns_config();
  dns.clear_servers();
  dns.add_servers("192.0.2.10");
  dns.add_servers("192.0.2.11");
  dns.add_searches("svc.cluster.local");
  dns.add_options("ndots:5");
  const auto id = must(cri().run_pod(config));
  const auto container = sleeper(id, config, "main");
  EXPECT_EQ(must(cri().shell(container, "hostname")), "web-0\n");
  EXPECT_EQ(must(cri().shell(container, "cat /etc/hostname")), "web-0\n");
  const auto ip = must(cri().pod_status(id)).network().ip();
  EXPECT_NE(must(cri().shell(container, "grep web-0 /etc/hosts")).find(ip), std::string::npos);
  EXPECT_NE(must(cri().shell(container, "cat /etc/hosts")).find("127.0.0.1"), std::string::npos);
  const auto resolv = must(cri().shell(container, "cat /etc/resolv.conf"));
  for (const auto* line :
       {"nameserver 192.0.2.10\n", "nameserver 192.0.2.11\n", "search svc.cluster.local\n", "options ndots:5\n"}) {
    EXPECT_NE(resolv.find(line), std::string::npos) << resolv;
  }
}

TEST_F(PodTest, SysctlsAreSetInThePodAlone) {
  auto config = host().pod_config("sysctl");
  auto& sysctls = *config.mutable_linux()->mutable_sysctls();
  sysctls["net.core.somaxconn"] = "1234";
  sysctls["kernel.msgmax"] = "9000";
  const auto id = must(cri().run_pod(config));
  const auto container = sleeper(id, config, "main");
  EXPECT_EQ(must(cri().shell(container, "cat /proc/sys/net/core/somaxconn")), "1234\n");
  EXPECT_EQ(must(cri().shell(container, "cat /proc/sys/kernel/msgmax")), "9000\n");
  const auto other_config = host().pod_config("other");
  const auto other = must(cri().run_pod(other_config));
  const auto outside = sleeper(other, other_config, "main");
  EXPECT_NE(must(cri().shell(outside, "cat /proc/sys/net/core/somaxconn")), "1234\n");
  EXPECT_NE(must(cri().shell(outside, "cat /proc/sys/kernel/msgmax")), "9000\n");
}

// Each of these is refused with words that name the fault, and leaves nothing.
TEST_F(PodTest, BadRequestsAreRefusedAndLeaveNothing) {
  const auto before = look(host());
  const auto refuse = [](const char* what, Code code, const char* words,
                         const std::function<void(pb::PodSandboxConfig&)>& spoil, const std::string& handler = "") {
    SCOPED_TRACE(what);
    auto config = host().pod_config("bad");
    spoil(config);
    EXPECT_TRUE(fails(cri().run_pod(config, handler), code, words));
  };
  refuse("handler", Code::kNotFound, "no-such-handler", [](auto&) {}, "no-such-handler");
  refuse("no metadata", Code::kInvalid, "metadata", [](auto& config) { config.clear_metadata(); });
  refuse("no uid", Code::kInvalid, "uid", [](auto& config) { config.mutable_metadata()->clear_uid(); });
  refuse("dns", Code::kInvalid, "", [](auto& config) { config.mutable_dns_config()->add_servers("1.1.1.1\nevil"); });
  refuse("cgroup", Code::kInvalid, "cgroup",
         [](auto& config) { config.mutable_linux()->set_cgroup_parent("/a/../../b"); });
  refuse("port", Code::kInvalid, "70000", [](auto& config) {
    auto& port = *config.add_port_mappings();
    port.set_host_port(70000);
    port.set_container_port(80);
  });
  refuse("log folder", Code::kInvalid, "log_directory",
         [](auto& config) { config.set_log_directory("relative/path"); });
  refuse("hostname", Code::kInvalid, "hostname", [](auto& config) { config.set_hostname(std::string(65, 'h')); });
  for (const auto* key : {"no.such.sysctl", "net.../../core.somaxconn", "vm.swappiness"}) {
    auto config = host().pod_config("sysctl");
    (*config.mutable_linux()->mutable_sysctls())[key] = "1";
    const auto refused = cri().run_pod(config);
    EXPECT_FALSE(refused) << key;
    if (!refused) {
      EXPECT_NE(refused.error().text().find("sysctl"), std::string::npos) << refused.error().text();
    }
  }
  EXPECT_TRUE(must(cri().pods()).empty());
  EXPECT_EQ(leftovers(host(), before), "");
}

}  // namespace
}  // namespace berth::test
