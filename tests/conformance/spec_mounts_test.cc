// The root file system and what is mounted: config.md "Root" and "Mounts", config-linux.md "Default Filesystems",
// "Default Devices", "Masked Paths", "Readonly Paths", "Rootfs Mount Propagation".
#include <sys/mount.h>
#include <sys/stat.h>
#include <unistd.h>

#include <algorithm>

#include "base/strings.h"
#include "os/file.h"
#include "spec_host.h"

namespace berth::test {
namespace {

using ::testing::Contains;
using ::testing::HasSubstr;
using ::testing::Not;

/// A bind source with a mount below it, which are the test's.
class Mounts : public SpecTest {
 protected:
  std::string source() {
    const std::string place = folder() + "/source";
    EXPECT_TRUE(os::make_dirs(place + "/below").has_value());
    write(place + "/file", "from the host\n");
    return place;
  }
  /// A folder with a file system of the test's on the folder below it.
  std::string tree() {
    const std::string host = folder() + "/source";
    EXPECT_TRUE(os::make_dirs(host + "/below").has_value());
    EXPECT_EQ(::mount("berth-test", (host + "/below").c_str(), "tmpfs", 0, "mode=755"), 0);
    mounted_ = host + "/below";
    return host;
  }
  void TearDown() override {
    if (!mounted_.empty()) {
      EXPECT_EQ(::umount2(mounted_.c_str(), MNT_DETACH), 0);
    }
    SpecTest::TearDown();
  }
  void expect_option(const std::string& option, const std::string& seen) {
    add_mount("/home", "tmpfs", "tmpfs", {option});
    const Json mount = mount_at(report(), "/home");
    EXPECT_THAT(options_of(mount), Contains(seen)) << option << ": " << mount;
    config["mounts"].erase(config["mounts"].size() - 1);
  }

