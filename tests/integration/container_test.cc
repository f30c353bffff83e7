// Containers through the CRI: their life, ends, exec, and what is refused.
#include <gmock/gmock.h>

#include <algorithm>
#include <fstream>
#include <set>

#include "base/strings.h"
#include "fixture.h"
#include "wait.h"

namespace berth::test {
namespace {

using std::chrono::steady_clock;

struct WithConfigured {
  static TestHostOptions options() {
    return {.config = "[runtime]\nexec_output_limit = 65536\n", .images = {"busybox", "configured"}};
  }
};

class ContainerTest : public HostTest<WithConfigured> {
 protected:
  void SetUp() override {
    HostTest::SetUp();
    if (HasFatalFailure()) return;
    config_ = host().pod_config("pod");
    pod_ = must(cri().run_pod(config_));
  }
  std::string run(const std::string& script, const std::string& name = "main") {
    return must(cri().run(pod_, host().shell_config(name, script), config_));
  }
  std::string log(const std::string& name = "main") const {
    std::ifstream in(host().logs("pod") + "/" + name + ".log");
    return {std::istreambuf_iterator<char>(in), {}};
  }

  pb::PodSandboxConfig config_;
  std::string pod_;
};

TEST_F(ContainerTest, LivesFromCreatedToGone) {
  auto wanted = host().shell_config("main", "exec sleep 1000");
  (*wanted.mutable_labels())["role"] = "main";
  (*wanted.mutable_annotations())["note"] = "kept";
  wanted.mutable_metadata()->set_attempt(3);
  wanted.mutable_image()->set_user_specified_image("busybox");
  (*wanted.mutable_image()->mutable_annotations())["of"] = "the image";
  const auto id = must(cri().create(pod_, wanted, config_));
  auto status = must(cri().status(id));
  EXPECT_EQ(status.state(), pb::CONTAINER_CREATED);
  EXPECT_GT(status.created_at(), 0);
  EXPECT_EQ(status.started_at(), 0);
  EXPECT_EQ(status.finished_at(), 0);

  must(cri().start(id));
  status = must(cri().status(id));
  EXPECT_EQ(status.id(), id);
  EXPECT_EQ(status.state(), pb::CONTAINER_RUNNING);
  EXPECT_EQ(status.metadata().SerializeAsString(), wanted.metadata().SerializeAsString());
  EXPECT_GE(status.started_at(), status.created_at());
  EXPECT_EQ(status.finished_at(), 0);
  EXPECT_EQ(status.image().image(), TestHost::image("busybox"));
  EXPECT_EQ(status.image().user_specified_image(), "busybox");
  EXPECT_EQ(status.image().annotations().at("of"), "the image");
  EXPECT_NE(status.image_ref().find("sha256:"), std::string::npos);
  EXPECT_TRUE(status.image_id().starts_with("sha256:"));
  EXPECT_EQ(status.log_path(), host().logs("pod") + "/main.log");
  EXPECT_EQ(status.labels().at("role"), "main");
  EXPECT_EQ(status.annotations().at("note"), "kept");
  EXPECT_EQ(status.stop_signal(), pb::SIGNAL_SIGTERM);
  const auto listed = must(cri().containers());
  ASSERT_EQ(listed.size(), 1U);
  EXPECT_EQ(listed[0].id(), id);
  EXPECT_EQ(listed[0].pod_sandbox_id(), pod_);
  EXPECT_EQ(listed[0].metadata().SerializeAsString(), wanted.metadata().SerializeAsString());
  EXPECT_EQ(listed[0].image().image(), TestHost::image("busybox"));
  EXPECT_EQ(listed[0].image_ref(), status.image_ref());
  EXPECT_EQ(listed[0].image_id(), status.image_id());
  EXPECT_EQ(listed[0].state(), pb::CONTAINER_RUNNING);
  EXPECT_EQ(listed[0].created_at(), status.created_at());
  EXPECT_EQ(listed[0].labels().at("role"), "main");
  EXPECT_EQ(listed[0].annotations().at("note"), "kept");

  must(cri().stop(id, 0));
  status = must(cri().status(id));
  EXPECT_EQ(status.state(), pb::CONTAINER_EXITED);
  EXPECT_EQ(status.exit_code(), 137);
  EXPECT_GE(status.finished_at(), status.started_at());
  EXPECT_EQ(status.reason(), "Error");
  must(cri().remove(id));
  EXPECT_TRUE(fails(cri().status(id), Code::kNotFound));
  EXPECT_TRUE(must(cri().containers()).empty());
}

TEST_F(ContainerTest, CodesOfAnEndAreKept) {
  const struct {
    const char* script;
    int code;
    const char* reason;
  } kEnds[] = {{"true", 0, "Completed"},
               {"exit 7", 7, "Error"},
               {"exit 255", 255, "Error"},
               {"sleep 1000 & kill -9 $!; wait $!", 137, "Error"}};
  for (const auto& end : kEnds) {
    SCOPED_TRACE(end.script);
    const auto id = run(end.script, "end" + std::to_string(end.code));
    const auto status = must(cri().wait_exited(id));
    EXPECT_EQ(status.exit_code(), end.code);
    EXPECT_EQ(status.reason(), end.reason);
    EXPECT_GE(status.finished_at(), status.started_at());
  }
}

TEST_F(ContainerTest, EachCallMayBeRepeated) {
  const auto wanted = host().shell_config("main", "exec sleep 1000");
  const auto id = must(cri().create(pod_, wanted, config_));
  EXPECT_EQ(must(cri().create(pod_, wanted, config_)), id);
  auto different = host().shell_config("main", "exec sleep 2000");
  EXPECT_TRUE(fails(cri().create(pod_, different, config_), Code::kExists, "main"));
  EXPECT_EQ(must(cri().containers()).size(), 1U);
  for (int i = 0; i < 2; ++i) EXPECT_TRUE(ok(cri().start(id)));
  for (int i = 0; i < 2; ++i) EXPECT_TRUE(ok(cri().stop(id, 0)));
  EXPECT_TRUE(fails(cri().start(id), Code::kPrecondition, "exited"));
  for (int i = 0; i < 2; ++i) EXPECT_TRUE(ok(cri().remove(id)));
  EXPECT_TRUE(ok(cri().stop(id, 0)));
  different.mutable_metadata()->set_attempt(1);
  EXPECT_TRUE(ok(cri().create(pod_, different, config_)));
}

TEST_F(ContainerTest, UnknownIds) {
  const std::string unknown(64, 'b');
  EXPECT_TRUE(ok(cri().stop(unknown)));
  EXPECT_TRUE(ok(cri().remove(unknown)));
  EXPECT_TRUE(fails(cri().start(unknown), Code::kNotFound));
  EXPECT_TRUE(fails(cri().status(unknown), Code::kNotFound));
  EXPECT_TRUE(fails(cri().exec(unknown, {"true"}), Code::kNotFound));
  EXPECT_TRUE(fails(cri().create(unknown, host().shell_config("x", "true"), config_), Code::kNotFound));
}

TEST_F(ContainerTest, HalfMadeOnesGoWithoutAStart) {
  const auto id = must(cri().create(pod_, host().shell_config("main", "exec sleep 1000"), config_));
  EXPECT_TRUE(ok(cri().stop(id, 1)));
  EXPECT_TRUE(ok(cri().remove(id)));
  const auto other = must(cri().create(pod_, host().shell_config("other", "exec sleep 1000"), config_));
  EXPECT_TRUE(ok(cri().end_pod(pod_)));
  EXPECT_TRUE(fails(cri().status(other), Code::kNotFound));
}

TEST_F(ContainerTest, ListFiltersByIdPodStateAndLabels) {
  auto labelled = host().shell_config("a", "exec sleep 1000");
  (*labelled.mutable_labels())["app"] = "a";
  const auto a = must(cri().run(pod_, labelled, config_));
  const auto b = run("true", "b");
  must(cri().wait_exited(b));
  const auto other_config = host().pod_config("other");
  const auto other_pod = must(cri().run_pod(other_config));
  const auto c = must(cri().create(other_pod, host().shell_config("c", "true"), other_config));

  using Ids = std::set<std::string>;
  const auto ids = [](const pb::ContainerFilter& filter) {
    Ids found;
    for (const auto& container : must(cri().containers(filter))) found.insert(container.id());
    return found;
  };
  EXPECT_EQ(ids({}), (Ids{a, b, c}));
  pb::ContainerFilter filter;
  filter.set_pod_sandbox_id(pod_);
  EXPECT_EQ(ids(filter), (Ids{a, b}));
  filter.mutable_state()->set_state(pb::CONTAINER_EXITED);
  EXPECT_EQ(ids(filter), Ids{b});
  filter.clear_pod_sandbox_id();
  filter.mutable_state()->set_state(pb::CONTAINER_CREATED);
  EXPECT_EQ(ids(filter), Ids{c});
  filter.clear_state();
  filter.set_id(a);
  EXPECT_EQ(ids(filter), Ids{a});
  filter.clear_id();
  (*filter.mutable_label_selector())["app"] = "a";
  EXPECT_EQ(ids(filter), Ids{a});
}

TEST_F(ContainerTest, TheImageSaysWhatTheRequestLeavesOut) {
  const auto id = must(cri().run(pod_, host().container_config("main", "configured"), config_));
  EXPECT_TRUE(wait_until(std::chrono::seconds(10), [this] {
    return log().find("hello from app") != std::string::npos;
  })) << log();
  EXPECT_EQ(must(cri().shell(id, "id -u; id -g; id -G; pwd; echo $GREETING")),
            "1000\n1000\n1000 2000\n/work/place\nhello\n");
  const auto status = must(cri().status(id));
  EXPECT_EQ(status.user().linux().uid(), 1000);
  EXPECT_EQ(status.user().linux().gid(), 1000);
  EXPECT_EQ(status.stop_signal(), pb::SIGNAL_SIGUSR1);
  must(cri().stop(id, 30));
  EXPECT_EQ(must(cri().status(id)).exit_code(), 3);
}

TEST_F(ContainerTest, TheStopSignalOfTheRequestWins) {
  auto wanted = host().container_config(
      "main", "configured", {"/bin/sh", "-c", "trap 'exit 4' USR2; echo up; while true; do sleep 0.05; done"});
  wanted.set_stop_signal(pb::SIGNAL_SIGUSR2);
  const auto id = must(cri().run(pod_, wanted, config_));
  ASSERT_TRUE(wait_until(std::chrono::seconds(10), [this] { return log().find("up") != std::string::npos; }));
  EXPECT_EQ(must(cri().status(id)).stop_signal(), pb::SIGNAL_SIGUSR2);
  must(cri().stop(id, 30));
  EXPECT_EQ(must(cri().status(id)).exit_code(), 4);
}

TEST_F(ContainerTest, AfterTheGraceItIsKilled) {
  const auto id = run("trap 'echo ignored' TERM; echo up; while true; do sleep 0.05; done");
  ASSERT_TRUE(wait_until(std::chrono::seconds(10), [this] { return log().find("up") != std::string::npos; }));
  const auto start = steady_clock::now();
  must(cri().stop(id, 1));
  const auto took = steady_clock::now() - start;
  EXPECT_GE(took, std::chrono::milliseconds(950));
  EXPECT_LT(took, std::chrono::seconds(8));
  EXPECT_EQ(must(cri().status(id)).exit_code(), 137);
  EXPECT_NE(log().find("ignored"), std::string::npos);
}

// The kernel drops signals for a pid namespace's first process that has no handler for them.
TEST_F(ContainerTest, AProgramThatIsStoppedBeforeItHasAHandlerStillGetsItsSignal) {
  const auto id = run("sleep 1; trap 'echo told; exit 3' TERM; while true; do sleep 0.05; done");
  const auto start = steady_clock::now();
  must(cri().stop(id, 30));
  EXPECT_LT(steady_clock::now() - start, std::chrono::seconds(15));
  EXPECT_EQ(must(cri().status(id)).exit_code(), 3);
}

TEST_F(ContainerTest, AProgramWithAHandlerGetsItsSignalOnce) {
  const auto id = run("trap 'echo told' TERM; echo up; while true; do sleep 0.05; done");
  ASSERT_TRUE(wait_until(std::chrono::seconds(10), [this] { return log().find("up") != std::string::npos; }));
  must(cri().stop(id, 1));
  const auto text = log();
  EXPECT_NE(text.find("told"), std::string::npos) << text;
  EXPECT_EQ(text.find("told"), text.rfind("told")) << text;
}

TEST_F(ContainerTest, ALessPatientStopDoesNotWaitForAnEarlierOne) {
  const auto id = run("trap '' TERM; echo up; while true; do sleep 0.05; done");
  ASSERT_TRUE(wait_until(std::chrono::seconds(10), [this] { return log().find("up") != std::string::npos; }));
  pb::StopContainerRequest patient;
  patient.set_container_id(id);
  patient.set_timeout(600);
  EXPECT_TRUE(fails(cri().call(&Runtime::StopContainer, patient, std::chrono::milliseconds(300)), Code::kTimeout));
  EXPECT_EQ(must(cri().status(id)).state(), pb::CONTAINER_RUNNING);
  EXPECT_TRUE(ok(cri().stop(id, 0)));
  EXPECT_EQ(must(cri().status(id)).exit_code(), 137);
}

TEST_F(ContainerTest, RemoveKills) {
  const auto id = run("exec sleep 1000");
  EXPECT_TRUE(ok(cri().remove(id)));
  EXPECT_TRUE(fails(cri().status(id), Code::kNotFound));
}

TEST_F(ContainerTest, AProgramThatIsNotThereIsNamed) {
  const auto id =
      must(cri().create(pod_, host().container_config("main", "busybox", {"/bin/no-such-program"}), config_));
  EXPECT_TRUE(fails(cri().start(id), Code::kInvalid, "/bin/no-such-program"));
  const auto status = must(cri().status(id));
  EXPECT_EQ(status.state(), pb::CONTAINER_EXITED);
  EXPECT_EQ(status.exit_code(), 128);
  EXPECT_EQ(status.reason(), "StartError");
  EXPECT_NE(status.message().find("/bin/no-such-program"), std::string::npos) << status.message();
  EXPECT_TRUE(ok(cri().remove(id)));
}

TEST_F(ContainerTest, AFileThatIsNoProgramIsNamed) {
  const auto id = must(cri().create(pod_, host().container_config("main", "busybox", {"/etc/passwd"}), config_));
  EXPECT_TRUE(fails(cri().start(id), Code::kInvalid, "/etc/passwd"));
  EXPECT_EQ(must(cri().status(id)).state(), pb::CONTAINER_EXITED);
}

TEST_F(ContainerTest, BadRequestsAreRefusedAndLeaveNothing) {
  const auto before = look(host());
  const auto refuse = [this](const char* what, Code code, const char* words,
                             const std::function<void(pb::ContainerConfig&)>& spoil) {
    SCOPED_TRACE(what);
    auto config = host().shell_config("bad", "true");
    spoil(config);
    EXPECT_TRUE(fails(cri().create(pod_, config, config_), code, words));
  };
  const auto security = [](pb::ContainerConfig& config) -> auto& {
    return *config.mutable_linux()->mutable_security_context();
  };
  refuse("image", Code::kNotFound, "127.0.0.1:5000/absent",
         [](auto& config) { config.mutable_image()->set_image("127.0.0.1:5000/absent:1"); });
  refuse("no image", Code::kInvalid, "image", [](auto& config) { config.clear_image(); });
  refuse("no name", Code::kInvalid, "name", [](auto& config) { config.clear_metadata(); });
  refuse("log path", Code::kInvalid, "log_path", [](auto& config) { config.set_log_path("../../../etc/cron.d/x"); });
  refuse("user name", Code::kInvalid, "nobody-here",
         [&](auto& config) { security(config).set_run_as_username("nobody-here"); });
  refuse("capability", Code::kInvalid, "CAP_FLY",
         [&](auto& config) { security(config).mutable_capabilities()->add_add_capabilities("CAP_FLY"); });
  refuse("working dir", Code::kInvalid, "working_dir", [](auto& config) { config.set_working_dir("relative"); });
  refuse("environment", Code::kInvalid, "A=B", [](auto& config) { config.add_envs()->set_key("A=B"); });
  refuse("seccomp file", Code::kNotFound, "/no/such/profile", [&](auto& config) {
    security(config).mutable_seccomp()->set_profile_type(pb::SecurityProfile::Localhost);
    security(config).mutable_seccomp()->set_localhost_ref("/no/such/profile");
  });
  refuse("device", Code::kNotFound, "/dev/no-such-device", [](auto& config) {
    auto& device = *config.add_devices();
    device.set_host_path("/dev/no-such-device");
    device.set_container_path("/dev/x");
  });
  refuse("mount on /", Code::kInvalid, "/", [](auto& config) {
    auto& mount = *config.add_mounts();
    mount.set_host_path("/tmp");
    mount.set_container_path("/");
  });
  refuse("image volume", Code::kNotFound, "pull it first", [](auto& config) {
    auto& mount = *config.add_mounts();
    mount.mutable_image()->set_image("x");
    mount.set_container_path("/x");
  });
  EXPECT_TRUE(must(cri().containers()).empty());
  EXPECT_EQ(leftovers(host(), before), "");
}

TEST_F(ContainerTest, ExecGivesOutputErrorsAndCode) {
  auto wanted = host().shell_config("main", "exec sleep 1000");
  wanted.set_working_dir("/data");
  auto& env = *wanted.add_envs();
  env.set_key("WORD");
  env.set_value("from the container");
  const auto id = must(cri().run(pod_, wanted, config_));
  const auto reply = must(cri().exec(id, {"/bin/sh", "-c", "echo out; echo err >&2; pwd; echo $WORD; exit 9"}));
  EXPECT_EQ(reply.stdout(), "out\n/data\nfrom the container\n");
  EXPECT_EQ(reply.stderr(), "err\n");
  EXPECT_EQ(reply.exit_code(), 9);
  EXPECT_EQ(must(cri().exec(id, {"/bin/sh", "-c", "kill -9 $$"})).exit_code(), 137);
  EXPECT_TRUE(fails(cri().exec(id, {"/bin/no-such-program"}), Code::kInvalid, "/bin/no-such-program"));
  EXPECT_TRUE(fails(cri().exec(id, {}), Code::kInvalid, "cmd"));
  // In the same namespaces and cgroup, with the same rights.
  EXPECT_EQ(must(cri().shell(id, "readlink /proc/self/ns/mnt")), must(cri().shell(id, "readlink /proc/1/ns/mnt")));
  EXPECT_EQ(must(cri().shell(id, "grep CapEff /proc/self/status")),
            must(cri().shell(id, "grep CapEff /proc/1/status")));
}

TEST_F(ContainerTest, ExecEndsAtItsTimeoutWithAllItStarted) {
  const auto id = run("exec sleep 1000");
  const auto start = steady_clock::now();
  EXPECT_TRUE(fails(cri().exec(id, {"/bin/sh", "-c", "sleep 4321 & sleep 4322"}, 1), Code::kTimeout, "1 s"));
  EXPECT_LT(steady_clock::now() - start, std::chrono::seconds(10));
  EXPECT_TRUE(wait_until(std::chrono::seconds(10), [&] {
    return must(cri().shell(id, "ps | grep -c 'sleep 432[12]' || true")) == "0\n";
  })) << must(cri().shell(id, "ps"));
  EXPECT_EQ(must(cri().status(id)).state(), pb::CONTAINER_RUNNING);
}

TEST_F(ContainerTest, ExecDoesNotWaitForWhatStaysInTheBackground) {
  const auto id = run("exec sleep 1000");
  const auto start = steady_clock::now();
  const auto reply = must(cri().exec(id, {"/bin/sh", "-c", "sleep 60 & echo done"}));
  EXPECT_EQ(reply.stdout(), "done\n");
  EXPECT_LT(steady_clock::now() - start, std::chrono::seconds(20));
}

TEST_F(ContainerTest, ExecOutputIsCutAtItsLimit) {
  const auto id = run("exec sleep 1000");
  const auto reply = must(
      cri().exec(id, {"/bin/sh", "-c", "dd if=/dev/zero bs=1024 count=256 2>/dev/null | tr '\\0' x; echo fine >&2"}));
  EXPECT_EQ(reply.exit_code(), 0);
  EXPECT_EQ(reply.stdout().size(), 65536U);
  EXPECT_EQ(reply.stderr(), "fine\n");
}

TEST_F(ContainerTest, ExecNeedsARunningContainer) {
  const auto created = must(cri().create(pod_, host().shell_config("created", "true"), config_));
  EXPECT_TRUE(fails(cri().exec(created, {"true"}), Code::kPrecondition, "created"));
  const auto ended = run("true", "ended");
  must(cri().wait_exited(ended));
  EXPECT_TRUE(fails(cri().exec(ended, {"true"}), Code::kPrecondition, "exited"));
}

TEST_F(ContainerTest, ManyExecsAtOnce) {
  const auto id = run("exec sleep 1000");
  std::vector<std::thread> threads;
  std::vector<Result<std::string>> answers(20, fail(Code::kInternal, "no answer"));
  for (std::size_t i = 0; i < answers.size(); ++i) {
    threads.emplace_back(
        [&answer = answers[i], i, &id] { answer = cri().shell(id, "sleep 0.2; echo " + std::to_string(i)); });
  }
  for (auto& thread : threads) thread.join();
  for (std::size_t i = 0; i < answers.size(); ++i) {
    ASSERT_TRUE(ok(answers[i]));
    EXPECT_EQ(*answers[i], std::to_string(i) + "\n");
  }
}

TEST_F(ContainerTest, OutOfMemoryIsTheReason) {
  auto wanted = host().shell_config("main", "exec dd if=/dev/zero of=/dev/null bs=128M count=1");
  wanted.mutable_linux()->mutable_resources()->set_memory_limit_in_bytes(16 << 20);
  const auto id = must(cri().run(pod_, wanted, config_));
  const auto status = must(cri().wait_exited(id));
  EXPECT_EQ(status.exit_code(), 137);
  EXPECT_EQ(status.reason(), "OOMKilled");
  EXPECT_EQ(status.message(), "the container's memory limit of 16777216 bytes was reached");
}

TEST_F(ContainerTest, OutOfMemoryNamesTheLevel) {
  // The pod's own limit, as a kubelet sets it on the cgroup that it makes.
  auto config = host().pod_config("small");
  const std::string parent = config.linux().cgroup_parent();
  const bool v1 = os::exists("/sys/fs/cgroup/memory");
  const std::string folder = (v1 ? "/sys/fs/cgroup/memory" : "/sys/fs/cgroup") + parent;
  ASSERT_TRUE(ok(os::make_dirs(folder)));
  ASSERT_TRUE(ok(os::write_existing(folder + (v1 ? "/memory.limit_in_bytes" : "/memory.max"), "33554432")));
  const auto pod = must(cri().run_pod(config));
  const char* const text = std::getenv("BERTH_OOM_COUNT");  // NOLINT(concurrency-mt-unsafe): nobody sets it
  const int count = text == nullptr ? 5 : std::atoi(text);  // NOLINT(cert-err34-c): of the tester
  for (int i = 0; i < count; ++i) {
    auto wanted = host().shell_config("m" + std::to_string(i), "exec dd if=/dev/zero of=/dev/null bs=128M count=1");
    const bool own = i % 2 != 0;
    if (own) wanted.mutable_linux()->mutable_resources()->set_memory_limit_in_bytes(16 << 20);
    const auto id = must(cri().run(pod, wanted, config));
    const auto status = must(cri().wait_exited(id));
    EXPECT_EQ(status.reason(), "OOMKilled");
    EXPECT_EQ(status.message(),
              own ? "the container's memory limit of 16777216 bytes was reached"
                  : "the memory limit of the cgroup " + parent + " above it of 33554432 bytes was reached");
    ASSERT_TRUE(ok(cri().remove(id)));
  }
  ASSERT_TRUE(ok(cri().end_pod(pod)));
}

}  // namespace
}  // namespace berth::test
