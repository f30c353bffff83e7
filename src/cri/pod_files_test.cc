#include "cri/pod_files.h"

#include "gmock/gmock.h"
#include "gtest/gtest.h"
#include "os/file.h"

namespace berth::cri {
namespace {

using testing::HasSubstr;

TEST(PodFiles, SandboxJson) {
  SandboxRecord record;
  record.id = "s1";
  record.config.set_hostname("web-0");
  (*record.config.mutable_linux()->mutable_sysctls())["net.core.somaxconn"] = "1024";
  record.cgroup_parent = "/kube/pod1";
  EXPECT_EQ(sandbox_json(record, {}, 16384),
            R"({"version":1,"sandbox_id":"s1","hostname":"web-0","ipc":"pod","uts":"pod","shm_size_bytes":67108864,)"
            R"("sysctls":{"net.core.somaxconn":"1024"},"cgroup_parent":"/kube/pod1","log_max_line_bytes":16384})");
  SandboxRecord unit = record;
  unit.systemd_cgroups = true;
  unit.cgroup_parent = "/kube.slice/kube-pod1.slice";
  EXPECT_THAT(sandbox_json(unit, {}, 16384, "/bin/berth-scope"),
              HasSubstr(R"("cgroup_parent":"/kube.slice/kube-pod1.slice","systemd":{"slice":"kube-pod1.slice",)"
                        R"("scope":"berth-s1.scope","program":"/bin/berth-scope"},"log_max_line_bytes")"));
  record.host_network = true;
  record.config.mutable_linux()->mutable_security_context()->mutable_namespace_options()->set_ipc(pb::NODE);
  const auto node = sandbox_json(record, {.binary = "/usr/bin/crun"}, 1);
  EXPECT_THAT(node, HasSubstr(R"("hostname":"","ipc":"node","uts":"node","pid":"pod","shm_size_bytes":0)"));
  EXPECT_THAT(node, HasSubstr(R"("engine":"external","runtime_binary":"/usr/bin/crun"})"));
  EXPECT_THAT(sandbox_json(record, {.shim = "/s"}, 1), HasSubstr(R"("engine":"shim","shim":"/s"})"));
  EXPECT_THAT(sandbox_json(record, {.shim = "/s", .binary = "/b"}, 1),
              HasSubstr(R"("engine":"shim","shim":"/s","runtime_binary":"/b"})"));
  EXPECT_THAT(sandbox_json(record, {.binary = "/b", .root = "/r"}, 1),
              HasSubstr(R"("runtime_binary":"/b","runtime_root":"/r"})"));
}

TEST(PodFiles, SandboxJsonOfAUserNamespace) {
  SandboxRecord record;
  record.id = "s1";
  auto& options = *record.config.mutable_linux()->mutable_security_context()->mutable_namespace_options();
  options.set_pid(pb::CONTAINER);
  auto& user = *options.mutable_userns_options();
  user.set_mode(pb::POD);
  for (auto* list : {user.mutable_uids(), user.mutable_gids()}) {
    list->Add()->set_length(1000);
    list->Mutable(0)->set_host_id(65536);
  }
  const std::string ids = R"("root_uid":65536,"root_gid":65536})";
  EXPECT_THAT(sandbox_json(record, {}, 1),
              HasSubstr(R"("user_namespace":{"fd":3,"ipc_fd":4,"uts_fd":5,)" + ids + R"(,"shm_size_bytes")"));
  record.host_network = true;
  EXPECT_THAT(sandbox_json(record, {}, 1), HasSubstr(R"("user_namespace":{"fd":3,"ipc_fd":4,)" + ids));
  EXPECT_EQ(user_namespace_path(77), "/proc/77/fd/3");
}

TEST(PodFiles, ExitNote) {
  std::string dir = testing::TempDir() + "/exit-note-XXXXXX";
  ASSERT_NE(::mkdtemp(dir.data()), nullptr);
  EXPECT_FALSE(read_exit_note(dir));
  const auto note = [&dir](const char* text) {
    EXPECT_TRUE(os::write_file_atomic(dir + "/exit", text));
    return read_exit_note(dir);
  };
  const auto whole = note("137 1700000000000000001 OOMKilled\n");
  ASSERT_TRUE(whole);
  EXPECT_EQ(whole->code, 137);
  EXPECT_EQ(whole->at_ns, 1700000000000000001);
  EXPECT_EQ(whole->reason, "OOMKilled");
  // Cut off while it was written, or never ours.
  for (const auto* text : {"", "7", "7 17000000", "7 1700000000000000001 Error", "x 1 Error\n", "7 1\n"}) {
    EXPECT_FALSE(note(text)) << text;
  }
  EXPECT_TRUE(os::remove_tree(dir));
}

TEST(PodFiles, ResolvConf) {
  pb::DNSConfig dns;
  dns.add_servers("10.0.0.10");
  dns.add_searches("a.local");
  dns.add_searches("b.local");
  dns.add_options("ndots:5");
  EXPECT_EQ(*resolv_conf(dns), "search a.local b.local\nnameserver 10.0.0.10\noptions ndots:5\n");
  dns.add_servers("10.0.0.1\nnameserver 6.6.6.6");
  EXPECT_EQ(resolv_conf(dns).error().code(), Code::kInvalid);
}

TEST(PodFiles, Hosts) {
  const auto hosts = hosts_file("web-0", {"10.0.0.2", "fd00::2"});
  EXPECT_THAT(hosts, HasSubstr("127.0.0.1\tlocalhost\n"));
  EXPECT_THAT(hosts, HasSubstr("10.0.0.2\tweb-0\nfd00::2\tweb-0\n"));
}

}  // namespace
}  // namespace berth::cri
