// What the program is given: config.md "Process" and "Linux Process".
#include <sys/personality.h>
#include <sys/socket.h>
#include <sys/un.h>
#include <unistd.h>

#include <array>
#include <cstring>

#include "base/strings.h"
#include "os/file.h"
#include "os/pidfd.h"
#include "os/socket.h"
#include "spec_host.h"
#include "wait.h"

namespace berth::test {
namespace {

using ::testing::HasSubstr;
using ::testing::Not;
using ::testing::UnorderedElementsAre;

BERTH_SPEC_SUITE(Program);

constexpr const char* kNone = "0000000000000000";

TEST_P(Program, ArgumentsArriveAsTheyAre) {
  const Json args{"/bin/probe", "report", "", "two words", "\"quoted\"", "$HOME", "\xc3\xa9\n"};
  process()["args"] = args;
  EXPECT_EQ(report()["args"], args);
}

TEST_P(Program, TheProgramIsLookedUpInThePathOfTheContainer) {
  set_args({"probe", "report"});
  process()["env"] = {"PATH=/nowhere:/bin"};
  EXPECT_EQ(report()["args"], Json({"probe", "report"}));
  process()["env"] = {"PATH=/nowhere"};
  expect_refused("a program outside PATH");
}

TEST_P(Program, ArgumentsMustBeGiven) {
  process().erase("args");
  expect_refused("no args");
  process()["args"] = Json::array();
  expect_refused("empty args");
}

TEST_P(Program, TheFirstProcessIsNumberOne) {
  const Json seen = report();
  EXPECT_EQ(seen["pid"], 1);
  EXPECT_EQ(seen["session"], 1);
}

TEST_P(Program, TheWorkingFolderIsEntered) {
  process()["cwd"] = "/bin";
  EXPECT_EQ(report()["cwd"], "/bin");
  process()["cwd"] = "/tmp/new/folder";
  EXPECT_EQ(report()["cwd"], "/tmp/new/folder");
}

TEST_P(Program, TheWorkingFolderMustBeAbsolute) {
  process()["cwd"] = "bin";
  expect_refused("a relative cwd");
}

TEST_P(Program, TheWorkingFolderMustBeGiven) {
  process().erase("cwd");
  expect_refused("no cwd");
}

TEST_P(Program, TheEnvironmentIsTheConfiguredOne) {
  process()["env"] = {"PATH=/bin", "A=b=c", "EMPTY=", "LONG=" + std::string(5000, 'x')};
  write_config();
  const Ran ran = oci({"run", "--bundle", bundle(), kId}, {"OF_THE_CALLER=1"});
  const Json seen = Json::parse(ran.out, nullptr, false);
  ASSERT_TRUE(seen.is_object()) << ran.err;
  // Runtimes add HOME, as the user database of the container has it.
  EXPECT_THAT(seen["env"].get<std::vector<std::string>>(),
              UnorderedElementsAre("PATH=/bin", "A=b=c", "EMPTY=", "LONG=" + std::string(5000, 'x'), "HOME=/"));
}

TEST_P(Program, UserGroupAndMoreGroups) {
  process()["user"] = {{"uid", 1234}, {"gid", 2345}, {"additionalGids", {7, 8, 9000000}}};
  const Json ids = report()["ids"];
  EXPECT_EQ(ids["uid"], Json({1234, 1234, 1234}));
  EXPECT_EQ(ids["gid"], Json({2345, 2345, 2345}));
  // The main group is among them or not.
  Json more = Json::array();
  for (const auto& gid : ids["groups"]) {
    if (gid != 2345) more.push_back(gid);
  }
  EXPECT_EQ(more, Json({7, 8, 9000000}));
}

TEST_P(Program, IdsMayBeAsHighAsTheKernels) {
  process()["user"] = {{"uid", 4294967290U}, {"gid", 4294967291U}};
  const Json seen = report();
  EXPECT_EQ(seen["ids"]["uid"][0], 4294967290U);
  EXPECT_EQ(seen["ids"]["gid"][0], 4294967291U);
}

TEST_P(Program, WithoutMoreGroupsThereAreNone) {
  process()["user"] = {{"uid", 1}, {"gid", 2}};
  const Json groups = report()["ids"]["groups"];
  EXPECT_TRUE(groups.empty() || groups == Json::array({2})) << groups;
}

TEST_P(Program, TheUmaskIsSet) {
  process()["user"]["umask"] = 0027;
  EXPECT_EQ(report()["umask"], 0027);
  process()["user"].erase("umask");
  EXPECT_EQ(report()["umask"], 0022);
}

TEST_P(Program, EachLimitIsSet) {
  Json limits = Json::array();
  // Soft limits below what the machine lets everybody have; all that Linux knows.
  const std::pair<const char*, unsigned> values[] = {
      {"RLIMIT_AS", 1U << 30U},    {"RLIMIT_CORE", 1024},       {"RLIMIT_CPU", 300},         {"RLIMIT_DATA", 1U << 29U},
      {"RLIMIT_FSIZE", 1U << 28U}, {"RLIMIT_LOCKS", 100},       {"RLIMIT_MEMLOCK", 4096},    {"RLIMIT_MSGQUEUE", 8192},
      {"RLIMIT_NICE", 0},          {"RLIMIT_NOFILE", 512},      {"RLIMIT_NPROC", 900},       {"RLIMIT_RSS", 1U << 27U},
      {"RLIMIT_RTPRIO", 0},        {"RLIMIT_RTTIME", 1000000U}, {"RLIMIT_STACK", 1U << 22U}, {"RLIMIT_SIGPENDING", 90}};
  for (const auto& [type, value] : values) limits.push_back({{"type", type}, {"soft", value}, {"hard", value}});
  process()["rlimits"] = limits;
  const Json seen = report()["limits"];
  for (const auto& [type, value] : values)
    EXPECT_EQ(seen.value(type, Json()), Json({{"soft", value}, {"hard", value}})) << type;
}

TEST_P(Program, SoftAndHardLimitsAreTwo) {
  process()["rlimits"] = Json::array({{{"type", "RLIMIT_NOFILE"}, {"soft", 100}, {"hard", 200}}});
  EXPECT_EQ(report()["limits"]["RLIMIT_NOFILE"], Json({{"soft", 100}, {"hard", 200}}));
}

TEST_P(Program, AnUnknownLimitIsRefused) {
  process()["rlimits"] = Json::array({{{"type", "RLIMIT_TEST"}, {"soft", 1}, {"hard", 1}}});
  expect_refused("an unknown limit");
}

TEST_P(Program, ALimitIsGivenOnce) {
  const Json one{{"type", "RLIMIT_CORE"}, {"soft", 1}, {"hard", 1}};
  process()["rlimits"] = Json::array({one, one});
  expect_refused("a limit given twice");
}

TEST_P(Program, TheSoftLimitIsNotAboveTheHardOne) {
  process()["rlimits"] = Json::array({{{"type", "RLIMIT_CORE"}, {"soft", 2}, {"hard", 1}}});
  expect_refused("a soft limit above the hard one");
}

TEST_P(Program, EachSetOfCapabilities) {
  // 0 chown, 1 dac_override, 5 kill, 10 net_bind_service.
  process()["capabilities"] = {{"bounding", {"CAP_CHOWN", "CAP_DAC_OVERRIDE", "CAP_KILL", "CAP_NET_BIND_SERVICE"}},
                               {"permitted", {"CAP_CHOWN", "CAP_DAC_OVERRIDE", "CAP_KILL"}},
                               {"inheritable", {"CAP_CHOWN", "CAP_DAC_OVERRIDE"}},
                               {"effective", {"CAP_CHOWN"}},
                               {"ambient", Json::array()}};
  process()["user"] = {{"uid", 5}, {"gid", 5}};
  const Json seen = report()["status"];
  EXPECT_EQ(seen["CapBnd"], "0000000000000423");
  EXPECT_EQ(seen["CapInh"], "0000000000000003");
  // After the exec of a program that gives none, by another user than root.
  EXPECT_EQ(seen["CapPrm"], kNone);
  EXPECT_EQ(seen["CapEff"], kNone);
}

TEST_P(Program, RootHasThoseOfTheBoundingSet) {
  process()["capabilities"] = {{"bounding", {"CAP_CHOWN", "CAP_KILL"}},
                               {"permitted", {"CAP_CHOWN", "CAP_KILL"}},
                               {"effective", {"CAP_CHOWN", "CAP_KILL"}}};
  const Json seen = report()["status"];
  for (const char* set : {"CapBnd", "CapPrm", "CapEff"}) EXPECT_EQ(seen[set], "0000000000000021") << set;
  EXPECT_EQ(seen["CapAmb"], kNone);
}

TEST_P(Program, AmbientCapabilitiesReachAUser) {
  const Json caps{"CAP_NET_BIND_SERVICE"};
  process()["capabilities"] = {
      {"bounding", caps}, {"permitted", caps}, {"inheritable", caps}, {"effective", caps}, {"ambient", caps}};
  process()["user"] = {{"uid", 1000}, {"gid", 1000}};
  const Json seen = report()["status"];
  for (const char* set : {"CapBnd", "CapPrm", "CapInh", "CapEff", "CapAmb"})
    EXPECT_EQ(seen[set], "0000000000000400") << set;
}

TEST_P(Program, WithoutCapabilitiesThereAreNone) {
  process()["capabilities"] = Json::object();
  const Json seen = report()["status"];
  for (const char* set : {"CapBnd", "CapPrm", "CapInh", "CapEff", "CapAmb"}) EXPECT_EQ(seen[set], kNone) << set;
}

TEST_P(Program, AnUnknownCapabilityIsNoFailure) {
  process()["capabilities"]["bounding"] = {"CAP_KILL", "CAP_NOSUCH"};
  process()["capabilities"]["effective"] = {"CAP_KILL"};
  process()["capabilities"]["permitted"] = {"CAP_KILL"};
  EXPECT_EQ(report()["status"]["CapBnd"], "0000000000000020");
}

TEST_P(Program, NoNewPrivilegesAsConfigured) {
  EXPECT_EQ(report()["status"]["NoNewPrivs"], "1");
  process()["noNewPrivileges"] = false;
  EXPECT_EQ(report()["status"]["NoNewPrivs"], "0");
  process().erase("noNewPrivileges");
  EXPECT_EQ(report()["status"]["NoNewPrivs"], "0");
}

TEST_P(Program, OomScoreIsSetOrLeft) {
  process()["oomScoreAdj"] = 321;
  EXPECT_EQ(report()["oom_score_adj"], Json::array({"321"}));
  process().erase("oomScoreAdj");
  const auto own = os::read_file("/proc/self/oom_score_adj", 64).value_or("");
  EXPECT_EQ(report()["oom_score_adj"], Json::array({std::string(trim(own))}));
}

TEST_P(Program, NoDescriptorOfOthersIsOpen) {
  EXPECT_EQ(report()["descriptors"], Json({0, 1, 2}));
}

TEST_P(Program, PreservedDescriptorsAreOpen) {
  write_config();
  const auto ran =
      run_program({"/bin/sh", "-c",
                   "exec 3</dev/null 4</dev/null 5</dev/null; exec \"$0\" --root \"$1\" run --bundle \"$2\" "
                   "--preserve-fds 2 one",
                   runtime().path, folder() + "/state", bundle()});
  ASSERT_TRUE(ran.has_value());
  const Json seen = Json::parse(ran->out, nullptr, false);
  ASSERT_TRUE(seen.is_object()) << ran->err;
  EXPECT_EQ(seen["descriptors"], Json({0, 1, 2, 3, 4}));
}

/// The terminal that a runtime sends over a console socket.
Result<UniqueFd> receive_terminal(int listener) {
  BERTH_ASSIGN(const bool ready, os::wait_readable(listener, std::chrono::seconds(10)), "wait for the runtime");
  if (!ready) return fail(Code::kTimeout, "no terminal came");
  BERTH_ASSIGN(auto connection, os::accept_connection(listener), "accept");
  if (!connection) return fail(Code::kUnavailable, "the connection is gone");
  BERTH_ASSIGN(const bool message, os::wait_readable(connection->get(), std::chrono::seconds(10)), "wait for it");
  if (!message) return fail(Code::kTimeout, "no message came");
  std::array<char, 4096> text{};
  alignas(cmsghdr) std::array<char, CMSG_SPACE(sizeof(int))> control{};
  iovec part{text.data(), text.size()};
  msghdr header{};
  header.msg_iov = &part;
  header.msg_iovlen = 1;
  header.msg_control = control.data();
  header.msg_controllen = control.size();
  if (::recvmsg(connection->get(), &header, MSG_CMSG_CLOEXEC) < 0) return fail_errno(errno, "recvmsg");
  const cmsghdr* const first = CMSG_FIRSTHDR(&header);
  if (first == nullptr || first->cmsg_type != SCM_RIGHTS) return fail(Code::kInvalid, "no descriptor in it");
  int fd = -1;
  std::memcpy(&fd, CMSG_DATA(first), sizeof fd);
  return UniqueFd(fd);
}

TEST_P(Program, ATerminalOfTheConfiguredSize) {
  process()["terminal"] = true;
  process()["consoleSize"] = {{"height", 33}, {"width", 99}};
  const std::string socket = folder() + "/console";
  const auto listener = os::unix_listen(socket);
  ASSERT_TRUE(listener.has_value());
  set_shell("/bin/probe report >/tmp/report; ls -l /proc/self/fd; cat /tmp/report; echo end");
  write_config();
  const Ran created = oci({"create", "--console-socket", socket, "--bundle", bundle(), kId});
  ASSERT_EQ(created.code, 0) << created.err;
  const auto terminal = receive_terminal(listener->get());
  ASSERT_TRUE(terminal.has_value()) << (terminal ? "" : terminal.error().text());
  ASSERT_EQ(start().code, 0);
  std::string text;
  const bool ended = wait_until(std::chrono::seconds(10), [&] {
    std::array<char, 65536> part{};
    if (!os::wait_readable(terminal->get(), std::chrono::milliseconds(100)).value_or(false)) return false;
    const ssize_t length = ::read(terminal->get(), part.data(), part.size());
    if (length > 0) text.append(part.data(), static_cast<std::size_t>(length));
    return text.find("end\r\n") != std::string::npos || length <= 0;
  });
  EXPECT_TRUE(ended) << text;
  EXPECT_THAT(text, HasSubstr("/dev/pts/0"));
  EXPECT_THAT(text, HasSubstr(R"("columns":99)"));
  EXPECT_THAT(text, HasSubstr(R"("rows":33)"));
  EXPECT_THAT(text, HasSubstr(R"("/dev/console":{"device":"136:)"));
  EXPECT_TRUE(wait_status("stopped"));
}

TEST_P(Program, ATerminalNeedsSomebodyToTakeIt) {
  process()["terminal"] = true;
  EXPECT_NE(create().code, 0);
  EXPECT_EQ(state(), nullptr);
}

TEST_P(Program, IoPriorityIsSet) {
  process()["ioPriority"] = {{"class", "IOPRIO_CLASS_BE"}, {"priority", 6}};
  const Json seen = report()["scheduling"];
  EXPECT_EQ(seen["io_class"], 2);
  EXPECT_EQ(seen["io_priority"], 6);
}

TEST_P(Program, TheSchedulerIsSet) {
  process()["scheduler"] = {{"policy", "SCHED_BATCH"}, {"nice", 7}};
  const Json seen = report()["scheduling"];
  EXPECT_EQ(seen["policy"], 3);
  EXPECT_EQ(seen["nice"], 7);
}

TEST_P(Program, AnUnknownSchedulerIsRefused) {
  process()["scheduler"] = {{"policy", "SCHED_NOSUCH"}};
  expect_refused("an unknown policy");
}

TEST_P(Program, AnAppArmorProfileWithoutAppArmorIsRefused) {
  if (os::exists("/sys/kernel/security/apparmor")) GTEST_SKIP() << "AppArmor is active";
  process()["apparmorProfile"] = "profile-of-nobody";
  expect_refused("an AppArmor profile");
}

TEST_P(Program, ASelinuxLabelWithoutSelinuxIsRefused) {
  if (os::exists("/sys/fs/selinux/enforce")) GTEST_SKIP() << "SELinux is active";
  process()["selinuxLabel"] = "system_u:system_r:svirt_lxc_net_t:s0:c124,c675";
  expect_refused("an SELinux label");
}

TEST_P(Program, TheHostnameIsSet) {
  config["hostname"] = "a-host";
  EXPECT_EQ(report()["hostname"], "a-host");
}

TEST_P(Program, TheDomainnameIsSet) {
  config["domainname"] = "a.domain";
  EXPECT_EQ(report()["domainname"], "a.domain");
}

TEST_P(Program, PersonalityIsSet) {
  linux_part()["personality"] = {{"domain", "LINUX32"}};
  const Json seen = report();
  EXPECT_EQ(seen["personality"], PER_LINUX32);
  EXPECT_THAT(seen["machine"].dump(), Not(HasSubstr("x86_64")));
}

TEST_P(Program, AnUnknownPersonalityIsRefused) {
  linux_part()["personality"] = {{"domain", "LINUX128"}};
  expect_refused("an unknown personality");
}

TEST_P(Program, MemoryPolicyIsSet) {
  if (!os::exists("/proc/self/numa_maps")) GTEST_SKIP() << "the kernel has no NUMA";
  linux_part()["memoryPolicy"] = {{"mode", "MPOL_BIND"}, {"nodes", "0"}};
  EXPECT_THAT(shell("cat /proc/self/numa_maps"), HasSubstr(" bind:0 "));
}

TEST_P(Program, AnExecsProcessorsAreThoseAskedFor) {
  process()["execCPUAffinity"] = {{"final", "0"}};
  set_args({"/bin/probe", "signals"});
  ASSERT_EQ(create_and_start().code, 0);
  EXPECT_TRUE(wait_output("ready"));
  const Ran ran = oci({"exec", kId, "/bin/probe", "report"});
  const Json seen = Json::parse(ran.out, nullptr, false);
  ASSERT_TRUE(seen.is_object()) << ran.err;
  EXPECT_EQ(seen["status"]["Cpus_allowed_list"], "0");
}

}  // namespace
}  // namespace berth::test
