#include "cri/spec_builder.h"

#include <csignal>

#include "cri/seccomp_default.h"
#include "gmock/gmock.h"
#include "gtest/gtest.h"
#include "os/caps.h"

namespace berth::cri {
namespace {

using testing::Contains;
using testing::ElementsAre;
using testing::HasSubstr;
using testing::Not;

/// Sets a field that the interface calls deprecated: by name, as its accessor warns.
void set_old(pb::LinuxContainerSecurityContext& security, const char* field, const std::string& text) {
  security.GetReflection()->SetString(&security, security.GetDescriptor()->FindFieldByName(field), text);
}

class SpecBuilder : public testing::Test {
 protected:
  SpecBuilder() {
    pod.mutable_metadata()->set_name("web");
    pod.mutable_metadata()->set_uid("u1");
    pod.mutable_metadata()->set_namespace_("default");
    pod.set_hostname("web-0");
    container.mutable_metadata()->set_name("main");
    container.mutable_image()->set_image("busybox");
    image.config.entrypoint = {"/entry", "-x"};
    image.config.cmd = {"run"};
    image.config.env = {"PATH=/bin", "A=image"};
    host.hostname = "node-1";
    host.cgroup_v2 = true;
    host.shared_mounts = true;
    user.home = "/root";
  }
  pb::LinuxContainerSecurityContext& security() { return *container.mutable_linux()->mutable_security_context(); }
  SpecInput input() {
    SpecInput in{.pod = pod, .container = container, .image = image, .host = host};
    in.facts = {.sandbox_id = "s1",
                .pod_dir = "/run/berth/pods/s1",
                .cgroup_parent = "/kube/pod1",
                .shim_pid = 77,
                .host_network = host_network,
                .ids = ids_of(pod)};
    in.container_id = "c1";
    in.user = user;
    return in;
  }
  spec::Spec build() {
    auto built = build_spec(input());
    EXPECT_TRUE(built) << built.error().text();
    if (!built) return {};
    EXPECT_TRUE(spec::validate(built->spec)) << spec::validate(built->spec).error().text();
    return built->spec;
  }
  Error refusal() {
    auto built = build_spec(input());
    EXPECT_FALSE(built);
    return built ? Error(Code::kInternal, "") : built.error();
  }

