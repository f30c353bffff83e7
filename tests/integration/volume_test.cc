// Mounts of a container that are more than a folder of the host: those that propagate, and those of images.
#include <signal.h>
#include <sys/stat.h>

#include "base/strings.h"
#include "fixture.h"
#include "os/file.h"
#include "shared_folder.h"
#include "wait.h"

namespace berth::test {
namespace {

struct WithImages {
  static TestHostOptions options() { return {.images = {"busybox", "layered"}}; }
};

class VolumeTest : public HostTest<WithImages> {
 protected:
  void SetUp() override {
    HostTest::SetUp();
    if (HasFatalFailure()) return;
    config_ = host().pod_config("pod");
    config_.mutable_linux()->mutable_security_context()->set_privileged(true);
    pod_ = must(cri().run_pod(config_));
  }
  static pb::ContainerConfig sleeper(const std::string& name, bool privileged = false) {
    auto config = host().shell_config(name, "exec sleep 1000");
    config.mutable_linux()->mutable_security_context()->set_privileged(privileged);
    return config;
  }
  static pb::Mount& add(pb::ContainerConfig& config, const std::string& from, pb::MountPropagation propagation,
                        const std::string& to = "/vol") {
    auto& mount = *config.add_mounts();
    mount.set_host_path(from);
    mount.set_container_path(to);
    mount.set_propagation(propagation);
    return mount;
  }
  static pb::Mount& add_image(pb::ContainerConfig& config, const std::string& image, const std::string& to,
                              const std::string& sub_path = "") {
    auto& mount = *config.add_mounts();
    mount.mutable_image()->set_image(image);
    mount.set_container_path(to);
    mount.set_image_sub_path(sub_path);
    mount.set_readonly(true);
    return mount;
  }
  std::string run(const pb::ContainerConfig& config) { return must(cri().run(pod_, config, config_)); }
  Result<std::string> create(const pb::ContainerConfig& config) { return cri().create(pod_, config, config_); }
  static std::string mark(const std::string& id, const std::string& name) {
    return cri().shell(id, "cat /vol/" + name + "/mark 2>/dev/null || echo none").value_or("failed");
  }

