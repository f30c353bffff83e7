#include <fcntl.h>
#include <gmock/gmock.h>
#include <gtest/gtest.h>
#include <sys/stat.h>
#include <sys/statvfs.h>
#include <unistd.h>

#include <array>
#include <csignal>
#include <future>

#include "os/file.h"
#include "os/pidfd.h"
#include "os/socket.h"
#include "shim/run_support.h"

// Life of containers under the real shim.
namespace berth::shim {
namespace {

using test::Empty;
using test::plain_log;
using test::RunTest;
using test::slurp;
using testing::Contains;
using testing::ElementsAre;
using testing::HasSubstr;
using testing::Not;
namespace task = test::task;
namespace own = test::own;
using Status = ::containerd::v1::types::Status;

TEST_F(RunTest, FromCreateToDelete) {
  ASSERT_NO_FATAL_FAILURE(start_shim(default_sandbox()));
  const auto created = create("c1", make_spec("c1", "echo out; echo err >&2; printf tail; exit 7"));
  ASSERT_TRUE(created) << created.error().text();
  EXPECT_EQ(state("c1")->status(), Status::CREATED);
  EXPECT_EQ(state("c1")->pid(), created->pid());
  EXPECT_EQ(create("c1", make_spec("c1", "")).error().code(), Code::kExists);
  ASSERT_TRUE(start("c1"));
  EXPECT_EQ(start("c1").error().code(), Code::kPrecondition);
  EXPECT_EQ(wait("c1"), 7U);
  EXPECT_EQ(wait("c1"), 7U) << "kept until Delete";
  EXPECT_EQ(state("c1")->status(), Status::STOPPED);
  EXPECT_EQ(state("c1")->exit_status(), 7U);
  EXPECT_THAT(plain_log(log("c1")), testing::UnorderedElementsAre("stdout F out", "stderr F err", "stdout P tail"));
  EXPECT_EQ(kill("c1", SIGKILL).error().code(), Code::kNotFound);
  const auto info_now = info();
  ASSERT_EQ(info_now.containers_size(), 1);
  EXPECT_EQ(info_now.containers(0).state(), own::CONTAINER_STATE_STOPPED);
  EXPECT_EQ(info_now.containers(0).reason(), "Error");
  EXPECT_FALSE(info_now.containers(0).oom_killed());
  EXPECT_GE(info_now.containers(0).exited_at_ns(), info_now.containers(0).started_at_ns());
  const auto removed = remove("c1");
  ASSERT_TRUE(removed) << removed.error().text();
  EXPECT_EQ(removed->exit_status(), 7U);
  EXPECT_EQ(removed->pid(), created->pid());
  EXPECT_EQ(remove("c1").error().code(), Code::kNotFound);
  // Shutdown without `now` ends a shim that has nothing left.
  ASSERT_TRUE(call<Empty>("Shutdown", task::ShutdownRequest()));
  client_->close();
}

// CVE-2019-5736: a container's program can be, or be run by, the file that its supervisor runs from.
TEST_F(RunTest, TheProgramOfTheShimCannotBeWritten) {
  ASSERT_NO_FATAL_FAILURE(start_shim(default_sandbox()));
  const auto created = create("c1", make_spec("c1", "true"));
  ASSERT_TRUE(created) << created.error().text();
  for (const auto pid : {static_cast<pid_t>(created->pid()), shim_.pid}) {
    // Opening it for writing fails with ETXTBSY anyway while it runs; that it lies on a read-only mount outlives that.
    struct statvfs where{};
    ASSERT_EQ(::statvfs(("/proc/" + std::to_string(pid) + "/exe").c_str(), &where), 0);
    EXPECT_NE(where.f_flag & ST_RDONLY, 0U);
  }
  EXPECT_EQ(slurp("/proc/" + std::to_string(shim_.pid) + "/comm"), "berth-shim\n");
}

TEST_F(RunTest, TheContainerSeesThePodAndNothingOfTheShim) {
  ASSERT_NO_FATAL_FAILURE(start_shim(default_sandbox()));
  const std::string mounts = slurp("/proc/self/mountinfo");
  spec::Spec spec =
      make_spec("c1",
                "hostname; cd /proc/self; for f in fd/*; do echo $f; done; grep -E '^Sig(Blk|Ign)' /proc/1/status;"
                "cat oom_score_adj; touch /dev/shm/mark /written; sleep 1000");
  for (const auto& [type, name] :
       {std::pair(spec::NamespaceType::kIpc, "ipc"), std::pair(spec::NamespaceType::kUts, "uts")}) {
    spec.linux->namespaces.push_back({type, "/proc/" + std::to_string(shim_.pid) + "/ns/" + name, {}});
  }
  spec::Mount shm;
  shm.destination = "/dev/shm";
  shm.type = "bind";
  shm.source = folder() + "/shm";
  shm.options = {"rbind"};
  spec.mounts.push_back(shm);
  ASSERT_TRUE(create("c1", spec));
  ASSERT_TRUE(start("c1"));
  ASSERT_TRUE(eventually([&] { return os::exists(bundle("c1") + "/upper/written"); })) << slurp(log("c1"));
  const std::string adj = slurp("/proc/self/oom_score_adj");
  // Two descriptors of the shell's own: the folder it lists, and none of ours.
  const std::vector<std::string> want = {"stdout F web-0", "stdout F SigBlk:\t0000000000000000",
                                         "stdout F " + adj.substr(0, adj.size() - 1)};
  EXPECT_THAT(plain_log(log("c1")), testing::IsSupersetOf(want));
  const auto lines = plain_log(log("c1"));
  // All but SIGQUIT, which is busybox's own doing.
  EXPECT_THAT(lines, Contains(testing::StartsWith("stdout F SigIgn:\t000000000000000")));
  EXPECT_THAT(lines, Contains("stdout F fd/2"));
  EXPECT_THAT(lines, Not(Contains("stdout F fd/4")));
  EXPECT_EQ(slurp("/proc/self/mountinfo"), mounts) << "no mount of the pod is seen outside";
  EXPECT_FALSE(os::exists(folder() + "/shm/mark"));
  EXPECT_TRUE(os::exists("/proc/" + std::to_string(shim_.pid) + "/root" + folder() + "/shm/mark"));
}

TEST_F(RunTest, SignalsAndTheirCodes) {
  ASSERT_NO_FATAL_FAILURE(start_shim(default_sandbox()));
  ASSERT_NO_FATAL_FAILURE(run("c1", "trap 'exit 5' TERM; echo ready; while :; do sleep 0.01; done"));
  ASSERT_NO_FATAL_FAILURE(run("c2", "sleep 1000"));
  ASSERT_TRUE(eventually([&] { return !plain_log(log("c1")).empty(); }));
  EXPECT_EQ(remove("c1").error().code(), Code::kPrecondition);
  ASSERT_TRUE(kill("c1", SIGTERM));
  EXPECT_EQ(wait("c1"), 5U);
  ASSERT_TRUE(kill("c2", SIGKILL, "", true));
  EXPECT_EQ(wait("c2"), 137U);
  EXPECT_EQ(kill("c2", 500).error().code(), Code::kInvalid);
  EXPECT_EQ(info().containers(1).reason(), "Error");
  ASSERT_TRUE(remove("c1"));
  ASSERT_TRUE(remove("c2"));
}

TEST_F(RunTest, AProgramThatCannotBeExecutedIsNamed) {
  ASSERT_NO_FATAL_FAILURE(start_shim(default_sandbox()));
  spec::Spec spec = make_spec("c1", "");
  for (const char* program : {"/bin/nosuch", "nosuch", "/etc"}) {
    spec.process->args = {program};
    const auto created = create("c1", spec);
    ASSERT_FALSE(created);
    EXPECT_EQ(created.error().code(), Code::kInvalid);
    EXPECT_THAT(created.error().text(), HasSubstr(program));
    EXPECT_EQ(state("c1").error().code(), Code::kNotFound);
  }
  // What only exec itself can tell.
  const std::string bin = folder() + "/layers/upper-layer/bin/";
  for (const auto& [program, content, code] :
       {std::tuple("no-interpreter", "#!/nosuch\n", 127U), std::tuple("no-program", "\1\2\3", 126U)}) {
    ASSERT_TRUE(os::write_file_atomic(bin + program, content, 0755));
    spec.process->args = {std::string("/bin/") + program};
    const auto created = create("c1", spec);
    ASSERT_TRUE(created) << created.error().text();
    const auto started = start("c1");
    ASSERT_FALSE(started);
    EXPECT_EQ(started.error().code(), Code::kInvalid);
    EXPECT_THAT(started.error().text(), HasSubstr(program));
    EXPECT_EQ(state("c1")->status(), Status::STOPPED);
    EXPECT_EQ(wait("c1"), code);
    EXPECT_EQ(info().containers(0).reason(), "StartError");
    ASSERT_TRUE(remove("c1"));
  }
}

TEST_F(RunTest, ACreatedContainerCanBeDeleted) {
  ASSERT_NO_FATAL_FAILURE(start_shim(default_sandbox()));
  const auto created = create("c1", make_spec("c1", ""));
  ASSERT_TRUE(created);
  const auto removed = remove("c1");
  ASSERT_TRUE(removed) << removed.error().text();
  EXPECT_EQ(removed->exit_status(), 137U);
  EXPECT_TRUE(eventually([&] { return test::gone(created->pid()); }));
}

TEST_F(RunTest, FailuresLeaveNothing) {
  ASSERT_NO_FATAL_FAILURE(start_shim(default_sandbox()));
  write_bundle("c1", make_spec("c1", ""));
  auto request = create_request("c1");
  const auto fails_with = [&](Code code) {
    const auto reply = call<task::CreateTaskResponse>("Create", request);
    ASSERT_FALSE(reply);
    EXPECT_EQ(reply.error().code(), code) << reply.error().text();
    EXPECT_EQ(state("c1").error().code(), Code::kNotFound);
  };
  request.set_bundle(folder() + "/none");
  fails_with(Code::kNotFound);
  request.set_bundle("relative");
  fails_with(Code::kInvalid);
  request = create_request("c1");
  request.set_id("../c1");
  fails_with(Code::kInvalid);
  request = create_request("c1");
  request.mutable_rootfs(0)->set_options(0, "lowerdir=/nonexistent");
  fails_with(Code::kNotFound);
  request = create_request("c1");
  *request.add_rootfs() = request.rootfs(0);
  fails_with(Code::kInvalid);
  request = create_request("c1");
  request.set_stdout("binary:///bin/logger");
  fails_with(Code::kUnsupported);
  request = create_request("c1");
  request.set_checkpoint("/x");
  fails_with(Code::kUnsupported);
  request = create_request("c1");
  ASSERT_TRUE(os::write_file_atomic(bundle("c1") + "/config.json", "{\"ociVersion\":"));
  fails_with(Code::kInvalid);
  // Half-way: a mount that cannot be made, after namespaces and cgroup.
  spec::Spec spec = make_spec("c1", "");
  spec::Mount bad;
  bad.destination = "/tmp";
  bad.type = "bind";
  bad.source = "/nonexistent/source";
  bad.options = {"bind"};
  spec.mounts.push_back(bad);
  write_bundle("c1", spec);
  const auto reply = call<task::CreateTaskResponse>("Create", request);
  ASSERT_FALSE(reply);
  EXPECT_THAT(reply.error().text(), HasSubstr("/nonexistent/source"));
  // And the same id works afterwards.
  ASSERT_NO_FATAL_FAILURE(run("c1", "exit 3"));
  EXPECT_EQ(wait("c1"), 3U);
}

TEST_F(RunTest, UnknownIdsAndBrokenFrames) {
  ASSERT_NO_FATAL_FAILURE(start_shim(default_sandbox()));
  EXPECT_EQ(state("none").error().code(), Code::kNotFound);
  EXPECT_EQ(start("none").error().code(), Code::kNotFound);
  EXPECT_EQ(kill("none", 9).error().code(), Code::kNotFound);
  EXPECT_EQ(exec_sync("none", "true").error().code(), Code::kNotFound);
  own::ReadExecOutputRequest read;
  read.set_token(12345);
  EXPECT_EQ(own_call<own::ReadExecOutputResponse>("ReadExecOutput", read).error().code(), Code::kNotFound);
  EXPECT_EQ(call<Empty>("Checkpoint", task::CheckpointTaskRequest()).error().code(), Code::kUnsupported);
  EXPECT_EQ(client_->call("containerd.task.v2.Task", "Create", "\xff\xff\xff").error().code(), Code::kInvalid);
  EXPECT_EQ(client_->call("containerd.task.v2.Task", "Nonsense", "").error().code(), Code::kUnsupported);
  // An oversized frame, then a client that vanishes in the middle of one.
  for (const std::string& bytes : {std::string(64, '\xff'), std::string("\0\0\1\0\0\0\0\1\1\0half", 14)}) {
    auto socket = os::unix_connect(address_, std::chrono::seconds(5));
    ASSERT_TRUE(socket);
    ASSERT_TRUE(os::write_all(socket->get(), bytes));
  }
  ASSERT_NO_FATAL_FAILURE(run("c1", "exit 0"));
  EXPECT_EQ(wait("c1"), 0U) << "the others are served on";
}

TEST_F(RunTest, VersionThreeOfTheTaskApi) {
  ASSERT_NO_FATAL_FAILURE(start_shim(default_sandbox()));
  task::ConnectRequest request;
  request.set_id("c1");
  const auto reply = call<task::ConnectResponse>("Connect", request, "containerd.task.v3.Task");
  ASSERT_TRUE(reply) << reply.error().text();
  EXPECT_EQ(reply->shim_pid(), static_cast<std::uint32_t>(shim_.pid));
}

TEST_F(RunTest, PauseStatsPidsUpdate) {
  ASSERT_NO_FATAL_FAILURE(start_shim(default_sandbox()));
  ASSERT_NO_FATAL_FAILURE(run("c1", "sleep 1000 & echo up; wait"));
  ASSERT_TRUE(eventually([&] { return !plain_log(log("c1")).empty(); }));
  task::PidsRequest pids;
  pids.set_id("c1");
  const auto list = call<task::PidsResponse>("Pids", pids);
  ASSERT_TRUE(list) << list.error().text();
  EXPECT_EQ(list->processes_size(), 2);
  task::PauseRequest pause;
  pause.set_id("c1");
  const auto paused = call<Empty>("Pause", pause);
  ASSERT_TRUE(paused) << paused.error().text();
  EXPECT_EQ(state("c1")->status(), Status::PAUSED);
  EXPECT_EQ(call<Empty>("Pause", pause).error().code(), Code::kPrecondition);
  EXPECT_EQ(exec_sync("c1", "true").error().code(), Code::kPrecondition);
  task::ResumeRequest resume;
  resume.set_id("c1");
  ASSERT_TRUE(call<Empty>("Resume", resume));
  EXPECT_EQ(state("c1")->status(), Status::RUNNING);
  own::ContainerStatsRequest stats;
  stats.set_container_id("c1");
  const auto figures = own_call<own::ContainerStatsResponse>("ContainerStats", stats);
  ASSERT_TRUE(figures) << figures.error().text();
  EXPECT_GT(figures->memory_usage_bytes(), 0U);
  EXPECT_EQ(figures->pids(), 2U);
  task::StatsRequest task_stats;
  task_stats.set_id("c1");
  EXPECT_EQ(call<task::StatsResponse>("Stats", task_stats)->stats().type_url(), "io.containerd.cgroups.v1.Metrics");
  task::UpdateTaskRequest update;
  update.set_id("c1");
  update.mutable_resources()->set_value(R"({"memory":{"limit":33554432}})");
  const auto updated = call<Empty>("Update", update);
  ASSERT_TRUE(updated) << updated.error().text();
  EXPECT_EQ(own_call<own::ContainerStatsResponse>("ContainerStats", stats)->memory_limit_bytes(), 33554432U);
  update.mutable_resources()->set_value("{");
  EXPECT_EQ(call<Empty>("Update", update).error().code(), Code::kInvalid);
  // A paused container can be killed.
  ASSERT_TRUE(call<Empty>("Pause", pause));
  ASSERT_TRUE(kill("c1", SIGKILL));
  EXPECT_EQ(wait("c1"), 137U);
}

TEST_F(RunTest, OutOfMemoryIsTold) {
  ASSERT_NO_FATAL_FAILURE(start_shim(default_sandbox()));
  spec::Spec spec = make_spec("c1", "tail /dev/zero");
  spec.linux->resources.emplace();
  spec.linux->resources->memory.emplace();
  spec.linux->resources->memory->limit = 16 << 20;
  spec.linux->resources->memory->swap = 16 << 20;
  ASSERT_TRUE(create("c1", spec));
  ASSERT_TRUE(start("c1"));
  EXPECT_EQ(wait("c1"), 137U);
  EXPECT_TRUE(info().containers(0).oom_killed());
  EXPECT_EQ(info().containers(0).reason(), "OOMKilled");
}

TEST_F(RunTest, WaitEventTellsExitsOnly) {
  ASSERT_NO_FATAL_FAILURE(start_shim(default_sandbox()));
  own::WaitEventRequest request;
  request.set_timeout_ms(20'000);
  std::promise<Result<own::WaitEventResponse>> promise;
  auto future = promise.get_future();
  ttrpc::call_async<own::WaitEventResponse>(*client_, "berth.shim.v1.Shim", "WaitEvent", request,
                                            [&](Result<own::WaitEventResponse> r) { promise.set_value(std::move(r)); });
  ASSERT_NO_FATAL_FAILURE(run("c1", "cat /etc/never || exit 4"));
  const auto reply = future.get();
  ASSERT_TRUE(reply) << reply.error().text();
  ASSERT_EQ(reply->changed_size(), 1);
  EXPECT_EQ(reply->changed(0).id(), "c1");
  EXPECT_EQ(reply->changed(0).state(), own::CONTAINER_STATE_STOPPED);
  EXPECT_EQ(reply->changed(0).exit_code(), 4U);
  request.set_after_seq(reply->seq());
  request.set_timeout_ms(1);
  EXPECT_EQ(own_call<own::WaitEventResponse>("WaitEvent", request)->changed_size(), 0);
  request.set_after_seq(0);
  request.set_timeout_ms(0);
  EXPECT_EQ(own_call<own::WaitEventResponse>("WaitEvent", request)->changed_size(), 1);
}

TEST_F(RunTest, AKilledShimTakesItsContainersAlongAndDeleteClears) {
  ASSERT_NO_FATAL_FAILURE(start_shim(default_sandbox()));
  ASSERT_NO_FATAL_FAILURE(run("c1", "sleep 1000 & sleep 1000"));
  const auto pid = state("c1")->pid();
  ASSERT_NO_FATAL_FAILURE(kill_shim());
  EXPECT_TRUE(eventually([&] { return test::gone(pid); }));
  EXPECT_TRUE(os::exists(folder() + "/live/c1"));
  os::RunOptions options;
  options.spawn.argv = {program_, "-namespace", "test", "-id", "pod1", "delete"};
  options.spawn.cwd = folder();
  const auto first = os::run(options);
  ASSERT_TRUE(first);
  EXPECT_EQ(first->exit_code, 0) << first->err;
  task::DeleteResponse reply;
  ASSERT_TRUE(reply.ParseFromString(first->out));
  EXPECT_EQ(reply.exit_status(), 137U);
  EXPECT_EQ(os::run(options)->exit_code, 0) << "again";
}

TEST_F(RunTest, ABackgroundProcessHoldsUpNothing) {
  ASSERT_NO_FATAL_FAILURE(start_shim(default_sandbox()));
  spec::Spec spec = make_spec("c1", "(sleep 1000) & echo done; exit 0");
  // Of the host's pid namespace: the rest does not go with init by itself.
  std::erase_if(spec.linux->namespaces, [](const auto& ns) { return ns.type == spec::NamespaceType::kPid; });
  ASSERT_TRUE(create("c1", spec));
  ASSERT_TRUE(start("c1"));
  EXPECT_EQ(wait("c1"), 0U);
  EXPECT_THAT(plain_log(log("c1")), ElementsAre("stdout F done"));
  ASSERT_TRUE(remove("c1"));
}

TEST_F(RunTest, StartAndBadSandboxes) {
  os::RunOptions options;
  options.spawn.argv = {program_, "-namespace", "test", "-id", "pod1", "start"};
  options.spawn.cwd = folder();
  for (const char* json : {"{", R"({"version":1,"sandbox_id":"other"})",
                           R"({"version":1,"sandbox_id":"pod1","ipc":"pod","sysctls":{"kernel.panic":"1"}})",
                           R"({"version":1,"sandbox_id":"pod1","ipc":"node","sysctls":{"kernel.sem":"1"}})"}) {
    ASSERT_TRUE(os::write_file_atomic(folder() + "/sandbox.json", json));
    const auto result = os::run(options);
    ASSERT_TRUE(result);
    EXPECT_EQ(result->exit_code, 1) << json;
    EXPECT_FALSE(result->err.empty());
    EXPECT_EQ(result->out, "");
  }
  ASSERT_TRUE(os::remove_file(folder() + "/sandbox.json"));
  const auto result = os::run(options);
  ASSERT_TRUE(result);
  EXPECT_EQ(result->exit_code, 0) << result->err;
  ASSERT_EQ(result->out, "unix://" + folder() + "/shim.sock");
  auto client = ttrpc::Client::connect(*reactor_, folder() + "/shim.sock", std::chrono::seconds(5));
  ASSERT_TRUE(client);
  client_ = std::move(*client);
  const auto pid = info().pid();
  ASSERT_TRUE(call<Empty>("Shutdown", task::ShutdownRequest()));
  EXPECT_TRUE(eventually([&] { return test::gone(pid); }));
  client_.reset();
}

TEST_F(RunTest, WithoutItsRecordItEndsWhenNothingRuns) {
  ASSERT_NO_FATAL_FAILURE(start_shim(default_sandbox()));
  run("c1", "exit 0");
  run("c2", "exec sleep 1000");
  EXPECT_EQ(wait("c1"), 0U);
  ASSERT_TRUE(os::remove_file(folder() + "/sandbox.json"));
  ::sleep(3);
  EXPECT_TRUE(info().pid() > 0) << "one runs";
  ASSERT_TRUE(kill("c2", SIGKILL));
  EXPECT_EQ(os::wait_exit(shim_).value_or(-1), 0);
  shim_ = {};
  client_->close();
}

TEST_F(RunTest, OnePidNamespaceGoesAsAWhole) {
  std::string sandbox = default_sandbox();
  sandbox.insert(sandbox.size() - 1, R"(,"pid":"pod")");
  ASSERT_NO_FATAL_FAILURE(start_shim(sandbox));
  const auto init = info().init_pid();
  ASSERT_GT(init, 0U);
  for (const auto* id : {"c1", "c2"}) {
    auto spec = make_spec(id, "sleep 1000 & sleep 1000");
    for (auto& space : spec.linux->namespaces) {
      if (space.type == spec::NamespaceType::kPid) space.path = "/proc/" + std::to_string(init) + "/ns/pid";
    }
    ASSERT_TRUE(create(id, spec));
    ASSERT_TRUE(start(id));
  }
  EXPECT_EQ(exec_sync("c1", "cat /proc/1/comm")->stdout(), "berth-pod-init\n");
  // Its first processes are zombies then, which are the shim's to reap before init can end.
  task::ShutdownRequest request;
  request.set_now(true);
  ASSERT_TRUE(call<Empty>("Shutdown", request));
  EXPECT_TRUE(os::wait_readable(shim_.pidfd.get(), std::chrono::milliseconds(1500)).value_or(false));
  EXPECT_TRUE(test::gone(init));
  client_->close();
}

TEST_F(RunTest, SysctlsOfThePod) {
  ASSERT_NO_FATAL_FAILURE(start_shim(
      R"({"version":1,"sandbox_id":"pod1","ipc":"pod","uts":"pod","sysctls":{"kernel.shm_rmid_forced":"1"}})"));
  spec::Spec spec = make_spec("c1", "cat /proc/sys/kernel/shm_rmid_forced");
  spec.linux->namespaces.push_back({spec::NamespaceType::kIpc, "/proc/" + std::to_string(shim_.pid) + "/ns/ipc", {}});
  ASSERT_TRUE(create("c1", spec));
  ASSERT_TRUE(start("c1"));
  EXPECT_EQ(wait("c1"), 0U);
  EXPECT_THAT(plain_log(log("c1")), ElementsAre("stdout F 1"));
  EXPECT_EQ(slurp("/proc/sys/kernel/shm_rmid_forced"), "0\n");
}

}  // namespace
}  // namespace berth::shim