  pb::PodSandboxConfig pod;
  pb::ContainerConfig container;
  spec::ImageConfig image;
  HostFacts host;
  ResolvedUser user;
  bool host_network = false;
};

const spec::Mount* mount_at(const spec::Spec& spec, std::string_view path) {
  for (const auto& mount : spec.mounts) {
    if (mount.destination == path) return &mount;
  }
  return nullptr;
}

TEST_F(SpecBuilder, TheWholeOfASimpleContainer) {
  auto built = build();
  built.linux->resources.reset();
  for (auto* set : {&built.process->capabilities->bounding, &built.process->capabilities->effective,
                    &built.process->capabilities->permitted}) {
    set->clear();
  }
  EXPECT_EQ(
      spec::write_spec(built),
      R"({"ociVersion":"1.2.0","process":{"user":{"uid":0,"gid":0},"args":["/entry","-x","run"],)"
      R"("env":["PATH=/bin","HOSTNAME=web-0","A=image","HOME=/root"],"cwd":"/","capabilities":{},"oomScoreAdj":0},)"
      R"("root":{"path":"rootfs"},"mounts":[)"
      R"({"destination":"/proc","type":"proc","source":"proc","options":["nosuid","noexec","nodev"]},)"
      R"({"destination":"/dev","type":"tmpfs","source":"tmpfs","options":["nosuid","strictatime","mode=755","size=65536k"]},)"
      R"({"destination":"/dev/pts","type":"devpts","source":"devpts","options":["nosuid","noexec","newinstance","ptmxmode=0666","mode=0620","gid=5"]},)"
      R"({"destination":"/dev/mqueue","type":"mqueue","source":"mqueue","options":["nosuid","noexec","nodev"]},)"
      R"({"destination":"/sys","type":"sysfs","source":"sysfs","options":["nosuid","noexec","nodev","ro"]},)"
      R"({"destination":"/sys/fs/cgroup","type":"cgroup","source":"cgroup","options":["nosuid","noexec","nodev","relatime","ro"]},)"
      R"({"destination":"/dev/shm","type":"bind","source":"/run/berth/pods/s1/shm","options":["rbind","rprivate","rw","nosuid","noexec","nodev"]},)"
      R"({"destination":"/etc/hosts","type":"bind","source":"/run/berth/pods/s1/hosts","options":["rbind","rprivate","rw"]},)"
      R"({"destination":"/etc/hostname","type":"bind","source":"/run/berth/pods/s1/hostname","options":["rbind","rprivate","rw"]},)"
      R"({"destination":"/etc/resolv.conf","type":"bind","source":"/run/berth/pods/s1/resolv.conf","options":["rbind","rprivate","rw"]}],)"
      R"("annotations":{"io.kubernetes.cri.container-name":"main","io.kubernetes.cri.container-type":"container",)"
      R"("io.kubernetes.cri.image-name":"busybox","io.kubernetes.cri.sandbox-id":"s1","io.kubernetes.cri.sandbox-name":"web",)"
      R"("io.kubernetes.cri.sandbox-namespace":"default","io.kubernetes.cri.sandbox-uid":"u1"},)"
      R"("linux":{"cgroupsPath":"/kube/pod1/c1","namespaces":[{"type":"mount"},{"type":"pid"},)"
      R"({"type":"ipc","path":"/proc/77/ns/ipc"},{"type":"network","path":"/proc/77/ns/net"},)"
      R"({"type":"uts","path":"/proc/77/ns/uts"},{"type":"cgroup"}]}})");
}

TEST_F(SpecBuilder, CommandAndArgumentsAgainstTheImage) {
  container.add_args("other");
  EXPECT_THAT(build().process->args, ElementsAre("/entry", "-x", "other"));
  container.add_command("/mine");
  EXPECT_THAT(build().process->args, ElementsAre("/mine", "other"));
  container.clear_args();
  EXPECT_THAT(build().process->args, ElementsAre("/mine")) << "an own command drops the image's Cmd";
  container.clear_command();
  image.config.entrypoint.clear();
  image.config.cmd.clear();
  EXPECT_EQ(refusal().code(), Code::kInvalid);
}

TEST_F(SpecBuilder, EnvironmentOfTheRequestWins) {
  auto* env = container.add_envs();
  env->set_key("A");
  env->set_value(std::string("x=\xff", 3));
  container.set_tty(true);
  const auto& built = build().process->env;
  EXPECT_THAT(built, Contains(std::string("A=x=\xff", 5)));
  EXPECT_THAT(built, Contains("TERM=xterm"));
  env->set_key("A=B");
  EXPECT_EQ(refusal().code(), Code::kInvalid);
}

TEST_F(SpecBuilder, NamespacesThatAreTheHosts) {
  host_network = true;
  host.cgroup_v2 = false;
  auto& options = *security().mutable_namespace_options();
  options.set_network(pb::NODE);
  options.set_pid(pb::NODE);
  options.set_ipc(pb::NODE);
  const auto built = build();
  ASSERT_EQ(built.linux->namespaces.size(), 1U);
  EXPECT_EQ(built.linux->namespaces[0].type, spec::NamespaceType::kMount);
  EXPECT_EQ(mount_at(built, "/dev/shm")->source, "/dev/shm");
  options.set_pid(pb::TARGET);
  EXPECT_EQ(refusal().code(), Code::kPrecondition);
  auto in = input();
  in.target_pid = 123;
  const auto target = build_spec(in);
  ASSERT_TRUE(target);
  EXPECT_EQ(target->spec.linux->find_namespace(spec::NamespaceType::kPid)->path, "/proc/123/ns/pid");
  options.set_pid(pb::POD);
  EXPECT_EQ(refusal().code(), Code::kInvalid) << "the sandbox has no such namespace";
  in.facts.init_pid = 456;
  const auto shared = build_spec(in);
  ASSERT_TRUE(shared);
  EXPECT_EQ(shared->spec.linux->find_namespace(spec::NamespaceType::kPid)->path, "/proc/456/ns/pid");
}

TEST_F(SpecBuilder, WhatIsNotBuiltIsRefusedByName) {
  const auto refused = [this](const char* word) {
    const auto error = refusal();
    EXPECT_EQ(error.code(), Code::kUnsupported) << word;
    EXPECT_THAT(error.text(), HasSubstr(word));
    container.clear_linux();
    container.clear_mounts();
  };
  security().mutable_namespace_options()->set_pid(pb::CONTAINER);
  host.selinux = true;
  security().mutable_selinux_options()->set_type("spc_t");
  refused("selinux_options");
  host.selinux = false;
  security().mutable_apparmor()->set_profile_type(pb::SecurityProfile::RuntimeDefault);
  refused("AppArmor");
  container.mutable_linux()->mutable_resources()->add_hugepage_limits()->set_limit(1);
  refused("hugetlb");
}

TEST_F(SpecBuilder, WithoutSelinuxALabelIsPassedOver) {
  auto& label = *security().mutable_selinux_options();
  label.set_user("system_u");
  label.set_role("system_r");
  label.set_type("container_t");
  label.set_level("s0:c1,c2");
  auto* mount = container.add_mounts();
  mount->set_host_path("/v");
  mount->set_container_path("/v");
  mount->set_selinux_relabel(true);
  const auto built = build();
  EXPECT_EQ(built.process->selinux_label, "");
  EXPECT_EQ(built.linux->mount_label, "");
}

TEST_F(SpecBuilder, TheDefaultApparmorProfile) {
  host.apparmor = true;
  host.apparmor_problem = "no parser";
  EXPECT_EQ(build().process->apparmor_profile, "");
  security().mutable_apparmor()->set_profile_type(pb::SecurityProfile::RuntimeDefault);
  const auto error = refusal();
  EXPECT_EQ(error.code(), Code::kUnavailable);
  EXPECT_THAT(error.text(), HasSubstr("no parser"));
  host.apparmor_default = "ours";
  EXPECT_EQ(build().process->apparmor_profile, "ours");
  security().mutable_apparmor()->set_profile_type(pb::SecurityProfile::Unconfined);
  EXPECT_EQ(build().process->apparmor_profile, "");
  security().clear_apparmor();
  EXPECT_EQ(build().process->apparmor_profile, "ours");
  set_old(security(), "apparmor_profile", "unconfined");
  EXPECT_EQ(build().process->apparmor_profile, "");
  set_old(security(), "apparmor_profile", "runtime/default");
  EXPECT_EQ(build().process->apparmor_profile, "ours");
  security().set_privileged(true);
  pod.mutable_linux()->mutable_security_context()->set_privileged(true);
  EXPECT_EQ(build().process->apparmor_profile, "");
}

TEST_F(SpecBuilder, ApparmorProfileByName) {
  host.apparmor = true;
  security().mutable_apparmor()->set_profile_type(pb::SecurityProfile::Localhost);
  security().mutable_apparmor()->set_localhost_ref("localhost/mine");
  EXPECT_EQ(build().process->apparmor_profile, "mine");
  security().clear_apparmor();
  set_old(security(), "apparmor_profile", "localhost/older");
  EXPECT_EQ(build().process->apparmor_profile, "older");
}

TEST_F(SpecBuilder, PrivilegedNeedsAPrivilegedPod) {
  security().set_privileged(true);
  security().add_masked_paths("/proc/kcore");
  security().mutable_seccomp()->set_profile_type(pb::SecurityProfile::RuntimeDefault);
  EXPECT_EQ(refusal().code(), Code::kInvalid);
  pod.mutable_linux()->mutable_security_context()->set_privileged(true);
  host.bounding_caps = ~(1ULL << 24);  // without CAP_SYS_RESOURCE
  auto in = input();
  spec::Device device;
  device.path = "/dev/loop0";
  device.type = "b";
  in.host_devices = {device};
  const auto built = build_spec(in);
  ASSERT_TRUE(built) << built.error().text();
  EXPECT_THAT(built->spec.process->capabilities->bounding, Contains("CAP_SYS_ADMIN"));
  EXPECT_THAT(built->spec.process->capabilities->bounding, Not(Contains("CAP_SYS_RESOURCE")));
  EXPECT_THAT(built->warnings, Contains(HasSubstr("CAP_SYS_RESOURCE")));
  EXPECT_TRUE(built->spec.linux->masked_paths.empty());
  EXPECT_FALSE(built->spec.linux->seccomp);
  EXPECT_EQ(built->spec.linux->devices.size(), 1U);
  ASSERT_EQ(built->spec.linux->resources->devices.size(), 1U);
  EXPECT_TRUE(built->spec.linux->resources->devices[0].allow);
  EXPECT_THAT(mount_at(built->spec, "/sys")->options, Contains("rw"));
}

TEST_F(SpecBuilder, Capabilities) {
  std::vector<std::string> warnings;
  EXPECT_EQ(build_capabilities(security(), host, warnings)->bounding.size(), 14U);
  security().mutable_capabilities()->add_drop_capabilities("all");
  security().mutable_capabilities()->add_add_capabilities("net_bind_service");
  EXPECT_THAT(build_capabilities(security(), host, warnings)->effective, ElementsAre("CAP_NET_BIND_SERVICE"));
  security().mutable_capabilities()->clear_drop_capabilities();
  security().mutable_capabilities()->add_add_capabilities("ALL");
  security().mutable_capabilities()->add_drop_capabilities("CAP_SYS_ADMIN");
  const auto all = build_capabilities(security(), host, warnings);
  EXPECT_EQ(all->bounding.size(), os::cap_names().size() - 1);
  EXPECT_THAT(all->bounding, Not(Contains("CAP_SYS_ADMIN")));
  EXPECT_TRUE(all->inheritable.empty());
  security().mutable_capabilities()->add_add_ambient_capabilities("NET_RAW");
  EXPECT_THAT(build_capabilities(security(), host, warnings)->ambient, ElementsAre("CAP_NET_RAW"));
  security().mutable_capabilities()->add_add_capabilities("FLY");
  EXPECT_EQ(build_capabilities(security(), host, warnings).error().code(), Code::kInvalid);
}

TEST_F(SpecBuilder, InThePodsUserNamespace) {
  security().mutable_namespace_options()->set_pid(pb::CONTAINER);
  auto& ids = *security().mutable_namespace_options()->mutable_userns_options();
  ids.set_mode(pb::POD);
  const auto add_range = [](auto& list, std::uint32_t host_id, std::uint32_t length) {
    auto& range = *list.Add();
    range.set_host_id(host_id);
    range.set_length(length);
  };
  add_range(*ids.mutable_uids(), 65536, 1000);
  add_range(*ids.mutable_gids(), 70000, 1000);
  EXPECT_THAT(refusal().text(), HasSubstr("its pod has none"));
  *pod.mutable_linux()->mutable_security_context()->mutable_namespace_options() = security().namespace_options();
  auto& mount = *container.add_mounts();
  mount.set_host_path("/v");
  mount.set_container_path("/v");
  add_range(*mount.mutable_uidmappings(), 65536, 10);
  add_range(*mount.mutable_gidmappings(), 70000, 10);
  host.bounding_caps = 0;
  const auto built = build();
  const auto* space = built.linux->find_namespace(spec::NamespaceType::kUser);
  ASSERT_NE(space, nullptr);
  EXPECT_EQ(space->path, "/proc/77/fd/3");
  EXPECT_EQ(built.linux->uid_mappings.at(0).host_id, 65536U);
  EXPECT_EQ(built.linux->gid_mappings.at(0).host_id, 70000U);
  EXPECT_THAT(mount_at(built, "/v")->options, ElementsAre("rbind", "rprivate", "rw", "ridmap"));
  EXPECT_EQ(mount_at(built, "/v")->gid_mappings.at(0).host_id, 70000U);
  EXPECT_THAT(mount_at(built, "/dev/pts")->options, Contains("gid=5"));
  EXPECT_THAT(built.process->capabilities->bounding, Contains("CAP_CHOWN")) << "a new user namespace has them";
  pod.mutable_linux()->mutable_security_context()->set_privileged(true);
  security().set_privileged(true);
  mount.set_propagation(pb::PROPAGATION_BIDIRECTIONAL);
  EXPECT_THAT(refusal().text(), HasSubstr("from a pod with a user namespace"));
  mount.set_propagation(pb::PROPAGATION_PRIVATE);
  for (auto* options : {security().mutable_namespace_options(),
                        pod.mutable_linux()->mutable_security_context()->mutable_namespace_options()}) {
    options->mutable_userns_options()->mutable_gids(0)->set_length(5);
  }
  EXPECT_THAT(mount_at(build(), "/dev/pts")->options, Not(Contains("gid=5"))) << "nobody's there";
}

TEST_F(SpecBuilder, MountsOfTheRequest) {
  const auto add = [this](const char* from, const char* to) {
    auto* mount = container.add_mounts();
    mount->set_host_path(from);
    mount->set_container_path(to);
    return mount;
  };
  add("/deep", "/a/b/../c/")->set_readonly(true);
  add("/shallow", "/a");
  add("/kubelet/hosts", "/etc/hosts");
  auto* rro = add("/r", "/r");
  rro->set_readonly(true);
  rro->set_recursive_read_only(true);
  add("/s", "/s")->set_propagation(pb::PROPAGATION_HOST_TO_CONTAINER);
  const auto built = build();
  EXPECT_THAT(mount_at(built, "/a/c")->options, ElementsAre("rbind", "rprivate", "ro"));
  EXPECT_LT(mount_at(built, "/a"), mount_at(built, "/a/c")) << "parents first";
  EXPECT_EQ(mount_at(built, "/etc/hosts")->source, "/kubelet/hosts");
  EXPECT_THAT(mount_at(built, "/r")->options, ElementsAre("rbind", "rprivate", "rro"));
  EXPECT_THAT(mount_at(built, "/s")->options, ElementsAre("rbind", "rslave", "rw", "X-berth.host"));
  EXPECT_EQ(built.linux->rootfs_propagation, "rslave");

  host.shared_mounts = false;
  EXPECT_THAT(mount_at(build(), "/a/c")->options, ElementsAre("rbind", "rprivate", "ro", "X-berth.host"));
  host.shared_mounts = true;

  rro->set_readonly(false);
  EXPECT_EQ(refusal().code(), Code::kInvalid);
  container.clear_mounts();
  add("/b", "/b")->set_propagation(pb::PROPAGATION_BIDIRECTIONAL);
  EXPECT_EQ(refusal().code(), Code::kInvalid) << "not privileged";
  pod.mutable_linux()->mutable_security_context()->set_privileged(true);
  security().set_privileged(true);
  const auto shared = build();
  EXPECT_THAT(mount_at(shared, "/b")->options, ElementsAre("rbind", "rshared", "rw", "X-berth.host"));
  EXPECT_EQ(shared.linux->rootfs_propagation, "rshared");
  security().set_privileged(false);
  container.clear_mounts();
  add("/b", "/b")->add_uidmappings()->set_length(1);
  EXPECT_EQ(refusal().code(), Code::kInvalid);
  container.clear_mounts();
  add("/b", "/b")->add_mount_options("lowerdir=/x");
  EXPECT_EQ(refusal().code(), Code::kInvalid);
  container.clear_mounts();
  add("relative", "/b");
  EXPECT_EQ(refusal().code(), Code::kInvalid);
  container.clear_mounts();
  add("/b", "/../..");
  EXPECT_EQ(refusal().code(), Code::kInvalid);
}

TEST_F(SpecBuilder, DevicesAreAllowedOneByOne) {
  auto in = input();
  spec::Device fuse;
  fuse.path = "/dev/fuse";
  fuse.type = "c";
  fuse.major = 10;
  fuse.minor = 229;
  in.devices = {{fuse, "rw"}};
  const auto built = build_spec(in);
  ASSERT_TRUE(built);
  const auto& rules = built->spec.linux->resources->devices;
  EXPECT_FALSE(rules.front().allow);
  EXPECT_EQ(rules.front().access, "rwm");
  EXPECT_TRUE(rules.back().allow);
  EXPECT_EQ(rules.back().minor, 229);
  EXPECT_EQ(rules.back().access, "rw");
}

TEST(SpecBuilderParts, CgroupParents) {
  EXPECT_EQ(*cgroup_parent_path("/kube//pod1/"), "/kube/pod1");
  EXPECT_EQ(*cgroup_parent_path("pod.slice"), "/pod.slice");
  EXPECT_EQ(*cgroup_parent_path("/a..b/..c"), "/a..b/..c");
  EXPECT_EQ(cgroup_parent_path("/a/../b").error().code(), Code::kInvalid);
  EXPECT_EQ(cgroup_parent_path("..").error().code(), Code::kInvalid);
}

TEST(SpecBuilderParts, Signals) {
  EXPECT_EQ(signal_number("SIGTERM"), SIGTERM);
  EXPECT_EQ(signal_number("kill"), SIGKILL);
  EXPECT_EQ(signal_number("10"), 10);
  EXPECT_EQ(signal_number("SIGRTMIN+3"), 37);
  EXPECT_EQ(signal_number("SIGRTMAX-1"), 63);
  EXPECT_FALSE(signal_number("0"));
  EXPECT_FALSE(signal_number("65"));
  EXPECT_FALSE(signal_number("SIGNOPE"));
  EXPECT_FALSE(signal_number("RTMIN+99"));
  EXPECT_FALSE(signal_number(pb::SIGNAL_RUNTIME_DEFAULT));
  EXPECT_EQ(signal_number(pb::SIGNAL_SIGKILL), SIGKILL) << "by name: the CRI's number is 13";
  EXPECT_EQ(signal_number(pb::SIGNAL_SIGRTMINPLUS1), 35);
  EXPECT_EQ(signal_number(pb::SIGNAL_SIGRTMAXMINUS14), 50);
  EXPECT_EQ(cri_signal(SIGTERM), pb::SIGNAL_SIGTERM);
  for (int value = pb::Signal_MIN + 1; value <= pb::Signal_MAX; ++value) {
    EXPECT_TRUE(signal_number(static_cast<pb::Signal>(value))) << value;
  }
}

TEST(Seccomp, TheDefaultFollowsTheCapabilities) {
  const auto names = [](const spec::Seccomp& profile) {
    std::vector<std::string> all;
    for (const auto& rule : profile.syscalls) {
      if (rule.action == "SCMP_ACT_ALLOW" && rule.args.empty())
        all.insert(all.end(), rule.names.begin(), rule.names.end());
    }
    return all;
  };
  const auto plain = default_seccomp([](std::string_view) { return false; });
  EXPECT_EQ(plain.default_action, "SCMP_ACT_ERRNO");
  for (const char* forbidden : {"mount", "unshare", "setns", "bpf", "kexec_load", "init_module", "io_uring_setup",
                                "keyctl", "userfaultfd", "reboot", "clone3", "swapon", "open_by_handle_at", "chroot"}) {
    EXPECT_THAT(names(plain), Not(Contains(forbidden)));
  }
  for (const char* needed : {"read", "execve", "futex", "openat2", "epoll_pwait2", "landlock_create_ruleset", "rseq"}) {
    EXPECT_THAT(names(plain), Contains(needed));
  }
  const auto admin = default_seccomp([](std::string_view cap) { return cap == "CAP_SYS_ADMIN"; });
  EXPECT_THAT(names(admin), Contains("clone3"));
  EXPECT_THAT(names(admin), Contains("mount"));
  EXPECT_THAT(names(admin), Not(Contains("reboot")));
}

TEST(Seccomp, ChoiceAndProfileFiles) {
  pb::LinuxContainerSecurityContext security;
  EXPECT_EQ(seccomp_choice(security)->type, pb::SecurityProfile::Unconfined);
  security.mutable_seccomp();
  EXPECT_EQ(seccomp_choice(security)->type, pb::SecurityProfile::RuntimeDefault);
  security.mutable_seccomp()->set_profile_type(pb::SecurityProfile::Localhost);
  security.mutable_seccomp()->set_localhost_ref("relative");
  EXPECT_EQ(seccomp_choice(security).error().code(), Code::kInvalid);
  security.mutable_seccomp()->set_localhost_ref("localhost//etc/p.json");
  EXPECT_EQ(seccomp_choice(security)->localhost_path, "/etc/p.json");
  security.clear_seccomp();
  set_old(security, "seccomp_profile_path", "localhost//etc/old.json");
  EXPECT_EQ(seccomp_choice(security)->localhost_path, "/etc/old.json");
  set_old(security, "seccomp_profile_path", "runtime/default");
  EXPECT_EQ(seccomp_choice(security)->type, pb::SecurityProfile::RuntimeDefault);
  set_old(security, "seccomp_profile_path", "something");
  EXPECT_EQ(seccomp_choice(security).error().code(), Code::kInvalid);

  const auto profile = parse_seccomp_profile(
      R"({"defaultAction":"SCMP_ACT_ERRNO","archMap":[],"syscalls":[{"names":["read"],"action":"SCMP_ACT_ALLOW"}]})");
  ASSERT_TRUE(profile) << profile.error().text();
  EXPECT_EQ(profile->syscalls.size(), 1U);
  for (const char* bad : {"", "[]", "{}", "{\"defaultAction\":7}", "{}},\"x\":{\"a\":{"}) {
    EXPECT_EQ(parse_seccomp_profile(bad).error().code(), Code::kInvalid) << bad;
  }
}

}  // namespace
}  // namespace berth::cri