  pb::PodSandboxConfig config_;
  std::string pod_;
};

TEST_F(VolumeTest, MountsOfTheHostComeInWhereAsked) {
  const SharedFolder shared(host().dir() + "/in", MS_SHARED);
  ASSERT_TRUE(shared.made());
  ASSERT_TRUE(shared.mount_below("before"));
  auto inwards = sleeper("inwards", true);
  add(inwards, shared.path(), pb::PROPAGATION_HOST_TO_CONTAINER);
  auto apart = sleeper("apart", true);
  add(apart, shared.path(), pb::PROPAGATION_PRIVATE);
  const auto in = run(inwards);
  const auto alone = run(apart);
  for (const auto& id : {in, alone}) EXPECT_EQ(mark(id, "before"), "before");
  ASSERT_TRUE(shared.mount_below("later"));
  EXPECT_EQ(mark(in, "later"), "later");
  EXPECT_EQ(mark(alone, "later"), "none\n");
  // Not the other way round.
  must(cri().shell(in, "mkdir /vol/own && mount -t tmpfs none /vol/own && echo own > /vol/own/mark"));
  EXPECT_FALSE(os::exists(shared.at("own/mark")));
  EXPECT_TRUE(shared.unmount_below("later"));
  EXPECT_EQ(mark(in, "later"), "none\n");
  EXPECT_TRUE(shared.unmount_below("before"));
}

TEST_F(VolumeTest, MountsOfAContainerGoOutWhereAsked) {
  const SharedFolder shared(host().dir() + "/out", MS_SHARED);
  ASSERT_TRUE(shared.made());
  const auto before = mounts(host());
  auto wanted = sleeper("both", true);
  add(wanted, shared.path(), pb::PROPAGATION_BIDIRECTIONAL);
  auto listener = sleeper("listener");
  add(listener, shared.path(), pb::PROPAGATION_HOST_TO_CONTAINER);
  const auto both = run(wanted);
  const auto third = run(listener);
  EXPECT_EQ(difference(before, mounts(host())), "") << "its making alone mounts nothing on the host";
  must(cri().shell(both, "mkdir /vol/made && mount -t tmpfs none /vol/made && echo made > /vol/made/mark"));
  EXPECT_EQ(os::read_file(shared.at("made/mark"), 100).value_or("none"), "made\n");
  EXPECT_EQ(mark(third, "made"), "made\n");
  ASSERT_TRUE(shared.mount_below("hosts"));
  EXPECT_EQ(mark(both, "hosts"), "hosts");
  // Of its other mounts nothing goes out.
  must(cri().shell(both, "mkdir /tmp/x && mount -t tmpfs none /tmp/x && mount -t tmpfs none /dev/shm"));
  EXPECT_EQ(must(os::read_file("/proc/self/mountinfo", 1U << 20)).find(" /tmp/x "), std::string::npos);
  // From the host it can be taken away for all; from inside, too.
  EXPECT_TRUE(shared.unmount_below("hosts"));
  EXPECT_EQ(mark(both, "hosts"), "none\n");
  must(cri().shell(both, "umount /vol/made"));
  EXPECT_FALSE(os::exists(shared.at("made/mark")));
  // What it leaves mounted is the host's, also when it goes, in whatever way.
  must(cri().shell(both, "mount -t tmpfs none /vol/made && echo left > /vol/made/mark"));
  must(cri().stop(both, 0));
  must(cri().remove(both));
  must(cri().end_pod(pod_));
  EXPECT_EQ(os::read_file(shared.at("made/mark"), 100).value_or("none"), "left\n");
  EXPECT_TRUE(shared.unmount_below("made"));
  EXPECT_EQ(difference(before, mounts(host())), "");
}

TEST_F(VolumeTest, AnEndedShimTakesNoMountOfTheHostAlong) {
  const SharedFolder shared(host().dir() + "/killed", MS_SHARED);
  ASSERT_TRUE(shared.made());
  ASSERT_TRUE(shared.mount_below("hosts"));
  auto wanted = sleeper("both", true);
  add(wanted, shared.path(), pb::PROPAGATION_BIDIRECTIONAL);
  const auto id = run(wanted);
  EXPECT_EQ(mark(id, "hosts"), "hosts");
  ASSERT_EQ(::kill(shim_of(pod_), SIGKILL), 0);
  EXPECT_EQ(must(cri().wait_exited(id)).exit_code(), 137);
  must(cri().end_pod(pod_));
  EXPECT_EQ(os::read_file(shared.at("hosts/mark"), 100).value_or("none"), "hosts");
  EXPECT_TRUE(shared.unmount_below("hosts"));
}

TEST_F(VolumeTest, WhatCannotPropagateIsRefused) {
  const SharedFolder shared(host().dir() + "/shared", MS_SHARED);
  const SharedFolder slave(host().dir() + "/slave", MS_SLAVE, shared.path());
  const SharedFolder lonely(host().dir() + "/private", MS_PRIVATE);
  ASSERT_TRUE(shared.made() && slave.made() && lonely.made());
  const auto before = mounts(host());
  const auto refused = [&](const std::string& path, pb::MountPropagation propagation, Code code,
                           const std::string& words, bool privileged = true) {
    auto config = sleeper("refused", privileged);
    add(config, path, propagation);
    EXPECT_TRUE(fails(create(config), code, words)) << path;
  };
  refused(lonely.path(), pb::PROPAGATION_HOST_TO_CONTAINER, Code::kPrecondition, "shared or a slave");
  refused(lonely.path(), pb::PROPAGATION_BIDIRECTIONAL, Code::kPrecondition, "needs a mount that is shared");
  refused(slave.path(), pb::PROPAGATION_BIDIRECTIONAL, Code::kPrecondition, slave.path());
  refused(shared.path(), pb::PROPAGATION_BIDIRECTIONAL, Code::kInvalid, "privileged", false);
  auto good = sleeper("good");
  add(good, slave.path(), pb::PROPAGATION_HOST_TO_CONTAINER);
  const auto id = run(good);
  ASSERT_TRUE(shared.mount_below("through"));
  EXPECT_EQ(mark(id, "through"), "through");
  EXPECT_TRUE(shared.unmount_below("through"));
  must(cri().end_all());
  EXPECT_EQ(difference(before, mounts(host())), "");
}

TEST_F(VolumeTest, AnImageIsAVolume) {
  auto config = sleeper("reader");
  add_image(config, TestHost::image("layered"), "/img");
  add_image(config, TestHost::image("layered"), "/part", "data/dir");
  add_image(config, TestHost::image("layered"), "/etc/one-file", "data/link");
  add_image(config, TestHost::image("busybox"), "/one-layer");
  const auto id = run(config);
  EXPECT_EQ(must(cri().shell(id, "ls /img/data; cat /img/data/kept; ls /part; cat /etc/one-file")),
            "dir\nkept\nlink\none\nkept\nnew\none\n");
  EXPECT_EQ(must(cri().shell(id, "cat /one-layer/data/gone")), "gone\n");
  EXPECT_TRUE(fails(cri().shell(id, "echo x > /img/file"), Code::kInternal, "Read-only"));
  EXPECT_TRUE(fails(cri().shell(id, "/img/bin/busybox true"), Code::kInternal, "ermission denied"));
  EXPECT_TRUE(fails(cri().shell(id, "mount -o remount,rw,exec /img"), Code::kInternal));
  const auto line = must(cri().shell(id, "grep ' /part ' /proc/self/mountinfo"));
  for (const auto* word : {"ro,", "nosuid", "nodev", "noexec"}) EXPECT_NE(line.find(word), std::string::npos) << line;
  EXPECT_EQ(must(cri().status(id)).mounts(1).image_sub_path(), "data/dir");
}

TEST_F(VolumeTest, ASubPathStaysInItsImage) {
  auto config = sleeper("links");
  add_image(config, TestHost::image("layered"), "/up", "links/up");
  add_image(config, TestHost::image("layered"), "/abs", "links/abs/dir");
  const auto id = run(config);
  // Both lead to places in the image, wherever they would lead on the host.
  EXPECT_EQ(must(cri().shell(id, "head -c 4 /up; echo; ls /abs")), "root\nnew\n");
  EXPECT_EQ(must(cri().shell(id, "grep -c : /up")), "2\n");

  const auto refused = [&](const std::string& path, Code code, const std::string& words) {
    auto bad = sleeper("bad");
    add_image(bad, TestHost::image("layered"), "/img", path);
    EXPECT_TRUE(fails(create(bad), code, words)) << path;
  };
  for (const auto* path : {"../etc", "/etc", "data/../../x", ".."}) refused(path, Code::kInvalid, "leaves the image");
  refused("no/such/path", Code::kNotFound, "no/such/path");
  auto absent = sleeper("absent");
  add_image(absent, TestHost::image("nowhere"), "/img");
  EXPECT_TRUE(fails(create(absent), Code::kNotFound, "pull it first"));
  auto both = sleeper("both");
  add_image(both, TestHost::image("layered"), "/img").set_host_path("/tmp");
  EXPECT_TRUE(fails(create(both), Code::kInvalid, "exclude each other"));
  auto without = sleeper("without");
  add(without, host().dir(), pb::PROPAGATION_PRIVATE).set_image_sub_path("x");
  EXPECT_TRUE(fails(create(without), Code::kInvalid, "without an image"));
}

TEST_F(VolumeTest, AnImageStaysAsLongAsItIsMounted) {
  const auto layers = [] { return must(os::list_dir(host().root() + "/images/layers")).size(); };
  const auto all = layers();
  auto config = sleeper("holder");
  add_image(config, TestHost::image("layered"), "/img");
  const auto id = run(config);
  pb::RemoveImageRequest remove;
  remove.mutable_image()->set_image(TestHost::image("layered"));
  must(cri().call(&Images::RemoveImage, remove));
  pb::ImageStatusRequest asked;
  *asked.mutable_image() = remove.image();
  EXPECT_FALSE(must(cri().call(&Images::ImageStatus, asked)).has_image());
  EXPECT_EQ(must(cri().shell(id, "cat /img/data/kept")), "kept\n");
  // Over a restart of the daemon, too.
  host().kill9_daemon();
  must(host().start_daemon());
  EXPECT_EQ(must(cri().shell(id, "cat /img/data/one")), "one\n");
  EXPECT_EQ(layers(), all);
  must(cri().end_pod(pod_));
  EXPECT_TRUE(wait_until(std::chrono::seconds(10), [&] { return layers() == all - 2; }));
  must(cri().pull(TestHost::image("layered")));
  EXPECT_TRUE(must(os::list_dir(host().root() + "/images/containers")).empty());
}

TEST_F(VolumeTest, OptionsOfOneMount) {
  const std::string folder = host().dir() + "/options";
  ASSERT_TRUE(ok(os::make_dirs(folder)));
  auto config = sleeper("options");
  for (const auto* option : {"noexec", "nosuid", "nodev", "noatime"}) {
    add(config, folder, pb::PROPAGATION_PRIVATE, std::string("/") + option).add_mount_options(option);
  }
  const auto id = run(config);
  for (const auto* option : {"noexec", "nosuid", "nodev", "noatime"}) {
    const auto line = must(cri().shell(id, std::string("grep ' /") + option + " ' /proc/self/mountinfo"));
    EXPECT_NE(line.find(std::string("/") + option + " rw"), std::string::npos) << line;
    EXPECT_NE(line.find("," + std::string(option)), std::string::npos) << line;
  }
  for (const auto* option : {"size=1", "bind", "ro,exec", "X-berth.host"}) {
    auto bad = sleeper("bad");
    add(bad, folder, pb::PROPAGATION_PRIVATE).add_mount_options(option);
    EXPECT_TRUE(fails(create(bad), Code::kInvalid, option));
  }
  auto exec = sleeper("exec");
  add_image(exec, TestHost::image("layered"), "/img").add_mount_options("exec");
  EXPECT_TRUE(fails(create(exec), Code::kInvalid, "exec"));
}

}  // namespace
}  // namespace berth::test
