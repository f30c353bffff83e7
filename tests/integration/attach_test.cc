#include <gmock/gmock.h>
#include <gtest/gtest.h>
#include <sys/stat.h>

#include "fixture.h"
#include "remote_session.h"
#include "wait.h"

// Attach through the CRI socket and the URL that it answers.
namespace berth::test {
namespace {

using testing::HasSubstr;

struct Node {
  static TestHostOptions options() { return {}; }
};

class AttachTest : public HostTest<Node> {
 protected:
  static RemoteSession attach(const std::string& container, const StreamSet& set) {
    return open_session(attach_url(cri(), container, set), set);
  }
  static pb::ContainerConfig with_stdin(const std::string& script, bool once = false, bool tty = false) {
    auto config = host().shell_config("main", script);
    config.set_stdin(true);
    config.set_stdin_once(once);
    config.set_tty(tty);
    return config;
  }
};

TEST_F(AttachTest, InputAndBothOutputs) {
  const auto running =
      start("attach", with_stdin("while read line; do echo \"got $line\"; echo \"err $line\" >&2; done"));
  auto first = attach(running.container, {.in = true});
  auto second = attach(running.container, {});
  // Both are there before the first line.
  for (auto* session : {&first, &second}) {
    ASSERT_TRUE(ok(session->client->ping()));
    ASSERT_TRUE(ok(session->client->read_until([&] { return session->client->pongs() == 1; })));
  }
  ASSERT_TRUE(wait_until(std::chrono::seconds(20), [&] {
    EXPECT_TRUE(ok(first.client->write(first.in, "tick\n")));
    return second.wait_for("got tick", std::chrono::milliseconds(100)).has_value();
  }));
  ASSERT_TRUE(ok(first.client->write(first.in, "one\n")));
  ASSERT_TRUE(ok(first.wait_for("got one\n")));
  ASSERT_TRUE(ok(second.wait_for("got one\n")));
  EXPECT_TRUE(ok(second.client->read_until([&] { return second.err_text().find("err one\n") != std::string::npos; })));
  // One that leaves takes nothing along, and its input's end is not the container's.
  first.client.reset();
  EXPECT_TRUE(wait_until(std::chrono::seconds(20), [] { return stream_sessions(host()) == 1; }));
  auto third = attach(running.container, {.in = true});
  ASSERT_TRUE(ok(third.client->write(third.in, "two\n", true)));
  ASSERT_TRUE(ok(second.wait_for("got two\n")));
  EXPECT_EQ(must(cri().status(running.container)).state(), pb::CONTAINER_RUNNING);
  // The container's end is the session's.
  ASSERT_TRUE(ok(cri().stop(running.container, 0)));
  ASSERT_TRUE(ok(second.finish()));
  EXPECT_EQ(second.status(), R"({"metadata":{},"status":"Success"})");
  EXPECT_TRUE(wait_until(std::chrono::seconds(20), [] { return stream_sessions(host()) == 0; }));
}

TEST_F(AttachTest, StdinOnceEndsWithTheFirstClient) {
  const auto running = start("once", with_stdin("cat; echo the end", true));
  auto session = attach(running.container, {.in = true});
  ASSERT_TRUE(ok(session.client->write(session.in, "all of it\n", true)));
  ASSERT_TRUE(ok(session.finish()));
  EXPECT_EQ(session.out_text(), "all of it\nthe end\n");
  EXPECT_EQ(must(cri().wait_exited(running.container)).exit_code(), 0);
  const auto gone = start("gone", with_stdin("cat; echo the end", true));
  auto leaves = attach(gone.container, {.in = true});
  ASSERT_TRUE(ok(leaves.client->write(leaves.in, "x\n")));
  ASSERT_TRUE(ok(leaves.wait_for("x\n")));
  leaves.client.reset();
  EXPECT_EQ(must(cri().wait_exited(gone.container)).exit_code(), 0) << "a client that is cut off ends it as well";
}

TEST_F(AttachTest, ATerminal) {
  const auto running = start("tty", with_stdin("while read line; do stty size; echo \"got $line\"; done", false, true));
  const StreamSet set{.in = true, .tty = true};
  auto session = attach(running.container, set);
  ASSERT_TRUE(ok(session.client->write(session.resize, "{\"Width\":120,\"Height\":40}\n")));
  ASSERT_TRUE(ok(session.client->ping()));
  ASSERT_TRUE(ok(session.client->read_until([&] { return session.client->pongs() == 1; })));
  ASSERT_TRUE(ok(session.client->write(session.in, "hello\n")));
  ASSERT_TRUE(ok(session.wait_for("got hello")));
  EXPECT_THAT(session.out_text(), HasSubstr("40 120"));
}

TEST_F(AttachTest, WithoutALogAndWithoutStdin) {
  auto config = host().shell_config("main", "sleep 0.5; i=0; while [ $i -lt 5000 ]; do echo line $i; i=$((i+1)); done");
  config.clear_log_path();
  const auto running = start("nolog", config);
  auto session = attach(running.container, {.in = true});
  ASSERT_TRUE(ok(session.client->write(session.in, "nobody reads this", true)));
  ASSERT_TRUE(ok(session.finish()));
  EXPECT_THAT(session.out_text(), testing::StartsWith("line 0\nline 1\n"));
  EXPECT_THAT(session.out_text(), testing::EndsWith("line 4999\n"));
}

TEST_F(AttachTest, ASlowClientIsCutOff) {
  const auto running =
      start("slow", with_stdin("read x; i=0; while [ $i -lt 20 ]; do "
                               "dd if=/dev/zero bs=1M count=1 2>/dev/null; i=$((i+1)); done; sleep 1000"));
  auto session = attach(running.container, {.in = true});
  ASSERT_TRUE(ok(session.client->write(session.in, "go\n")));
  // Nothing is read until the log has it all: 20 MiB are more than all buffers on the way.
  const std::string log = host().logs("slow") + "/main.log";
  ASSERT_TRUE(wait_until(std::chrono::seconds(60), [&] {
    struct stat info{};
    return ::stat(log.c_str(), &info) == 0 && info.st_size > (20 << 20);
  })) << "the container does not wait for the client";
  ASSERT_TRUE(ok(session.finish()));
  EXPECT_THAT(session.status(), HasSubstr("read too slowly"));
  EXPECT_LT(session.out_text().size(), 20U << 20);
  EXPECT_EQ(must(cri().status(running.container)).state(), pb::CONTAINER_RUNNING);
}

}  // namespace
}  // namespace berth::test
