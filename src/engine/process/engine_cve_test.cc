#include <fcntl.h>
#include <gmock/gmock.h>
#include <sys/stat.h>
#include <sys/sysmacros.h>
#include <unistd.h>

#include "engine/process/cve_fixture.h"
#include "os/caps.h"

/// The known holes of runtimes, each tried on this one with the image or configuration that opened it elsewhere. Of
/// every one docs/threat-model.md says what prevents it here. Those that were races are tried with what the race leads
/// to already in place, and then as a race against a process that swaps two names all the time.
namespace berth::engine::process {
namespace {

namespace fs = std::filesystem;
using ::testing::AllOf;
using ::testing::AnyOf;
using testing::Attempt;
using testing::bind_of;
using testing::CveTest;
using testing::drop_mounts;
using ::testing::HasSubstr;
using testing::kRounds;
using testing::lines_of;
using ::testing::Not;
using testing::Swapper;
using testing::VolumeRace;

TEST_F(CveTest, Cve2019_5736) {
  // A process inside found the runtime as /proc/PID/exe of an exec not yet done, held it and overwrote it later. No
  // exec may show anything but programs of the container. (The program that *is* /proc/self/exe: apps/berth-oci.)
  auto container = create(script_spec("while :; do ls -l /proc/[0-9]*/exe; done > /tmp/seen 2>/dev/null"));
  ASSERT_NE(container, nullptr);
  ASSERT_TRUE(container->start().has_value());
  auto process = *script_spec("").process;
  process.args = {"true"};
  for (int i = 0; i < kRounds / 2; ++i) EXPECT_EQ(exec(*container, process).code, 0);
  finish(*container);
  int seen = 0;
  for (const auto& line : lines_of(rootfs() + "/tmp/seen")) {
    const std::size_t arrow = line.find(" -> ");
    if (arrow == std::string::npos) continue;  // one that went meanwhile, or may not be looked at
    EXPECT_EQ(line.substr(arrow), " -> /bin/busybox");
    ++seen;
  }
  EXPECT_GT(seen, 0);
}

/// Files of a procfs that is none, by the names that a runtime writes to.
const std::vector<std::string> kWritten{"self/attr/exec", "self/attr/current", "self/attr/apparmor/exec",
                                        "self/oom_score_adj", "sys/net/ipv4/ip_forward"};

TEST_F(CveTest, Cve2019_16884) {
  // An image's volume at /proc with plain files for self/attr took the AppArmor label, and the container ran without.
  // All that is written to procfs must reach the kernel, whatever lies at /proc; a label that cannot be set refuses.
  for (const auto& name : kWritten) write(volume() + "/" + name, "");
  auto spec = script_spec("cat /real/self/oom_score_adj /real/sys/net/ipv4/ip_forward; ls /proc");
  spec.mounts[0].destination = "/real";
  spec.mounts.push_back(bind_of(volume(), "/proc"));
  spec.process->oom_score_adj = 321;
  spec.linux->sysctl = {{"net.ipv4.ip_forward", "1"}};
  const Attempt result = attempt(spec);
  EXPECT_EQ(result.text, "321\n1\nself\nsys\n");
  for (const auto& name : kWritten) EXPECT_EQ(text_of(volume() + "/" + name), "") << name;
  if (os::exists("/sys/kernel/security/apparmor")) return;  // engine_apparmor_test.cc sets a label there
  spec.process->apparmor_profile = "berth-default";
  EXPECT_EQ(refused(spec).code(), Code::kUnsupported);
  spec.process->apparmor_profile.clear();
  spec.process->selinux_label = "system_u:system_r:container_t:s0";
  EXPECT_EQ(refused(spec).code(), Code::kUnsupported);
  for (const auto& name : kWritten) EXPECT_EQ(text_of(volume() + "/" + name), "") << name;
}

TEST_F(CveTest, Cve2019_19921) {
  // /proc was a link of the image's into a shared volume: procfs was mounted at one place, and its masks went to
  // another, swapped in between. A procfs that can be used must be masked and its sys read-only, at any time.
  make_dir(volume() + "/level1");
  link("/evil/level1", rootfs() + "/proc");
  auto spec = script_spec("true");
  spec.mounts.insert(spec.mounts.begin(), bind_of(volume(), "/evil"));
  EXPECT_THAT(attempt(spec).text, HasSubstr("must be mounted on an ordinary folder, /proc leads through a link"));
  ASSERT_EQ(::unlink((rootfs() + "/proc").c_str()), 0);

  make_dir(rootfs() + "/proc");
  make_dir(rootfs() + "/tmp/fake");
  link("/tmp/fake", rootfs() + "/proc.other");
  Swapper swapper(rootfs() + "/proc", rootfs() + "/proc.other");
  auto look = script_spec(
      "for p in /proc /proc.other; do [ -e $p/self/status ] || continue; [ -L $p ] && continue; cat $p/version; "
      "echo x > $p/sys/kernel/domainname; echo seen; done 2>&1");
  look.linux->masked_paths.emplace_back("/proc/version");
  race(swapper, [&] {
    const Attempt result = attempt(look, [&] { swapper.pause(); });
    if (!result.made) {
      EXPECT_THAT(result.text, AnyOf(HasSubstr("leads through a link"), HasSubstr("/proc")));
    } else if (!result.text.empty()) {
      EXPECT_THAT(result.text, AllOf(HasSubstr("Read-only file system"), ::testing::EndsWith("\nseen\n")));
      EXPECT_THAT(result.text, Not(HasSubstr("Linux version"))) << "not masked";
    }
  });
}

TEST_F(VolumeRace, Cve2021_30465) {
  // The target of a mount, in a volume shared with a running container, became a link between its check and the mount,
  // which then landed on the host's side. A mount that is made must be found below the container's own root.
  auto spec = with_volume("awk '$4 ~ /payload$/' /proc/self/mountinfo | wc -l; ls " + outside() + "/keep 2>&1");
  spec.mounts.push_back(bind_of(bundle_.path() + "/payload", "/vol/a"));
  spec.mounts.push_back(bind_of(bundle_.path() + "/payload", "/vol/b"));
  const auto missing = AllOf(::testing::StartsWith("2\n"), HasSubstr("No such file"));
  EXPECT_THAT(attempt(spec).text, missing);
  spec.mounts.pop_back();
  Swapper swapper(volume() + "/a", volume() + "/b");
  int made = 0;
  race(swapper, [&] {
    const Attempt result = attempt(spec, [&] { swapper.pause(); });
    if (!result.made) return;
    ++made;
    EXPECT_THAT(result.text, AllOf(::testing::StartsWith("1\n"), HasSubstr("No such file")));
  });
  EXPECT_GT(made, 0);
}

TEST_F(VolumeRace, Cve2024_45310) {
  // The same race while a missing target was made: empty folders and files came to be anywhere on the host. TearDown
  // looks for them where the link leads.
  auto spec = with_volume("cat /vol/*/made/by/mount/mark");
  spec.mounts.push_back(bind_of(bundle_.path() + "/payload", "/vol/b/made/by/mount"));
  spec.mounts.push_back(bind_of(bundle_.path() + "/payload/mark", "/vol/b/file"));
  spec.process->cwd = "/vol/b/work";
  EXPECT_EQ(attempt(spec).text, "payload\n");
  EXPECT_TRUE(os::exists(rootfs() + outside() + "/made/by/mount")) << "the link's path, inside";
  EXPECT_TRUE(os::exists(rootfs() + outside() + "/file"));
  Swapper swapper(volume() + "/a", volume() + "/b");
  int made = 0;
  int round = 0;
  race(swapper, [&] {
    made += attempt(spec, [&] { swapper.pause(); }).made ? 1 : 0;
    if (++round % 2 == 0) return;  // so that all is there at some attempts, and nothing at others
    fs::remove_all(rootfs() + outside());
    for (const char* name : {"/a", "/b"}) {
      if (fs::is_symlink(volume() + name)) continue;
      for (const auto& entry : fs::directory_iterator(volume() + name)) fs::remove_all(entry.path());
    }
  });
  EXPECT_GT(made, 0);
}

TEST_F(CveTest, Cve2022_29162) {
  // exec gave its processes an inheritable set, so that programs with inheritable file capabilities gained them. What
  // the specification leaves empty is empty, also when the caller's own is not.
  const auto mine = os::get_caps();
  ASSERT_TRUE(mine.has_value());
  ASSERT_TRUE(os::set_caps({mine->effective, mine->permitted, mine->permitted}).has_value());
  const auto spec = script_spec("grep CapInh /proc/self/status; sleep 1000");
  auto container = create(spec);
  ASSERT_NE(container, nullptr);
  ASSERT_TRUE(container->start().has_value());
  const auto status = lines_of("/proc/" + std::to_string(container->init().pid) + "/status");
  EXPECT_THAT(status, ::testing::Contains("CapInh:\t0000000000000000"));
  auto process = *script_spec("grep CapInh /proc/self/status").process;
  for (const std::uint32_t uid : {0U, 1000U}) {
    process.user.uid = uid;
    EXPECT_EQ(exec(*container, process).out, "CapInh:\t0000000000000000\n");
  }
  finish(*container);
  EXPECT_TRUE(os::set_caps(*mine).has_value());
}

TEST_F(CveTest, Cve2023_27561) {
  // CVE-2019-19921 again (with CVE-2023-28642): a check of /proc's own name was lost. procfs and sysfs are mounted on a
  // folder with no link on its way, wherever that leads and whether or not its end is there.
  auto spec = script_spec("true");
  spec.mounts.insert(spec.mounts.begin(), bind_of(volume(), "/vol"));
  make_dir(volume() + "/proc/self");
  for (const char* name : {"/proc", "/sys"}) {
    for (const char* target : {"/vol/proc", "vol/proc", "tmp", "/missing", "/proc"}) {
      const std::string path = rootfs() + name;
      if (os::exists(path)) fs::remove_all(path);
      link(target, path);
      EXPECT_THAT(refused(spec).text(), HasSubstr("must be mounted on an ordinary folder, " + std::string(name)));
      ASSERT_EQ(::unlink(path.c_str()), 0);
    }
  }
  EXPECT_TRUE(fs::is_empty(volume() + "/proc/self"));
}

TEST_F(CveTest, Cve2024_21626) {
  // A folder of the host was open in the runtime when it entered process.cwd: /proc/self/fd/N led there. Here the
  // caller itself leaks one, without CLOEXEC: it must be closed before any path of the container's is taken.
  const auto folder = os::open_file(outside(), O_RDONLY | O_DIRECTORY);
  ASSERT_TRUE(folder.has_value());
  const UniqueFd leaked(::dup(folder->get()));  // NOLINT(android-cloexec-dup)
  auto running = create(script_spec("sleep 1000"));
  ASSERT_NE(running, nullptr);
  ASSERT_TRUE(running->start().has_value());
  const auto refusal = AnyOf(HasSubstr("chdir to cwd"), HasSubstr("container's root"));
  const std::string fd = "/proc/self/fd/" + std::to_string(leaked.get());
  link(fd, rootfs() + "/work");
  for (const std::string& cwd : {fd, fd + "/..", std::string("/work")}) {
    auto process = *script_spec("pwd").process;
    process.cwd = cwd;
    EXPECT_THAT(exec(*running, process).out, refusal) << cwd;
  }
  auto program = *script_spec("").process;
  program.args = {fd + "/../rootfs/bin/sh", "-c", "echo ran"};
  EXPECT_THAT(exec(*running, program).out, AllOf(HasSubstr("stat"), Not(HasSubstr("ran\n"))));
  finish(*running);
  for (const std::string& cwd : {fd, fd + "/..", std::string("/work")}) {
    auto spec = script_spec("pwd");
    spec.process->cwd = cwd;
    EXPECT_THAT(refused(spec).text(), refusal) << cwd;
  }
  // Where the host's processes are seen, their roots and folders are.
  auto spec = script_spec("pwd");
  std::erase_if(spec.linux->namespaces, [](const auto& entry) { return entry.type == spec::NamespaceType::kPid; });
  for (const char* const name : {"/root", "/cwd", "/root/tmp"}) {
    spec.process->cwd = "/proc/" + std::to_string(::getpid()) + name;
    EXPECT_THAT(refused(spec).text(), refusal) << name;
  }
}

TEST_F(CveTest, Cve2025_31133) {
  // /dev/null of the container, by which files are masked, was a link: its target was mounted over /proc/kcore instead,
  // for all to write. A mask is the null device or the container is not made.
  make_dir(volume());
  const std::string null = volume() + "/null";
  auto spec = script_spec("stat -c %t:%T /proc/version; head -c 99 /proc/version; chmod 600 /proc/version 2>&1");
  drop_mounts(spec, "/dev");
  spec.mounts.push_back(bind_of(volume(), "/dev"));
  spec.linux->masked_paths.emplace_back("/proc/version");
  const std::string masked = "1:3\nchmod: /proc/version: Read-only file system\n";
  EXPECT_EQ(attempt(spec).text, masked) << "no null device";
  write(null, "Linux version\n");
  EXPECT_EQ(attempt(spec).text, masked) << "a file";
  ASSERT_EQ(::unlink(null.c_str()), 0);
  ASSERT_EQ(::mknod(null.c_str(), S_IFCHR | 0666, makedev(1, 5)), 0);
  EXPECT_EQ(attempt(spec).text, masked) << "another device";
  ASSERT_EQ(::unlink(null.c_str()), 0);
  link("/proc/self/status", null);
  EXPECT_EQ(attempt(spec).text, masked) << "a link";
  ASSERT_EQ(::mknod((volume() + "/other").c_str(), S_IFCHR | 0666, makedev(1, 3)), 0);
  Swapper swapper(null, volume() + "/other");
  race(swapper, [&] {
    const Attempt result = attempt(spec, [&] { swapper.pause(); });
    EXPECT_EQ(result.text, masked);
  });
}

/// A container with a terminal, and of /dev nothing mounted but `devpts`.
spec::Spec console_spec(spec::Spec spec, bool devpts) {
  const auto pts = spec.mounts.at(2);
  EXPECT_EQ(pts.destination, "/dev/pts");
  drop_mounts(spec, "/dev");
  if (devpts) spec.mounts.push_back(pts);
  spec.process->terminal = true;
  spec.linux->masked_paths.emplace_back("/proc/version");
  return spec;
}

TEST_F(CveTest, Cve2025_52565) {
  // /dev/pts/N, bound to /dev/console, was a link to a file of procfs, not yet masked. The console is the terminal that
  // the kernel gave, whatever has its name; and a /dev/pts that is no devpts makes none.
  write(rootfs() + "/dev/pts/ptmx", "");
  link("/proc/version", rootfs() + "/dev/pts/0");
  const std::string script = "{ tty; stat -c %t:%T /dev/console; cat /proc/version; } > /tmp/out 2>&1";
  EXPECT_THAT(refused(console_spec(script_spec(script), false)).text(), HasSubstr("needs a devpts at /dev/pts"));
  const auto spec = console_spec(script_spec(script), true);
  EXPECT_EQ(attempt(spec).text, "/dev/pts/0\n88:0\n");
  ASSERT_EQ(::unlink((rootfs() + "/dev/console").c_str()), 0);
  link("/proc/version", rootfs() + "/dev/console");
  EXPECT_THAT(attempt(spec).text, AllOf(HasSubstr("/dev/pts/0\n"), Not(HasSubstr("Linux version"))));
  ASSERT_EQ(::unlink((rootfs() + "/dev/console").c_str()), 0);
  write(rootfs() + "/dev/console", "");
  link(outside() + "/console", rootfs() + "/dev/other");
  Swapper swapper(rootfs() + "/dev/console", rootfs() + "/dev/other");
  int made = 0;
  race(swapper, [&] {
    const Attempt result = attempt(spec, [&] { swapper.pause(); });
    if (!result.made) return;
    ++made;
    EXPECT_THAT(result.text, AllOf(HasSubstr("/dev/pts/0\n"), Not(HasSubstr("Linux version"))));
  });
  EXPECT_GT(made, 0);
}

TEST_F(CveTest, Cve2025_52881) {
  // Names below the container's /proc led to other files of a real procfs, so that labels were lost and sysctls changed
  // what they should not. Each value must arrive in its own file, and none in another, at creation and at exec.
  const std::string sink = "/real/sys/kernel/domainname";
  for (const auto& name : kWritten) link(sink, volume() + "/" + name);
  link("/real/sys", volume() + "/other");
  auto spec = script_spec("cat /real/self/oom_score_adj /real/sys/net/ipv4/ip_forward " + sink + "; read wait");
  spec.mounts[0].destination = "/real";
  spec.mounts.push_back(bind_of(volume(), "/proc"));
  spec.process->oom_score_adj = 321;
  spec.linux->sysctl = {{"net.ipv4.ip_forward", "1"}};
  EXPECT_EQ(attempt(spec).text, "321\n1\n(none)\n");
  Swapper swapper(volume() + "/sys", volume() + "/other");
  race(swapper, [&] { EXPECT_EQ(attempt(spec, [&] { swapper.pause(); }).text, "321\n1\n(none)\n"); });

  spec.process->args = {"/bin/sleep", "1000"};
  auto container = create(spec);
  ASSERT_NE(container, nullptr);
  ASSERT_TRUE(container->start().has_value());
  auto process = *script_spec("cat /real/self/oom_score_adj " + sink).process;
  process.oom_score_adj = 654;
  EXPECT_EQ(exec(*container, process).out, "654\n(none)\n");
  finish(*container);
}

TEST_F(CveTest, Cve2026_30892) {
  // crun's exec took the user "1" for root (the flag: apps/berth-oci). An identity is the one asked for, or refused:
  // 4294967295 is -1 to the kernel, which then leaves the caller's, root's.
  auto container = create(script_spec("sleep 1000"));
  ASSERT_NE(container, nullptr);
  ASSERT_TRUE(container->start().has_value());
  auto process = *script_spec("id -u; id -g").process;
  process.user.uid = 1;
  EXPECT_EQ(exec(*container, process).out, "1\n0\n");
  process.user.uid = 4294967295U;
  EXPECT_THAT(exec(*container, process).out, HasSubstr("4294967295 is no user"));
  process.user.uid = 0;
  process.user.gid = 4294967295U;
  EXPECT_THAT(exec(*container, process).out, HasSubstr("4294967295 is no group"));
  finish(*container);
  auto spec = script_spec("id -u");
  spec.process->user.uid = 4294967295U;
  EXPECT_THAT(refused(spec).text(), HasSubstr("4294967295 is no user"));
}

const std::vector<std::string> kDevLinks{"fd", "stdin", "stdout", "stderr", "ptmx", "null", "tty"};

TEST_F(CveTest, Cve2026_41579) {
  // An image whose /dev is a link: the runtime replaced ptmx and made its links in that folder of the host. Absolute
  // and climbing links stay inside; TearDown sees a ptmx that went and links that came.
  for (const std::string& target : {outside(), "../../../../../../.." + outside()}) {
    link(target, rootfs() + "/dev");
    for (const bool mounted : {false, true}) {
      auto spec = script_spec("readlink /dev/ptmx; echo x > /dev/null && echo null");
      if (!mounted) drop_mounts(spec, "/dev");
      const Attempt result = attempt(spec);
      EXPECT_TRUE(result.made) << result.text;
      EXPECT_EQ(result.text, "pts/ptmx\nnull\n");
    }
    for (const auto& name : kDevLinks)
      EXPECT_TRUE(fs::is_symlink(fs::symlink_status(rootfs() + outside() + "/" + name)) ||
                  os::exists(rootfs() + outside() + "/" + name));
    fs::remove_all(rootfs() + outside());
    ASSERT_EQ(::unlink((rootfs() + "/dev").c_str()), 0);
  }
}

TEST_F(CveTest, Cve2026_47766) {
  // crun's form of the same. Where the link leads into something of the host that the container was given to read, it
  // is as little changed there, and the refusal says what could not be made.
  link("/given", rootfs() + "/dev");
  auto spec = script_spec("true");
  drop_mounts(spec, "/dev");
  spec.mounts.push_back(bind_of(outside(), "/given", {"bind", "ro"}));
  const Attempt result = attempt(spec);
  EXPECT_FALSE(result.made);
  EXPECT_THAT(result.text, AllOf(HasSubstr("devices"), HasSubstr("Read-only file system")));
}

TEST_F(CveTest, Cve2026_88264) {
  // crun made a file where the image's /dev/console, a link, led on the host, when nothing was mounted on /dev.
  for (const std::string& target : {outside() + "/console", "../../../../../../.." + outside() + "/keep"}) {
    link(target, rootfs() + "/dev/console");
    for (const bool read_only : {false, true}) {
      auto spec = console_spec(script_spec("tty > /tmp/out"), true);
      spec.root->readonly = read_only;
      if (read_only) spec.mounts.push_back(bind_of(rootfs() + "/tmp", "/tmp"));
      EXPECT_EQ(attempt(spec).text, "/dev/pts/0\n");
    }
    ASSERT_EQ(::unlink((rootfs() + "/dev/console").c_str()), 0);
  }
}

TEST_F(CveTest, Cve2026_88265) {
  // crun opened the image's /dev/null, a link, for the standard streams, and gave the file behind it to the user. Only
  // a null device is taken; a file of a volume stays what and whose it is.
  write(volume() + "/file", "mine\n");
  auto spec = script_spec("echo overwritten");
  drop_mounts(spec, "/dev");
  spec.mounts.push_back(bind_of(volume(), "/vol"));
  spec.process->user.uid = 1000;
  link("/vol/file", rootfs() + "/dev/null");
  EXPECT_THAT(refused(spec).text(), HasSubstr("the container's /dev/null is no null device"));
  struct stat st{};
  ASSERT_EQ(::stat((volume() + "/file").c_str(), &st), 0);
  EXPECT_EQ(st.st_uid, 0U);
  EXPECT_EQ(text_of(volume() + "/file"), "mine\n");
  ASSERT_EQ(::unlink((rootfs() + "/dev/null").c_str()), 0);
  link(outside() + "/keep", rootfs() + "/dev/null");
  EXPECT_THAT(refused(spec).text(), HasSubstr("/dev/null"));
}

TEST_F(CveTest, AnImagesPasswdHoldsNobodyUp) {
  // No CVE: it is read for $HOME, by every creation and exec. A pipe nobody writes must not keep them waiting.
  ASSERT_EQ(::unlink((rootfs() + "/etc/passwd").c_str()), 0);
  ASSERT_EQ(::mkfifo((rootfs() + "/etc/passwd").c_str(), 0644), 0);
  EXPECT_EQ(run("echo $HOME").out, "/\n");
}

}  // namespace
}  // namespace berth::engine::process
