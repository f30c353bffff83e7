#include <fcntl.h>
#include <gmock/gmock.h>
#include <gtest/gtest.h>
#include <sys/stat.h>
#include <unistd.h>

#include <algorithm>
#include <array>
#include <csignal>
#include <future>

#include "os/file.h"
#include "os/pidfd.h"
#include "shim/run_support.h"

// Further processes in containers, terminals, FIFOs, logs under the real shim.
namespace berth::shim {
namespace {

using test::Empty;
using test::plain_log;
using test::RunTest;
using testing::ElementsAre;
using testing::HasSubstr;
namespace task = test::task;
namespace own = test::own;
using Status = ::containerd::v1::types::Status;

class RunExecTest : public RunTest {
 protected:
  void SetUp() override {
    RunTest::SetUp();
    if (IsSkipped() || HasFatalFailure()) return;
    ASSERT_NO_FATAL_FAILURE(start_shim(default_sandbox()));
    ASSERT_NO_FATAL_FAILURE(run("c1", "sleep 1000"));
  }

  std::string make_fifo(const std::string& name) {
    const std::string path = folder() + "/" + name;
    EXPECT_EQ(::mkfifo(path.c_str(), 0700), 0);
    return path;
  }
  /// Reads until the text has `wanted` or 20 s have passed.
  static std::string read_until(int fd, const std::string& wanted) {
    std::string text;
    while (text.find(wanted) == std::string::npos) {
      const auto ready = os::wait_readable(fd, std::chrono::seconds(20));
      if (!ready || !*ready) break;
      std::array<char, 4096> buffer{};
      const ssize_t count = ::read(fd, buffer.data(), buffer.size());
      if (count <= 0) break;
      text.append(buffer.data(), static_cast<std::size_t>(count));
    }
    return text;
  }
  task::ExecProcessRequest exec_request(const std::string& exec_id, const std::string& script) {
    task::ExecProcessRequest request;
    request.set_id("c1");
    request.set_exec_id(exec_id);
    request.mutable_spec()->set_type_url("types.containerd.io/opencontainers/runtime-spec/1/Process");
    request.mutable_spec()->set_value(spec::write_process(*make_spec("c1", script).process));
    return request;
  }
};

TEST_F(RunExecTest, CollectedOutputAndCode) {
  const auto reply = exec_sync("c1", "echo out; echo err >&2; exit 3");
  ASSERT_TRUE(reply) << reply.error().text();
  EXPECT_EQ(reply->stdout(), "out\n");
  EXPECT_EQ(reply->stderr(), "err\n");
  EXPECT_EQ(reply->exit_code(), 3);
  EXPECT_FALSE(reply->timed_out() || reply->stdout_truncated() || reply->stderr_truncated());
  EXPECT_EQ(reply->stdout_size(), 4U);
  EXPECT_EQ(exec_sync("c1", "kill -9 $$")->exit_code(), 137);
}

TEST_F(RunExecTest, AProgramThatIsNotThere) {
  own::ExecSyncRequest request;
  request.set_container_id("c1");
  request.set_process_json(R"({"args":["/bin/nosuch"],"cwd":"/","user":{"uid":0,"gid":0}})");
  auto reply = own_call<own::ExecSyncResponse>("ExecSync", request);
  ASSERT_FALSE(reply);
  EXPECT_EQ(reply.error().code(), Code::kInvalid) << reply.error().text();
  EXPECT_THAT(reply.error().text(), HasSubstr("/bin/nosuch"));
  request.set_timeout_ms(1000);
  EXPECT_FALSE(own_call<own::ExecSyncResponse>("ExecSync", request));
  for (const char* json : {"", "{", R"({"args":[],"cwd":"/"})", R"({"args":["/bin/sh"],"cwd":"/","terminal":true})"}) {
    request.set_process_json(json);
    EXPECT_EQ(own_call<own::ExecSyncResponse>("ExecSync", request).error().code(), Code::kInvalid) << json;
  }
}

TEST_F(RunExecTest, OutputBeyondTheLimitIsReadAndDropped) {
  const auto reply = exec_sync("c1", "seq 1 100000; echo end >&2", 0, 10);
  ASSERT_TRUE(reply) << reply.error().text();
  EXPECT_EQ(reply->stdout(), "1\n2\n3\n4\n5\n");
  EXPECT_TRUE(reply->stdout_truncated());
  EXPECT_FALSE(reply->stderr_truncated());
  EXPECT_EQ(reply->exit_code(), 0);
}

TEST_F(RunExecTest, LongOutputIsFetchedInParts) {
  const auto reply = exec_sync("c1", "head -c 9000000 /proc/self/exe >/dev/null; seq 1 1200000; echo e >&2");
  ASSERT_TRUE(reply) << reply.error().text();
  ASSERT_NE(reply->output_token(), 0U);
  std::string want;
  for (int i = 1; i <= 1'200'000; ++i) want += std::to_string(i) + "\n";
  EXPECT_EQ(reply->stdout_size(), want.size());
  own::ReadExecOutputRequest request;
  request.set_token(reply->output_token());
  std::string got = reply->stdout();
  ASSERT_FALSE(got.empty());
  while (got.size() < want.size()) {
    request.set_offset(got.size());
    request.set_length(1U << 20);
    const auto part = own_call<own::ReadExecOutputResponse>("ReadExecOutput", request);
    ASSERT_TRUE(part && !part->data().empty());
    got += part->data();
  }
  EXPECT_TRUE(got == want);
  request.set_stderr_stream(true);
  request.set_offset(0);
  request.set_release(true);
  EXPECT_EQ(own_call<own::ReadExecOutputResponse>("ReadExecOutput", request)->data(), "e\n");
  EXPECT_EQ(own_call<own::ReadExecOutputResponse>("ReadExecOutput", request).error().code(), Code::kNotFound);
}

TEST_F(RunExecTest, TheTimeoutKillsAllThatTheCommandStarted) {
  // A grandchild of its own session, reparented to the container's init: only its cgroup tells where it came from.
  const auto reply = exec_sync("c1", "echo begun; (setsid sleep 998 &) ; sleep 999", 300);
  ASSERT_TRUE(reply) << reply.error().text();
  EXPECT_TRUE(reply->timed_out());
  EXPECT_EQ(reply->exit_code(), 137);
  EXPECT_EQ(reply->stdout(), "begun\n");
  task::PidsRequest pids;
  pids.set_id("c1");
  EXPECT_TRUE(eventually([&] { return call<task::PidsResponse>("Pids", pids)->processes_size() == 1; }));
  EXPECT_EQ(state("c1")->status(), Status::RUNNING);
  const std::string sub = "/sys/fs/cgroup/freezer" + cgroup("c1");
  if (os::exists(sub)) {
    EXPECT_TRUE(eventually([&] {
      const auto names = os::list_dir(sub);
      return names && std::ranges::none_of(*names, [](const auto& name) { return name.starts_with("exec-"); });
    })) << "the cgroup of the command goes with it";
  }
}

TEST_F(RunExecTest, BackgroundChildrenAreNotWaitedFor) {
  const auto begin = std::chrono::steady_clock::now();
  const auto reply = exec_sync("c1", "sleep 1000 & echo done", 10'000);
  ASSERT_TRUE(reply) << reply.error().text();
  EXPECT_EQ(reply->stdout(), "done\n");
  EXPECT_FALSE(reply->timed_out());
  EXPECT_LT(std::chrono::steady_clock::now() - begin, std::chrono::seconds(8));
}

TEST_F(RunExecTest, ManyAtOnce) {
  std::vector<std::promise<int>> promises(40);
  for (std::size_t i = 0; i < promises.size(); ++i) {
    own::ExecSyncRequest request;
    request.set_container_id("c1");
    request.set_process_json(spec::write_process(*make_spec("c1", "exit " + std::to_string(i)).process));
    request.set_timeout_ms(15'000);
    ttrpc::call_async<own::ExecSyncResponse>(*client_, "berth.shim.v1.Shim", "ExecSync", request,
                                             [&promises, i](Result<own::ExecSyncResponse> reply) {
                                               promises[i].set_value(reply ? reply->exit_code() : -1);
                                             });
  }
  for (std::size_t i = 0; i < promises.size(); ++i) EXPECT_EQ(promises[i].get_future().get(), static_cast<int>(i));
}

TEST_F(RunExecTest, ContainerEndsUnderARunningCommand) {
  own::ExecSyncRequest request;
  request.set_container_id("c1");
  request.set_process_json(spec::write_process(*make_spec("c1", "sleep 1000").process));
  request.set_timeout_ms(15'000);
  std::promise<Result<own::ExecSyncResponse>> promise;
  ttrpc::call_async<own::ExecSyncResponse>(*client_, "berth.shim.v1.Shim", "ExecSync", request,
                                           [&](Result<own::ExecSyncResponse> r) { promise.set_value(std::move(r)); });
  task::PidsRequest pids;
  pids.set_id("c1");
  ASSERT_TRUE(eventually([&] { return call<task::PidsResponse>("Pids", pids)->processes_size() == 2; }));
  ASSERT_TRUE(kill("c1", SIGKILL));
  EXPECT_EQ(wait("c1"), 137U);
  ASSERT_TRUE(remove("c1"));
  const auto reply = promise.get_future().get();
  ASSERT_TRUE(reply) << reply.error().text();
  EXPECT_EQ(reply->exit_code(), 137);
}

TEST_F(RunExecTest, ExecOfTheTaskApi) {
  auto request = exec_request("e1", "read line; echo got $line; cat >/dev/null; exit 9");
  request.set_stdin(make_fifo("in"));
  request.set_stdout(make_fifo("out"));
  const auto added = call<Empty>("Exec", request);
  ASSERT_TRUE(added) << added.error().text();
  EXPECT_EQ(call<Empty>("Exec", request).error().code(), Code::kExists);
  EXPECT_EQ(state("c1", "e1")->status(), Status::CREATED);
  const UniqueFd reader(::open(request.stdout().c_str(), O_RDONLY | O_NONBLOCK | O_CLOEXEC));
  const auto started = start("c1", "e1");
  ASSERT_TRUE(started) << started.error().text();
  EXPECT_EQ(state("c1", "e1")->status(), Status::RUNNING);
  EXPECT_EQ(remove("c1", "e1").error().code(), Code::kPrecondition);
  UniqueFd writer(::open(request.stdin().c_str(), O_WRONLY | O_CLOEXEC));
  ASSERT_TRUE(os::write_all(writer.get(), "hello\n"));
  EXPECT_EQ(read_until(reader.get(), "\n"), "got hello\n");
  // cat sees no end before CloseIO.
  writer.reset();
  task::CloseIORequest close;
  close.set_id("c1");
  close.set_exec_id("e1");
  close.set_stdin(true);
  ASSERT_TRUE(call<Empty>("CloseIO", close));
  EXPECT_EQ(wait("c1", "e1"), 9U);
  EXPECT_EQ(remove("c1", "e1")->exit_status(), 9U);
  EXPECT_EQ(state("c1", "e1").error().code(), Code::kNotFound);
  EXPECT_EQ(state("c1")->status(), Status::RUNNING);
}

TEST_F(RunExecTest, ExecsCanBeKilledAndFail) {
  ASSERT_TRUE(call<Empty>("Exec", exec_request("e1", "sleep 1000")));
  ASSERT_TRUE(start("c1", "e1"));
  ASSERT_TRUE(kill("c1", SIGKILL, "e1"));
  EXPECT_EQ(wait("c1", "e1"), 137U);
  EXPECT_EQ(kill("c1", SIGKILL, "e1").error().code(), Code::kNotFound);
  auto request = exec_request("e2", "");
  request.mutable_spec()->set_value(R"({"args":["/bin/nosuch"],"cwd":"/","user":{"uid":0,"gid":0}})");
  ASSERT_TRUE(call<Empty>("Exec", request));
  EXPECT_EQ(start("c1", "e2").error().code(), Code::kInvalid);
  EXPECT_EQ(wait("c1", "e2"), 127U);
  EXPECT_TRUE(remove("c1", "e2"));
  request.set_exec_id("e3");
  request.mutable_spec()->set_value("{}");
  EXPECT_EQ(call<Empty>("Exec", request).error().code(), Code::kInvalid);
}

TEST_F(RunExecTest, TerminalOfAnExec) {
  auto request = exec_request("t1", "stty -echo; while read line; do $line; done; exit 6");
  request.set_terminal(true);
  request.set_stdin(make_fifo("in"));
  request.set_stdout(make_fifo("out"));
  ASSERT_TRUE(call<Empty>("Exec", request));
  const UniqueFd reader(::open(request.stdout().c_str(), O_RDONLY | O_NONBLOCK | O_CLOEXEC));
  const auto started = start("c1", "t1");
  ASSERT_TRUE(started) << started.error().text();
  const UniqueFd writer(::open(request.stdin().c_str(), O_WRONLY | O_CLOEXEC));
  task::ResizePtyRequest resize;
  resize.set_id("c1");
  resize.set_exec_id("t1");
  resize.set_width(123);
  resize.set_height(45);
  const auto resized = call<Empty>("ResizePty", resize);
  ASSERT_TRUE(resized) << resized.error().text();
  ASSERT_TRUE(os::write_all(writer.get(), "stty size\n"));
  EXPECT_THAT(read_until(reader.get(), "45 123"), HasSubstr("45 123\r\n"));
  ASSERT_TRUE(os::write_all(writer.get(), "\x04"));
  EXPECT_EQ(wait("c1", "t1"), 6U);
  resize.set_exec_id("");
  EXPECT_EQ(call<Empty>("ResizePty", resize).error().code(), Code::kPrecondition);
}

TEST_F(RunExecTest, TerminalOfAContainerGoesToTheLog) {
  spec::Spec spec = make_spec("t1", "echo one; stty size; exit 2");
  spec.process->terminal = true;
  spec::ConsoleSize size;
  size.width = 77;
  size.height = 11;
  spec.process->console_size = size;
  write_bundle("t1", spec);
  auto request = create_request("t1");
  request.set_terminal(true);
  request.set_stderr("");
  const auto created = call<task::CreateTaskResponse>("Create", request);
  ASSERT_TRUE(created) << created.error().text();
  ASSERT_TRUE(start("t1"));
  EXPECT_EQ(wait("t1"), 2U);
  EXPECT_THAT(plain_log(log("t1")), ElementsAre("stdout F one\r", "stdout F 11 77\r"));
}

TEST_F(RunExecTest, NoLineIsLostUnderLoadAndRotation) {
  ASSERT_NO_FATAL_FAILURE(run("c2", "seq 1 200000"));
  own::ReopenLogRequest request;
  request.set_container_id("c2");
  int rotations = 0;
  while (state("c2")->status() == Status::RUNNING && rotations < 100) {
    const std::string rotated = log("c2") + "." + std::to_string(rotations);
    if (::rename(log("c2").c_str(), rotated.c_str()) != 0) break;
    ++rotations;
    const auto reopened = own_call<Empty>("ReopenLog", request);
    ASSERT_TRUE(reopened) << reopened.error().text();
  }
  EXPECT_EQ(wait("c2"), 0U);
  int next = 1;
  for (int file = 0; file <= rotations; ++file) {
    const std::string path = file < rotations ? log("c2") + "." + std::to_string(file) : log("c2");
    for (const auto& entry : test::read_log(path)) {
      ASSERT_EQ(entry.tag, "F");
      ASSERT_EQ(entry.text, std::to_string(next++));
    }
  }
  EXPECT_EQ(next, 200'001);
  request.set_container_id("none");
  EXPECT_EQ(own_call<Empty>("ReopenLog", request).error().code(), Code::kNotFound);
}

}  // namespace
}  // namespace berth::shim
