#include <fcntl.h>
#include <gmock/gmock.h>
#include <linux/seccomp.h>
#include <poll.h>
#include <sys/ioctl.h>
#include <sys/socket.h>
#include <sys/syscall.h>
#include <unistd.h>

#include <csignal>
#include <cstring>

#include "engine/process/test_container.h"
#include "os/socket.h"
#include "spec/json_text.h"

namespace berth::engine::process {
namespace {

using testing::EngineTest;
using ::testing::HasSubstr;
using testing::Outcome;

/// Takes one listener and answers until its filter is gone: mkdir with EXDEV, getppid with 4242, all others may go on.
/// A process and no thread, since the engine's caller must have one.
class Supervisor {
 public:
  explicit Supervisor(const std::string& path) {
    auto listener = os::unix_listen(path);
    auto pipe = os::make_pipe();
    EXPECT_TRUE(listener && pipe);
    EXPECT_TRUE(os::set_nonblocking(listener->get(), false));
    auto cloned = os::clone_process({});
    EXPECT_TRUE(cloned.has_value());
    if (cloned->pid == 0) {
      pipe->read.reset();
      serve(listener->get(), pipe->write.get());
    }
    pidfd_ = std::move(cloned->pidfd);
    said_ = std::move(pipe->read);
  }
  Supervisor(const Supervisor&) = delete;
  Supervisor& operator=(const Supervisor&) = delete;
  Supervisor(Supervisor&&) = delete;
  Supervisor& operator=(Supervisor&&) = delete;
  ~Supervisor() {
    ignore(os::pidfd_signal(pidfd_.get(), SIGKILL), "it may have ended");
    ignore(os::reap_pidfd(pidfd_.get()), "a child of ours");
  }
  /// What the runtime sent, read to the connection's end; then one letter for each call that was answered ("m", "g").
  std::string said() {
    const auto ended = os::reap_pidfd(pidfd_.get());
    EXPECT_EQ(ended.value_or(-1), 0);
    return os::read_all(said_.get(), 1U << 16).value_or("");
  }

 private:
  [[noreturn]] static void serve(int listener_fd, int out_fd) {
    ::alarm(60);
    const auto connection = os::wait_for_connection(listener_fd);
    UniqueFd notify;
    std::array<char, 8192> text{};
    for (bool more = connection.has_value(); more;) {
      iovec part{text.data(), text.size()};
      alignas(cmsghdr) std::array<char, CMSG_SPACE(sizeof(int))> control{};
      msghdr message{};
      message.msg_iov = &part;
      message.msg_iovlen = 1;
      message.msg_control = control.data();
      message.msg_controllen = control.size();
      const ssize_t n = ::recvmsg(connection->get(), &message, MSG_CMSG_CLOEXEC);
      if (const cmsghdr* entry = CMSG_FIRSTHDR(&message); n > 0 && entry != nullptr) {
        int fd = -1;
        std::memcpy(&fd, CMSG_DATA(entry), sizeof fd);
        notify.reset(fd);
      }
      more = n > 0;
      if (more) ignore(os::write_all(out_fd, std::string_view(text.data(), static_cast<std::size_t>(n))), "test");
    }
    ignore(os::write_all(out_fd, "\n"), "test");
    while (notify.valid() && answer(notify.get(), out_fd)) {
    }
    ::_exit(notify.valid() ? 0 : 1);
  }
  static bool answer(int notify_fd, int out_fd) {
    pollfd wait{notify_fd, POLLIN, 0};
    if (::poll(&wait, 1, -1) < 0 || (wait.revents & POLLIN) == 0) return false;
    seccomp_notif request{};
    if (::ioctl(notify_fd, SECCOMP_IOCTL_NOTIF_RECV, &request) != 0) return errno == ENOENT;
    seccomp_notif_resp response{};
    response.id = request.id;
    switch (request.data.nr) {
      case SYS_mkdir:
      case SYS_mkdirat:
        response.error = -EXDEV;
        ignore(os::write_all(out_fd, "m"), "test");
        break;
      case SYS_getppid:
        response.val = 4242;
        ignore(os::write_all(out_fd, "g"), "test");
        break;
      default:
        response.flags = SECCOMP_USER_NOTIF_FLAG_CONTINUE;
    }
    return ::ioctl(notify_fd, SECCOMP_IOCTL_NOTIF_SEND, &response) == 0 || errno == ENOENT;
  }

