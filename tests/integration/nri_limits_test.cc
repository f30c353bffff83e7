// NRI plugins that hang, die or talk nonsense, which must cost nobody more than their timeout; pre-installed ones; the
// validators.
#include <sys/stat.h>

#include <filesystem>
#include <thread>

#include "base/strings.h"
#include "nri_fixture.h"
#include "os/pidfd.h"
#include "os/socket.h"

namespace berth::test {
namespace {

using std::chrono::milliseconds;
using std::chrono::steady_clock;
using testing::HasSubstr;
using testing::IsEmpty;

constexpr milliseconds kTimeout{400};

struct WithShortTimes {
  static TestHostOptions options() {
    const std::string ms = std::to_string(kTimeout.count());
    return {.config = "[nri]\nsocket = \"" + nri_socket() + "\"\nplugin_dir = \"" + nri_dir() + "/plugins\"\n" +
                      "config_dir = \"" + nri_dir() + "/conf\"\nregistration_timeout_ms = " + ms +
                      "\nrequest_timeout_ms = " + ms +
                      "\ndefault_validator = true\nreject_oci_hook_adjustment = true\n" +
                      "reject_namespace_adjustment = true\n"};
  }
};

class NriLimitsTest : public NriHostTest<WithShortTimes> {
 protected:
  static milliseconds time_of(const std::function<void()>& work) {
    const auto start = steady_clock::now();
    work();
    return std::chrono::duration_cast<milliseconds>(steady_clock::now() - start);
  }
  static bool logged(const std::string& words) {
    return wait_until(std::chrono::seconds(10),
                      [&] { return host().daemon_log(1U << 20).find(words) != std::string::npos; });
  }
};

TEST_F(NriLimitsTest, OneThatHangsIsClosedAndThePodGoesOn) {
  for (const char* method : {"RunPodSandbox", "CreateContainer", "StartContainer", "StopContainer", "StopPodSandbox",
                             "RemoveContainer", "RemovePodSandbox"}) {
    SCOPED_TRACE(method);
    NriPlugin plugin({.index = "10", .name = "hangs"});
    plugin.hang_at(method);
    ASSERT_TRUE(ok(plugin.start(nri_socket())));
    const auto took = time_of([&] {
      const auto config = host().pod_config("p");
      const auto pod = must(cri().run_pod(config));
      const auto id = sleeper(pod, config);
      must(cri().stop(id, 0));
      must(cri().end_pod(pod));
    });
    EXPECT_GE(took, kTimeout);
    EXPECT_LT(took, kTimeout + std::chrono::seconds(3));
    EXPECT_TRUE(plugin.wait_closed());
    EXPECT_TRUE(logged(std::string(method) + ": no answer within 400 ms"));
  }
}

TEST_F(NriLimitsTest, ManyPodsWaitForOneThatHangsOnce) {
  NriPlugin plugin({.index = "10", .name = "hangs"});
  plugin.hang_at("CreateContainer");
  ASSERT_TRUE(ok(plugin.start(nri_socket())));
  constexpr int kPods = 6;
  std::vector<pb::PodSandboxConfig> configs;
  std::vector<std::string> pods;
  for (int i = 0; i < kPods; ++i) {
    configs.push_back(host().pod_config("p" + std::to_string(i)));
    pods.push_back(must(cri().run_pod(configs.back())));
  }
  const auto took = time_of([&] {
    std::vector<std::jthread> threads;
    for (std::size_t i = 0; i < pods.size(); ++i) {
      threads.emplace_back(
          [&, i] { EXPECT_TRUE(ok(cri().create(pods[i], host().shell_config("main", "exit 0"), configs[i]))); });
    }
  });
  EXPECT_LT(took, kTimeout + std::chrono::seconds(3));
  EXPECT_EQ(plugin.count("CreateContainer main"), 1U);
}

TEST_F(NriLimitsTest, ReadsDoNotWaitForAPlugin) {
  NriPlugin plugin({.index = "10", .name = "hangs"});
  plugin.hang_at("CreateContainer");
  ASSERT_TRUE(ok(plugin.start(nri_socket())));
  const auto config = host().pod_config("p");
  const auto pod = must(cri().run_pod(config));
  std::jthread creation([&] { EXPECT_TRUE(ok(cri().create(pod, host().shell_config("main", "exit 0"), config))); });
  ASSERT_TRUE(plugin.wait_for("CreateContainer main"));
  EXPECT_LT(time_of([&] {
              must(cri().pods());
              must(cri().containers());
            }),
            kTimeout / 2);
}

TEST_F(NriLimitsTest, NonsenseAndDeathLoseNothing) {
  {
    NriPlugin plugin({.index = "10", .name = "nonsense"});
    plugin.answer_nonsense("CreateContainer");
    ASSERT_TRUE(ok(plugin.start(nri_socket())));
    EXPECT_TRUE(ok(try_create("nonsense")));
    EXPECT_TRUE(plugin.wait_closed());
  }
  {
    NriPlugin plugin({.index = "10", .name = "dies"});
    plugin.hang_at("CreateContainer");
    ASSERT_TRUE(ok(plugin.start(nri_socket())));
    std::jthread death([&] {
      plugin.wait_for("CreateContainer main");
      plugin.disconnect();
    });
    EXPECT_TRUE(ok(try_create("dies")));
  }
  for (const auto& bytes : {std::string("\x00\x00\x00\x01\x7f\xff\xff\xff", 8), std::string(4096, '\xff'),
                            std::string("\x00\x00\x00\x02\x00\x00\x00\x0aGET / HTTP", 18)}) {
    const auto socket = must(os::unix_connect(nri_socket(), std::chrono::seconds(5)));
    must(os::write_all(socket.get(), bytes));
    char answer = 0;
    must(os::wait_readable(socket.get(), std::chrono::seconds(10)));
    EXPECT_LE(::read(socket.get(), &answer, 1), 0);
  }
  EXPECT_TRUE(ok(try_create("after")));
}

TEST_F(NriLimitsTest, OneThatDoesNotRegisterIsClosed) {
  const auto socket = must(os::unix_connect(nri_socket(), std::chrono::seconds(5)));
  char answer = 0;
  EXPECT_TRUE(must(os::wait_readable(socket.get(), std::chrono::seconds(10))));
  EXPECT_EQ(::read(socket.get(), &answer, 1), 0);
  EXPECT_TRUE(logged("did not register within 400 ms"));
  NriPlugin bad_index({.index = "1x", .name = "test"});
  EXPECT_TRUE(fails(bad_index.start(nri_socket()), Code::kInvalid, "index"));
  NriPlugin bad_name({.index = "10", .name = "te st"});
  EXPECT_TRUE(fails(bad_name.start(nri_socket()), Code::kInvalid, "name"));
  NriPlugin bad_events({.index = "10", .name = "test", .events = 1 << 20});
  EXPECT_FALSE(bad_events.start(nri_socket()));
  NriPlugin deaf({.index = "10", .name = "deaf"});
  deaf.hang_at("Configure");
  EXPECT_FALSE(deaf.start(nri_socket()));
}

TEST_F(NriLimitsTest, ItIsAskedOnlyForWhatItWants) {
  NriPlugin plugin({.events = 1 << (nri_api::START_CONTAINER - 1)});
  ASSERT_TRUE(ok(plugin.start(nri_socket())));
  const auto config = host().pod_config("p");
  const auto pod = must(cri().run_pod(config));
  sleeper(pod, config);
  must(cri().end_pod(pod));
  EXPECT_THAT(plugin.calls(), testing::ElementsAre("StartContainer main"));
}

TEST_F(NriLimitsTest, TheDefaultValidatorRejects) {
  NriPlugin plugin({.index = "66", .name = "bold"});
  bool hook = true;
  plugin.on_create([&hook](const CreateRequest&) -> Result<CreateReply> {
    CreateReply reply;
    if (hook) {
      reply.mutable_adjust()->mutable_hooks()->add_poststop()->set_path("/bin/true");
    } else {
      reply.mutable_adjust()->mutable_linux()->add_namespaces()->set_type("-uts");
    }
    return reply;
  });
  ASSERT_TRUE(ok(plugin.start(nri_socket())));
  EXPECT_TRUE(fails(try_create("hook"), Code::kDenied, "NRI plugin 66-bold may not add OCI hooks"));
  hook = false;
  EXPECT_TRUE(fails(try_create("uts"), Code::kDenied, "NRI plugin 66-bold may not change the uts namespace"));
}

TEST_F(NriLimitsTest, APodCanRequireAPlugin) {
  auto config = host().pod_config("needs");
  (*config.mutable_annotations())["required-plugins.noderesource.dev/container.main"] = "[ needed ]";
  const auto pod = must(cri().run_pod(config));
  const auto container = host().shell_config("main", "exec sleep 1000");
  EXPECT_TRUE(fails(cri().create(pod, container, config), Code::kUnavailable, "NRI plugin needed is required"));
  must(cri().create(pod, host().shell_config("other", "exec sleep 1000"), config));
  NriPlugin plugin({.index = "12", .name = "needed"});
  ASSERT_TRUE(ok(plugin.start(nri_socket())));
  EXPECT_TRUE(ok(cri().create(pod, container, config)));
}

TEST_F(NriLimitsTest, APluginMayValidate) {
  nri_api::ValidateContainerAdjustmentRequest seen;
  NriPlugin validator({.index = "90", .name = "judge"});
  validator.on<nri_api::ValidateContainerAdjustmentRequest, nri_api::ValidateContainerAdjustmentResponse>(
      "ValidateContainerAdjustment",
      [&seen](const auto& request) -> Result<nri_api::ValidateContainerAdjustmentResponse> {
        seen = request;
        nri_api::ValidateContainerAdjustmentResponse reply;
        reply.set_reject(request.adjust().env_size() > 0);
        reply.set_reason("no variables here");
        return reply;
      });
  ASSERT_TRUE(ok(validator.start(nri_socket())));
  EXPECT_TRUE(ok(try_create("quiet")));
  NriPlugin plugin({.index = "10", .name = "env"});
  plugin.on_create([](const CreateRequest&) -> Result<CreateReply> {
    CreateReply reply;
    set_env(reply, "A", "b");
    return reply;
  });
  ASSERT_TRUE(ok(plugin.start(nri_socket())));
  EXPECT_TRUE(fails(try_create("env"), Code::kDenied, "90-judge: ValidateContainerAdjustment: no variables here"));
  EXPECT_EQ(seen.plugins_size(), 2);
  EXPECT_EQ(seen.owners().owners().at(seen.container().id()).compound().at(nri_api::Env).owners().at("A"), "10-env");
  // One that cannot say whether it agrees does not.
  validator.disconnect();
  NriPlugin dead({.index = "91", .name = "mute", .events = 1 << (nri_api::VALIDATE_CONTAINER_ADJUSTMENT - 1)});
  dead.hang_at("ValidateContainerAdjustment");
  ASSERT_TRUE(ok(dead.start(nri_socket())));
  EXPECT_TRUE(fails(try_create("mute"), Code::kUnavailable, "the NRI validator 91-mute has ended without an answer"));
  EXPECT_TRUE(ok(try_create("after")));
}

TEST_F(NriLimitsTest, PreInstalledPluginsAreStartedConfiguredAndEnded) {
  must(os::make_dirs(nri_dir() + "/plugins"));
  must(os::make_dirs(nri_dir() + "/conf"));
  for (const char* name : {"10-good", "20-good", "30-hang", "40-die", "nonsense"}) {
    std::filesystem::copy_file(BERTH_NRI_TEST_PLUGIN, nri_dir() + "/plugins/" + name);
  }
  must(os::write_file_atomic(nri_dir() + "/conf/good.conf", nri_dir()));
  must(os::make_dirs(nri_dir() + "/own"));
  must(os::write_file_atomic(nri_dir() + "/conf/20-good.conf", nri_dir() + "/own"));
  // One that starts another and would both outlive the daemon's patience.
  const std::string child = nri_dir() + "/50-fork.child";
  const std::string fork = nri_dir() + "/plugins/50-fork";
  must(os::write_file_atomic(fork, "#!/bin/sh\nsleep 1000 &\necho -n $! > " + child + "\nwait\n"));
  ASSERT_EQ(::chmod(fork.c_str(), 0755), 0);
  must(host().stop_daemon());
  const auto took = time_of([] { must(host().start_daemon()); });
  EXPECT_LT(took, std::chrono::seconds(10));
  EXPECT_TRUE(logged("10-good"));
  EXPECT_TRUE(logged("passed over"));
  EXPECT_TRUE(logged("30-hang"));
  EXPECT_TRUE(logged("50-fork"));
  const auto process = "/proc/" + must(os::read_file(child, 64));
  EXPECT_TRUE(wait_until(std::chrono::seconds(10), [&] { return !os::exists(process); }));
  const auto up = must(os::read_file(nri_dir() + "/10-good.up", 64));
  EXPECT_TRUE(os::exists(nri_dir() + "/own/20-good.up"));
  const auto config = host().pod_config("p");
  const auto pod = must(cri().run_pod(config));
  sleeper(pod, config);
  must(cri().end_pod(pod));
  must(host().stop_daemon());
  const auto calls = must(os::read_file(nri_dir() + "/10-good.calls", 65536));
  EXPECT_THAT(calls, HasSubstr("RunPodSandbox p\nCreateContainer main"));
  EXPECT_THAT(calls, HasSubstr("Shutdown"));
  EXPECT_FALSE(os::exists("/proc/" + up));
  must(os::remove_tree(nri_dir() + "/plugins"));
  must(host().start_daemon());
}

}  // namespace
}  // namespace berth::test
