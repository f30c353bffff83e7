// NRI plugins through a pod's life: what they are told, what they may change, and what they may not.
#include "nri_fixture.h"

#include <sys/stat.h>

#include <fstream>

#include "base/strings.h"
#include "os/socket.h"

namespace berth::test {
namespace {

using testing::Contains;
using testing::ElementsAre;
using testing::HasSubstr;
using testing::IsEmpty;
using testing::Not;

class NriTest : public NriHostTest<WithNri> {};

TEST_F(NriTest, APluginIsToldOfAPodsLifeInOrder) {
  NriPlugin plugin;
  ASSERT_TRUE(ok(plugin.start(nri_socket())));
  EXPECT_EQ(plugin.configuration().runtime_name(), "berth");
  EXPECT_EQ(plugin.configuration().request_timeout(), 1000);
  const auto config = host().pod_config("life");
  const auto pod = must(cri().run_pod(config));
  const auto id = sleeper(pod, config);
  pb::UpdateContainerResourcesRequest update;
  update.set_container_id(id);
  update.mutable_linux()->set_cpu_shares(512);
  must(cri().call(&Runtime::UpdateContainerResources, update));
  must(cri().stop(id, 0));
  must(cri().remove(id));
  must(cri().end_pod(pod));
  EXPECT_THAT(plugin.calls(),
              ElementsAre("RunPodSandbox life", "CreateContainer main", "ValidateContainerAdjustment main",
                          "PostCreateContainer main", "StartContainer main", "PostStartContainer main",
                          "UpdateContainer main", "PostUpdateContainer main", "StopContainer main",
                          "RemoveContainer main", "StopPodSandbox life", "RemovePodSandbox life"));
}

TEST_F(NriTest, APluginOfBeforeItsCallsIsToldByStateChange) {
  NriPlugin plugin({.old = true});
  ASSERT_TRUE(ok(plugin.start(nri_socket())));
  const auto config = host().pod_config("old");
  const auto pod = must(cri().run_pod(config));
  const auto id = sleeper(pod, config);
  must(cri().end_pod(pod));
  EXPECT_THAT(plugin.calls(), ElementsAre("StateChange RUN_POD_SANDBOX old", "CreateContainer main",
                                          "ValidateContainerAdjustment main", "StateChange POST_CREATE_CONTAINER main",
                                          "StateChange START_CONTAINER main", "StateChange POST_START_CONTAINER main",
                                          "StopContainer main", "StateChange STOP_POD_SANDBOX old",
                                          "StateChange REMOVE_CONTAINER main", "StateChange REMOVE_POD_SANDBOX old"));
}

TEST_F(NriTest, AContainerThatEndsByItselfIsToldOnce) {
  NriPlugin plugin;
  ASSERT_TRUE(ok(plugin.start(nri_socket())));
  const auto config = host().pod_config("ends");
  const auto pod = must(cri().run_pod(config));
  const auto id = must(cri().run(pod, host().shell_config("main", "exit 3"), config));
  EXPECT_TRUE(plugin.wait_for("StopContainer main"));
  must(cri().stop(id, 0));
  must(cri().end_pod(pod));
  EXPECT_EQ(plugin.count("StopContainer main"), 1U);
  EXPECT_TRUE(plugin.wait_for("RemoveContainer main"));
}

TEST_F(NriTest, SeesThePodAndTheContainerAsTheyAre) {
  CreateRequest seen;
  NriPlugin plugin;
  plugin.on_create([&seen](const CreateRequest& request) -> Result<CreateReply> {
    seen = request;
    return CreateReply();
  });
  ASSERT_TRUE(ok(plugin.start(nri_socket())));
  auto config = host().pod_config("seen");
  (*config.mutable_annotations())["example.org/a"] = "b";
  const auto pod = must(cri().run_pod(config));
  auto container = host().shell_config("main", "exec sleep 1000");
  container.add_envs()->set_key("FOO");
  container.mutable_envs(0)->set_value("bar");
  container.mutable_linux()->mutable_resources()->set_memory_limit_in_bytes(64 << 20);
  const auto id = must(cri().create(pod, container, config));
  EXPECT_EQ(seen.pod().id(), pod);
  EXPECT_EQ(seen.pod().uid(), config.metadata().uid());
  EXPECT_EQ(seen.pod().annotations().at("example.org/a"), "b");
  EXPECT_EQ(seen.pod().ips(0), must(cri().pod_status(pod)).network().ip());
  EXPECT_TRUE(os::exists(seen.pod().linux().namespaces(0).path()));
  EXPECT_EQ(seen.container().id(), id);
  EXPECT_EQ(seen.container().pod_sandbox_id(), pod);
  EXPECT_EQ(seen.container().state(), nri_api::CONTAINER_CREATED);
  EXPECT_THAT(seen.container().args(), ElementsAre("/bin/sh", "-c", "exec sleep 1000"));
  EXPECT_THAT(seen.container().env(), Contains("FOO=bar"));
  EXPECT_GT(seen.container().mounts_size(), 5);
  EXPECT_EQ(seen.container().linux().resources().memory().limit().value(), 64 << 20);
  EXPECT_THAT(seen.container().linux().cgroups_path(), HasSubstr(id));
  EXPECT_THAT(seen.container().image().name(), HasSubstr("busybox"));
}

TEST_F(NriTest, ChangesWhatTheProcessIsLike) {
  must(os::make_dirs(nri_dir() + "/given"));
  must(os::write_file_atomic(nri_dir() + "/given/file", "from the node"));
  NriPlugin plugin;
  plugin.on_create([](const CreateRequest&) -> Result<CreateReply> {
    CreateReply reply;
    auto& adjust = *reply.mutable_adjust();
    set_env(reply, "ADDED", "1");
    set_env(reply, "FOO", "changed");
    set_env(reply, "-GONE", "");
    (*adjust.mutable_annotations())["example.org/by"] = "plugin";
    auto& mount = *adjust.add_mounts();
    mount.set_destination("/given");
    mount.set_source(nri_dir() + "/given");
    mount.set_type("bind");
    for (const char* option : {"rbind", "ro"}) mount.add_options(option);
    auto& limit = *adjust.add_rlimits();
    limit.set_type("RLIMIT_NOFILE");
    limit.set_hard(321);
    limit.set_soft(321);
    adjust.mutable_linux()->mutable_oom_score_adj()->set_value(987);
    adjust.mutable_linux()->mutable_io_priority()->set_class_(nri_api::IOPRIO_CLASS_IDLE);
    (*adjust.mutable_linux()->mutable_sysctl())["net.ipv4.ip_unprivileged_port_start"] = "77";
    return reply;
  });
  ASSERT_TRUE(ok(plugin.start(nri_socket())));
  const auto config = host().pod_config("process");
  const auto pod = must(cri().run_pod(config));
  auto container = host().shell_config("main", "exec sleep 1000");
  for (const char* name : {"FOO", "GONE"}) container.add_envs()->set_key(name);
  const auto id = must(cri().run(pod, container, config));
  EXPECT_EQ(must(cri().shell(id, "tr '\\0' '\\n' < /proc/1/environ | grep -E 'ADDED|FOO|GONE' | sort")),
            "ADDED=1\nFOO=changed\n");
  EXPECT_EQ(must(cri().shell(id, "cat /given/file")), "from the node");
  EXPECT_FALSE(cri().shell(id, "touch /given/x"));
  EXPECT_THAT(must(cri().shell(id, "grep 'open files' /proc/1/limits")), HasSubstr("321"));
  EXPECT_EQ(must(cri().shell(id, "cat /proc/1/oom_score_adj")), "987\n");
  EXPECT_EQ(must(cri().shell(id, "cat /proc/sys/net/ipv4/ip_unprivileged_port_start")), "77\n");
  EXPECT_THAT(must(os::read_file(host().state() + "/pods/" + pod + "/containers/" + id + "/config.json", 1U << 20)),
              HasSubstr(R"("example.org/by":"plugin")"));
}

TEST_F(NriTest, ChangesArgumentsHooksDevicesAndSeccomp) {
  const std::string proof = nri_dir() + "/hooked";
  NriPlugin plugin;
  plugin.on_create([&proof](const CreateRequest&) -> Result<CreateReply> {
    CreateReply reply;
    auto& adjust = *reply.mutable_adjust();
    for (const char* word : {"/bin/sh", "-c", "echo replaced; exec sleep 1000"}) adjust.add_args(word);
    auto& hook = *adjust.mutable_hooks()->add_create_runtime();
    hook.set_path("/bin/sh");
    for (const std::string& word : {std::string("sh"), std::string("-c"), "cat > " + proof}) hook.add_args(word);
    auto& device = *adjust.mutable_linux()->add_devices();
    device.set_path("/dev/gift");
    device.set_type("c");
    device.set_major(1);
    device.set_minor(11);  // kmsg
    device.mutable_file_mode()->set_value(0440);
    auto& policy = *adjust.mutable_linux()->mutable_seccomp_policy();
    policy.set_default_action("SCMP_ACT_ALLOW");
    policy.add_architectures("SCMP_ARCH_X86_64");
    auto& rule = *policy.add_syscalls();
    rule.add_names("mkdir");
    rule.add_names("mkdirat");
    rule.set_action("SCMP_ACT_ERRNO");
    rule.mutable_errno_ret()->set_value(38);
    return reply;
  });
  ASSERT_TRUE(ok(plugin.start(nri_socket())));
  const auto config = host().pod_config("hooks");
  const auto pod = must(cri().run_pod(config));
  const auto id = sleeper(pod, config);
  EXPECT_THAT(must(os::read_file(proof, 65536)), HasSubstr(id));
  EXPECT_THAT(must(cri().shell(id, "tr '\\0' ' ' < /proc/1/cmdline; ls -l /dev/gift")),
              testing::AllOf(HasSubstr("sleep 1000"), HasSubstr("cr--r-----")));
  EXPECT_THAT(must(cri().shell(id, "mkdir /tmp/x 2>&1; true")), HasSubstr("not implemented"));
  std::ifstream log(host().logs("hooks") + "/main.log");
  EXPECT_THAT(std::string(std::istreambuf_iterator<char>(log), {}), HasSubstr("replaced"));
}

TEST_F(NriTest, ChangesLimitsAndTheCgroup) {
  std::string path;
  NriPlugin plugin;
  plugin.on_create([&path](const CreateRequest& request) -> Result<CreateReply> {
    CreateReply reply;
    auto& task = *reply.mutable_adjust()->mutable_linux();
    path = request.container().linux().cgroups_path() + "-moved";
    task.set_cgroups_path(path);
    task.mutable_resources()->mutable_memory()->mutable_limit()->set_value(32 << 20);
    task.mutable_resources()->mutable_cpu()->mutable_shares()->set_value(333);
    task.mutable_resources()->mutable_pids()->set_limit(77);
    return reply;
  });
  ASSERT_TRUE(ok(plugin.start(nri_socket())));
  const auto config = host().pod_config("limits");
  const auto pod = must(cri().run_pod(config));
  const auto id = sleeper(pod, config);
  const auto status = must(cri().status(id));
  EXPECT_EQ(status.resources().linux().memory_limit_in_bytes(), 32 << 20);
  EXPECT_EQ(status.resources().linux().cpu_shares(), 333);
  if (!os::exists("/sys/fs/cgroup/cgroup.controllers")) {
    EXPECT_EQ(must(os::read_file("/sys/fs/cgroup/memory" + path + "/memory.limit_in_bytes", 64)), "33554432\n");
    EXPECT_EQ(must(os::read_file("/sys/fs/cgroup/pids" + path + "/pids.max", 64)), "77\n");
  }
  must(cri().end_pod(pod));
  EXPECT_FALSE(os::exists("/sys/fs/cgroup/memory" + path));
}

TEST_F(NriTest, IsToldOfAPodsNewLimits) {
  NriPlugin plugin;
  nri_api::UpdatePodSandboxRequest seen;
  plugin.on<nri_api::UpdatePodSandboxRequest, nri_api::UpdatePodSandboxResponse>(
      "UpdatePodSandbox", [&seen](const auto& request) -> Result<nri_api::UpdatePodSandboxResponse> {
        if (request.linux_resources().cpu().shares().value() == 99) return fail(Code::kInternal, "too few");
        seen = request;
        return nri_api::UpdatePodSandboxResponse();
      });
  ASSERT_TRUE(ok(plugin.start(nri_socket())));
  const auto config = host().pod_config("pod-limits");
  pb::UpdatePodSandboxResourcesRequest update;
  update.set_pod_sandbox_id(must(cri().run_pod(config)));
  update.mutable_resources()->set_cpu_shares(300);
  must(cri().call(&Runtime::UpdatePodSandboxResources, update));
  EXPECT_EQ(seen.linux_resources().cpu().shares().value(), 300U);
  EXPECT_TRUE(plugin.wait_for("PostUpdatePodSandbox pod-limits"));
  update.mutable_resources()->set_cpu_shares(99);
  EXPECT_TRUE(fails(cri().call(&Runtime::UpdatePodSandboxResources, update), Code::kPrecondition, "10-test"));
}

TEST_F(NriTest, PluginsAreAskedByIndexAndSeeWhatEarlierOnesDid) {
  std::vector<std::string> seen;
  NriPlugin second({.index = "20", .name = "second"});
  second.on_create([&seen](const CreateRequest& request) -> Result<CreateReply> {
    seen = {request.container().env().begin(), request.container().env().end()};
    CreateReply reply;
    set_env(reply, "-TAKEN", "");
    set_env(reply, "TAKEN", "by the second");
    return reply;
  });
  ASSERT_TRUE(ok(second.start(nri_socket())));
  NriPlugin first({.index = "05", .name = "first"});
  first.on_create([](const CreateRequest&) -> Result<CreateReply> {
    CreateReply reply;
    set_env(reply, "TAKEN", "by the first");
    return reply;
  });
  ASSERT_TRUE(ok(first.start(nri_socket())));
  const auto config = host().pod_config("order");
  const auto pod = must(cri().run_pod(config));
  const auto id = sleeper(pod, config);
  EXPECT_THAT(seen, Contains("TAKEN=by the first"));
  EXPECT_EQ(must(cri().shell(id, "echo $TAKEN")), "by the second\n");
}

TEST_F(NriTest, AConflictIsRefusedWithBothNames) {
  const auto same = [](const CreateRequest&) -> Result<CreateReply> {
    CreateReply reply;
    set_env(reply, "FOO", "mine");
    return reply;
  };
  NriPlugin one({.index = "10", .name = "one"});
  one.on_create(same);
  ASSERT_TRUE(ok(one.start(nri_socket())));
  NriPlugin two({.index = "11", .name = "two"});
  two.on_create(same);
  ASSERT_TRUE(ok(two.start(nri_socket())));
  EXPECT_TRUE(fails(try_create("conflict"), Code::kPrecondition,
                    "NRI plugins 10-one and 11-two both set the environment variable FOO"));
  EXPECT_THAT(must(cri().containers()), IsEmpty());
  // Whoever was asked is told that it came to nothing.
  EXPECT_TRUE(one.wait_for("RemoveContainer main"));
  EXPECT_TRUE(two.wait_for("StopContainer main"));
  two.disconnect();
  ASSERT_TRUE(wait_until(std::chrono::seconds(10), [] {
    return host().daemon_log().find("NRI plugin is gone\" plugin=11-two") != std::string::npos;
  }));
  EXPECT_TRUE(ok(try_create("after")));
}

TEST_F(NriTest, WhatIsNotOfferedIsRefusedWithThePluginsName) {
  std::function<void(nri_api::ContainerAdjustment&)> change;
  NriPlugin plugin({.index = "42", .name = "odd"});
  plugin.on_create([&change](const CreateRequest&) -> Result<CreateReply> {
    CreateReply reply;
    change(*reply.mutable_adjust());
    return reply;
  });
  ASSERT_TRUE(ok(plugin.start(nri_socket())));
  change = [](auto& adjust) { adjust.add_cdi_devices()->set_name("vendor.com/gpu=0"); };
  EXPECT_TRUE(fails(try_create("a"), Code::kNotFound, "NRI plugin 42-odd: CDI device vendor.com/gpu=0: no file of"));
  change = [](auto& adjust) { adjust.mutable_linux()->set_cgroups_path("/nobody-made/this"); };
  EXPECT_TRUE(fails(try_create("b"), Code::kUnsupported, "NRI plugin 42-odd: cgroups path: /nobody-made/this"));
  change = [](auto& adjust) { adjust.mutable_linux()->mutable_resources()->mutable_rdt_class()->set_value("gold"); };
  EXPECT_TRUE(fails(try_create("c"), Code::kUnsupported, "42-odd: RDT class"));
  change = [](auto& adjust) {
    adjust.add_mounts()->set_destination("/x");
    adjust.mutable_mounts(0)->add_options("rshared");
  };
  EXPECT_TRUE(fails(try_create("d"), Code::kUnsupported, "42-odd: mount /x: propagation"));
  change = [](auto& adjust) { adjust.mutable_linux()->add_namespaces()->set_type("nonsense"); };
  EXPECT_TRUE(fails(try_create("e"), Code::kInvalid, "42-odd: namespace nonsense"));
  change = [](auto& adjust) { adjust.add_env()->set_key("A=B"); };
  EXPECT_TRUE(fails(try_create("f"), Code::kInvalid, "42-odd: environment variable A=B"));
  if (!os::exists("/sys/fs/cgroup/cgroup.controllers")) {
    change = [](auto& adjust) {
      (*adjust.mutable_linux()->mutable_resources()->mutable_unified())["memory.high"] = "1";
    };
    EXPECT_TRUE(fails(try_create("g"), Code::kUnsupported, "42-odd: cgroup v2 file memory.high"));
  }
  EXPECT_THAT(must(cri().containers()), IsEmpty());
}

TEST_F(NriTest, ARefusalIsTheCallsError) {
  NriPlugin plugin({.index = "33", .name = "no"});
  std::string refused = "RunPodSandbox";
  const auto answer = [&refused](const std::string& method) {
    return [&refused, method](const nri_api::StartContainerRequest&) -> Result<nri_api::Empty> {
      if (refused == method) return fail(Code::kInternal, "not on this node");
      return nri_api::Empty();
    };
  };
  for (const char* method : {"RunPodSandbox", "CreateContainer", "StartContainer", "StopContainer", "RemoveContainer",
                             "StopPodSandbox", "RemovePodSandbox"}) {
    plugin.on<nri_api::StartContainerRequest, nri_api::Empty>(method, answer(method));
  }
  ASSERT_TRUE(ok(plugin.start(nri_socket())));
  const auto config = host().pod_config("refused");
  EXPECT_TRUE(fails(cri().run_pod(config), Code::kPrecondition, "NRI plugin 33-no: RunPodSandbox: not on this node"));
  EXPECT_THAT(must(cri().pods()), IsEmpty());
  EXPECT_TRUE(plugin.wait_for("RemovePodSandbox refused"));
  refused = "CreateContainer";
  const auto pod = must(cri().run_pod(config));
  EXPECT_TRUE(fails(cri().create(pod, host().shell_config("main", "exit"), config), Code::kPrecondition, "33-no"));
  refused = "StartContainer";
  const auto id = must(cri().create(pod, host().shell_config("main", "exec sleep 1000"), config));
  EXPECT_TRUE(fails(cri().start(id), Code::kPrecondition, "33-no: StartContainer: not on this node"));
  refused.clear();
  must(cri().start(id));
  // An end is not to be refused.
  refused = "StopContainer";
  EXPECT_TRUE(ok(cri().stop(id, 0)));
  refused = "StopPodSandbox";
  EXPECT_TRUE(ok(cri().stop_pod(pod)));
  refused = "RemoveContainer";
  EXPECT_TRUE(ok(cri().remove(id)));
  refused = "RemovePodSandbox";
  EXPECT_TRUE(ok(cri().remove_pod(pod)));
  EXPECT_TRUE(plugin.connected());
}

TEST_F(NriTest, AnUpdateIsChangedAndOthersAreUpdatedWithIt) {
  std::string other;
  NriPlugin plugin;
  plugin.on<nri_api::UpdateContainerRequest, nri_api::UpdateContainerResponse>(
      "UpdateContainer",
      [&other](const nri_api::UpdateContainerRequest& request) -> Result<nri_api::UpdateContainerResponse> {
        nri_api::UpdateContainerResponse reply;
        auto& own = *reply.add_update();
        own.set_container_id(request.container().id());
        own.mutable_linux()->mutable_resources()->mutable_cpu()->mutable_shares()->set_value(
            request.linux_resources().cpu().shares().value() + 1);
        auto& second = *reply.add_update();
        second.set_container_id(other);
        second.mutable_linux()->mutable_resources()->mutable_cpu()->mutable_shares()->set_value(222);
        return reply;
      });
  ASSERT_TRUE(ok(plugin.start(nri_socket())));
  const auto config = host().pod_config("update");
  const auto pod = must(cri().run_pod(config));
  const auto id = sleeper(pod, config);
  other = sleeper(pod, config, "other");
  pb::UpdateContainerResourcesRequest update;
  update.set_container_id(id);
  update.mutable_linux()->set_cpu_shares(500);
  must(cri().call(&Runtime::UpdateContainerResources, update));
  EXPECT_EQ(must(cri().status(id)).resources().linux().cpu_shares(), 501);
  EXPECT_EQ(must(cri().status(other)).resources().linux().cpu_shares(), 222);
}

TEST_F(NriTest, UpdatesUnaskedAndEvicts) {
  NriPlugin plugin;
  ASSERT_TRUE(ok(plugin.start(nri_socket())));
  const auto config = host().pod_config("unasked");
  const auto pod = must(cri().run_pod(config));
  const auto id = sleeper(pod, config);
  nri_api::UpdateContainersRequest request;
  for (const auto& target : {id, std::string("nobody")}) {
    auto& update = *request.add_update();
    update.set_container_id(target);
    update.mutable_linux()->mutable_resources()->mutable_memory()->mutable_limit()->set_value(48 << 20);
  }
  const auto reply = must(plugin.update(request));
  ASSERT_EQ(reply.failed_size(), 1);
  EXPECT_EQ(reply.failed(0).container_id(), "nobody");
  EXPECT_EQ(must(cri().status(id)).resources().linux().memory_limit_in_bytes(), 48 << 20);

  request.Clear();
  request.add_evict()->set_container_id(id);
  request.mutable_evict(0)->set_reason("it is in the way");
  must(plugin.update(request));
  must(cri().wait_exited(id));
  EXPECT_THAT(host().daemon_log(), HasSubstr("evicted by NRI plugin 10-test: it is in the way"));
}

TEST_F(NriTest, APluginThatJoinsLaterIsToldOfWhatIsThere) {
  auto config = host().pod_config("there");
  const auto pod = must(cri().run_pod(config));
  const auto id = sleeper(pod, config);
  const auto over = must(cri().run(pod, host().shell_config("over", "exit 0"), config));
  must(cri().wait_exited(over));
  NriPlugin plugin;
  ASSERT_TRUE(ok(plugin.start(nri_socket())));
  const auto state = plugin.synchronized();
  ASSERT_EQ(state.pods_size(), 1);
  EXPECT_EQ(state.pods(0).id(), pod);
  ASSERT_EQ(state.containers_size(), 1);
  const auto& told = state.containers(0);
  EXPECT_EQ(told.id(), id);
  EXPECT_EQ(told.state(), nri_api::CONTAINER_RUNNING);
  EXPECT_THAT(told.args(), Contains("exec sleep 1000"));
  // The same from a daemon that has not made it.
  must(host().stop_daemon());
  EXPECT_TRUE(plugin.wait_for("Shutdown"));
  EXPECT_TRUE(plugin.wait_closed());
  must(host().start_daemon());
  NriPlugin again;
  ASSERT_TRUE(ok(again.start(nri_socket())));
  const auto seen = again.synchronized();
  ASSERT_EQ(seen.containers_size(), 1);
  EXPECT_THAT(seen.containers(0).args(), Contains("exec sleep 1000"));
}

TEST_F(NriTest, ALargeStateComesInSeveralMessages) {
  constexpr int kPods = 5;
  for (int i = 0; i < kPods; ++i) {
    auto config = host().pod_config("large-" + std::to_string(i));
    (*config.mutable_annotations())["bulk"] = std::string(1U << 20, 'x');
    must(cri().run_pod(config));
  }
  NriPlugin plugin;
  ASSERT_TRUE(ok(plugin.start(nri_socket())));
  EXPECT_EQ(plugin.synchronized().pods_size(), kPods);
  EXPECT_GT(plugin.sync_messages(), 1);
  NriPlugin simple({.index = "11", .name = "simple"});
  simple.on<nri_api::SynchronizeRequest, nri_api::SynchronizeResponse>(
      "Synchronize", [](const nri_api::SynchronizeRequest&) -> Result<nri_api::SynchronizeResponse> {
        return nri_api::SynchronizeResponse();
      });
  ASSERT_TRUE(fails(simple.start(nri_socket()), Code::kUnavailable));
  EXPECT_THAT(host().daemon_log(), HasSubstr("does not take the state in several messages"));
}

TEST_F(NriTest, AMessageOfMegabytesIsCutAsPluginsWantIt) {
  NriPlugin plugin({.events = 1 << (nri_api::CREATE_CONTAINER - 1)});
  std::size_t size = 0;
  plugin.on_create([&size](const CreateRequest& request) -> Result<CreateReply> {
    size = request.ByteSizeLong();
    CreateReply reply;
    for (const char* key : {"back", "and", "forth"}) {
      (*reply.mutable_adjust()->mutable_annotations())[key] = std::string(1U << 20, 'y');
    }
    return reply;
  });
  ASSERT_TRUE(ok(plugin.start(nri_socket())));
  auto config = host().pod_config("megabytes");
  (*config.mutable_annotations())["bulk"] = std::string(3U << 20, 'x');
  const auto pod = must(cri().run_pod(config));
  must(cri().create(pod, host().shell_config("main", "exit 0"), config));
  EXPECT_GT(size, 3U << 20);
  EXPECT_TRUE(plugin.connected());
}

}  // namespace
}  // namespace berth::test
