// Which processes the containers of a pod see: NamespaceOption.pid, and the pod's init behind its mode POD.
#include <signal.h>
#include <unistd.h>

#include <array>

#include "base/strings.h"
#include "fixture.h"
#include "os/file.h"
#include "wait.h"

namespace berth::test {
namespace {

struct Plain {
  static TestHostOptions options() { return {}; }
};

class PidTest : public HostTest<Plain> {
 protected:
  static pb::PodSandboxConfig shared_pod(const std::string& name) {
    auto config = host().pod_config(name);
    auto& security = *config.mutable_linux()->mutable_security_context();
    security.set_privileged(true);  // so that a container of it may be
    security.mutable_namespace_options()->set_pid(pb::POD);
    return config;
  }
  static pb::ContainerConfig with(pb::NamespaceMode mode, pb::ContainerConfig config, const std::string& target = {}) {
    auto& options = *config.mutable_linux()->mutable_security_context()->mutable_namespace_options();
    options.set_pid(mode);
    options.set_target_id(target);
    return config;
  }
  static pb::ContainerConfig sleeper(pb::NamespaceMode mode, const std::string& name) {
    return with(mode, host().shell_config(name, "sleep 1000; true"));
  }
  static std::string pid_space(const std::string& id) { return must(cri().shell(id, "readlink /proc/self/ns/pid")); }
  // The pod's init as the host sees it; 0: none.
  static pid_t init_of(const std::string& pod) {
    const auto shim = std::to_string(shim_of(pod));
    const auto children = os::read_file("/proc/" + shim + "/task/" + shim + "/children", 4096).value_or("");
    for (const auto word : split(children, ' ')) {
      const auto name = os::read_file("/proc/" + std::string(word) + "/comm", 64);
      if (name && *name == "berth-pod-init\n") return parse_number<pid_t>(word).value_or(0);
    }
    return 0;
  }
  static long kib(pid_t pid, const std::string& field) {
    const auto text = os::read_file("/proc/" + std::to_string(pid) + "/status", 8192).value_or("");
    const auto at = text.find(field + ":");
    if (at == std::string::npos) return -1;
    const auto rest = trim(std::string_view(text).substr(at + field.size() + 1));
    return parse_number<long>(rest.substr(0, rest.find(' '))).value_or(-1);
  }
  static bool has_state(const std::string& pod, pb::PodSandboxState state) {
    const auto status = cri().pod_status(pod);
    return status && status->state() == state;
  }
};

TEST_F(PidTest, ContainersOfAPodShareItsProcesses) {
  const auto config = shared_pod("shared");
  const auto pod = must(cri().run_pod(config));
  EXPECT_EQ(must(cri().pod_status(pod)).linux().namespaces().options().pid(), pb::POD);
  const auto one = must(cri().run(pod, sleeper(pb::POD, "one"), config));
  const auto two = must(cri().run(pod, with(pb::POD, host().shell_config("two", "sleep 2000; true")), config));
  const auto apart = must(cri().run(pod, sleeper(pb::CONTAINER, "apart"), config));
  EXPECT_EQ(pid_space(one), pid_space(two));
  EXPECT_NE(pid_space(one), pid_space(apart));
  std::string list;
  EXPECT_TRUE(wait_until(std::chrono::seconds(10), [&] {
    list = must(cri().shell(one, "ps -o pid,args"));
    return list.find("sleep 1000") != std::string::npos && list.find("sleep 2000") != std::string::npos;
  })) << list;
  EXPECT_NE(list.find("    1 berth-pod-init"), std::string::npos) << list;
  EXPECT_EQ(must(cri().shell(apart, "ps -o args")).find("berth-pod-init"), std::string::npos);

  // A kubelet restarts a container: the others and init stay.
  const auto init = init_of(pod);
  ASSERT_GT(init, 0);
  const auto space = pid_space(two);
  must(cri().stop(one, 0));
  must(cri().remove(one));
  const auto again = must(cri().run(pod, sleeper(pb::POD, "one"), config));
  EXPECT_EQ(pid_space(again), space);
  EXPECT_EQ(init_of(pod), init);
  EXPECT_EQ(must(cri().status(two)).state(), pb::CONTAINER_RUNNING);
  // What a container leaves behind when its first process ends goes with it, though its pid namespace lives.
  EXPECT_TRUE(wait_until(std::chrono::seconds(10), [&] {
    return must(cri().shell(again, "ps -o args | grep -c '^sleep 1000' || true")) == "1\n";
  }));
}

TEST_F(PidTest, ThePodsInitReapsAndCostsLittle) {
  const auto config = shared_pod("init");
  const auto pod = must(cri().run_pod(config));
  const auto id = must(cri().run(pod, sleeper(pb::POD, "main"), config));
  const auto init = init_of(pod);
  ASSERT_GT(init, 0);
  // Orphans become its children, and none stays as a zombie.
  must(cri().shell(id, "for i in 1 2 3 4 5; do (sleep 0.1 & sleep 3000 &) ; done"));
  EXPECT_TRUE(wait_until(std::chrono::seconds(10), [&] {
    return must(cri().shell(id, "ps -o ppid,args | grep -c '^ *1 sleep 3000' || true")) == "5\n";
  }));
  must(cri().shell(id, "kill -9 $(ps -o pid,args | awk '/ sleep 3000/ && !/awk/ {print $1}')"));
  EXPECT_TRUE(wait_until(std::chrono::seconds(10),
                         [&] { return must(cri().shell(id, "ps -o stat,args | grep -c '^Z' || true")) == "0\n"; }));
  const long rss = kib(init, "VmRSS");
  std::printf("the pod's init: VmRSS %ld KiB\n", rss);
  RecordProperty("rss_kib", static_cast<int>(rss));
  EXPECT_GT(rss, 0);
  EXPECT_LT(rss, 200);
}

TEST_F(PidTest, ThePodsInitGivesNothingAway) {
  const auto config = shared_pod("guard");
  const auto pod = must(cri().run_pod(config));
  const auto plain = must(cri().run(pod, sleeper(pb::POD, "plain"), config));
  auto strong = sleeper(pb::POD, "strong");
  strong.mutable_linux()->mutable_security_context()->set_privileged(true);
  const auto privileged = must(cri().run(pod, strong, config));
  // No signal from inside ends it, its root is nothing of the host's, its file cannot be written.
  for (const auto& id : {plain, privileged}) {
    must(cri().shell(id, "for s in 9 15 2 1 17 11; do kill -$s 1 2>/dev/null; done; true"));
    EXPECT_EQ(must(cri().shell(id, "ls -A /proc/1/root/ 2>/dev/null || true")), "");
    EXPECT_TRUE(fails(cri().shell(id, "echo x > /proc/1/exe"), Code::kInternal));
  }
  const auto status = must(cri().shell(privileged, "cat /proc/1/status"));
  for (const auto* line : {"Uid:\t65535\t65535\t65535\t65535", "CapEff:\t0000000000000000", "CapBnd:\t0000000000000000",
                           "NoNewPrivs:\t1", "Seccomp:\t2"}) {
    EXPECT_NE(status.find(line), std::string::npos) << line << "\n" << status;
  }
  EXPECT_EQ(must(cri().shell(privileged, "ls /proc/1/fd | wc -l")), "0\n");
  EXPECT_EQ(must(cri().status(plain)).state(), pb::CONTAINER_RUNNING);
}

TEST_F(PidTest, TheEndOfThePodsInitIsTheEndOfThePod) {
  const auto before = look(host());
  const auto config = shared_pod("killed");
  const auto pod = must(cri().run_pod(config));
  const auto one = must(cri().run(pod, sleeper(pb::POD, "one"), config));
  const auto apart = must(cri().run(pod, sleeper(pb::CONTAINER, "apart"), config));
  ASSERT_EQ(::kill(init_of(pod), SIGKILL), 0);
  const auto ended = must(cri().wait_exited(one));
  EXPECT_EQ(ended.exit_code(), 137);
  EXPECT_EQ(ended.reason(), "Error");
  EXPECT_NE(ended.message().find("the pod's init was ended"), std::string::npos) << ended.message();
  EXPECT_TRUE(wait_until(std::chrono::seconds(10), [&] { return has_state(pod, pb::SANDBOX_NOTREADY); }));
  EXPECT_EQ(must(cri().status(apart)).state(), pb::CONTAINER_RUNNING);
  EXPECT_TRUE(fails(cri().create(pod, sleeper(pb::POD, "late"), config), Code::kPrecondition, "killed by signal 9"));
  // As a kubelet goes on.
  auto next = config;
  next.mutable_metadata()->set_attempt(1);
  must(cri().stop_pod(pod));
  const auto second = must(cri().run_pod(next));
  EXPECT_NE(second, pod);
  must(cri().run(second, sleeper(pb::POD, "one"), next));
  must(cri().end_all());
  EXPECT_EQ(leftovers(host(), before), "");
}

TEST_F(PidTest, ThePodsInitOutlivesTheDaemonAndGoesWithItsShim) {
  const auto before = look(host());
  const auto config = shared_pod("restart");
  const auto pod = must(cri().run_pod(config));
  const auto one = must(cri().run(pod, sleeper(pb::POD, "one"), config));
  const auto init = init_of(pod);
  host().kill9_daemon();
  must(host().start_daemon());
  const auto two = must(cri().run(pod, sleeper(pb::POD, "two"), config));
  EXPECT_EQ(pid_space(one), pid_space(two));
  EXPECT_EQ(init_of(pod), init);
  // While no daemon is there: told by the next one.
  host().kill9_daemon();
  ASSERT_EQ(::kill(init, SIGKILL), 0);
  must(host().start_daemon());
  EXPECT_TRUE(wait_until(std::chrono::seconds(10), [&] { return has_state(pod, pb::SANDBOX_NOTREADY); }));
  EXPECT_NE(must(cri().wait_exited(one)).message().find("the pod's init"), std::string::npos);
  must(cri().end_all());

  auto next = config;
  next.mutable_metadata()->set_attempt(1);
  const auto second = must(cri().run_pod(next));
  must(cri().run(second, sleeper(pb::POD, "one"), next));
  const auto other = init_of(second);
  ASSERT_GT(other, 0);
  ASSERT_EQ(::kill(shim_of(second), SIGKILL), 0);
  EXPECT_TRUE(wait_until(std::chrono::seconds(10), [&] {
    const auto state = os::read_file("/proc/" + std::to_string(other) + "/status", 8192);
    return !state || state->find("State:\tZ") != std::string::npos;
  }));
  EXPECT_TRUE(wait_until(std::chrono::seconds(10), [&] { return has_state(second, pb::SANDBOX_NOTREADY); }));
  must(cri().end_all());
  EXPECT_EQ(leftovers(host(), before), "");
}

TEST_F(PidTest, ADebugContainerJoinsItsTarget) {
  const auto config = host().pod_config("debug");
  const auto pod = must(cri().run_pod(config));
  const auto target = must(cri().run(pod, sleeper(pb::CONTAINER, "target"), config));
  const auto debug =
      must(cri().run(pod, with(pb::TARGET, host().shell_config("debug", "exec sleep 3000"), target), config));
  EXPECT_EQ(pid_space(debug), pid_space(target));
  std::string list;
  EXPECT_TRUE(wait_until(std::chrono::seconds(10), [&] {
    list = must(cri().shell(debug, "ps -o args"));
    return list.find("sleep 1000") != std::string::npos && list.find("sleep 3000") != std::string::npos;
  })) << list;
  // It goes with its target, whose namespace it is; the other way round nothing happens.
  must(cri().stop(debug, 0));
  EXPECT_EQ(must(cri().status(target)).state(), pb::CONTAINER_RUNNING);
  const auto second =
      must(cri().run(pod, with(pb::TARGET, host().shell_config("second", "exec sleep 3000"), target), config));
  must(cri().stop(target, 0));
  const auto ended = must(cri().wait_exited(second));
  EXPECT_EQ(ended.exit_code(), 137);
  EXPECT_NE(ended.message().find("container " + target + ", in whose pid namespace"), std::string::npos)
      << ended.message();
  EXPECT_TRUE(fails(cri().create(pod, with(pb::TARGET, host().shell_config("late", "true"), target), config),
                    Code::kPrecondition, "target_id"));
}

TEST_F(PidTest, TheHostsProcessesAndWhatCannotBe) {
  auto config = host().pod_config("node");
  config.mutable_linux()->mutable_security_context()->mutable_namespace_options()->set_pid(pb::NODE);
  const auto pod = must(cri().run_pod(config));
  const auto id = must(cri().run(pod, sleeper(pb::NODE, "main"), config));
  std::array<char, 256> own{};
  ASSERT_GT(::readlink("/proc/self/ns/pid", own.data(), own.size() - 1), 0);
  EXPECT_EQ(pid_space(id), std::string(own.data()) + "\n");
  EXPECT_TRUE(fails(cri().create(pod, sleeper(pb::POD, "pod"), config), Code::kInvalid, "POD in a sandbox"));
  auto target = host().pod_config("target");
  target.mutable_linux()->mutable_security_context()->mutable_namespace_options()->set_pid(pb::TARGET);
  EXPECT_TRUE(fails(cri().run_pod(target), Code::kInvalid, "TARGET"));
}

}  // namespace
}  // namespace berth::test