  UniqueFd pidfd_;
  UniqueFd said_;
};

class ListenerTest : public EngineTest {
 protected:
  std::string path() { return bundle_.path() + "/agent.sock"; }
  spec::Seccomp profile(std::vector<std::string> notified) {
    spec::Seccomp seccomp;
    seccomp.default_action = "SCMP_ACT_ALLOW";
    seccomp.architectures = {"SCMP_ARCH_X86_64"};
    seccomp.listener_path = path();
    seccomp.listener_metadata = "what \"the\" agent knows";
    seccomp.syscalls.push_back(
        {.names = std::move(notified), .action = "SCMP_ACT_NOTIFY", .errno_ret = {}, .args = {}, .extra = {}});
    return seccomp;
  }
  spec::Spec spec_of(const std::string& script, bool no_new_privileges) {
    auto spec = script_spec(script);
    spec.process->no_new_privileges = no_new_privileges;
    spec.linux->seccomp = profile({"mkdir", "mkdirat"});
    spec.annotations["test.key"] = "value";
    return spec;
  }
  void expect_state(const std::string& text, pid_t pid, const char* status, pid_t init_pid) {
    const auto json = spec::parse_json(text);
    ASSERT_TRUE(json.has_value()) << text;
    EXPECT_EQ(json->string_or("ociVersion"), "1.0.2");
    EXPECT_EQ(json->string_or("metadata"), "what \"the\" agent knows");
    const auto* fds = json->get("fds");
    const auto* state = json->get("state");
    ASSERT_TRUE(fds != nullptr && state != nullptr && json->get("pid") != nullptr && state->get("pid") != nullptr);
    EXPECT_EQ(fds->write(), "[\"seccompFd\"]");
    EXPECT_EQ(json->get("pid")->as_int().value_or(-1), pid);
    EXPECT_EQ(state->string_or("id"), bundle_.name());
    EXPECT_EQ(state->string_or("status"), status);
    EXPECT_EQ(state->string_or("bundle"), bundle_.path());
    EXPECT_EQ(state->get("pid")->as_int().value_or(-1), init_pid);
    ASSERT_NE(state->get("annotations"), nullptr);
    EXPECT_EQ(state->get("annotations")->string_or("test.key"), "value");
  }
  static Outcome outcome_of(Result<Process> process, os::Pipe& pipe) {
    Outcome outcome;
    EXPECT_TRUE(process.has_value()) << process.error().text();
    pipe.write.reset();
    if (!process) return outcome;
    outcome.out = os::read_all(pipe.read.get(), 1U << 16).value_or("");
    outcome.code = os::reap_pidfd(process->pidfd.get()).value_or(-1);
    return outcome;
  }
};

TEST_F(ListenerTest, InitAsksTheSupervisor) {
  for (const bool no_new_privileges : {true, false}) {
    Supervisor supervisor(path());
    auto pipe = os::make_pipe();
    ASSERT_TRUE(pipe.has_value());
    auto spec = spec_of("mkdir /x; echo $PPID", no_new_privileges);
    spec.linux->seccomp->syscalls[0].names.push_back("getppid");
    const auto container = create(spec, {-1, pipe->write.get(), pipe->write.get()});
    ASSERT_NE(container, nullptr);
    const auto started = container->start();
    ASSERT_TRUE(started.has_value()) << started.error().text();
    pipe->write.reset();
    const auto out = os::read_all(pipe->read.get(), 1U << 16).value_or("");
    EXPECT_THAT(out, HasSubstr("Invalid cross-device link"));
    EXPECT_THAT(out, HasSubstr("4242\n")) << "an answer that is no error";
    const pid_t pid = container->init().pid;
    finish(*container);
    const std::string said = supervisor.said();
    EXPECT_THAT(said, ::testing::EndsWith("\ngm"));
    expect_state(said.substr(0, said.find('\n')), pid, "created", pid);
  }
}

TEST_F(ListenerTest, EveryCallMayBeNotified) {
  // Also those that handing over the listener could need: the supervisor sees all from the first call on.
  Supervisor supervisor(path());
  auto spec = spec_of("mkdir /x; echo done", false);
  spec.linux->seccomp->default_action = "SCMP_ACT_NOTIFY";
  spec.linux->seccomp->flags = {"SECCOMP_FILTER_FLAG_WAIT_KILLABLE_RECV", "SECCOMP_FILTER_FLAG_TSYNC"};
  const auto out = run(spec).out;
  EXPECT_THAT(out, HasSubstr("Invalid cross-device link"));
  EXPECT_THAT(out, HasSubstr("done\n"));
  EXPECT_THAT(supervisor.said(), ::testing::EndsWith("\ngm"));
}

TEST_F(ListenerTest, SendingMayBeForbidden) {
  Supervisor supervisor(path());
  auto spec = spec_of("mkdir /x; echo done", true);
  spec.linux->seccomp->syscalls.push_back({.names = {"sendmsg", "recvmsg", "sendto"},
                                           .action = "SCMP_ACT_KILL_PROCESS",
                                           .errno_ret = {},
                                           .args = {},
                                           .extra = {}});
  EXPECT_THAT(run(spec).out, HasSubstr("done\n"));
  EXPECT_THAT(supervisor.said(), ::testing::EndsWith("\nm"));
}

TEST_F(ListenerTest, ExecHasAListenerOfItsOwn) {
  auto first = std::make_unique<Supervisor>(path());
  const auto container = create(spec_of("sleep 1000", false));
  ASSERT_NE(container, nullptr);
  ASSERT_TRUE(container->start().has_value());
  ASSERT_TRUE(os::remove_file(path()).has_value());
  for (const std::uint32_t uid : {0U, 1000U}) {
    Supervisor supervisor(path());
    auto pipe = os::make_pipe();
    ExecRequest request;
    request.process = *spec_of("mkdir /tmp/y; mkdir /tmp/z; echo done", uid == 0).process;
    request.process.user.uid = uid;
    request.stdio = {-1, pipe->write.get(), pipe->write.get()};
    auto made = container->exec(request);
    const pid_t pid = made ? made->pid : -1;
    const auto outcome = outcome_of(std::move(made), *pipe);
    EXPECT_THAT(outcome.out, HasSubstr("Invalid cross-device link"));
    EXPECT_THAT(outcome.out, HasSubstr("done\n"));
    const std::string said = supervisor.said();
    EXPECT_THAT(said, ::testing::EndsWith("\nmm"));
    expect_state(said.substr(0, said.find('\n')), pid, "running", container->init().pid);
  }
  finish(*container);
  EXPECT_THAT(first->said(), ::testing::EndsWith("\n"));
}

TEST_F(ListenerTest, WithoutASupervisorNothingStarts) {
  const auto container = create(spec_of("true", false));
  ASSERT_NE(container, nullptr);
  const auto started = container->start();
  ASSERT_FALSE(started.has_value());
  EXPECT_EQ(started.error().code(), Code::kNotFound);
  EXPECT_THAT(started.error().text(), HasSubstr("listenerPath"));
  finish(*container);
}

TEST_F(ListenerTest, APathWithoutNotifyIsIgnored) {
  auto spec = spec_of("mkdir /x; echo $?", false);
  spec.linux->seccomp->syscalls[0].action = "SCMP_ACT_ERRNO";
  spec.linux->seccomp->flags = {"SECCOMP_FILTER_FLAG_WAIT_KILLABLE_RECV"};
  EXPECT_THAT(run(spec).out, HasSubstr("Operation not permitted"));
}

}  // namespace
}  // namespace berth::engine::process