 private:
  std::string mounted_;
};
INSTANTIATE_TEST_SUITE_P(Runtimes, Mounts, ::testing::ValuesIn(spec_runtimes()), runtime_name);

TEST_P(Mounts, TheRootIsReadOnlyWhenSaid) {
  EXPECT_EQ(access({"/etc"})["/etc"]["write"], EROFS);
  config["root"]["readonly"] = false;
  EXPECT_EQ(access({"/etc"})["/etc"]["write"], 0);
  config["root"].erase("readonly");
  EXPECT_EQ(access({"/etc"})["/etc"]["write"], 0);
}

TEST_P(Mounts, TheRootMayBeAbsolute) {
  config["root"]["path"] = rootfs();
  EXPECT_EQ(shell("echo here"), "here\n");
}

TEST_P(Mounts, TheRootMustBeThere) {
  config["root"]["path"] = "nowhere";
  expect_refused("a root that is not there");
  config.erase("root");
  expect_refused("no root");
}

TEST_P(Mounts, NothingOfTheHostIsSeen) {
  EXPECT_EQ(access({folder()})[folder()]["type"], "absent");
}

TEST_P(Mounts, DefaultFileSystems) {
  const Json seen = report();
  for (const auto& [place, type] :
       {std::pair{"/proc", "proc"}, {"/sys", "sysfs"}, {"/dev/pts", "devpts"}, {"/dev/shm", "tmpfs"}}) {
    EXPECT_EQ(mount_at(seen, place).value("type", ""), type) << place;
  }
}

TEST_P(Mounts, DefaultDevices) {
  const Json seen = report()["devices"];
  for (const auto& [path, number] : {std::pair{"/dev/null", "1:3"},
                                     {"/dev/zero", "1:5"},
                                     {"/dev/full", "1:7"},
                                     {"/dev/random", "1:8"},
                                     {"/dev/urandom", "1:9"},
                                     {"/dev/tty", "5:0"}}) {
    EXPECT_EQ(seen[path].value("device", ""), number) << path;
    EXPECT_EQ(seen[path].value("mode", 0), 0666) << path;
  }
}

TEST_P(Mounts, DefaultLinks) {
  const Json seen = report()["devices"];
  for (const auto& [path, target] : {std::pair{"/dev/fd", "/proc/self/fd"},
                                     {"/dev/stdin", "/proc/self/fd/0"},
                                     {"/dev/stdout", "/proc/self/fd/1"},
                                     {"/dev/stderr", "/proc/self/fd/2"}}) {
    EXPECT_EQ(seen[path].value("target", ""), target) << path;
  }
  EXPECT_THAT(seen["/dev/ptmx"].value("target", ""), ::testing::EndsWith("pts/ptmx"));
}

TEST_P(Mounts, EachAttribute) {
  for (const char* same : {"ro", "nosuid", "nodev", "noexec", "noatime", "nodiratime", "relatime"})
    expect_option(same, same);
}

TEST_P(Mounts, LinksAreNotFollowedWhenSaid) {
  expect_option("nosymfollow", "nosymfollow");
}

TEST_P(Mounts, EachOppositeAttribute) {
  for (const auto& [option, absent] : {std::pair{"suid", "nosuid"},
                                       {"dev", "nodev"},
                                       {"exec", "noexec"},
                                       {"diratime", "nodiratime"},
                                       {"atime", "noatime"},
                                       {"strictatime", "relatime"},
                                       {"rw", "ro"}}) {
    add_mount("/home", "tmpfs", "tmpfs", {option});
    const Json mount = mount_at(report(), "/home");
    ASSERT_TRUE(mount.is_object()) << option;
    EXPECT_THAT(options_of(mount), Not(Contains(std::string(absent)))) << option;
    config["mounts"].erase(config["mounts"].size() - 1);
  }
}

TEST_P(Mounts, DefaultsIsAnOption) {
  expect_option("defaults", "rw");
}

TEST_P(Mounts, TheLastOfTwoOppositesCounts) {
  add_mount("/home", "tmpfs", "tmpfs", {"ro", "nosuid", "nodev", "noexec", "rw", "suid", "dev", "exec"});
  const auto options = options_of(mount_at(report(), "/home"));
  EXPECT_THAT(options, Contains("rw"));
  for (const char* absent : {"ro", "nosuid", "nodev", "noexec"})
    EXPECT_THAT(options, Not(Contains(std::string(absent)))) << "the first of two opposites counts";
}

TEST_P(Mounts, OptionsOfTheFileSystem) {
  add_mount("/home", "tmpfs", "tmpfs", {"size=1m", "mode=0710", "uid=7", "gid=8"});
  EXPECT_EQ(shell("stat -c '%a %u %g' /home"), "710 7 8\n");
  EXPECT_THAT(mount_at((set_args({"/bin/probe"}), report()), "/home").value("super", ""), HasSubstr("size=1024k"));
}

TEST_P(Mounts, EachPropagation) {
  for (const char* option : {"private", "slave", "shared", "unbindable"}) {
    for (const char* prefix : {"", "r"}) {
      add_mount("/home", "bind", source(), {"rbind", prefix + std::string(option)});
      // Without a peer group above it a slave is private.
      const std::string wanted = std::string(option) == "slave" ? "private" : option;
      EXPECT_EQ(propagation_of(mount_at(report(), "/home")), wanted) << prefix << option;
      config["mounts"].erase(config["mounts"].size() - 1);
    }
  }
}

TEST_P(Mounts, ABindShowsTheHostsFolder) {
  add_mount("/home", "bind", source(), {"bind"});
  EXPECT_EQ(shell("cat /home/file && touch /home/made"), "from the host\n");
  EXPECT_TRUE(os::exists(folder() + "/source/made"));
}

TEST_P(Mounts, ABindMayBeReadOnly) {
  add_mount("/home", "bind", source(), {"bind", "ro"});
  EXPECT_EQ(access({"/home"})["/home"]["write"], EROFS);
}

TEST_P(Mounts, ABindMayBeOfAFile) {
  add_mount("/etc/made", "bind", source() + "/file", {"bind"});
  config["root"]["readonly"] = false;
  EXPECT_EQ(shell("cat /etc/made"), "from the host\n");
}

TEST_P(Mounts, ARecursiveBindTakesWhatIsBelow) {
  add_mount("/home", "bind", tree(), {"rbind"});
  EXPECT_EQ(mount_at(report(), "/home/below").value("type", ""), "tmpfs");
  config["mounts"].back()["options"] = {"bind"};
  EXPECT_EQ(mount_at(report(), "/home/below"), nullptr);
  config["mounts"].back()["options"] = {"rbind", "rro", "rnosuid", "rnodev", "rnoexec"};
  const Json below = mount_at(report(), "/home/below");
  for (const char* option : {"ro", "nosuid", "nodev", "noexec"})
    EXPECT_THAT(options_of(below), Contains(std::string(option))) << "of what is below";
  config["mounts"].back()["options"] = {"rbind", "rnoatime"};
  EXPECT_THAT(options_of(mount_at(report(), "/home/below")), Contains("noatime")) << "rnoatime";
}

TEST_P(Mounts, AnUnrecursiveReadOnlyLeavesWhatIsBelow) {
  add_mount("/home", "bind", tree(), {"rbind", "ro"});
  const Json seen = access({"/home", "/home/below"});
  EXPECT_EQ(seen["/home"]["write"], EROFS);
  EXPECT_EQ(seen["/home/below"]["write"], 0);
}

TEST_P(Mounts, TheyAreMadeInOrder) {
  add_mount("/home", "tmpfs", "first", {});
  add_mount("/home/in/side", "tmpfs", "second", {});
  add_mount("/home", "tmpfs", "third", {});
  const Json seen = report();
  EXPECT_EQ(mount_at(seen, "/home").value("source", ""), "third");
  // The last one covers what was made in the first.
  EXPECT_EQ(access({"/home/in"})["/home/in"]["type"], "absent");
}

TEST_P(Mounts, MountinfoHasThemInOrder) {
  add_mount("/home", "tmpfs", "first", {});
  add_mount("/home/b", "bind", source(), {"bind"});
  add_mount("/home/c", "tmpfs", "third", {});
  std::vector<std::string> order;
  const Json seen = report();
  for (const auto& mount : seen["mounts"]) {
    const auto place = mount["place"].get<std::string>();
    if (place.starts_with("/home")) order.push_back(place);
  }
  EXPECT_EQ(join(order, " "), "/home /home/b /home/c");
}

TEST_P(Mounts, ALinkInTheWayStaysInside) {
  ASSERT_EQ(::symlink("/", (rootfs() + "/home/link").c_str()), 0);
  config["root"]["readonly"] = false;
  add_mount("/home/link/tmp/inside", "bind", source(), {"bind"});
  EXPECT_EQ(shell("cat /tmp/inside/file"), "from the host\n");
}

TEST_P(Mounts, ARelativeDestinationIsBelowTheRoot) {
  add_mount("home", "tmpfs", "relative", {});
  EXPECT_EQ(mount_at(report(), "/home").value("source", ""), "relative");
}

TEST_P(Mounts, ATmpfsMayStartWithWhatItCovers) {
  write(rootfs() + "/etc/text", "of the image");
  add_mount("/etc", "tmpfs", "tmpfs", {"tmpcopyup"});
  EXPECT_EQ(shell("cat /etc/text && touch /etc/made"), "of the image");
  EXPECT_FALSE(os::exists(rootfs() + "/etc/made"));
}

TEST_P(Mounts, AnUnknownTypeIsRefused) {
  add_mount("/home", "nosuchfs", "x", {});
  expect_refused("an unknown type");
}

TEST_P(Mounts, ASourceThatIsNotThereIsRefused) {
  add_mount("/home", "bind", folder() + "/nowhere", {"bind"});
  expect_refused("a source that is not there");
}

TEST_P(Mounts, MaskedPathsCannotBeRead) {
  ASSERT_TRUE(os::make_dirs(rootfs() + "/etc/secrets").has_value());
  write(rootfs() + "/etc/secret", "secret");
  write(rootfs() + "/etc/secrets/file", "secret");
  linux_part()["maskedPaths"] = {"/etc/secret", "/etc/secrets", "/etc/nowhere"};
  EXPECT_EQ(shell("cat /etc/secret /etc/secrets/* 2>/dev/null; ls -A /etc/secrets; true"), "");
  config["root"]["readonly"] = false;
  EXPECT_EQ(access({"/etc/secrets"})["/etc/secrets"]["write"], EROFS);
}

TEST_P(Mounts, ReadOnlyPathsCannotBeWritten) {
  ASSERT_TRUE(os::make_dirs(rootfs() + "/etc/folder").has_value());
  write(rootfs() + "/etc/file", "text");
  config["root"]["readonly"] = false;
  linux_part()["readonlyPaths"] = {"/etc/file", "/etc/folder", "/etc/nowhere", "/proc/sys"};
  const Json seen = access({"/etc", "/etc/file", "/etc/folder", "/proc/sys/kernel/hostname"});
  EXPECT_EQ(seen["/etc"]["write"], 0);
  EXPECT_EQ(seen["/etc/file"]["write"], EROFS);
  EXPECT_EQ(seen["/etc/file"]["read"], 0);
  EXPECT_EQ(seen["/etc/folder"]["write"], EROFS);
  EXPECT_EQ(seen["/proc/sys/kernel/hostname"]["write"], EROFS);
}

TEST_P(Mounts, TheRootsPropagationIsTheConfiguredOne) {
  for (const char* kind : {"shared", "private", "unbindable"}) {
    linux_part()["rootfsPropagation"] = kind;
    EXPECT_EQ(propagation_of(mount_at(report(), "/")), kind);
  }
}

TEST_P(Mounts, AnUnknownPropagationIsRefused) {
  linux_part()["rootfsPropagation"] = "sideways";
  expect_refused("an unknown propagation");
}

TEST_P(Mounts, AMountLabelWithoutSelinuxIsRefused) {
  if (os::exists("/sys/fs/selinux/enforce")) GTEST_SKIP() << "SELinux is active";
  linux_part()["mountLabel"] = "system_u:object_r:svirt_sandbox_file_t:s0:c715,c811";
  expect_refused("a mount label");
}

}  // namespace
}  // namespace berth::test
