// What goes wrong names its cause: injected faults, the code and the words that a user sees. docs/errors.md lists them.
#include <gmock/gmock.h>
#include <sys/stat.h>

#include <algorithm>
#include <filesystem>
#include <functional>

#include "fixture.h"
#include "os/file.h"

namespace berth::test {
namespace {

using testing::AllOf;
using testing::HasSubstr;

struct WithBusybox {
  static TestHostOptions options() { return {.images = {"busybox"}}; }
};

/// A container that is changed before it is made and started; the first error of the two steps.
using Change = std::function<void(pb::ContainerConfig&)>;

class ErrorsTest : public HostTest<WithBusybox> {
 protected:
  static Error of_pod(const std::function<void(pb::PodSandboxConfig&)>& change, const std::string& handler = "") {
    auto config = host().pod_config("faulty");
    change(config);
    const auto pod = cri().run_pod(config, handler);
    if (pod) throw Stop("the pod was made");
    return pod.error();
  }
  Error of_container(const Change& change) {
    if (pod_.empty()) {
      pod_config_ = host().pod_config("host");
      pod_ = must(cri().run_pod(pod_config_));
    }
    auto config = host().shell_config("faulty" + std::to_string(next_++), "sleep 1000");
    change(config);
    const auto container = cri().run(pod_, config, pod_config_);
    if (container) throw Stop("the container was made");
    return container.error();
  }
  static pb::LinuxContainerSecurityContext& security(pb::ContainerConfig& config) {
    return *config.mutable_linux()->mutable_security_context();
  }
  static void expect(const Error& error, Code code, const std::vector<std::string>& words) {
    EXPECT_EQ(code_name(error.code()), code_name(code)) << error.text();
    for (const auto& word : words) EXPECT_THAT(error.text(), HasSubstr(word));
    EXPECT_THAT(error.text(), testing::EndsWith("[" + std::string(code_name(code)) + "]"));
    EXPECT_EQ(error.text().find('\n'), std::string::npos);
  }

