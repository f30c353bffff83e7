#include <gmock/gmock.h>
#include <gtest/gtest.h>

#include <csignal>

#include "fixture.h"
#include "os/pidfd.h"
#include "os/process_list.h"
#include "remote_session.h"
#include "wait.h"

// Exec through the CRI socket and the URL that it answers, as kubectl speaks it.
namespace berth::test {
namespace {

using testing::HasSubstr;

struct Node {
  static TestHostOptions options() { return {}; }
};

class ExecStreamTest : public HostTest<Node> {
 protected:
  static Running pod() { return start("exec", host().shell_config("main", "sleep 1000")); }
  static RemoteSession exec(const std::string& container, const std::string& script, const StreamSet& set,
                            const std::string& protocol = "v4.channel.k8s.io") {
    return open_session(exec_url(cri(), container, {"/bin/sh", "-c", script}, set), set, protocol);
  }
  /// How many sessions' folders there are.
  static std::size_t sessions() { return stream_sessions(host()); }
};

TEST_F(ExecStreamTest, StreamsAndExitCode) {
  const auto running = pod();
  auto good = exec(running.container, "echo out; echo err >&2", {});
  ASSERT_TRUE(ok(good.finish()));
  EXPECT_EQ(good.out_text(), "out\n");
  EXPECT_EQ(good.err_text(), "err\n");
  EXPECT_EQ(good.status(), R"({"metadata":{},"status":"Success"})");
  EXPECT_TRUE(good.client->at(good.out).ended && good.client->at(good.err).ended);

  auto bad = exec(running.container, "printf x; exit 42", {});
  ASSERT_TRUE(ok(bad.finish()));
  EXPECT_EQ(bad.out_text(), "x");
  EXPECT_THAT(bad.status(), HasSubstr(R"("reason":"NonZeroExitCode")"));
  EXPECT_THAT(bad.status(), HasSubstr(R"({"message":"42","reason":"ExitCode"})"));

  auto killed = exec(running.container, "kill -9 $$", {});
  ASSERT_TRUE(ok(killed.finish()));
  EXPECT_THAT(killed.status(), HasSubstr(R"("message":"137")"));
  EXPECT_TRUE(wait_until(std::chrono::seconds(20), [] { return sessions() == 0; })) << "nothing is left of a session";
}

TEST_F(ExecStreamTest, StdinWithHalfClose) {
  const auto running = pod();
  auto session = exec(running.container, "cat; echo end", {.in = true});
  ASSERT_TRUE(ok(session.client->write(session.in, "one\n")));
  ASSERT_TRUE(ok(session.wait_for("one\n")));
  ASSERT_TRUE(ok(session.client->write(session.in, "two\n", true)));
  ASSERT_TRUE(ok(session.finish()));
  EXPECT_EQ(session.out_text(), "one\ntwo\nend\n");
  // Input that comes before the process is there, and its end.
  auto early = exec(running.container, "sleep 0.2; cat", {.in = true});
  ASSERT_TRUE(ok(early.client->write(early.in, "early", true)));
  ASSERT_TRUE(ok(early.finish()));
  EXPECT_EQ(early.out_text(), "early");
  // A process that does not read is no reason to wait.
  auto deaf = exec(running.container, "exec <&-; echo done", {.in = true});
  ASSERT_TRUE(ok(deaf.client->write(deaf.in, std::string(200'000, 'x'), true)));
  ASSERT_TRUE(ok(deaf.finish()));
  EXPECT_EQ(deaf.out_text(), "done\n");
}

TEST_F(ExecStreamTest, TerminalAndItsSize) {
  const auto running = pod();
  const StreamSet set{.in = true, .tty = true};
  auto session = exec(running.container, "tty; echo $TERM; read x; stty size; read x; stty size", set);
  ASSERT_TRUE(ok(session.wait_for("xterm")));
  ASSERT_TRUE(ok(session.client->write(session.resize, "{\"Width\":100,\"Height\":30}\n")));
  ASSERT_TRUE(ok(session.client->ping()));
  ASSERT_TRUE(ok(session.client->read_until([&] { return session.client->pongs() == 1; })));
  ASSERT_TRUE(ok(session.client->write(session.in, "\n")));
  ASSERT_TRUE(ok(session.wait_for("30 100")));
  ASSERT_TRUE(ok(session.client->write(session.resize, "{\"Width\":80,\"Hei")));
  ASSERT_TRUE(ok(session.client->write(session.resize, "ght\":24}\n{\"Width\":81,\"Height\":25}\n")));
  ASSERT_TRUE(ok(session.client->write(session.in, "\n")));
  ASSERT_TRUE(ok(session.wait_for("25 81")));
  ASSERT_TRUE(ok(session.finish()));
  EXPECT_THAT(session.out_text(), testing::StartsWith("/dev/pts/"));
}

TEST_F(ExecStreamTest, BackgroundChildrenAreNotWaitedFor) {
  const auto running = pod();
  auto session = exec(running.container, "(sleep 300; echo late) & echo now", {});
  ASSERT_TRUE(ok(session.finish(std::chrono::seconds(5))));
  EXPECT_EQ(session.out_text(), "now\n");
}

TEST_F(ExecStreamTest, ManyMegabytesBothWays) {
  const auto running = pod();
  auto session = exec(running.container, "cat", {.in = true});
  Pattern sent(64U << 20);
  Pattern received(64U << 20);
  session.client->tap = [&](std::uint32_t id, std::string_view bytes) {
    if (id == session.out) received.check(bytes);
  };
  ASSERT_TRUE(ok(session.client->exchange(
      session.in, [&] { return sent.next(32U << 10); }, [&] { return session.client->at(session.error).ended; },
      std::chrono::seconds(60))));
  EXPECT_TRUE(received.whole());
}

// More than the sockets between hold, taken long after the process is gone.
TEST_F(ExecStreamTest, AClientThatReadsLateGetsAllOfIt) {
  const auto running = pod();
  auto session = exec(running.container, "head -c 12000000 /dev/zero; echo; echo last; exit 3", {});
  std::this_thread::sleep_for(std::chrono::seconds(12));
  ASSERT_TRUE(ok(session.finish()));
  EXPECT_EQ(session.out_text().size(), 12'000'006U);
  EXPECT_TRUE(session.out_text().ends_with("\nlast\n"));
  EXPECT_THAT(session.status(), HasSubstr(R"("message":"3")"));
}

TEST_F(ExecStreamTest, AClientThatGoesEndsItsProcess) {
  const auto running = pod();
  auto session = exec(running.container, "echo here; exec sleep 12345", {});
  ASSERT_TRUE(ok(session.wait_for("here")));
  const auto sleeps = [&] {
    return must(cri().shell(running.container, "ps -o args")).find("sleep 12345") != std::string::npos;
  };
  // The shell says "here" before its exec, in the midst of which a process has no arguments.
  EXPECT_TRUE(wait_until(std::chrono::seconds(20), sleeps));
  session.client.reset();
  EXPECT_TRUE(wait_until(std::chrono::seconds(20), [&] { return !sleeps(); }));
  // A terminal's process is hung up on, and may do what it has to.
  auto terminal = exec(running.container, "trap 'touch /hung-up; exit' HUP; echo here; while :; do sleep 0.1; done",
                       {.in = true, .tty = true});
  ASSERT_TRUE(ok(terminal.wait_for("here")));
  terminal.client.reset();
  EXPECT_TRUE(
      wait_until(std::chrono::seconds(20), [&] { return cri().shell(running.container, "ls /hung-up").has_value(); }));
  EXPECT_TRUE(wait_until(std::chrono::seconds(20), [] { return sessions() == 0; }));
}

TEST_F(ExecStreamTest, FailuresAreTold) {
  const auto running = pod();
  const StreamSet set;
  auto none = open_session(exec_url(cri(), running.container, {"/no/such/program"}, set), set);
  ASSERT_TRUE(ok(none.finish()));
  EXPECT_THAT(none.status(), HasSubstr("InternalError"));
  EXPECT_THAT(none.status(), HasSubstr("/no/such/program"));
  // Older clients get text, or nothing for success.
  auto old = open_session(exec_url(cri(), running.container, {"/bin/false"}, set), set, "v2.channel.k8s.io");
  ASSERT_TRUE(ok(old.finish()));
  EXPECT_EQ(old.status(), "command terminated with non-zero exit code: exit status 1");
  auto old_good = open_session(exec_url(cri(), running.container, {"/bin/true"}, set), set, "channel.k8s.io");
  ASSERT_TRUE(ok(old_good.finish()));
  EXPECT_EQ(old_good.status(), "");
}

TEST_F(ExecStreamTest, BadRequestsAreRefused) {
  const auto running = pod();
  pb::ExecRequest request;
  request.set_container_id(running.container);
  request.add_cmd("true");
  EXPECT_TRUE(fails(cri().call(&Runtime::Exec, request), Code::kInvalid, "one of stdin, stdout and stderr"));
  request.set_stdout(true);
  request.set_stderr(true);
  request.set_tty(true);
  EXPECT_TRUE(fails(cri().call(&Runtime::Exec, request), Code::kInvalid, "tty and stderr"));
  request.set_tty(false);
  request.clear_cmd();
  EXPECT_TRUE(fails(cri().call(&Runtime::Exec, request), Code::kInvalid, "cmd is empty"));
  request.add_cmd("true");
  request.set_container_id("nobody");
  EXPECT_TRUE(fails(cri().call(&Runtime::Exec, request), Code::kNotFound));
  request.set_container_id(running.container);
  ASSERT_TRUE(ok(cri().stop(running.container, 0)));
  EXPECT_TRUE(fails(cri().call(&Runtime::Exec, request), Code::kPrecondition, "not running"));
}

TEST_F(ExecStreamTest, AUrlIsGoodOnce) {
  const auto running = pod();
  const StreamSet set;
  const auto url = exec_url(cri(), running.container, {"/bin/true"}, set);
  EXPECT_TRUE(fails(SpdyClient::connect(url + "x", {}), Code::kUnavailable, "404"));
  auto session = open_session(url, set);
  ASSERT_TRUE(ok(session.finish()));
  EXPECT_TRUE(fails(SpdyClient::connect(url, {}), Code::kUnavailable, "404"));
  const auto other = exec_url(cri(), running.container, {"/bin/true"}, set);
  EXPECT_TRUE(fails(SpdyClient::connect(other, {"v9.channel.k8s.io"}), Code::kUnavailable, "403"));
}

TEST_F(ExecStreamTest, SessionsOutliveTheDaemon) {
  const auto running = pod();
  auto session = exec(running.container, "cat", {.in = true});
  ASSERT_TRUE(ok(session.client->write(session.in, "before\n")));
  ASSERT_TRUE(ok(session.wait_for("before\n")));
  host().kill9_daemon();
  ASSERT_TRUE(ok(session.client->write(session.in, "without\n")));
  ASSERT_TRUE(ok(session.wait_for("without\n")));
  ASSERT_TRUE(ok(host().start_daemon()));
  ASSERT_TRUE(ok(session.client->write(session.in, "after\n", true)));
  ASSERT_TRUE(ok(session.finish()));
  EXPECT_EQ(session.out_text(), "before\nwithout\nafter\n");
  // The new daemon goes on with the server that it found.
  auto next = exec(running.container, "echo next", {});
  ASSERT_TRUE(ok(next.finish()));
  EXPECT_EQ(next.out_text(), "next\n");
}

TEST_F(ExecStreamTest, AKilledServerLeavesNothing) {
  const auto running = pod();
  auto session = exec(running.container, "echo here; exec sleep 23456", {});
  ASSERT_TRUE(ok(session.wait_for("here")));
  const auto servers = must(os::find_processes([](const std::vector<std::string>& words) {
    return words.size() > 2 && words[0].ends_with("/berth-stream") && words[2].starts_with(host().dir());
  }));
  ASSERT_EQ(servers.size(), 1U);
  ASSERT_TRUE(ok(os::pidfd_signal(servers.front().pidfd.get(), SIGKILL)));
  EXPECT_FALSE(session.finish());
  // The next session starts another server, which ends what the first one had begun.
  auto next = exec(running.container, "echo next", {});
  ASSERT_TRUE(ok(next.finish()));
  EXPECT_TRUE(wait_until(std::chrono::seconds(20), [&] {
    return must(cri().shell(running.container, "ps -o args")).find("sleep 23456") == std::string::npos;
  }));
  EXPECT_TRUE(wait_until(std::chrono::seconds(20), [] { return sessions() == 0; }));
}

TEST_F(ExecStreamTest, AHungServerIsReplaced) {
  const auto running = pod();
  auto first = exec(running.container, "echo here", {});
  ASSERT_TRUE(ok(first.finish()));
  const auto servers = must(os::find_processes([](const std::vector<std::string>& words) {
    return words.size() > 2 && words[0].ends_with("/berth-stream") && words[2].starts_with(host().dir());
  }));
  ASSERT_EQ(servers.size(), 1U);
  must(stop_threads(servers.front().pid));
  auto next = exec(running.container, "echo next", {});
  ASSERT_TRUE(ok(next.finish()));
  EXPECT_EQ(next.out_text(), "next\n");
  EXPECT_TRUE(os::wait_readable(servers.front().pidfd.get(), std::chrono::seconds(0)).value_or(false));
}

TEST_F(ExecStreamTest, ThePodsEndEndsItsSessions) {
  const auto running = pod();
  auto session = exec(running.container, "echo here; exec sleep 1000", {});
  ASSERT_TRUE(ok(session.wait_for("here")));
  ASSERT_TRUE(ok(cri().end_pod(running.pod)));
  ASSERT_TRUE(ok(session.finish()));
  EXPECT_THAT(session.status(), HasSubstr("Failure"));
  EXPECT_TRUE(wait_until(std::chrono::seconds(20), [] { return sessions() == 0; }));
}

}  // namespace
}  // namespace berth::test
