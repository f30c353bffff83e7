#include <fcntl.h>
#include <poll.h>
#include <sys/socket.h>
#include <sys/stat.h>

#include <array>
#include <atomic>
#include <cstring>
#include <thread>

#include "checkpoint_fixture.h"
#include "os/socket.h"

/// Checkpoint and restore by the real criu, where it works (the guest of tests/vm). Needs root.
namespace berth::oci {
namespace {

using ::testing::HasSubstr;
using namespace berth::oci::testing;  // NOLINT(google-build-using-namespace): a test's own fixture

TEST_F(CheckpointByCriu, ARestoredContainerGoesOnAndCanDoAllThatOthersCan) {
  auto spec = script_spec(kCounter);
  spec.linux->resources.emplace().pids.emplace().limit = 100;
  start(spec);
  ASSERT_GT(counted().number, 0);
  const auto done = checkpoint();
  ASSERT_EQ(done.exit_code, 0) << done.err;
  expect_gone();
  const Count before = count();
  EXPECT_EQ(os::read_file(images() + "/descriptors.json", 1000).value_or(""),
            R"(["/dev/null","/dev/null","/dev/null"])");

  ASSERT_EQ(restore({"--pid-file", bundle_.path() + "/pid"}), 0) << log();
  expect_counting(before);
  EXPECT_EQ(status(), "running");
  const std::string pid = os::read_file(bundle_.path() + "/pid", 100).value_or("");
  EXPECT_THAT(oci({"list"}).out, HasSubstr(pid));
  EXPECT_THAT(oci({"ps", bundle_.name()}).out, HasSubstr(pid));
  EXPECT_EQ(os::read_file("/sys/fs/cgroup/" + bundle_.name() + "/pids.max", 100).value_or("100\n"), "100\n");
  // In all its namespaces, with the loopback that every container has, and in its time.
  const auto inside =
      oci({"exec", bundle_.name(), "sh", "-c",
           "hostname; cat /sys/class/net/lo/operstate; for n in mnt net pid ipc uts cgroup time; do test "
           "$(readlink /proc/1/ns/$n) = $(readlink /proc/self/ns/$n) || echo other $n; done"});
  EXPECT_EQ(inside.out, "berth-test\nunknown\n") << inside.err;
  EXPECT_EQ(oci({"pause", bundle_.name()}).exit_code, 0);
  EXPECT_EQ(status(), "paused");
  EXPECT_EQ(oci({"resume", bundle_.name()}).exit_code, 0);

  // The same files again, while it runs and after it is gone.
  EXPECT_EQ(restore(), 1);
  EXPECT_THAT(log(), HasSubstr("container with given ID already exists"));
  EXPECT_EQ(oci({"kill", bundle_.name(), "KILL"}).exit_code, 0);
  for (int i = 0; i < 5000 && status() != "stopped"; ++i) ::usleep(1000);
  EXPECT_EQ(oci({"delete", bundle_.name()}).exit_code, 0);
  expect_gone();
  ASSERT_EQ(restore(), 0) << log();
  const Count again = count();
  expect_counting(Count{again.word, again.number});
  EXPECT_EQ(again.word, before.word);
  // And a checkpoint of what was restored.
  ASSERT_EQ(checkpoint().exit_code, 0);
  const Count third = count();
  ASSERT_EQ(restore(), 0) << log();
  expect_counting(third);
}

TEST_F(CheckpointByCriu, WithLeaveRunningItGoesOnAndCanBeRestoredBesides) {
  start(script_spec(kCounter));
  counted();
  const auto done = checkpoint({"--leave-running"});
  ASSERT_EQ(done.exit_code, 0) << done.err;
  EXPECT_EQ(status(), "running");
  const Count before = count();
  expect_counting(before);
  EXPECT_EQ(oci({"delete", "--force", bundle_.name()}).exit_code, 0);
  ASSERT_EQ(restore(), 0) << log();
  expect_counting(Count{before.word, 0});
}

TEST_F(CheckpointByCriu, PreDumpsLeaveLessToWrite) {
  // Memory that does not change between the two.
  start(script_spec(std::string("big=$(seq 1 100000); ") + kCounter));
  counted();
  const auto first = oci({"checkpoint", "--pre-dump", "--image-path", bundle_.path() + "/images/one", bundle_.name()});
  ASSERT_EQ(first.exit_code, 0) << first.err;
  const Count between = count();
  expect_counting(between);
  const auto second = oci({"checkpoint", "--pre-dump", "--image-path", bundle_.path() + "/images/two", "--parent-path",
                           "../one", bundle_.name()});
  ASSERT_EQ(second.exit_code, 0) << second.err;
  EXPECT_EQ(status(), "running");
  const auto last = oci({"checkpoint", "--image-path", bundle_.path() + "/images/three", "--parent-path", "../two",
                         "--work-path", bundle_.path() + "/work", bundle_.name()});
  ASSERT_EQ(last.exit_code, 0) << last.err;
  EXPECT_TRUE(os::exists(bundle_.path() + "/work/dump.log"));
  const auto size = [this](const std::string& name) {
    struct stat st{};
    EXPECT_EQ(::stat((bundle_.path() + "/images/" + name + "/pages-1.img").c_str(), &st), 0);
    return st.st_size;
  };
  EXPECT_LT(size("three"), size("one") / 2);
  const Count before = count();
  ASSERT_EQ(detached({"restore", "--detach", "--image-path", bundle_.path() + "/images/three", bundle_.name()}), 0)
      << log();
  expect_counting(before);
}

TEST_F(CheckpointByCriu, InTheForegroundItsExitCodeIsTold) {
  start(script_spec("echo > /tmp/started; while ! test -e /tmp/end; do sleep 0.02; done; exit 23"));
  wait_for_file(in_root("/tmp/started"));
  ASSERT_EQ(checkpoint().exit_code, 0);
  std::atomic<int> code = -1;
  std::thread waiting([&] { code = detached({"restore", "--image-path", images(), bundle_.name()}); });
  for (int i = 0; i < 30'000 && status() != "running"; ++i) ::usleep(1000);
  EXPECT_EQ(code, -1);
  EXPECT_TRUE(os::write_file_atomic(in_root("/tmp/end"), "").has_value());
  waiting.join();
  EXPECT_EQ(code, 23) << log();
  expect_gone();
}

TEST_F(CheckpointByCriu, PipesOfTheCallerAreReplaced) {
  write_config(script_spec("while read line; do echo \"got $line\"; done"));
  auto in = os::make_pipe();
  auto out = os::make_pipe();
  ASSERT_TRUE(in && out);
  ASSERT_EQ(with_streams({"run", "--detach", bundle_.name()}, {{in->read.get(), 0}, {out->write.get(), 1}}), 0)
      << log();
  const auto answer = [](os::Pipe& to, os::Pipe& from, const std::string& word) {
    EXPECT_TRUE(os::write_all(to.write.get(), word + "\n").has_value());
    std::array<char, 100> buffer;
    const ssize_t n = ::read(from.read.get(), buffer.data(), buffer.size());
    return std::string(buffer.data(), n > 0 ? static_cast<std::size_t>(n) : 0);
  };
  EXPECT_EQ(answer(*in, *out, "one"), "got one\n");
  const auto done = checkpoint();
  ASSERT_EQ(done.exit_code, 0) << done.err;
  EXPECT_THAT(os::read_file(images() + "/descriptors.json", 1000).value_or(""), HasSubstr("pipe:["));
  auto other_in = os::make_pipe();
  auto other_out = os::make_pipe();
  ASSERT_TRUE(other_in && other_out);
  ASSERT_EQ(with_streams({"restore", "--detach", "--image-path", images(), bundle_.name()},
                         {{other_in->read.get(), 0}, {other_out->write.get(), 1}}),
            0)
      << log();
  EXPECT_EQ(answer(*other_in, *other_out, "two"), "got two\n");
  EXPECT_EQ(status(), "running");
  other_in->read.reset();
  other_in->write.reset();
  for (int i = 0; i < 5000 && status() != "stopped"; ++i) ::usleep(1000);
  EXPECT_EQ(status(), "stopped") << "the end of its input is the end of it";
}

/// What a --console-socket gets.
UniqueFd receive_console(int listener) {
  pollfd entry{listener, POLLIN, 0};
  if (::poll(&entry, 1, 60'000) != 1) return UniqueFd();
  UniqueFd connection(::accept4(listener, nullptr, nullptr, SOCK_CLOEXEC));
  std::array<char, 256> text;
  alignas(cmsghdr) std::array<char, CMSG_SPACE(sizeof(int))> control{};
  iovec part{text.data(), text.size()};
  msghdr message{};
  message.msg_iov = &part;
  message.msg_iovlen = 1;
  message.msg_control = control.data();
  message.msg_controllen = control.size();
  if (::recvmsg(connection.get(), &message, MSG_CMSG_CLOEXEC) <= 0 || message.msg_controllen == 0) return UniqueFd();
  int fd = -1;
  std::memcpy(&fd, CMSG_DATA(CMSG_FIRSTHDR(&message)), sizeof fd);
  return UniqueFd(fd);
}

TEST_F(CheckpointByCriu, ATerminalComesBackByTheConsoleSocket) {
  auto spec = script_spec("while read line; do echo \"got $line\"; done");
  spec.process->terminal = true;
  write_config(spec);
  const std::string path = bundle_.path() + "/console";
  auto listener = os::unix_listen(path);
  ASSERT_TRUE(listener.has_value());
  ASSERT_EQ(detached({"run", "--detach", "--console-socket", path, bundle_.name()}), 0) << log();
  UniqueFd console = receive_console(listener->get());
  ASSERT_TRUE(console.valid());
  ASSERT_TRUE(os::write_all(console.get(), "one\n").has_value());
  EXPECT_THAT(read_until(console.get(), "got one"), HasSubstr("got one"));
  const auto done = checkpoint();
  ASSERT_EQ(done.exit_code, 0) << done.err;
  console.reset();
  ASSERT_EQ(restore({"--console-socket", path}), 0) << log();
  console = receive_console(listener->get());
  ASSERT_TRUE(console.valid());
  ASSERT_TRUE(os::write_all(console.get(), "two\n").has_value());
  EXPECT_THAT(read_until(console.get(), "got two"), HasSubstr("got two"));
  EXPECT_EQ(restore(), 1);
  EXPECT_THAT(log(), HasSubstr("without setting console socket"));
}

TEST_F(CheckpointByCriu, MountsAndMasksAreWhatTheyWere) {
  const std::string shared = bundle_.path() + "/shared";
  ASSERT_TRUE(os::make_dirs(shared + "/below").has_value());
  ASSERT_TRUE(os::write_file_atomic(shared + "/one", "first").has_value());
  ASSERT_TRUE(os::make_dirs(in_root("/run")).has_value());
  ASSERT_TRUE(os::make_dirs(in_root("/var")).has_value());
  ASSERT_EQ(::symlink("/run", in_root("/var/run").c_str()), 0);
  auto spec =
      script_spec("trap 'cat /data/one /etc/file; exit 0' TERM; echo > /tmp/started; while :; do sleep 0.02; done");
  const auto bind = [&spec](const std::string& from, const std::string& to, const std::string& option) {
    spec::Mount mount;
    mount.destination = to;
    mount.type = "bind";
    mount.source = from;
    mount.options = {"rbind", option};
    spec.mounts.push_back(std::move(mount));
  };
  bind(shared, "/data", "rw");
  bind(shared + "/one", "/etc/file", "ro");
  bind("shared", "/var/run/link", "ro");      // relative, below a link of the image's
  bind(shared + "/below", "/data/in", "rw");  // in another bind mount, made there
  start(spec);
  wait_for_file(in_root("/tmp/started"));
  const std::string look =
      "cat /data/one /etc/file /run/link/one; echo > /etc/file; echo > /run/link/two; echo x > /data/in/three; "
      "wc -c < /proc/kcore; chmod 600 /proc/kcore; chmod 600 /proc/keys; ls /proc/acpi /sys/firmware | wc -l; "
      "echo > /proc/sys/kernel/domainname";
  const auto before = oci({"exec", bundle_.name(), "sh", "-c", look});
  const auto done = checkpoint();
  ASSERT_EQ(done.exit_code, 0) << done.err;
  // What was not there at the first creation either.
  ASSERT_EQ(::rmdir(in_root("/data").c_str()), 0);
  ASSERT_EQ(restore(), 0) << log();
  const auto after = oci({"exec", bundle_.name(), "sh", "-c", look});
  EXPECT_THAT(before.out, HasSubstr("firstfirstfirst"));
  EXPECT_EQ(after.out, before.out);
  EXPECT_EQ(after.err, before.err);
  EXPECT_EQ(os::read_file(shared + "/below/three", 100).value_or(""), "x\n");
  const auto options_of = [](const std::string& text, const std::string& place) {
    for (const auto line : split(text, '\n')) {
      const auto words = split(line, ' ');
      if (words.size() > 5 && words[4] == place) return std::string(words[5]);
    }
    return std::string("none");
  };
  const std::string mounts = oci({"exec", bundle_.name(), "cat", "/proc/self/mountinfo"}).out;
  for (const char* masked : {"/proc/kcore", "/proc/keys"}) EXPECT_THAT(options_of(mounts, masked), HasSubstr("ro"));
  EXPECT_THAT(options_of(mounts, "/proc/sys"), HasSubstr("ro"));
  struct stat st{};
  ASSERT_EQ(::stat("/dev/null", &st), 0);
  EXPECT_EQ(st.st_mode & 0777U, 0666U);
}

TEST_F(CheckpointByCriu, MemoryMayFollowLater) {
  start(script_spec(kCounter));
  counted();
  auto ready = os::make_pipe();
  ASSERT_TRUE(ready.has_value());
  std::atomic<int> dumped = -1;
  std::thread dump([&] {
    dumped = with_streams({"checkpoint", "--lazy-pages", "--page-server", "127.0.0.1:27099", "--status-fd", "3",
                           "--image-path", images(), bundle_.name()},
                          {{ready->write.get(), 3}});
  });
  char told = 'x';
  pollfd entry{ready->read.get(), POLLIN, 0};
  ASSERT_EQ(::poll(&entry, 1, 60'000), 1);
  EXPECT_EQ(::read(ready->read.get(), &told, 1), 1);
  EXPECT_EQ(told, '\0');
  const Count before = count();
  // The container's name is taken while its memory is still asked for: what is restored has another.
  const std::string other = bundle_.name() + "-lazy";
  auto spec = script_spec(kCounter);
  spec.linux->cgroups_path = "/" + other;
  write_config(spec);
  os::SpawnOptions options;
  options.argv = {"criu",   "lazy-pages", "--page-server", "--address", "127.0.0.1", "--port", "27099", "-D",
                  images(), "-W",         bundle_.path(),  "-o",        "lazy.log"};
  options.env = environment();
  const auto daemon = os::spawn(options);
  ASSERT_TRUE(daemon.has_value());
  for (int i = 0; i < 30'000 && !os::exists(bundle_.path() + "/lazy-pages.socket"); ++i) ::usleep(1000);
  EXPECT_EQ(
      detached({"restore", "--detach", "--lazy-pages", "--image-path", images(), "--work-path", bundle_.path(), other}),
      0)
      << log();
  expect_counting(before);
  dump.join();
  EXPECT_EQ(dumped, 0) << log();
  EXPECT_EQ(os::wait_exit(*daemon).value_or(-1), 0);
  EXPECT_EQ(oci({"delete", "--force", other}).exit_code, 0);
}

TEST_F(CheckpointByCriu, ItsReadinessGoesToTheManagerOfTheRestore) {
  const std::string manager_path = bundle_.path() + "/manager";
  const auto manager = os::unix_datagram_bind(manager_path, 0600);
  ASSERT_TRUE(manager.has_value());
  write_config(script_spec(kCounter));
  // As the program inside says it; its pid.
  const auto say_ready = [this] {
    for (int i = 0; i < 30'000 && status() != "running"; ++i) ::usleep(1000);
    const auto state = spec::parse_json(oci({"state", bundle_.name()}).out);
    const std::string pid = state ? std::to_string(state->get("pid")->as_int().value_or(0)) : "";
    const std::string inside = "/proc/" + pid + "/root/run/notify/notify.sock";
    // A process that is being restored has its root only at the end.
    bool said = false;
    for (int i = 0; i < 30'000 && !said; ++i) {
      said = os::unix_datagram_send(inside, "READY=1\n").has_value();
      if (!said) ::usleep(1000);
    }
    EXPECT_TRUE(said);
    return pid;
  };
  const auto told = [&manager] {
    std::array<char, 256> buffer;
    const auto size = os::receive_some(manager->get(), buffer);
    return size && *size ? std::string(buffer.data(), **size) : "";
  };
  std::thread run(
      [&] { EXPECT_EQ(detached({"run", "--detach", bundle_.name()}, {"NOTIFY_SOCKET=" + manager_path}), 0); });
  const std::string first = say_ready();
  run.join();
  EXPECT_EQ(told(), "READY=1\nMAINPID=" + first + "\n");
  ASSERT_EQ(checkpoint().exit_code, 0);
  std::thread restored([&] {
    EXPECT_EQ(detached({"restore", "--image-path", images(), bundle_.name()}, {"NOTIFY_SOCKET=" + manager_path}),
              128 + SIGKILL)
        << log();
  });
  const std::string second = say_ready();
  std::string text = told();
  for (int i = 0; i < 30'000 && text.empty(); ++i) {
    ::usleep(1000);
    text = told();
  }
  EXPECT_EQ(text, "READY=1\nMAINPID=" + second + "\n");
  EXPECT_EQ(oci({"kill", bundle_.name(), "KILL"}).exit_code, 0);
  restored.join();
}

TEST_F(CheckpointByCriu, AFailedRestoreLeavesNothing) {
  start(script_spec(kCounter));
  counted();
  ASSERT_EQ(checkpoint().exit_code, 0);
  // A hook that fails, at the place where hooks run.
  auto spec = script_spec(kCounter);
  spec.hooks.emplace().prestart.push_back({.path = "/bin/sh", .args = {"sh", "-c", "echo not today >&2; exit 3"}});
  write_config(spec);
  EXPECT_EQ(restore(), 1);
  EXPECT_THAT(log(), HasSubstr("not today"));
  expect_gone();
  // Files that are no images.
  write_config(script_spec(kCounter));
  ASSERT_TRUE(os::write_file_atomic(images() + "/pstree.img", "nonsense").has_value());
  EXPECT_EQ(restore(), 1);
  EXPECT_THAT(log(), HasSubstr("criu failed: "));
  EXPECT_THAT(log(), HasSubstr("restore.log"));
  expect_gone();
}

TEST_F(CheckpointByCriu, ARestoreThatIsKilledIsClearedByDelete) {
  start(script_spec(kCounter));
  counted();
  ASSERT_EQ(checkpoint().exit_code, 0);
  auto spec = script_spec(kCounter);
  const std::string reached = bundle_.path() + "/reached";
  spec.hooks.emplace().prestart.push_back(
      {.path = "/bin/sh", .args = {"sh", "-c", "echo > " + reached + "; exec sleep 100"}, .timeout = 100});
  write_config(spec);
  os::SpawnOptions options;
  options.argv = {program(), "--root", root(), "restore", "--detach", "--image-path", images(), bundle_.name()};
  options.env = environment();
  options.cwd = bundle_.path();
  const auto child = os::spawn(options);
  ASSERT_TRUE(child.has_value());
  wait_for_file(reached);
  ASSERT_TRUE(os::pidfd_signal(child->pidfd.get(), SIGKILL).has_value());
  EXPECT_EQ(os::wait_exit(*child).value_or(-1), 128 + SIGKILL);
  const auto cleared = oci({"delete", "--force", bundle_.name()});
  EXPECT_EQ(cleared.exit_code, 0) << cleared.err;
  expect_gone();
}

}  // namespace
}  // namespace berth::oci
