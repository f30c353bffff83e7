// The machine is restarted: what ran is gone, and the folder on tmpfs with it. Nothing of the old pods is held any
// more.
#include <signal.h>
#include <sys/mount.h>

#include <algorithm>
#include <cerrno>

#include "fixture.h"
#include "os/file.h"
#include "wait.h"

namespace berth::test {
namespace {

constexpr const char* kBootId = "/proc/sys/kernel/random/boot_id";

// Another boot, as every program sees that is started from here on (in this test's mount namespace).
class OtherBoot {
 public:
  explicit OtherBoot(const std::string& dir) {
    const std::string file = dir + "/boot_id";
    must(os::write_file_atomic(file, "11111111-2222-4333-8444-555555555555\n"));
    if (::mount(file.c_str(), kBootId, nullptr, MS_BIND, nullptr) != 0) must<void>(fail_errno(errno, kBootId));
  }
  OtherBoot(const OtherBoot&) = delete;
  OtherBoot& operator=(const OtherBoot&) = delete;
  OtherBoot(OtherBoot&&) = delete;
  OtherBoot& operator=(OtherBoot&&) = delete;
  ~OtherBoot() { EXPECT_EQ(::umount2(kBootId, MNT_DETACH), 0); }
};

struct Builtin {
  static TestHostOptions options() { return {}; }
  static std::string addresses(const TestHost& host) { return host.root() + "/network/leases"; }
  static constexpr const char* kForget = "ip link del berth0; nft flush ruleset";
};
// Without ipMasq: the reference bridge plugin takes those rules back only while the pod's namespace is there.
struct Plugins {
  static TestHostOptions options() {
    return {.conflist = R"({"cniVersion": "1.0.0", "name": "reference", "plugins": [
      {"type": "bridge", "bridge": "cni-boot0", "isGateway": true,
       "ipam": {"type": "host-local", "dataDir": "@DIR@/ipam", "ranges": [[{"subnet": "10.92.0.0/24"}]]}},
      {"type": "portmap", "capabilities": {"portMappings": true}}]})"};
  }
  static std::string addresses(const TestHost& host) { return host.dir() + "/ipam/reference"; }
  static constexpr const char* kForget =
      "ip link del cni-boot0; nft flush ruleset; iptables -t nat -F; iptables -t nat -X";
};

