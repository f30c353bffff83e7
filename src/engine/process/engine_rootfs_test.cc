#include <gmock/gmock.h>
#include <sys/mount.h>
#include <sys/stat.h>

#include <filesystem>

#include "engine/process/idmap.h"
#include "engine/process/test_container.h"
#include "os/mount.h"

namespace berth::engine::process {
namespace {

using testing::EngineTest;
using ::testing::HasSubstr;
using ::testing::Not;

spec::Mount mount_of(std::string to, std::string type, std::string source, std::vector<std::string> options) {
  spec::Mount entry;
  entry.destination = std::move(to);
  entry.type = std::move(type);
  entry.source = std::move(source);
  entry.options = std::move(options);
  return entry;
}

class RootfsTest : public EngineTest {
 protected:
  std::string rootfs() { return bundle_.path() + "/rootfs"; }
  std::string make_source(const std::string& name) {
    const std::string path = bundle_.path() + "/" + name;
    EXPECT_TRUE(os::make_dirs(path).has_value());
    EXPECT_TRUE(os::write_file_atomic(path + "/file", "content of " + name + "\n").has_value());
    return path;
  }
};

TEST_F(RootfsTest, MountsHaveTheirOptions) {
  auto spec = script_spec("cat /proc/self/mountinfo | awk '{print $5, $6, $9}'");
  spec.mounts.push_back(
      mount_of("/t", "tmpfs", "tmpfs", {"ro", "nosuid", "nodev", "noexec", "noatime", "size=1m", "mode=1777"}));
  spec.mounts.push_back(mount_of("/b", "bind", make_source("b"), {"bind", "ro", "nosuid", "nosymfollow"}));
  const auto out = run(spec).out;
  EXPECT_THAT(out, HasSubstr("/proc rw,nosuid,nodev,noexec,relatime proc\n"));
  EXPECT_THAT(out, HasSubstr("/dev rw,nosuid tmpfs\n"));
  EXPECT_THAT(out, HasSubstr("/dev/pts rw,nosuid,noexec,relatime devpts\n"));
  EXPECT_THAT(out, HasSubstr("/sys ro,nosuid,nodev,noexec,relatime sysfs\n"));
  EXPECT_THAT(out, HasSubstr(os::exists("/sys/fs/cgroup/memory")
                                 ? "/sys/fs/cgroup/memory ro,nosuid,nodev,noexec,relatime cgroup\n"
                                 : "/sys/fs/cgroup ro,nosuid,nodev,noexec,relatime"));
  EXPECT_THAT(out, HasSubstr("/t ro,nosuid,nodev,noexec,noatime tmpfs\n"));
  EXPECT_THAT(out, HasSubstr("/b ro,nosuid"));
  EXPECT_THAT(out, Not(HasSubstr(bundle_.path()))) << "a place of the host";
}

TEST_F(RootfsTest, BindMountsOfFilesAndFoldersMakeTheirTargets) {
  auto spec = script_spec("cat /new/deep/folder/file /new/file; touch /new/deep/folder/x 2>&1; echo rc $?");
  const std::string source = make_source("src");
  spec.mounts.push_back(mount_of("/new/deep/folder", "bind", source, {"rbind", "rro"}));
  spec.mounts.push_back(mount_of("/new/file", "", "src/file", {"bind"}));
  const auto out = run(spec).out;
  EXPECT_THAT(out, HasSubstr("content of src\ncontent of src\n"));
  EXPECT_THAT(out, HasSubstr("Read-only file system\nrc 1"));
  EXPECT_FALSE(os::exists(source + "/x"));
}

TEST_F(RootfsTest, RecursiveOptionsReachWhatIsBelow) {
  const std::string source = make_source("tree");
  ASSERT_TRUE(os::make_dirs(source + "/sub").has_value());
  ASSERT_EQ(::mount("tmpfs", (source + "/sub").c_str(), "tmpfs", 0, nullptr), 0);
  auto spec = script_spec("touch /a/sub/x && echo a; touch /a/x || echo a-ro; touch /b/sub/x || echo b-ro");
  spec.mounts.push_back(mount_of("/a", "bind", source, {"rbind", "ro"}));
  spec.mounts.push_back(mount_of("/b", "bind", source, {"rbind", "rro"}));
  const auto out = run(spec).out;
  EXPECT_THAT(out, HasSubstr("a\n"));
  EXPECT_THAT(out, HasSubstr("a-ro\n"));
  EXPECT_THAT(out, HasSubstr("b-ro\n"));
  ASSERT_EQ(::umount((source + "/sub").c_str()), 0);
}

TEST_F(RootfsTest, MountsAreListedInTheirOrder) {
  auto spec = script_spec("awk '$5 ~ /^.(one|two|three|four)$/ {print $5}' /proc/self/mountinfo");
  spec.mounts.push_back(mount_of("/one", "tmpfs", "tmpfs", {}));
  spec.mounts.push_back(mount_of("/two", "bind", make_source("two"), {"rbind"}));
  spec.mounts.push_back(mount_of("/three", "tmpfs", "tmpfs", {}));
  spec.mounts.push_back(mount_of("/four", "bind", make_source("four"), {"bind", "ro"}));
  EXPECT_EQ(run(spec).out, "/one\n/two\n/three\n/four\n");
}

TEST_F(RootfsTest, ASourceThatOnlyTheCallerSeesIsTheCallers) {
  const auto file = os::open_file(make_source("held") + "/file", O_RDONLY);
  auto spec = script_spec("cat /held; cat /by-link");
  const std::string by_fd = "/proc/self/fd/" + std::to_string(file->get());
  ASSERT_EQ(::symlink(by_fd.c_str(), (bundle_.path() + "/link").c_str()), 0);
  spec.mounts.push_back(mount_of("/held", "bind", by_fd, {"bind"}));
  spec.mounts.push_back(mount_of("/by-link", "bind", "link", {"bind"}));
  EXPECT_EQ(run(spec).out, "content of held\ncontent of held\n");
}

/// Without a mount namespace: the caller's mounts, the container's root.
class SharedMountsTest : public RootfsTest {
 protected:
  spec::Spec shared_spec(const std::string& script) {
    auto spec = script_spec(script);
    std::erase_if(spec.linux->namespaces, [](const auto& ns) { return ns.type == spec::NamespaceType::kMount; });
    return spec;
  }
  std::string place() { return bundle_.path() + "/shared-root"; }
};

TEST_F(SharedMountsTest, TheRootIsTheContainersAndGoesWithIt) {
  const std::string ours = std::filesystem::read_symlink("/proc/self/ns/mnt").string();
  const auto out = run(shared_spec("readlink /proc/self/ns/mnt; ls -d /bin /root 2>&1; touch /sys/x 2>&1")).out;
  EXPECT_THAT(out, HasSubstr(ours + "\n"));
  EXPECT_THAT(out, HasSubstr("/bin\n"));
  EXPECT_THAT(out, HasSubstr("/root: No such file"));
  EXPECT_THAT(out, HasSubstr("Read-only file system"));
  EXPECT_FALSE(os::exists(place()));
}

TEST_F(SharedMountsTest, ExecHasTheContainersRoot) {
  const auto container = create(shared_spec("sleep 100"));
  ASSERT_NE(container, nullptr);
  ASSERT_TRUE(container->start().has_value());
  auto pipe = os::make_pipe();
  ExecRequest request;
  request.process = *script_spec("").process;
  request.process.args = {"/bin/sh", "-c", "ls -d /bin; test -e /root || mount | grep -c ' /proc '"};
  request.stdio = {-1, pipe->write.get(), pipe->write.get()};
  const auto process = container->exec(request);
  ASSERT_TRUE(process.has_value()) << process.error().text();
  pipe->write.reset();
  EXPECT_EQ(os::read_all(pipe->read.get(), 4096).value_or(""), "/bin\n1\n");
  EXPECT_TRUE(os::reap_pidfd(process->pidfd.get()).has_value());
  finish(*container);
  EXPECT_FALSE(os::exists(place()));
}

TEST_F(SharedMountsTest, AFailureLeavesNoMount) {
  auto spec = shared_spec("true");
  spec.mounts.push_back(mount_of("/t", "tmpfs", "tmpfs", {"no-such-option"}));
  CreateRequest request;
  request.id = bundle_.name();
  request.bundle = bundle_.path();
  request.spec = spec;
  request.shared_root = place();
  EXPECT_FALSE(engine_->create_process(std::move(request)).has_value());
  EXPECT_FALSE(os::exists(place()));
  EXPECT_THAT(refused(shared_spec("true")).text(), HasSubstr("no place for its mounts"));
}

/// Whether this kernel maps ids on tmpfs (6.3): tried, since nothing tells.
bool tmpfs_takes_id_maps() {
  const auto context = os::fs_open("tmpfs");
  const auto tree = context ? os::fs_mount(context->get(), 0) : Result<UniqueFd>(fail(context.error()));
  spec::Mount mount;
  mount.uid_mappings = mount.gid_mappings = {{0, 0, 1}};
  const auto map = open_id_map({}, mount);
  return tree && map && apply_id_map(tree->get(), map->get(), false);
}

TEST_F(RootfsTest, NewFileSystemsTakeIdMaps) {
  if (!tmpfs_takes_id_maps()) GTEST_SKIP() << "no id maps on tmpfs here";
  auto spec = script_spec("touch /t/file; stat -c %u:%g /t /t/file; chown 7 /t/file; stat -c %u /t/file");
  spec.mounts.push_back(mount_of("/t", "tmpfs", "tmpfs", {"mode=777"}));
  spec.mounts.back().uid_mappings = {{0, 0, 65536}};
  spec.mounts.back().gid_mappings = {{0, 1000, 1}, {1000, 0, 1}};  // the two change places
  const auto out = run(spec).out;
  EXPECT_EQ(out, "0:1000\n0:0\n7\n");
}

TEST_F(RootfsTest, MountTargetsNeverLeaveTheRoot) {
  const std::string outside = make_source("outside");
  ASSERT_EQ(::symlink(outside.c_str(), (rootfs() + "/absolute").c_str()), 0);
  ASSERT_EQ(::symlink("../../../../../../../../..", (rootfs() + "/up").c_str()), 0);
  auto spec = script_spec("mount | grep -E 'absolute|outside|/up|made'");
  spec.mounts.push_back(mount_of("/absolute/evil", "tmpfs", "tmpfs", {}));
  spec.mounts.push_back(mount_of("/up/made/by/container", "tmpfs", "tmpfs", {}));
  const auto out = run(spec).out;
  EXPECT_THAT(out, HasSubstr(outside + "/evil")) << "the link's path, inside";
  EXPECT_THAT(out, HasSubstr("/made/by/container"));
  EXPECT_FALSE(os::exists(outside + "/evil"));
  EXPECT_FALSE(os::exists("/made"));
  EXPECT_TRUE(os::exists(rootfs() + outside + "/evil"));
}

TEST_F(RootfsTest, ProcBehindALinkIsRefused) {
  ASSERT_EQ(::symlink("tmp", (rootfs() + "/proc").c_str()), 0);
  EXPECT_THAT(refused(script_spec("true")).text(), HasSubstr("must be mounted on an ordinary folder"));
}

TEST_F(RootfsTest, ANullDeviceThatIsNoneMasksNothing) {
  // An image without a /dev of its own that puts a file where the null device belongs (CVE-2025-31133).
  ASSERT_TRUE(os::make_dirs(rootfs() + "/dev").has_value());
  ASSERT_TRUE(os::write_file_atomic(rootfs() + "/dev/null", "I am the mask\n").has_value());
  auto spec = script_spec("cat /proc/keys | wc -c");
  spec.mounts.erase(spec.mounts.begin() + 1, spec.mounts.begin() + 4);
  spec.process->args = {"/bin/sh", "-c", "cat /proc/keys | wc -c"};
  CreateRequest request;
  auto pipe = os::make_pipe();
  request.id = bundle_.name();
  request.bundle = bundle_.path();
  request.spec = spec;
  request.stdio = {pipe->read.get(), pipe->write.get(), pipe->write.get()};
  auto made = engine_->create_process(std::move(request));
  ASSERT_TRUE(made.has_value()) << made.error().text();
  ASSERT_TRUE((*made)->start().has_value());
  pipe->write.reset();
  EXPECT_EQ(os::read_all(pipe->read.get(), 1000).value_or(""), "0\n");
  finish(**made);
}

TEST_F(RootfsTest, MaskedAndReadOnlyPaths) {
  const auto out = run("cat /proc/keys | wc -c; ls /sys/firmware | wc -l; echo 1 > /proc/sys/kernel/domainname; "
                       "chmod 777 /proc/keys; mount | grep -c 'on /proc/bus '")
                       .out;
  EXPECT_THAT(out, HasSubstr("0\n0\n"));
  EXPECT_THAT(out, HasSubstr("can't create /proc/sys/kernel/domainname: Read-only file system"));
  EXPECT_THAT(out, HasSubstr("chmod: /proc/keys: Read-only file system"));
}

TEST_F(RootfsTest, DevicesLinksAndTerminalsAreThere) {
  auto spec = script_spec(
      "for d in null zero full random urandom tty; do stat -c '%n %t:%T %a' /dev/$d; done; for l in fd "
      "stdin ptmx; do readlink /dev/$l; done; stat -c '%n %t:%T %a %u:%g' /dev/mine; stat -c %F /dev/net/pipe");
  spec.linux->devices.push_back(
      {.path = "/dev/mine", .type = "c", .major = 1, .minor = 5, .file_mode = 0640, .uid = 3, .gid = 4, .extra = {}});
  spec.linux->devices.push_back({.path = "/dev/net/pipe",
                                 .type = "p",
                                 .major = 0,
                                 .minor = 0,
                                 .file_mode = 0600,
                                 .uid = {},
                                 .gid = {},
                                 .extra = {}});
  EXPECT_EQ(run(spec).out,
            "/dev/null 1:3 666\n/dev/zero 1:5 666\n/dev/full 1:7 666\n/dev/random 1:8 666\n/dev/urandom 1:9 "
            "666\n/dev/tty 5:0 666\n"
            "/proc/self/fd\n/proc/self/fd/0\npts/ptmx\n/dev/mine 1:5 640 3:4\nfifo\n");
}

TEST_F(RootfsTest, ReadOnlyRoot) {
  auto spec = script_spec("touch /x || echo refused; touch /dev/shm-ok && echo dev");
  ASSERT_TRUE(os::make_dirs(rootfs() + "/proc").has_value());
  spec.root->readonly = true;
  const auto out = run(spec).out;
  EXPECT_THAT(out, HasSubstr("refused\n"));
  EXPECT_THAT(out, HasSubstr("dev\n"));
}

TEST_F(RootfsTest, NoPivotWorksToo) {
  auto pipe = os::make_pipe();
  CreateRequest request;
  request.id = bundle_.name();
  request.bundle = bundle_.path();
  request.spec = script_spec("ls -d /bin /tmp; pwd");
  request.stdio = {-1, pipe->write.get(), pipe->write.get()};
  request.no_pivot = true;
  auto made = engine_->create_process(std::move(request));
  ASSERT_TRUE(made.has_value()) << made.error().text();
  pipe->write.reset();
  ASSERT_TRUE((*made)->start().has_value());
  EXPECT_EQ(os::read_all(pipe->read.get(), 1000).value_or(""), "/bin\n/tmp\n/\n");
  finish(**made);
}

TEST_F(RootfsTest, TmpfsCopiesUp) {
  ASSERT_EQ(std::system(("mkdir -p " + rootfs() + "/data/sub && echo one > " + rootfs() + "/data/a && ln -s a " +
                         rootfs() +  // NOLINT
                         "/data/l && echo two > " + rootfs() + "/data/sub/b && chmod 750 " + rootfs() +
                         "/data/sub && chown 7:8 " + rootfs() + "/data/sub/b")
                            .c_str()),
            0);
  auto spec = script_spec(
      "cat /data/a /data/l /data/sub/b; stat -c %a /data/sub; stat -c %u:%g /data/sub/b; echo new > /data/a; touch "
      "/ro/x || echo ro; cat /ro/a");
  spec.mounts.push_back(mount_of("/data", "tmpfs", "tmpfs", {"tmpcopyup"}));
  ASSERT_EQ(std::system(("cp -a " + rootfs() + "/data " + rootfs() + "/ro").c_str()), 0);  // NOLINT
  spec.mounts.push_back(mount_of("/ro", "tmpfs", "tmpfs", {"tmpcopyup", "ro"}));
  const auto out = run(spec).out;
  EXPECT_THAT(out, ::testing::StartsWith("one\none\ntwo\n750\n7:8\n"));
  EXPECT_THAT(out, HasSubstr("ro\none\n"));
  EXPECT_EQ(os::read_file(rootfs() + "/data/a", 100).value_or(""), "one\n");
}

TEST_F(RootfsTest, RootPropagation) {
  auto spec = script_spec("grep ' / / ' /proc/self/mountinfo; awk '$5 == \"/\" {print $7}' /proc/self/mountinfo");
  spec.linux->rootfs_propagation = "shared";
  EXPECT_THAT(run(spec).out, HasSubstr("shared:"));
  spec.linux->rootfs_propagation = "private";
  EXPECT_THAT(run(spec).out, Not(HasSubstr("shared:")));
}

TEST_F(RootfsTest, ASharedMountIsAPeerOfItsSource) {
  const std::string source = make_source("peer");
  ASSERT_TRUE(os::make_dirs(source + "/sub").has_value());
  ASSERT_EQ(::mount(source.c_str(), source.c_str(), nullptr, MS_BIND, nullptr), 0);
  ASSERT_EQ(::mount(nullptr, source.c_str(), nullptr, MS_SHARED, nullptr), 0);
  auto spec = script_spec("mount -t tmpfs none /s/sub && echo inside > /s/sub/mark");
  for (auto* set : {&spec.process->capabilities->bounding, &spec.process->capabilities->effective,
                    &spec.process->capabilities->permitted}) {
    set->emplace_back("CAP_SYS_ADMIN");
  }
  spec.mounts.push_back(mount_of("/s", "bind", source, {"rbind", "rshared"}));
  EXPECT_EQ(run(spec).code, 0);
  EXPECT_FALSE(os::exists(source + "/sub/mark")) << "the root is cut off, and its mounts with it, as with runc";
  spec.linux->rootfs_propagation = "rshared";
  EXPECT_EQ(run(spec).code, 0);
  EXPECT_EQ(os::read_file(source + "/sub/mark", 100).value_or(""), "inside\n");
  EXPECT_EQ(::umount((source + "/sub").c_str()), 0);
  EXPECT_EQ(::umount(source.c_str()), 0);
}

TEST_F(RootfsTest, BadMountsNameThemselves) {
  auto spec = script_spec("true");
  spec.mounts.push_back(mount_of("/x", "nosuchfs", "none", {}));
  Error error = refused(spec);
  EXPECT_EQ(error.code(), Code::kUnsupported);
  EXPECT_THAT(error.text(), HasSubstr("mount nosuchfs to /x"));
  spec.mounts.back() = mount_of("/x", "tmpfs", "tmpfs", {"size=lots"});
  error = refused(spec);
  EXPECT_THAT(error.text(), HasSubstr("size=lots"));
  spec.mounts.back() = mount_of("/x", "bind", "/no/such/source", {"bind"});
  error = refused(spec);
  EXPECT_EQ(error.code(), Code::kNotFound);
  EXPECT_THAT(error.text(), HasSubstr("/no/such/source"));
  spec.mounts.back() = mount_of("/x", "tmpfs", "tmpfs", {"remount"});
  EXPECT_EQ(refused(spec).code(), Code::kUnsupported);
}

}  // namespace
}  // namespace berth::engine::process
