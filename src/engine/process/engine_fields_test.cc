#include <fcntl.h>
#include <gmock/gmock.h>
#include <linux/if_addr.h>
#include <linux/netlink.h>
#include <sched.h>
#include <sys/socket.h>
#include <sys/stat.h>
#include <unistd.h>

#include "base/strings.h"
#include "engine/process/test_container.h"
#include "os/link.h"
#include "os/namespace.h"
#include "os/netns.h"

namespace berth::engine::process {
namespace {

using testing::EngineTest;
using ::testing::HasSubstr;
using ::testing::Not;

/// The test's own network namespace stands for the host's.
class NetDevicesTest : public EngineTest {
 protected:
  void SetUp() override {
    EngineTest::SetUp();
    auto real = os::current_netns();
    auto made = os::create_netns();
    ASSERT_TRUE(real && made);
    real_ = std::move(*real);
    host_ = std::move(*made);
    ASSERT_TRUE(os::join_namespaces(host_.get(), CLONE_NEWNET));
    auto route = os::NetlinkSocket::open(NETLINK_ROUTE);
    ASSERT_TRUE(route);
    route_.emplace(std::move(*route));
    os::NetlinkBatch batch;
    os::put_create_veth(batch, {"bt0", 0, "bt1", host_.get(), {}, 1400});
    os::put_link_up(batch, "bt0");
    os::put_link_up(batch, "bt1");
    ASSERT_TRUE(route_->transact(batch));
    const auto link = os::find_link(*route_, "bt0");
    ASSERT_TRUE(link && *link);
    os::NetlinkBatch addresses;
    os::put_address(addresses, (*link)->index, os::Ipv4{0x0a630001}, 24);
    os::LinkAddress v6;
    v6.family = AF_INET6;
    v6.prefix = 64;
    v6.flags = IFA_F_NODAD;
    v6.address = v6.local = std::vector<std::byte>(16);
    v6.address[0] = v6.local[0] = std::byte{0xfd};
    v6.address[15] = v6.local[15] = std::byte{7};
    os::put_same_address(addresses, (*link)->index, v6);
    const auto added = route_->transact(addresses);
    ASSERT_TRUE(added) << added.error().text();
  }
  void TearDown() override {
    route_.reset();
    if (real_.valid()) {
      EXPECT_TRUE(os::join_namespaces(real_.get(), CLONE_NEWNET));
    }
    EngineTest::TearDown();
  }
  bool on_host(const std::string& name) {
    const auto link = os::find_link(*route_, name);
    EXPECT_TRUE(link.has_value());
    return link && link->has_value();
  }
  spec::Spec show_spec(const std::string& host_name, const std::string& name) {
    auto spec = script_spec("/bin/busybox ip addr show; cat /sys/class/net/*/mtu");
    spec.linux->net_devices[host_name].name = name;
    return spec;
  }

