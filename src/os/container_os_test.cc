#include <fcntl.h>
#include <gmock/gmock.h>
#include <sched.h>
#include <sys/wait.h>
#include <unistd.h>

#include "os/caps.h"
#include "os/cgroup.h"
#include "os/channel.h"
#include "os/clone.h"
#include "os/file.h"
#include "os/mountinfo.h"
#include "os/namespace.h"
#include "os/process_attr.h"
#include "os/seccomp.h"
#include "os/socket.h"

/// The wrappers that need no privilege to be tried.
namespace berth::os {
namespace {

using ::testing::HasSubstr;

TEST(Caps, NamesAndNumbers) {
  EXPECT_EQ(cap_number("CAP_CHOWN"), 0);
  EXPECT_EQ(cap_number("CAP_SYS_ADMIN"), 21);
  EXPECT_EQ(cap_number("CAP_CHECKPOINT_RESTORE"), 40);
  EXPECT_EQ(cap_number("cap_chown"), std::nullopt);
  EXPECT_TRUE(get_caps().has_value());
}

TEST(Seccomp, CompilesAndFindsFaults) {
  const std::vector<std::string> names{"mkdir", "no_such_call"};
  SeccompPolicy policy;
  policy.default_action = "SCMP_ACT_ALLOW";
  policy.rules.push_back({"SCMP_ACT_ERRNO", 1, &names, {}});
  const auto program = compile_seccomp(policy);
  ASSERT_TRUE(program.has_value()) << program.error().text();
  EXPECT_GT(program->instructions.size(), 3U);
  policy.rules[0].args = {{0, "SCMP_CMP_EQ", 1, 0}, {0, "SCMP_CMP_EQ", 2, 0}};
  EXPECT_TRUE(compile_seccomp(policy).has_value()) << "one argument twice means either";
  policy.rules[0].args = {{6, "SCMP_CMP_EQ", 1, 0}};
  EXPECT_EQ(compile_seccomp(policy).error().code(), Code::kInvalid);
  policy.rules[0].args = {{0, "SCMP_CMP_LIKE", 1, 0}};
  EXPECT_EQ(compile_seccomp(policy).error().code(), Code::kInvalid);
  EXPECT_TRUE(seccomp_flags({"SECCOMP_FILTER_FLAG_LOG"}).has_value());
  EXPECT_FALSE(seccomp_flags({"SECCOMP_FILTER_FLAG_X"}).has_value());
}

TEST(Channel, CarriesTextAndADescriptor) {
  auto pair = unix_socketpair();
  ASSERT_TRUE(pair.has_value());
  ChannelMessage message;
  message.kind = 7;
  message.code = -3;
  message.errno_value = 5;
  message.text = std::string(10'000, 'x');
  auto file = open_file("/dev/null", O_RDONLY);
  ASSERT_TRUE(file.has_value());
  message.fd = std::move(*file);
  ASSERT_TRUE(send_message(pair->first.get(), message).has_value());
  const auto got = receive_message(pair->second.get());
  ASSERT_TRUE(got.has_value());
  EXPECT_EQ(got->kind, 7U);
  EXPECT_EQ(got->code, -3);
  EXPECT_EQ(got->errno_value, 5);
  EXPECT_EQ(got->text.size(), kMaxChannelText) << "cut";
  EXPECT_TRUE(got->fd.valid());
  EXPECT_EQ(::fcntl(got->fd.get(), F_GETFD), FD_CLOEXEC);
  ASSERT_TRUE(write_all(pair->first.get(), std::string(64, 'j')).has_value());
  EXPECT_EQ(receive_message(pair->second.get()).error().code(), Code::kCorrupt);
  pair->first.reset();
  while (receive_message(pair->second.get()).error().code() == Code::kCorrupt) {
  }
  EXPECT_EQ(receive_message(pair->second.get()).error().code(), Code::kUnavailable);
  EXPECT_EQ(send_message(pair->second.get(), {}).error().code(), Code::kUnavailable);
}

TEST(Clone, ChildEndsAndIsReaped) {
  auto cloned = clone_process({});
  ASSERT_TRUE(cloned.has_value());
  if (cloned->pid == 0) ::_exit(9);
  EXPECT_EQ(reap_pidfd(cloned->pidfd.get()).value_or(-1), 9);
}

TEST(Clone, ProcessTimes) {
  const auto times = process_times(::getpid());
  ASSERT_TRUE(times.has_value());
  EXPECT_GT(times->start_time, 0U);
  EXPECT_EQ(times->state, 'R');
  EXPECT_FALSE(times->exiting);
  EXPECT_EQ(process_times(0x3fffffff).error().code(), Code::kNotFound);
}

TEST(Namespace, KindsAreChecked) {
  EXPECT_TRUE(open_namespace("/proc/self/ns/net", CLONE_NEWNET).has_value());
  EXPECT_THAT(open_namespace("/proc/self/ns/net", CLONE_NEWUTS).error().text(), HasSubstr("is not a uts namespace"));
  EXPECT_FALSE(open_namespace("/etc/passwd", CLONE_NEWNET).has_value());
}

TEST(MountInfo, TheMountOfAPath) {
  const auto proc = propagation_at("/proc/self/status");
  ASSERT_TRUE(proc.has_value());
  EXPECT_EQ(proc->mount_point, "/proc");
  EXPECT_EQ(propagation_at("/no/such/path").error().code(), Code::kNotFound);
}

TEST(Rlimit, NamesAndClamping) {
  EXPECT_TRUE(rlimit_number("RLIMIT_NOFILE").has_value());
  EXPECT_FALSE(rlimit_number("NOFILE").has_value());
  EXPECT_EQ(set_rlimit(*rlimit_number("RLIMIT_CORE"), 2, 1).error().code(), Code::kInvalid);
}

TEST(Cgroups, LayoutAndOwnPaths) {
  const auto none = find_cgroups("/nonexistent");
  ASSERT_TRUE(none.has_value());
  EXPECT_TRUE(none->hierarchies.empty());
  EXPECT_EQ(none->find("memory"), nullptr);
  const auto layout = find_cgroups("/sys/fs/cgroup");
  ASSERT_TRUE(layout.has_value());
  const auto own = own_cgroups(*layout);
  ASSERT_TRUE(own.has_value());
  EXPECT_EQ(own->size(), layout->hierarchies.size());
  for (const auto& path : *own) EXPECT_TRUE(path.starts_with('/'));
}

}  // namespace
}  // namespace berth::os