  std::string pod_;
  pb::PodSandboxConfig pod_config_;
  int next_ = 0;
};

TEST_F(ErrorsTest, Pods) {
  expect(of_pod([](auto& pod) { pod.mutable_metadata()->clear_uid(); }), Code::kInvalid, {"metadata", "uid"});
  expect(of_pod([](auto&) {}, "no-such-handler"), Code::kNotFound, {"runtime handler \"no-such-handler\""});
  expect(of_pod([](auto& pod) { pod.mutable_linux()->set_cgroup_parent("../../escape"); }), Code::kInvalid,
         {"cgroup_parent", "../../escape"});
  expect(of_pod([](auto& pod) { pod.mutable_dns_config()->add_servers("1.2.3.4\nnameserver 6.6.6.6"); }),
         Code::kInvalid, {"dns"});
  const auto port = [](pb::PodSandboxConfig& pod, int number) {
    auto* mapping = pod.add_port_mappings();
    mapping->set_host_port(number);
    mapping->set_container_port(80);
  };
  expect(of_pod([&](auto& pod) { port(pod, 70000); }), Code::kInvalid, {"70000"});
  auto holder = host().pod_config("holder");
  port(holder, 18090);
  ASSERT_TRUE(ok(cri().run_pod(holder)));
  expect(of_pod([&](auto& pod) { port(pod, 18090); }), Code::kExists, {"network attach", "18090"});
}

TEST_F(ErrorsTest, ANetworkConfigurationThatIsNone) {
  ASSERT_TRUE(ok(os::make_dirs(host().cni_dir())));
  const std::string file = host().cni_dir() + "/10-broken.conflist";
  ASSERT_TRUE(ok(os::write_file_atomic(file, "{\"name\": ")));
  expect(of_pod([](auto&) {}), Code::kPrecondition, {"network attach", file});
  const auto status = must(cri().call(&Runtime::Status, pb::StatusRequest())).status();
  const auto network = std::ranges::find(status.conditions(), "NetworkReady", &pb::RuntimeCondition::type);
  ASSERT_NE(network, status.conditions().end());
  EXPECT_FALSE(network->status());
  EXPECT_FALSE(network->reason().empty());
  EXPECT_THAT(network->message(), HasSubstr(file));
  ASSERT_TRUE(ok(
      os::write_file_atomic(file, R"({"cniVersion": "1.0.0", "name": "n", "plugins": [{"type": "no-such-plugin"}]})")));
  expect(of_pod([](auto&) {}), Code::kUnavailable, {"network attach", "no-such-plugin is not in"});
  ASSERT_TRUE(ok(os::remove_file(file)));
}

TEST_F(ErrorsTest, ImagesAndUsers) {
  expect(of_container([](auto& c) { c.mutable_image()->set_image("127.0.0.1:5000/never-pulled:1"); }), Code::kNotFound,
         {"127.0.0.1:5000/never-pulled:1", "pull it first"});
  expect(of_container([](auto& c) { security(c).set_run_as_username("nobody-knows"); }), Code::kInvalid,
         {"user", "nobody-knows"});
  pb::PullImageRequest request;
  request.mutable_image()->set_image("127.0.0.1:5000/no-such-repository:1");
  expect(cri().call(&Images::PullImage, request).error(), Code::kNotFound, {"no-such-repository"});
  request.mutable_image()->set_image("127.0.0.1:1/dead/registry:1");
  expect(cri().call(&Images::PullImage, request).error(), Code::kUnavailable, {"127.0.0.1:1"});
  request.mutable_image()->set_image("UPPER CASE");
  expect(cri().call(&Images::PullImage, request).error(), Code::kInvalid, {"UPPER CASE"});
}

TEST_F(ErrorsTest, VolumesAndDevices) {
  const std::string file = host().dir() + "/a-file";
  ASSERT_TRUE(ok(os::write_file_atomic(file, "")));
  expect(of_container([&](auto& c) {
           auto* mount = c.add_mounts();
           mount->set_host_path(file + "/below");
           mount->set_container_path("/data");
         }),
         Code::kInvalid, {"volume", file + "/below", "/data"});
  expect(of_container([](auto& c) {
           auto* device = c.add_devices();
           device->set_host_path("/dev/no-such-device");
           device->set_container_path("/dev/x");
         }),
         Code::kNotFound, {"/dev/no-such-device"});
}

TEST_F(ErrorsTest, SecurityThatIsNotThere) {
  const auto seccomp = [&](const std::string& path) {
    return of_container([&](auto& c) {
      auto* profile = security(c).mutable_seccomp();
      profile->set_profile_type(pb::SecurityProfile::Localhost);
      profile->set_localhost_ref(path);
    });
  };
  expect(seccomp("/no/such/profile.json"), Code::kNotFound, {"seccomp profile", "/no/such/profile.json"});
  const std::string file = host().dir() + "/profile.json";
  ASSERT_TRUE(ok(os::write_file_atomic(file, "{\"defaultAction\": \"SCMP_ACT_SOMETIMES\"}")));
  expect(seccomp(file), Code::kInvalid, {"seccomp", "SCMP_ACT_SOMETIMES"});
  if (!os::exists("/sys/kernel/security/apparmor")) {
    expect(of_container([](auto& c) {
             auto* profile = security(c).mutable_apparmor();
             profile->set_profile_type(pb::SecurityProfile::Localhost);
             profile->set_localhost_ref("some-profile");
           }),
           Code::kUnsupported, {"AppArmor"});
  }
  expect(of_container([](auto& c) { security(c).mutable_capabilities()->add_add_capabilities("CAP_FLY"); }),
         Code::kInvalid, {"FLY"});
}

TEST_F(ErrorsTest, ProgramsThatDoNotStart) {
  const auto command = [&](std::vector<std::string> words) {
    return of_container([&](auto& c) {
      c.clear_command();
      c.clear_args();
      for (const auto& word : words) c.add_command(word);
    });
  };
  expect(command({"/no/such/program"}), Code::kInvalid, {"/no/such/program"});
  expect(command({"/etc"}), Code::kInvalid, {"/etc"});
  expect(of_container([](auto& c) { c.set_working_dir("relative"); }), Code::kInvalid, {"relative"});
}

TEST_F(ErrorsTest, LimitsThatCannotBe) {
  expect(of_container([](auto& c) { c.mutable_linux()->mutable_resources()->set_cpuset_cpus("0-9999"); }),
         Code::kInvalid, {"cpuset.cpus", "0-9999"});
  expect(of_container([](auto& c) { c.mutable_linux()->mutable_resources()->set_memory_limit_in_bytes(8192); }),
         Code::kExhausted, {"memory"});
  expect(of_container([](auto& c) {
           auto* limit = c.mutable_linux()->mutable_resources()->add_hugepage_limits();
           limit->set_page_size("3MB");
           limit->set_limit(3U << 20U);
         }),
         Code::kUnsupported, {"hugetlb"});
}

TEST_F(ErrorsTest, LogsThatCannotBeWritten) {
  const std::string file = host().dir() + "/logs/blocked";
  auto config = host().pod_config("blocked");
  const auto pod = must(cri().run_pod(config));
  std::filesystem::remove_all(file);
  ASSERT_TRUE(ok(os::make_dirs(host().dir() + "/logs")));
  ASSERT_TRUE(ok(os::write_file_atomic(file, "")));
  const auto made = cri().run(pod, host().shell_config("main", "true"), config);
  ASSERT_FALSE(made);
  expect(made.error(), Code::kInvalid, {"log folder", file});
  ASSERT_TRUE(ok(os::remove_file(file)));
}

TEST_F(ErrorsTest, ExecsAndStates) {
  const auto config = host().pod_config("states");
  const auto pod = must(cri().run_pod(config));
  const auto running = must(cri().run(pod, host().shell_config("main", "exec sleep 1000"), config));
  expect(cri().exec(running, {"/no/such/program"}).error(), Code::kInvalid, {"/no/such/program"});
  expect(cri().exec(running, {"sleep", "100"}, 1).error(), Code::kTimeout, {"timed out after 1 s"});
  ASSERT_TRUE(ok(cri().stop(running, 0)));
  expect(cri().exec(running, {"true"}).error(), Code::kPrecondition, {"exited, not running"});
  expect(cri().start(running).error(), Code::kPrecondition, {"exited, not created"});
  expect(cri().status("0123456789").error(), Code::kNotFound, {"0123456789"});
  ASSERT_TRUE(ok(cri().stop_pod(pod)));
  expect(cri().run(pod, host().shell_config("late", "true"), config).error(), Code::kPrecondition, {"is not ready"});
}

}  // namespace
}  // namespace berth::test