  UniqueFd real_;
  UniqueFd host_;
  std::optional<os::NetlinkSocket> route_;
};

TEST_F(NetDevicesTest, MovesRenamesAndKeepsAddresses) {
  struct stat before{};
  struct stat after{};
  ASSERT_EQ(::stat("/proc/thread-self/ns/net", &before), 0);
  const auto out = run(show_spec("bt0", "eth0")).out;
  EXPECT_THAT(out, ::testing::ContainsRegex(": eth0@[^:]*: <[^>]*,UP[,>]"));
  EXPECT_THAT(out, HasSubstr("inet 10.99.0.1/24 brd 10.99.0.255 scope global eth0"));
  EXPECT_THAT(out, HasSubstr("inet6 fd00::7/64 scope global"));
  EXPECT_THAT(out, HasSubstr("1400\n"));
  EXPECT_THAT(out, Not(HasSubstr("bt0")));
  EXPECT_FALSE(on_host("bt0")) << "a virtual device ends with the namespace";
  ASSERT_EQ(::stat("/proc/thread-self/ns/net", &after), 0);
  EXPECT_EQ(before.st_ino, after.st_ino) << "the caller is where it was";
}

TEST_F(NetDevicesTest, KeepsItsNameOrGetsANumber) {
  auto spec = show_spec("bt0", "");
  spec.linux->net_devices["bt1"].name = "net%d";
  const auto out = run(spec).out;
  EXPECT_THAT(out, HasSubstr("scope global bt0"));
  EXPECT_THAT(out, HasSubstr(": net0@"));
}

TEST_F(NetDevicesTest, JoinedNamespaceAndSysctl) {
  const auto other = os::create_netns();
  ASSERT_TRUE(other.has_value());
  auto spec = script_spec("/bin/busybox ip addr show; cat /proc/sys/net/ipv4/conf/eth0/forwarding");
  spec.linux->net_devices["bt0"].name = "eth0";
  spec.linux->sysctl = {{"net.ipv4.conf.eth0.forwarding", "1"}};
  for (auto& entry : spec.linux->namespaces) {
    if (entry.type == spec::NamespaceType::kNetwork) {
      entry.path = "/proc/" + std::to_string(::getpid()) + "/fd/" + std::to_string(other->get());
    }
  }
  const auto out = run(spec).out;
  EXPECT_THAT(out, HasSubstr("inet 10.99.0.1/24"));
  EXPECT_THAT(out, ::testing::EndsWith("\n1\n"));
  EXPECT_FALSE(on_host("bt0"));
  // The namespace is its owner's, and so is the device in there.
  bool there = false;
  ASSERT_TRUE(os::run_in_netns(other->get(), [&there]() -> Result<> {
    BERTH_ASSIGN(auto route, os::NetlinkSocket::open(NETLINK_ROUTE), "socket");
    BERTH_ASSIGN(const auto link, os::find_link(route, "eth0"), "look");
    there = link.has_value();
    return {};
  }));
  EXPECT_TRUE(there);
}

TEST_F(NetDevicesTest, InAUserNamespace) {
  auto spec = show_spec("bt0", "eth0");
  spec.linux->namespaces.push_back({.type = spec::NamespaceType::kUser, .path = "", .extra = {}});
  spec.linux->uid_mappings = {{.container_id = 0, .host_id = 100000, .size = 65536, .extra = {}}};
  spec.linux->gid_mappings = spec.linux->uid_mappings;
  const std::string prepare =
      "chmod 755 " + bundle_.path() + " && chown -R 100000:100000 " + bundle_.path() + "/rootfs";
  ASSERT_EQ(std::system(prepare.c_str()), 0);  // NOLINT
  EXPECT_THAT(run(spec).out, HasSubstr("inet 10.99.0.1/24 brd 10.99.0.255 scope global eth0"));
}

TEST_F(NetDevicesTest, WhatCannotBeMovedIsToldAndNothingIsMoved) {
  auto spec = show_spec("bt0", "eth0");
  spec.linux->net_devices["nosuch0"] = {};
  const Error missing = refused(spec);
  EXPECT_EQ(missing.code(), Code::kNotFound);
  EXPECT_THAT(missing.text(), HasSubstr("nosuch0"));
  EXPECT_TRUE(on_host("bt0"));
  EXPECT_EQ(refused(show_spec("bt0", "lo")).code(), Code::kExists);
  EXPECT_TRUE(on_host("bt0"));
  spec = show_spec("bt0", "");
  for (auto& entry : spec.linux->namespaces) {
    if (entry.type == spec::NamespaceType::kNetwork) entry.path = "/proc/thread-self/ns/net";
  }
  spec.linux->sysctl.clear();
  EXPECT_EQ(refused(spec).code(), Code::kInvalid) << "the caller's own namespace";
  std::erase_if(spec.linux->namespaces, [](const auto& n) { return n.type == spec::NamespaceType::kNetwork; });
  EXPECT_EQ(refused(spec).code(), Code::kInvalid) << "no namespace";
  EXPECT_TRUE(on_host("bt0"));
}

class FieldsTest : public EngineTest {
 protected:
  std::unique_ptr<ProcessContainer> started(spec::Spec spec) {
    auto container = create(std::move(spec));
    if (container != nullptr) {
      EXPECT_TRUE(container->start().has_value());
    }
    return container;
  }
  static Result<std::string> exec(ProcessContainer& container, spec::Process process) {
    BERTH_ASSIGN(auto pipe, os::make_pipe(), "pipe");
    ExecRequest request;
    request.process = std::move(process);
    request.stdio = {-1, pipe.write.get(), pipe.write.get()};
    BERTH_ASSIGN(const Process made, container.exec(request), "exec");
    pipe.write.reset();
    auto out = os::read_all(pipe.read.get(), 1U << 20);
    ignore(os::reap_pidfd(made.pidfd.get()), "only what it wrote counts");
    return out;
  }
};

TEST_F(FieldsTest, MemoryPolicyOfInitAndExec) {
  if (!os::exists("/proc/self/numa_maps")) GTEST_SKIP() << "a kernel without NUMA";
  const auto shown = [this](const char* mode, std::vector<std::string> flags) {
    auto spec = script_spec("cat /proc/self/numa_maps");
    spec.linux->memory_policy = spec::MemoryPolicy{.mode = mode, .nodes = "0", .flags = std::move(flags), .extra = {}};
    return run(spec).out;
  };
  EXPECT_THAT(shown("MPOL_BIND", {}), HasSubstr(" bind:0 "));
  EXPECT_THAT(shown("MPOL_BIND", {"MPOL_F_STATIC_NODES"}), HasSubstr(" bind=static:0 "));
  EXPECT_THAT(shown("MPOL_INTERLEAVE", {}), HasSubstr(" interleave:0 "));
  EXPECT_THAT(shown("MPOL_PREFERRED", {"MPOL_F_RELATIVE_NODES"}), HasSubstr(" prefer=relative:0 "));

  auto spec = script_spec("sleep 1000");
  spec.linux->memory_policy = spec::MemoryPolicy{.mode = "MPOL_BIND", .nodes = "0", .flags = {}, .extra = {}};
  const auto container = started(spec);
  ASSERT_NE(container, nullptr);
  EXPECT_THAT(exec(*container, *script_spec("cat /proc/self/numa_maps").process).value_or(""), HasSubstr(" bind:0 "));
  finish(*container);

  spec.linux->memory_policy->mode = "MPOL_NONSENSE";
  EXPECT_EQ(refused(spec).code(), Code::kInvalid);
  spec.linux->memory_policy = spec::MemoryPolicy{.mode = "MPOL_BIND", .nodes = "60000", .flags = {}, .extra = {}};
  const Error absent = refused(spec);
  EXPECT_EQ(absent.code(), Code::kInvalid);
  EXPECT_THAT(absent.text(), HasSubstr("linux.memoryPolicy"));
}

TEST_F(FieldsTest, ExecCpuAffinity) {
  if (::sysconf(_SC_NPROCESSORS_ONLN) < 2) GTEST_SKIP() << "one CPU";
  auto spec = script_spec("sleep 1000");
  spec.process->exec_cpu_affinity = spec::ExecCpuAffinity{.initial = "0", .final_cpus = "1", .extra = {}};
  const auto container = started(spec);
  ASSERT_NE(container, nullptr);
  const auto cpus_of = [&container, this](std::optional<spec::ExecCpuAffinity> affinity) {
    auto process = *script_spec("grep Cpus_allowed_list /proc/self/status").process;
    process.exec_cpu_affinity = std::move(affinity);
    return exec(*container, std::move(process));
  };
  EXPECT_EQ(cpus_of({}).value_or(""), "Cpus_allowed_list:\t1\n") << "of the container's process";
  EXPECT_EQ(cpus_of(spec::ExecCpuAffinity{.initial = "", .final_cpus = "0", .extra = {}}).value_or(""),
            "Cpus_allowed_list:\t0\n");
  const auto init = os::read_file("/proc/" + std::to_string(container->init().pid) + "/status", 1U << 16);
  EXPECT_THAT(init.value_or(""), Not(HasSubstr("Cpus_allowed_list:\t1\n"))) << "not for init";
  for (const char* which : {"initial", "final"}) {
    spec::ExecCpuAffinity affinity;
    (which[0] == 'i' ? affinity.initial : affinity.final_cpus) = "60000";
    const auto absent = cpus_of(affinity);
    ASSERT_FALSE(absent.has_value());
    EXPECT_EQ(absent.error().code(), Code::kInvalid);
    EXPECT_THAT(absent.error().text(), HasSubstr(std::string("execCPUAffinity.") + which));
  }
  EXPECT_EQ(cpus_of(spec::ExecCpuAffinity{.initial = "x", .final_cpus = "", .extra = {}}).error().code(),
            Code::kInvalid);
  finish(*container);
  spec.process->exec_cpu_affinity->final_cpus = "3-1";
  EXPECT_EQ(refused(spec).code(), Code::kInvalid);
}

/// A folder that stands for a mounted resctrl: what is written to it stays and can be read.
class RdtTest : public FieldsTest {
 protected:
  RdtTest() { engine_ = make_process_engine({.resctrl_root = root_}); }
  void SetUp() override {
    FieldsTest::SetUp();
    ASSERT_TRUE(os::make_dirs(root_ + "/mon_groups"));
  }
  std::string file(const std::string& name) { return os::read_file(root_ + "/" + name, 4096).value_or("-"); }
  spec::Spec rdt_spec(spec::IntelRdt rdt) {
    auto spec = script_spec("sleep 1000");
    spec.linux->intel_rdt = std::move(rdt);
    return spec;
  }
  /// A group of the kernel's can be removed with its files; a folder cannot.
  void empty_group(const std::string& name) {
    for (const char* entry : {"/tasks", "/schemata"})
      ignore(os::remove_file(root_ + "/" + name + entry), "may be absent");
  }

