#include <fcntl.h>
#include <gmock/gmock.h>
#include <poll.h>
#include <sys/stat.h>
#include <unistd.h>

#include <array>

#include "os/file.h"
#include "shim/run_support.h"

// Watch: what a container's first process writes, copied to whoever asks.
namespace berth::shim::test {
namespace {

using testing::EndsWith;
using testing::HasSubstr;
using testing::Not;

class RunWatchTest : public RunTest {
 protected:
  void SetUp() override {
    RunTest::SetUp();
    start_shim(default_sandbox());
  }

  /// A FIFO with us as its reader.
  UniqueFd fifo(const std::string& name) {
    const std::string path = folder() + "/" + name;
    EXPECT_EQ(::mkfifo(path.c_str(), 0600), 0);
    auto reader = os::open_file(path, O_RDONLY | O_NONBLOCK);
    EXPECT_TRUE(reader);
    return reader ? std::move(*reader) : UniqueFd();
  }

  Result<Empty> watch(const std::string& id, const std::string& out, const std::string& err = "") {
    own::WatchRequest request;
    request.set_container_id(id);
    if (!out.empty()) request.set_stdout(folder() + "/" + out);
    if (!err.empty()) request.set_stderr(folder() + "/" + err);
    return own_call<Empty>("Watch", request);
  }

  /// Everything up to the end of the FIFO, waited for at most 20 s.
  static std::string rest(int fd) {
    std::string text;
    std::array<char, 65536> buffer{};
    while (true) {
      pollfd poll{fd, POLLIN, 0};
      if (::poll(&poll, 1, 20'000) <= 0) return text + "(no end)";
      const ssize_t count = ::read(fd, buffer.data(), buffer.size());
      if (count <= 0) return text;
      text.append(buffer.data(), static_cast<std::size_t>(count));
    }
  }

  /// A container that writes `script`'s output once a line comes on its stdin.
  void run_waiting(const std::string& id, const std::string& script, const std::string& out) {
    const std::string in = folder() + "/" + id + "-in";
    ASSERT_EQ(::mkfifo(in.c_str(), 0600), 0);
    write_bundle(id, make_spec(id, "read line; " + script));
    auto request = create_request(id);
    request.set_stdin(in);
    if (!out.empty()) {
      request.set_stdout(out);
      request.set_stderr(out);
    }
    ASSERT_TRUE(call<task::CreateTaskResponse>("Create", request));
    ASSERT_TRUE(start(id));
  }
  void say_go(const std::string& id) {
    const auto in = os::open_file(folder() + "/" + id + "-in", O_WRONLY | O_NONBLOCK);
    ASSERT_TRUE(in && os::write_all(in->get(), "go\n"));
  }
};

TEST_F(RunWatchTest, AllWatchersAndTheLogGetTheSame) {
  run_waiting("c1", "echo out; echo err >&2; printf end", "");
  const UniqueFd first = fifo("o1");
  const UniqueFd second = fifo("o2");
  const UniqueFd errors = fifo("e1");
  ASSERT_TRUE(watch("c1", "o1", "e1"));
  ASSERT_TRUE(watch("c1", "o2"));
  say_go("c1");
  EXPECT_EQ(rest(first.get()), "out\nend");
  EXPECT_EQ(rest(second.get()), "out\nend");
  EXPECT_EQ(rest(errors.get()), "err\n");
  EXPECT_EQ(wait("c1"), 0U);
  EXPECT_THAT(plain_log(log("c1")), testing::UnorderedElementsAre("stdout F out", "stderr F err", "stdout P end"));
  EXPECT_EQ(watch("c1", "o1").error().code(), Code::kPrecondition) << "it has ended";
  ASSERT_TRUE(remove("c1"));
}

TEST_F(RunWatchTest, ASlowReaderIsCutOffAndHoldsUpNobody) {
  run_waiting("c1", "i=0; while [ $i -lt 40000 ]; do echo 0123456789; i=$((i+1)); done; echo last", "watched://");
  const UniqueFd slow = fifo("slow");
  const UniqueFd quick = fifo("quick");
  // It holds all, so that this reader is never slow, whatever else the machine does.
  ASSERT_GE(::fcntl(quick.get(), F_SETPIPE_SZ, 1 << 20), 1 << 20);
  ASSERT_TRUE(watch("c1", "slow"));
  ASSERT_TRUE(watch("c1", "quick"));
  say_go("c1");
  const std::string all = rest(quick.get());
  EXPECT_EQ(all.size(), 40'000U * 11 + 5);
  EXPECT_THAT(all, EndsWith("\nlast\n"));
  EXPECT_EQ(wait("c1"), 0U);
  const std::string part = rest(slow.get());
  EXPECT_THAT(part, Not(HasSubstr("last"))) << "its FIFO was full long before";
  EXPECT_EQ(part, all.substr(0, part.size())) << "without a gap";
  ASSERT_TRUE(remove("c1"));
}

TEST_F(RunWatchTest, TerminalsAreWatchedToo) {
  const std::string in = folder() + "/c1-in";
  ASSERT_EQ(::mkfifo(in.c_str(), 0600), 0);
  auto spec = make_spec("c1", "read line; echo got $line");
  spec.process->terminal = true;
  write_bundle("c1", spec);
  auto request = create_request("c1");
  request.set_terminal(true);
  request.set_stdin(in);
  request.clear_stderr();
  ASSERT_TRUE(call<task::CreateTaskResponse>("Create", request));
  ASSERT_TRUE(start("c1"));
  const UniqueFd out = fifo("o1");
  ASSERT_TRUE(watch("c1", "o1", "no-such-fifo")) << "stderr of a terminal is not looked at";
  say_go("c1");
  EXPECT_EQ(rest(out.get()), "go\r\ngot go\r\n");
  EXPECT_EQ(wait("c1"), 0U);
  ASSERT_TRUE(remove("c1"));
}

TEST_F(RunWatchTest, BadRequestsAreRefused) {
  run_waiting("c1", "true", "");
  EXPECT_EQ(watch("none", "o1").error().code(), Code::kNotFound);
  EXPECT_EQ(watch("c1", "none").error().code(), Code::kNotFound);
  ASSERT_EQ(::mkfifo((folder() + "/alone").c_str(), 0600), 0);
  EXPECT_EQ(watch("c1", "alone").error().code(), Code::kUnavailable) << "nobody reads it";
  ASSERT_TRUE(os::write_file_atomic(folder() + "/file", ""));
  EXPECT_EQ(watch("c1", "file").error().code(), Code::kInvalid);
  say_go("c1");
  EXPECT_EQ(wait("c1"), 0U);
  ASSERT_TRUE(remove("c1"));
}

}  // namespace
}  // namespace berth::shim::test