template <class Kind>
class RebootTest : public HostTest<Kind> {
 protected:
  using Base = HostTest<Kind>;
  static constexpr int kPods = 3;
  struct Pods {
    std::vector<std::string> ids;
    std::vector<std::string> ips;
    std::vector<std::string> containers;
  };
  // Pods with a host port each; one of them holds a container that has ended with 3 before.
  static Pods pods() {
    Pods made;
    for (int i = 0; i < kPods; ++i) {
      auto config = Base::host().pod_config("pod" + std::to_string(i));
      config.add_port_mappings()->set_host_port(18100 + i);
      config.mutable_port_mappings(0)->set_container_port(80);
      const auto pod = must(Base::cri().run_pod(config));
      made.ids.push_back(pod);
      made.ips.push_back(must(Base::cri().pod_status(pod)).network().ip());
      made.containers.push_back(must(Base::cri().run(pod, Base::host().container_config("web", "busybox"), config)));
      if (i == 0) {
        made.containers.push_back(must(Base::cri().run(pod, Base::host().shell_config("ended", "exit 3"), config)));
        must(Base::cri().wait_exited(made.containers.back()));
      }
    }
    return made;
  }
  static void end_everything() {
    Base::host().kill9_daemon();
    EXPECT_TRUE(wait_until(std::chrono::seconds(20), [] {
      const auto pids = processes_of(Base::host());
      for (const pid_t pid : pids) ::kill(pid, SIGKILL);
      return pids.empty();
    }));
    must(os::remove_tree(Base::host().state()));
  }
  // What only lives in the kernel.
  static void forget_the_kernels_part() {
    must(run_program({"sh", "-c", Kind::kForget}));
    for (auto folders = cgroups_of(Base::host()); !folders.empty(); folders.pop_back()) ::rmdir(folders.back().c_str());
    EXPECT_TRUE(cgroups_of(Base::host()).empty());
  }
  // Both keep one file for each address that is taken.
  static bool held(const std::string& ip) { return os::exists(Kind::addresses(Base::host()) + "/" + ip); }
  // What the new daemon has to make of it by itself, before anybody asks for a removal.
  static void check_released(const Pods& before) {
    for (const auto& id : before.ids) {
      EXPECT_EQ(must(Base::cri().pod_status(id)).state(), pb::SANDBOX_NOTREADY);
    }
    for (std::size_t i = 0; i < before.containers.size(); ++i) {
      const auto status = must(Base::cri().status(before.containers[i]));
      EXPECT_EQ(status.state(), pb::CONTAINER_EXITED);
      const bool had_ended = i == 1;
      EXPECT_EQ(status.exit_code() == 3, had_ended) << status.exit_code();
    }
    for (const auto& ip : before.ips) {
      EXPECT_TRUE(wait_until(std::chrono::seconds(20), [&ip] { return !held(ip); })) << ip;
    }
    // The parent's own folders may stay.
    EXPECT_TRUE(wait_until(std::chrono::seconds(20), [] {
      return std::ranges::all_of(cgroups_of(Base::host()),
                                 [](const auto& folder) { return folder.ends_with(Base::host().cgroup_parent()); });
    }));
  }
  static void remove_and_check(const Pods& before, HostState clean, bool shared_gone = false) {
    // What pods share comes back with the next one, and the fixture's own mount is none of theirs.
    if (shared_gone) {
      for (const auto& id : before.ids) EXPECT_TRUE(ok(Base::cri().remove_pod(id)));
      must(Base::cri().end_pod(pods().ids.front()));
      must(Base::cri().end_all());
      for (const auto& line : mounts(Base::host())) {
        if (line.find(kBootId) != std::string::npos) clean.lines.insert(line);
      }
    }
    for (const auto& id : before.ids) EXPECT_TRUE(ok(Base::cri().remove_pod(id)));
    EXPECT_EQ(leftovers(Base::host(), clean), "");
    const auto fsck = must(run_program({TestHost::program("berth"), "--address", Base::host().socket(), "fsck"}));
    EXPECT_EQ(fsck.code, 0) << fsck.out << fsck.err;
    // The same pods again, with the same host ports.
    const auto again = pods();
    for (const auto& ip : again.ips) EXPECT_TRUE(held(ip));
    EXPECT_TRUE(ok(Base::cri().end_all()));
    EXPECT_EQ(leftovers(Base::host(), clean), "");
  }
  // What is there when the last pod has gone: the shared bridge and rules.
  static HostState after_the_first_pods() {
    pods();
    must(Base::cri().end_all());
    return look(Base::host());
  }
};

using Kinds = testing::Types<Builtin, Plugins>;
TYPED_TEST_SUITE(RebootTest, Kinds);

TYPED_TEST(RebootTest, EverythingIsReleased) {
  const auto clean = this->after_the_first_pods();
  const auto before = this->pods();
  this->end_everything();
  this->forget_the_kernels_part();
  const OtherBoot boot(this->host().dir());
  ASSERT_TRUE(ok(this->host().start_daemon()));
  this->check_released(before);
  // The next daemon of the same boot has nothing to do.
  this->host().kill9_daemon();
  ASSERT_TRUE(ok(this->host().start_daemon()));
  this->check_released(before);
  this->remove_and_check(before, clean, true);
}

// Somebody clears /run: the shims live on or not, the machine is the same.
TYPED_TEST(RebootTest, TheStateFolderAloneIsGone) {
  const auto clean = this->after_the_first_pods();
  for (const bool shims_live : {false, true}) {
    SCOPED_TRACE(shims_live ? "the shims live on" : "the shims are gone");
    const auto before = this->pods();
    if (shims_live) {
      this->host().kill9_daemon();
      must(os::remove_tree(this->host().state()));
    } else {
      this->end_everything();
    }
    ASSERT_TRUE(ok(this->host().start_daemon()));
    this->check_released(before);
    this->remove_and_check(before, clean);
  }
}

}  // namespace
}  // namespace berth::test