  std::string root_ = bundle_.path() + "/resctrl";
};

TEST_F(RdtTest, AGroupOfTheContainersOwn) {
  const auto container =
      create(rdt_spec({.schemata = {"L2:0=f"}, .l3_cache_schema = "L3:0=7f0", .mem_bw_schema = "MB:0=20"}));
  ASSERT_NE(container, nullptr);
  const std::string group = container->id();
  EXPECT_EQ(file(group + "/schemata"), "L3:0=7f0\nMB:0=20\nL2:0=f\n");
  EXPECT_EQ(file(group + "/tasks"), std::to_string(container->init().pid));
  ASSERT_TRUE(container->start().has_value());
  EXPECT_EQ(exec(*container, *script_spec("echo in").process).value_or(""), "in\n");
  EXPECT_THAT(file(group + "/tasks"), ::testing::StartsWith("0")) << "the exec joined by itself";
  ASSERT_TRUE(container->update_rdt("L3:0=001", "MB:0=99").has_value());
  EXPECT_THAT(file(group + "/schemata"), ::testing::StartsWith("L3:0=001\nMB:0=99\n"));
  EXPECT_EQ(container->update_rdt("L3:0=1\nX", "").error().code(), Code::kInvalid);
  empty_group(group);
  finish(*container);
  EXPECT_FALSE(os::exists(root_ + "/" + group));
}

TEST_F(RdtTest, AGroupByNameIsKeptAndItsMonitorIsNot) {
  ASSERT_TRUE(os::make_dirs(root_ + "/gold/mon_groups"));
  ASSERT_TRUE(os::write_file_atomic(root_ + "/gold/schemata", "    L3:0=007f0;1=7ff\n"));
  const auto container =
      create(rdt_spec({.clos_id = "gold", .l3_cache_schema = "L3:0=7f0", .enable_monitoring = true}));
  ASSERT_NE(container, nullptr);
  const std::string monitor = "gold/mon_groups/" + container->id();
  EXPECT_EQ(file("gold/tasks"), std::to_string(container->init().pid));
  EXPECT_EQ(file(monitor + "/tasks"), std::to_string(container->init().pid));
  empty_group(monitor);
  finish(*container);
  EXPECT_TRUE(os::exists(root_ + "/gold"));
  EXPECT_FALSE(os::exists(root_ + "/" + monitor));
}

TEST_F(RdtTest, WhatDoesNotFitIsRefusedAndLeavesNothing) {
  ASSERT_TRUE(os::make_dirs(root_ + "/gold"));
  ASSERT_TRUE(os::write_file_atomic(root_ + "/gold/schemata", "L3:0=7ff\n"));
  EXPECT_EQ(refused(rdt_spec({.clos_id = "gold", .l3_cache_schema = "L3:0=7f0"})).code(), Code::kPrecondition);
  EXPECT_EQ(file("gold/schemata"), "L3:0=7ff\n");
  EXPECT_EQ(refused(rdt_spec({.clos_id = "absent"})).code(), Code::kNotFound);
  EXPECT_EQ(refused(rdt_spec({.clos_id = "../x"})).code(), Code::kInvalid);
  // A group of the container's name that somebody else made stays his.
  ASSERT_TRUE(os::make_dirs(root_ + "/" + bundle_.name()));
  EXPECT_EQ(refused(rdt_spec({})).code(), Code::kExists);
  EXPECT_TRUE(os::exists(root_ + "/" + bundle_.name()));
  ASSERT_TRUE(os::remove_tree(root_ + "/" + bundle_.name()));
  // A creation that fails later takes its group along.
  auto spec = rdt_spec({});
  spec.process->args = {"/no/such/program"};
  EXPECT_EQ(refused(spec).code(), Code::kNotFound);
  EXPECT_FALSE(os::exists(root_ + "/" + bundle_.name()));
  EXPECT_FALSE(os::exists(root_ + "/absent"));
  // The kernel's words are passed on.
  ASSERT_TRUE(os::make_dirs(root_ + "/info"));
  ASSERT_TRUE(os::write_file_atomic(root_ + "/info/last_cmd_status", "Unknown schema 'X'\n"));
  ASSERT_TRUE(os::make_dirs(root_ + "/bad/schemata"));
  EXPECT_THAT(refused(rdt_spec({.clos_id = "bad", .schemata = {"X:0=1"}})).text(), HasSubstr("(Unknown schema 'X')"));
}

TEST_F(FieldsTest, MountLabelIsDemanded) {
  if (os::exists("/sys/fs/selinux/enforce")) GTEST_SKIP() << "SELinux is active here";
  auto spec = script_spec("true");
  spec.linux->mount_label = "system_u:object_r:container_file_t:s0";
  const Error error = refused(spec);
  EXPECT_EQ(error.code(), Code::kUnsupported);
  EXPECT_THAT(error.text(), HasSubstr("linux.mountLabel"));
}

TEST_F(FieldsTest, MountNamespaceByPath) {
  testing::Bundle other;
  CreateRequest request;
  request.id = other.name();
  request.bundle = other.path();
  request.spec = testing::default_spec(other, {"/bin/sleep", "1000"});
  request.die_with_parent = true;
  const auto holder = engine_->create_process(std::move(request));
  ASSERT_TRUE(holder.has_value()) << holder.error().text();
  ASSERT_TRUE((*holder)->start().has_value());
  const std::string path = "/proc/" + std::to_string((*holder)->init().pid) + "/ns/mnt";
  struct stat st{};
  ASSERT_EQ(::stat(path.c_str(), &st), 0);
  auto spec = script_spec("readlink /proc/self/ns/mnt; touch /here; grep -c ' / / ' /proc/self/mountinfo");
  for (auto& entry : spec.linux->namespaces) {
    if (entry.type == spec::NamespaceType::kMount) entry.path = path;
  }
  EXPECT_THAT(run(spec).out, ::testing::StartsWith("mnt:[" + std::to_string(st.st_ino) + "]\n"));
  EXPECT_TRUE(os::exists(bundle_.path() + "/rootfs/here")) << "its root is the bundle's";
  finish(**holder);
  std::erase_if(spec.linux->namespaces, [](const auto& n) { return n.type == spec::NamespaceType::kMount; });
  EXPECT_EQ(refused(spec).code(), Code::kUnsupported);
}

TEST_F(FieldsTest, TheCallersMountNamespaceIsNotJoined) {
  auto spec = script_spec("true");
  for (auto& entry : spec.linux->namespaces) {
    if (entry.type == spec::NamespaceType::kMount) entry.path = "/proc/self/ns/mnt";
  }
  // In a namespace that can be lost, should it be joined after all.
  const auto cloned = os::clone_process({});
  ASSERT_TRUE(cloned.has_value());
  if (cloned->pid == 0) {
    if (!os::unshare_namespaces(CLONE_NEWNS)) ::_exit(2);
    ::_exit(refused(spec).code() == Code::kInvalid ? 0 : 1);
  }
  EXPECT_EQ(os::reap_pidfd(cloned->pidfd.get()).value_or(-1), 0);
}

}  // namespace
}  // namespace berth::engine::process
