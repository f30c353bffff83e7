#include <gmock/gmock.h>

#include <fcntl.h>

#include <chrono>
#include <csignal>

#include "engine/process/test_container.h"
#include "os/mount.h"

namespace berth::engine::process {
namespace {

using testing::EngineTest;
using ::testing::HasSubstr;
using ::testing::Not;

TEST_F(EngineTest, RunsAProgramAndReportsItsExitCode) {
  const auto outcome = run("echo hello; exit 7");
  EXPECT_EQ(outcome.out, "hello\n");
  EXPECT_EQ(outcome.code, 7);
}

TEST_F(EngineTest, NamespacesAreItsOwn) {
  const auto outcome =
      run("echo $$; hostname; ls /proc | grep -c '^[0-9]'; cat /proc/net/dev | grep -c :; cat /proc/self/cgroup | grep "
          "-E 'memory|0::'");
  EXPECT_THAT(outcome.out, ::testing::StartsWith("1\nberth-test\n"));
  EXPECT_THAT(outcome.out, ::testing::AnyOf(HasSubstr("memory:/\n"), HasSubstr("0::/\n")));
}

TEST_F(EngineTest, NoDescriptorOfTheHostIsLeftInside) {
  const auto outcome = run("for f in /proc/self/fd/*; do echo ${f##*/}; done; ls -l /proc/1/fd");
  EXPECT_THAT(outcome.out, ::testing::StartsWith("0\n1\n2\n"));
  EXPECT_THAT(outcome.out, Not(HasSubstr("socket:")));
}

TEST_F(EngineTest, WaitsForTheStart) {
  auto container = create(script_spec("exit 3"));
  ASSERT_NE(container, nullptr);
  EXPECT_TRUE(container->alive());
  EXPECT_TRUE(container->waiting());
  EXPECT_EQ(os::read_file("/proc/" + std::to_string(container->init().pid) + "/comm", 100).value_or("").substr(0, 2),
            "en");
  ASSERT_TRUE(container->start().has_value());
  EXPECT_FALSE(container->waiting());
  EXPECT_EQ(container->start().error().code(), Code::kPrecondition);
  EXPECT_EQ(os::reap_pidfd(container->init().pidfd.get()).value_or(-1), 3);
  EXPECT_TRUE(container->remove().has_value());
  EXPECT_TRUE(container->remove().has_value()) << "idempotent";
}

/// A request that need not wait for its start. `mark`: what the program makes when it runs.
CreateRequest request_at_once(const testing::Bundle& bundle, spec::Spec spec, const std::string& mark, pid_t& told) {
  CreateRequest request;
  request.id = bundle.name();
  request.bundle = bundle.path();
  request.spec = std::move(spec);
  request.die_with_parent = true;
  request.start_at_once = true;
  request.on_process = [&told, mark](const Process& process) -> Result<> {
    EXPECT_FALSE(os::exists(mark)) << "the program must not run before its process is written down";
    told = process.pid;
    return {};
  };
  return request;
}

TEST_F(EngineTest, NeedNotWaitForTheStart) {
  const std::string mark = bundle_.path() + "/rootfs/tmp/mark";
  pid_t told = 0;
  auto made = engine_->create_process(request_at_once(bundle_, script_spec("touch /tmp/mark; exit 3"), mark, told));
  ASSERT_TRUE(made.has_value()) << made.error().text();
  auto& container = **made;
  EXPECT_EQ(told, container.init().pid);
  EXPECT_FALSE(container.waiting());
  // Also after its end, start() tells of the exec alone.
  ASSERT_TRUE(os::wait_readable(container.init().pidfd.get(), std::chrono::seconds(10)).value_or(false));
  EXPECT_TRUE(os::exists(mark));
  const auto started = container.start();
  EXPECT_TRUE(started.has_value()) << started.error().text();
  EXPECT_EQ(container.start().error().code(), Code::kPrecondition);
  EXPECT_EQ(os::reap_pidfd(container.init().pidfd.get()).value_or(-1), 3);
  EXPECT_TRUE(container.remove().has_value());
}

TEST_F(EngineTest, AtOnceTheExecsFailureIsStillTheStarts) {
  ASSERT_TRUE(os::write_file_atomic(bundle_.path() + "/rootfs/bin/garbage", "no program\n", 0755).has_value());
  pid_t told = 0;
  auto made = engine_->create_process(
      request_at_once(bundle_, testing::default_spec(bundle_, {"/bin/garbage"}), "/does/not/exist", told));
  ASSERT_TRUE(made.has_value()) << made.error().text();
  const auto started = (*made)->start();
  ASSERT_FALSE(started.has_value());
  EXPECT_THAT(started.error().text(), HasSubstr("exec /bin/garbage: Exec format error"));
  finish(**made);
  const auto refused = engine_->create_process(
      request_at_once(bundle_, testing::default_spec(bundle_, {"nosuchthing"}), "/does/not/exist", told));
  ASSERT_FALSE(refused.has_value());
  EXPECT_THAT(refused.error().text(), HasSubstr("executable file not found in $PATH"));
}

TEST_F(EngineTest, HooksKeepTheStartWaiting) {
  const std::string mark = bundle_.path() + "/rootfs/tmp/mark";
  pid_t told = 0;
  auto spec = script_spec("touch /tmp/mark");
  spec.hooks.emplace();
  // It reads its state to the end: a hook that does not would raise SIGPIPE, which programs that use the engine ignore.
  spec.hooks->create_runtime.push_back(
      {.path = "/bin/sh", .args = {"sh", "-c", "cat >/dev/null"}, .env = {}, .timeout = {}, .extra = {}});
  auto made = engine_->create_process(request_at_once(bundle_, std::move(spec), mark, told));
  ASSERT_TRUE(made.has_value()) << made.error().text();
  EXPECT_TRUE((*made)->waiting());
  EXPECT_FALSE(os::exists(mark));
  ASSERT_TRUE((*made)->start().has_value());
  EXPECT_EQ(os::reap_pidfd((*made)->init().pidfd.get()).value_or(-1), 0);
  EXPECT_TRUE(os::exists(mark));
  EXPECT_TRUE((*made)->remove().has_value());
}

TEST_F(EngineTest, WhatCannotBeWrittenDownIsUndone) {
  pid_t told = 0;
  auto request = request_at_once(bundle_, script_spec("touch /tmp/mark"), "/does/not/exist", told);
  request.on_process = [&told](const Process& process) -> Result<> {
    told = process.pid;
    return fail(Code::kExhausted, "the disk is full");
  };
  const auto made = engine_->create_process(std::move(request));
  ASSERT_FALSE(made.has_value());
  EXPECT_THAT(made.error().text(), HasSubstr("the disk is full"));
  EXPECT_EQ(::kill(told, 0), -1) << "init is still there";
  EXPECT_FALSE(os::exists(bundle_.path() + "/rootfs/tmp/mark"));
}

TEST_F(EngineTest, AFailedStartNamesTheCause) {
  ASSERT_TRUE(os::write_file_atomic(bundle_.path() + "/rootfs/bin/garbage", "no program\n", 0755).has_value());
  auto container = create(testing::default_spec(bundle_, {"/bin/garbage"}));
  ASSERT_NE(container, nullptr);
  const auto started = container->start();
  ASSERT_FALSE(started.has_value());
  EXPECT_THAT(started.error().text(), HasSubstr("exec /bin/garbage: Exec format error"));
  finish(*container);
}

TEST_F(EngineTest, MissingProgramsAreToldAtCreation) {
  const Error missing = refused(testing::default_spec(bundle_, {"nosuchthing"}));
  EXPECT_EQ(missing.code(), Code::kNotFound);
  EXPECT_THAT(missing.text(), HasSubstr("exec: \"nosuchthing\": executable file not found in $PATH"));
  const Error path = refused(testing::default_spec(bundle_, {"/no/such"}));
  EXPECT_THAT(path.text(), HasSubstr("stat /no/such: No such file or directory"));
  const Error plain = refused(testing::default_spec(bundle_, {"/etc/passwd"}));
  EXPECT_THAT(plain.text(), HasSubstr("Permission denied"));
}

TEST_F(EngineTest, WorkingFolderUserAndGroups) {
  auto spec = script_spec("pwd; id; umask; echo $HOME; touch f; stat -c %u:%g:%a f");
  spec.process->cwd = "/home/new";
  spec.process->user.additional_gids = {10, 20};
  spec.process->user.umask = 0027;
  const auto root = run(spec);
  EXPECT_THAT(root.out, HasSubstr("/home/new\nuid=0(root) gid=0 groups=10,20\n0027\n/root\n0:0:640\n"));
  spec = script_spec("id -u; id -g; echo $HOME; grep -E 'Cap(Eff|Prm|Bnd)' /proc/self/status");
  spec.process->user.uid = 1000;
  spec.process->user.gid = 1000;
  EXPECT_THAT(run(spec).out,
              ::testing::MatchesRegex("1000\n1000\n/home/web\nCapPrm:.0000000000000000\nCapEff:.0000000000000000\n"
                                      "CapBnd:.00000000a80425fb\n"));
}

TEST_F(EngineTest, ExtraDescriptorsFollowStdio) {
  auto out = os::make_pipe();
  auto first = os::make_pipe();
  auto second = os::make_pipe();
  ASSERT_TRUE(out && first && second);
  CreateRequest request;
  request.id = bundle_.name();
  request.bundle = bundle_.path();
  request.spec = script_spec("echo three >&3; echo four >&4; ls /proc/self/fd | wc -l");
  request.stdio = {-1, out->write.get(), -1};
  request.extra_fds = {second->write.get(), first->write.get()};
  auto made = engine_->create_process(std::move(request));
  ASSERT_TRUE(made.has_value()) << made.error().text();
  for (auto* pipe : {&*out, &*first, &*second}) pipe->write.reset();
  ASSERT_TRUE((*made)->start().has_value());
  EXPECT_EQ(os::read_all(second->read.get(), 100).value_or(""), "three\n");
  EXPECT_EQ(os::read_all(first->read.get(), 100).value_or(""), "four\n");
  EXPECT_EQ(os::read_all(out->read.get(), 100).value_or(""), "6\n");  // 0 to 4, and ls's own
  finish(**made);
}

TEST_F(EngineTest, DetachedRootMount) {
  auto tree = os::clone_tree(AT_FDCWD, bundle_.path() + "/rootfs", true);
  ASSERT_TRUE(tree.has_value());
  auto pipe = os::make_pipe();
  CreateRequest request;
  request.id = bundle_.name();
  request.bundle = "/";
  request.spec = script_spec("echo from a detached root");
  request.spec.root->path = "/nonexistent";
  request.root_mount = std::move(*tree);
  request.stdio = {-1, pipe->write.get(), pipe->write.get()};
  auto made = engine_->create_process(std::move(request));
  ASSERT_TRUE(made.has_value()) << made.error().text();
  pipe->write.reset();
  ASSERT_TRUE((*made)->start().has_value());
  EXPECT_EQ(os::read_all(pipe->read.get(), 100).value_or(""), "from a detached root\n");
  finish(**made);
}

TEST_F(EngineTest, AttachFindsItAgainAndStartsItThroughItsSocket) {
  CreateRequest request;
  request.id = bundle_.name();
  request.bundle = bundle_.path();
  request.spec = script_spec("exit 5");
  request.start_socket = bundle_.path() + "/start.sock";
  auto made = engine_->create_process(std::move(request));
  ASSERT_TRUE(made.has_value()) << made.error().text();
  Saved saved;
  saved.id = bundle_.name();
  saved.bundle = bundle_.path();
  saved.spec = script_spec("exit 5");
  saved.pid = (*made)->init().pid;
  saved.start_time = (*made)->start_time();
  saved.cgroup_path = (*made)->cgroup_path();
  saved.start_socket = bundle_.path() + "/start.sock";
  auto again = engine_->attach(saved);
  ASSERT_TRUE(again.has_value());
  EXPECT_TRUE((*again)->alive());
  EXPECT_TRUE((*again)->waiting());
  ASSERT_TRUE((*again)->start().has_value());
  EXPECT_EQ(os::reap_pidfd((*made)->init().pidfd.get()).value_or(-1), 5);
  EXPECT_FALSE((*again)->alive());
  saved.start_time += 1;
  EXPECT_FALSE((*engine_->attach(saved))->alive()) << "a recycled pid";
  EXPECT_TRUE((*again)->remove().has_value());
}

}  // namespace
}  // namespace berth::engine::process
