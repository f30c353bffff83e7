#include <fcntl.h>
#include <gmock/gmock.h>
#include <gtest/gtest.h>
#include <sys/mount.h>
#include <sys/stat.h>
#include <unistd.h>

#include <array>

#include "berth/wkt/wkt.pb.h"
#include "os/file.h"
#include "os/spawn.h"
#include "shim/changes.h"
#include "shim/command_line.h"
#include "shim/containerd.h"
#include "shim/exec_sync.h"
#include "shim/leftovers.h"
#include "shim/metrics.h"
#include "shim/mount_trees.h"
#include "shim/process_io.h"
#include "shim/reaper.h"
#include "shim/relay.h"
#include "shim/rootfs.h"
#include "shim/sandbox_config.h"
#include "shim/stdio_uri.h"
#include "shim/test_support.h"

// The parts that need no container.
namespace berth::shim {
namespace {

using testing::ElementsAre;
using testing::HasSubstr;
using testing::IsEmpty;
using namespace std::chrono_literals;

std::unique_ptr<event::Loop> new_loop() {
  auto loop = event::Loop::create();
  EXPECT_TRUE(loop);
  return std::move(*loop);
}

TEST(SandboxConfig, EveryMember) {
  const auto config =
      parse_sandbox_config(R"({"version":1,"sandbox_id":"abc","hostname":"web-0","ipc":"pod","uts":"node","pid":"pod",
    "shm_size_bytes":1024,"sysctls":{"net.core.somaxconn":"1024"},"cgroup_parent":"/k","log_max_line_bytes":100,"new":{}})");
  ASSERT_TRUE(config) << config.error().text();
  EXPECT_EQ(config->sandbox_id, "abc");
  EXPECT_EQ(config->hostname, "web-0");
  EXPECT_TRUE(config->pod_ipc);
  EXPECT_FALSE(config->pod_uts);
  EXPECT_TRUE(config->pod_pid);
  EXPECT_EQ(config->shm_size_bytes, 1024U);
  EXPECT_THAT(config->sysctls, ElementsAre(testing::Pair("net.core.somaxconn", "1024")));
  EXPECT_EQ(config->cgroup_parent, "/k");
  EXPECT_EQ(config->log_max_line_bytes, 100U);
}

TEST(SandboxConfig, BadOnesAreRefused) {
  for (const char* text :
       {"",
        "[]",
        "{",
        R"({"sandbox_id":"a"})",
        R"({"version":2,"sandbox_id":"a"})",
        R"({"version":1})",
        R"({"version":1,"sandbox_id":"../a"})",
        R"({"version":1,"sandbox_id":"a","ipc":"host"})",
        R"({"version":1,"sandbox_id":"a","pid":"node"})",
        R"({"version":1,"sandbox_id":"a","shm_size_bytes":-1})",
        R"({"version":1,"sandbox_id":"a","log_max_line_bytes":0})",
        R"({"version":1,"sandbox_id":"a","engine":"external"})",
        R"({"version":1,"sandbox_id":"a","engine":"vm"})",
        R"({"version":1,"sandbox_id":"a","engine":"external","runtime_binary":"crun"})",
        R"({"version":1,"sandbox_id":"a","runtime_binary":"/usr/bin/crun"})",
        R"({"version":1,"sandbox_id":"a","engine":"shim"})",
        R"({"version":1,"sandbox_id":"a","shim":"/s"})",
        R"({"version":1,"sandbox_id":"a","engine":"shim","shim":"s"})",
        R"({"version":1,"sandbox_id":"a","engine":"external","shim":"/s","runtime_binary":"/b"})",
        R"({"version":1,"sandbox_id":"a","engine":"external","runtime_binary":"/b","runtime_root":"r"})",
        R"({"version":1,"sandbox_id":"a","log_max_line_bytes":99999999})",
        R"({"version":1,"sandbox_id":"a","user_namespace":{}})",
        R"({"version":1,"sandbox_id":"a","user_namespace":{"fd":2}})",
        R"({"version":1,"sandbox_id":"a","user_namespace":{"fd":3,"ipc_fd":4}})",
        R"({"version":1,"sandbox_id":"a","ipc":"pod","user_namespace":{"fd":3}})",
        R"({"version":1,"sandbox_id":"a","ipc":"pod","user_namespace":{"fd":3,"ipc_fd":3}})",
        R"({"version":1,"sandbox_id":"a","user_namespace":{"fd":3,"root_uid":4294967295}})",
        R"({"version":1,"sandbox_id":"a"} x)"}) {
    EXPECT_FALSE(parse_sandbox_config(text)) << text;
  }
}

TEST(SandboxConfig, AUserNamespace) {
  const auto config = parse_sandbox_config(
      R"({"version":1,"sandbox_id":"a","ipc":"pod","uts":"pod",
    "user_namespace":{"fd":3,"ipc_fd":4,"uts_fd":5,"root_uid":65536,"root_gid":70000,"new":1}})");
  ASSERT_TRUE(config) << config.error().text();
  ASSERT_TRUE(config->user_namespace);
  EXPECT_EQ(config->user_namespace->fd, 3);
  EXPECT_EQ(config->user_namespace->ipc_fd, 4);
  EXPECT_EQ(config->user_namespace->uts_fd, 5);
  EXPECT_EQ(config->user_namespace->root_uid, 65536U);
  EXPECT_EQ(config->user_namespace->root_gid, 70000U);
}

TEST(SandboxConfig, ARuntimeOfItsOwn) {
  const auto config = parse_sandbox_config(
      R"({"version":1,"sandbox_id":"a","engine":"external","runtime_binary":"/usr/bin/crun","runtime_root":"/r"})");
  ASSERT_TRUE(config) << config.error().text();
  EXPECT_EQ(config->runtime_binary, "/usr/bin/crun");
  EXPECT_EQ(config->runtime_root, "/r");
  EXPECT_EQ(parse_sandbox_config(R"({"version":1,"sandbox_id":"a","engine":"process"})")->runtime_binary, "");
  const auto shim = parse_sandbox_config(R"({"version":1,"sandbox_id":"a","engine":"shim","shim":"/s"})");
  ASSERT_TRUE(shim) << shim.error().text();
  EXPECT_EQ(shim->shim, "/s");
  EXPECT_EQ(shim->runtime_binary, "");
}

TEST(SandboxConfig, CgroupsBySystemd) {
  const auto text = [](const std::string& systemd) {
    return R"({"version":1,"sandbox_id":"a","systemd":{)" + systemd + "}}";
  };
  const std::string whole = R"("slice":"k-p.slice","scope":"berth-a.scope","program":"/bin/berth-scope","later":1)";
  const auto config = parse_sandbox_config(text(whole));
  ASSERT_TRUE(config) << config.error().text();
  ASSERT_TRUE(config->systemd);
  EXPECT_EQ(config->systemd->slice, "k-p.slice");
  EXPECT_EQ(config->systemd->scope, "berth-a.scope");
  EXPECT_EQ(config->systemd->program, "/bin/berth-scope");
  for (const char* bad : {"", R"("slice":"k-p.slice","scope":"berth-a.scope")",
                          R"("slice":"../x.slice","scope":"berth-a.scope","program":"/b")",
                          R"("slice":"k.slice","scope":"-a/b.scope","program":"/b")",
                          R"("slice":"k.slice","scope":"berth-a.service","program":"/b")",
                          R"("slice":"k.slice","scope":"berth-a.scope","program":"b")"}) {
    EXPECT_FALSE(parse_sandbox_config(text(bad))) << bad;
  }
}

TEST(MountTrees, OptionsOfTheDaemonsAreTakenOut) {
  spec::Spec spec;
  spec.mounts.push_back({.destination = "/plain", .type = "tmpfs", .source = "tmpfs", .options = {"nosuid"}});
  spec.mounts.push_back({.destination = "/v", .type = "bind", .source = "/", .options = {"rbind", "X-berth.host"}});
  const auto trees = make_mount_trees(spec, -1, "/nowhere");
  ASSERT_TRUE(trees) << trees.error().text();
  EXPECT_TRUE(trees->empty()) << "who is in the host's mount namespace needs none";
  EXPECT_THAT(spec.mounts[0].options, ElementsAre("nosuid"));
  EXPECT_THAT(spec.mounts[1].options, ElementsAre("rbind"));
  for (const auto& options : std::vector<std::vector<std::string>>{{"X-berth.other"},
                                                                   {"X-berth.sub-path=a"},
                                                                   {"X-berth.host", "X-berth.image"},
                                                                   {"X-berth.host", "X-berth.sub-path=a"}}) {
    spec.mounts[1].options = options;
    const auto refused = make_mount_trees(spec, -1, "/nowhere");
    ASSERT_FALSE(refused) << options.front();
    EXPECT_EQ(refused.error().code(), Code::kInvalid) << options.front();
    EXPECT_THAT(refused.error().text(), HasSubstr("mount /v"));
  }
  spec.mounts[0].options = {"X-berth.image"};
  const auto refused = make_mount_trees(spec, -1, "/nowhere");
  ASSERT_FALSE(refused);
  EXPECT_THAT(refused.error().text(), HasSubstr("an image is an overlay or a bind"));
}

TEST(Containerd, EachVersionGetsItsFormOfTheAddress) {
  EXPECT_EQ(bootstrap_answer("unix:///s", nullptr), "unix:///s");
  for (const char* old : {"", "2", "x", "-3"}) EXPECT_EQ(bootstrap_answer("unix:///s", old), "unix:///s") << old;
  const std::string json = R"({"version":3,"address":"unix:///s","protocol":"ttrpc"})";
  for (const char* version : {"3", "4"}) EXPECT_EQ(bootstrap_answer("unix:///s", version), json) << version;
}

TEST(Containerd, APodHasOneSocket) {
  const std::string socket = socket_for("/run/c.sock", "k8s.io", "pod1");
  EXPECT_EQ(socket, socket_for("/run/c.sock", "k8s.io", "pod1"));
  EXPECT_LT(socket.size(), 108U);
  for (const auto& other : {socket_for("/run/d.sock", "k8s.io", "pod1"), socket_for("/run/c.sock", "moby", "pod1"),
                            socket_for("/run/c.sock", "k8s.io", "pod2"), socket_for("/run/c.sock", "k8s.iop", "od1")}) {
    EXPECT_NE(socket, other);
  }
}

TEST(Sysctl, OnlyThePodsOwn) {
  EXPECT_EQ(sysctl_path("net.ipv4.ip_forward").value(), "net/ipv4/ip_forward");
  EXPECT_EQ(sysctl_path("net/ipv4/conf/eth0.1/forwarding").value(), "net/ipv4/conf/eth0.1/forwarding");
  EXPECT_EQ(sysctl_path("net.ipv4.conf.eth0/1.forwarding").value(), "net/ipv4/conf/eth0.1/forwarding");
  EXPECT_EQ(sysctl_path("kernel.shm_rmid_forced").value(), "kernel/shm_rmid_forced");
  EXPECT_EQ(sysctl_path("kernel.msgmax").value(), "kernel/msgmax");
  EXPECT_EQ(sysctl_path("kernel.sem").value(), "kernel/sem");
  EXPECT_EQ(sysctl_path("fs.mqueue.msg_max").value(), "fs/mqueue/msg_max");
  for (const char* name : {"kernel.panic", "vm.swappiness", "kernel.semx", "fs.file-max"}) {
    EXPECT_EQ(sysctl_path(name).error().code(), Code::kDenied) << name;
  }
  for (const char* name :
       {"", "net", "net..x", "net/../kernel/panic", "net.ipv4.", "net/./x", "kernel.shmmax/../panic"}) {
    EXPECT_EQ(sysctl_path(name).error().code(), Code::kInvalid) << name;
  }
}

TEST(StdioUri, Schemes) {
  EXPECT_EQ(parse_stdio_uri("")->kind, StdioUri::Kind::kNull);
  EXPECT_EQ(parse_stdio_uri("/a/b")->path, "/a/b");
  EXPECT_EQ(parse_stdio_uri("fifo:///a")->kind, StdioUri::Kind::kPath);
  EXPECT_EQ(parse_stdio_uri("file:///a%20b")->path, "/a%20b");
  EXPECT_EQ(parse_stdio_uri("cri-log:///var/log/0.log")->kind, StdioUri::Kind::kCriLog);
  EXPECT_EQ(parse_stdio_uri("/a://b")->path, "/a://b");
  EXPECT_EQ(parse_stdio_uri("binary:///bin/logger").error().code(), Code::kUnsupported);
  EXPECT_EQ(parse_stdio_uri("a/b").error().code(), Code::kInvalid);
  EXPECT_EQ(parse_stdio_uri("file://a").error().code(), Code::kInvalid);
  EXPECT_EQ(parse_stdio_uri(std::string_view("/a\0b", 4)).error().code(), Code::kInvalid);
}

TEST(RootPlan, Overlay) {
  const auto plan =
      plan_root({"overlay",
                 "overlay",
                 {"lowerdir=/l/1:/l/a\\:b", "upperdir=/u", "workdir=/w", "ro", "nosuid", "index=off", "userxattr"}});
  ASSERT_TRUE(plan);
  EXPECT_THAT(plan->lower, ElementsAre("/l/1", "/l/a:b"));
  EXPECT_EQ(plan->attributes, static_cast<std::uint64_t>(MOUNT_ATTR_RDONLY | MOUNT_ATTR_NOSUID));
  using Setting = RootPlan::Setting;
  EXPECT_THAT(plan->settings, ElementsAre(Setting{"upperdir", "/u", false}, Setting{"workdir", "/w", false},
                                          Setting{"index", "off", false}, Setting{"userxattr", "", true}));
}

TEST(RootPlan, BindAndImages) {
  const auto bind = plan_root({"bind", "/src", {"rbind", "ro"}});
  ASSERT_TRUE(bind);
  EXPECT_TRUE(bind->bind && bind->recursive);
  EXPECT_THAT(bind->settings, IsEmpty());
  const auto image = plan_root({"erofs", "/dev/loop0", {"ro", "noatime"}});
  ASSERT_TRUE(image);
  EXPECT_THAT(image->settings, ElementsAre(RootPlan::Setting{"ro", "", true}));
}

TEST(RootPlan, OwnersOfFiles) {
  const auto plan = plan_root({"overlay", "overlay", {"lowerdir=/l/1", "uidmap=0:65536:1000", "gidmap=0:70000:1000"}});
  ASSERT_TRUE(plan);
  EXPECT_EQ(plan->uid_map, "0 65536 1000\n");
  EXPECT_EQ(plan->gid_map, "0 70000 1000\n");
  EXPECT_THAT(plan->settings, IsEmpty());
}

TEST(RootPlan, BadOnesAreRefused) {
  EXPECT_EQ(plan_root({"", "/x", {}}).error().code(), Code::kInvalid);
  EXPECT_EQ(plan_root({"bind", "", {}}).error().code(), Code::kInvalid);
  EXPECT_EQ(plan_root({"overlay", "overlay", {"upperdir=/u"}}).error().code(), Code::kInvalid);
  EXPECT_EQ(plan_root({"overlay", "overlay", {"lowerdir=/a::/b"}}).error().code(), Code::kInvalid);
  EXPECT_EQ(plan_root({"ext4", "/x", {"X-containerd.mkfs=1"}}).error().code(), Code::kUnsupported);
  for (const char* map : {"0:1", "0:1:0", "a:1:2", "0:1:2:3", "0:1:4294967296", "-1:1:2", ""}) {
    const std::string word = std::string("uidmap=") + map;
    EXPECT_EQ(plan_root({"bind", "/x", {word, "gidmap=0:1:2"}}).error().code(), Code::kInvalid) << map;
  }
  EXPECT_EQ(plan_root({"bind", "/x", {"uidmap=0:1:2"}}).error().code(), Code::kInvalid);
}

TEST(CommandLine, ContainerdsFlags) {
  const std::array<const char*, 10> words = {
      "-namespace",      "k8s.io",    "-id",    "abc",        "--address=/a.sock",
      "-publish-binary", "/bin/ctrd", "-debug", "-bundle=/b", "start"};
  const auto line = parse_command_line(words);
  ASSERT_TRUE(line) << line.error().text();
  EXPECT_EQ(line->action, Action::kStart);
  EXPECT_EQ(line->id, "abc");
  EXPECT_EQ(line->name_space, "k8s.io");
  EXPECT_EQ(line->address, "/a.sock");
  EXPECT_EQ(line->publish_binary, "/bin/ctrd");
  EXPECT_EQ(line->bundle, "/b");
  EXPECT_TRUE(line->debug);
}

TEST(CommandLine, Mistakes) {
  const std::vector<std::vector<const char*>> lines = {{},
                                                       {"serve"},
                                                       {"-id", "a"},
                                                       {"-id", "a/b", "serve"},
                                                       {"-id", "a", "run"},
                                                       {"-id", "a", "serve", "start"},
                                                       {"-id"},
                                                       {"-what", "x", "-id", "a", "serve"}};
  for (const auto& words : lines) EXPECT_FALSE(parse_command_line(words)) << words.size();
  const std::array<const char*, 1> version = {"-v"};
  EXPECT_EQ(parse_command_line(version)->action, Action::kVersion);
}

TEST(CaptureSink, KeepsTheBeginning) {
  Capture capture(5);
  capture.write("abc");
  capture.write("de");
  EXPECT_FALSE(capture.truncated());
  capture.write("f");
  EXPECT_TRUE(capture.truncated());
  capture.write("ghi");
  EXPECT_EQ(capture.take(), "abcde");
}

TEST(ChangesTest, ParkedCallsWakeOnceForAllChangesOfARound) {
  const auto loop = new_loop();
  Changes changes(*loop);
  int ready = 0;
  changes.wait(0, 60'000, [&] { ++ready; });
  EXPECT_EQ(changes.next(), 1U);
  ASSERT_TRUE(loop->run_once(0ms));
  EXPECT_EQ(ready, 0) << "what the client did itself wakes nobody";
  EXPECT_EQ(changes.next_and_wake(), 2U);
  EXPECT_EQ(changes.next_and_wake(), 3U);
  ASSERT_TRUE(loop->run_once(1s));
  EXPECT_EQ(ready, 1);
  changes.wait(2, 60'000, [&] { ++ready; });
  EXPECT_EQ(ready, 2) << "something is newer";
  changes.wait(99, 60'000, [&] { ++ready; });
  EXPECT_EQ(ready, 3) << "a number of another life";
  changes.wait(3, 0, [&] { ++ready; });
  EXPECT_EQ(ready, 4) << "a poll";
  changes.wait(3, 1, [&] { ++ready; });
  EXPECT_EQ(ready, 4);
  ASSERT_TRUE(loop->run_once(10s));
  EXPECT_EQ(ready, 5) << "the timeout";
}

TEST(ReaperTest, KnownChildrenTellTheirCodeOrphansAreCollected) {
  const auto loop = new_loop();
  Reaper reaper(*loop);
  ASSERT_TRUE(reaper.start());
  const auto run = [](const char* script) {
    os::SpawnOptions options;
    options.argv = {"/bin/sh", "-c", script};
    auto child = os::spawn(options);
    EXPECT_TRUE(child);
    return child->pid;
  };
  std::vector<int> codes;
  // The first leaves an orphan behind, which becomes ours and ends with nobody waiting for it.
  for (const char* script : {"(sleep 0.05; exit 9) & exit 3", "kill -TERM $$", "exit 0"}) {
    reaper.watch(run(script), [&](int code) { codes.push_back(code); });
    const std::size_t want = codes.size() + 1;
    while (codes.size() < want) ASSERT_TRUE(loop->run_once(10s));
  }
  EXPECT_THAT(codes, ElementsAre(3, 128 + SIGTERM, 0));
  const auto no_children = [] {
    return ::access(("/proc/self/task/" + std::to_string(::getpid()) + "/children").c_str(), R_OK) == 0;
  };
  ASSERT_TRUE(no_children());
  for (;;) {
    const auto children = os::read_file("/proc/self/task/" + std::to_string(::getpid()) + "/children", 4096);
    ASSERT_TRUE(children);
    if (trim(*children).empty()) break;
    ASSERT_TRUE(loop->run_once(10s));
  }
}

TEST(LeftoversTest, RecordForgetList) {
  test::TempFolder folder;
  Leftovers leftovers(folder.path());
  EXPECT_THAT(leftovers.list().value(), IsEmpty());
  ASSERT_TRUE(leftovers.record({"b", "/bundles/b", {}}));
  ASSERT_TRUE(leftovers.record({"a", "/bundles/a \"x\"", "/pods/a"}));
  ASSERT_TRUE(leftovers.record({"b", "/bundles/b", "/pods/b"}));
  ASSERT_TRUE(os::write_file_atomic(folder / "live/torn", "{\"bund"));
  const auto entries = leftovers.list();
  ASSERT_TRUE(entries);
  ASSERT_EQ(entries->size(), 3U);
  EXPECT_EQ((*entries)[0].bundle, "/bundles/a \"x\"");
  EXPECT_EQ((*entries)[1].cgroup_path, "/pods/b");
  EXPECT_EQ((*entries)[2].bundle, "");
  leftovers.forget("a");
  leftovers.forget("a");
  EXPECT_EQ(leftovers.list()->size(), 2U);
}

TEST(Metrics, IsAProtobufMessageWithTheKnownNumbers) {
  engine::Stats stats;
  stats.cpu_usage_ns = 1'000'000;
  stats.memory_usage_bytes = 300;
  stats.memory_working_set_bytes = 100;
  stats.pids = 2;
  const std::string bytes = cgroup_metrics(stats);
  // pids { current: 2 }, cpu { usage { total: 1000000 } throttling {} }
  EXPECT_EQ(bytes.substr(0, 4), std::string("\x12\x02\x08\x02"));
  EXPECT_EQ(bytes.substr(4, 10), std::string("\x1a\x08\x0a\x04\x08\xc0\x84\x3d\x12\x00", 10));
  // Every field is length-delimited: as an Any it parses or not, but never runs over its end.
  berth::wkt::Empty any_fields;
  EXPECT_TRUE(any_fields.ParseFromString(bytes));
  EXPECT_THAT(bytes, HasSubstr(std::string("\xf0\x01\xc8\x01", 4))) << "total_inactive_file: 200";
}

class ProcessIoTest : public testing::Test {
 protected:
  test::TempFolder folder_;
  std::unique_ptr<event::Loop> loop_ = new_loop();
  Scratch scratch_{*loop_, LogStream::out_bytes(100)};
  IoContext context_{*loop_, scratch_, 100};
};

TEST_F(ProcessIoTest, LogsTakeWhatTheProcessLeft) {
  const std::string log = folder_ / "0.log";
  auto io = ProcessIo::open(context_, {false, "", "cri-log://" + log, "cri-log://" + log});
  ASSERT_TRUE(io) << io.error().text();
  const engine::Stdio ends = (*io)->child_ends();
  EXPECT_EQ(ends.in, -1);
  // What a background process of the container keeps.
  const auto kept = os::dup_fd(ends.out);
  ASSERT_TRUE(kept && os::write_all(ends.out, "out\n") && os::write_all(ends.err, "err"));
  ASSERT_TRUE((*io)->started(UniqueFd()));
  (*io)->finish();
  EXPECT_THAT(test::plain_log(log), ElementsAre("stdout F out", "stderr P err"));
  ASSERT_TRUE(os::write_all(kept->get(), "more\n"));
  ASSERT_TRUE(loop_->run_once(10s));
  EXPECT_THAT(test::plain_log(log), testing::Contains("stdout F more"));
  EXPECT_TRUE((*io)->reopen_log());
}

TEST_F(ProcessIoTest, FifosSurviveTheirClientAndEndWithTheProcess) {
  const std::string in = folder_ / "in";
  const std::string out = folder_ / "out";
  ASSERT_EQ(::mkfifo(in.c_str(), 0600), 0);
  ASSERT_EQ(::mkfifo(out.c_str(), 0600), 0);
  auto io = ProcessIo::open(context_, {false, in, "fifo://" + out, ""});
  ASSERT_TRUE(io) << io.error().text();
  const engine::Stdio ends = (*io)->child_ends();
  auto child_in = os::dup_fd(ends.in);
  auto child_out = os::dup_fd(ends.out);
  ASSERT_TRUE(child_in && child_out);
  ASSERT_TRUE((*io)->started(UniqueFd()));
  // Nobody reads: no SIGPIPE.
  ASSERT_TRUE(os::write_all(child_out->get(), "hello"));
  const UniqueFd client(::open(out.c_str(), O_RDONLY | O_NONBLOCK | O_CLOEXEC));
  std::array<char, 16> buffer{};
  EXPECT_EQ(::read(client.get(), buffer.data(), buffer.size()), 5);
  child_out->reset();
  EXPECT_EQ(::read(client.get(), buffer.data(), buffer.size()), 0) << "the end, with our own hold still there";
  // A client that comes and goes is no end of input; CloseIO is.
  UniqueFd writer(::open(in.c_str(), O_WRONLY | O_CLOEXEC));
  ASSERT_TRUE(os::write_all(writer.get(), "x"));
  writer.reset();
  ASSERT_EQ(::fcntl(child_in->get(), F_SETFL, O_NONBLOCK), 0);
  EXPECT_EQ(::read(child_in->get(), buffer.data(), buffer.size()), 1);
  EXPECT_EQ(::read(child_in->get(), buffer.data(), buffer.size()), -1);
  EXPECT_EQ(errno, EAGAIN);
  (*io)->close_stdin();
  EXPECT_EQ(::read(child_in->get(), buffer.data(), buffer.size()), 0);
  EXPECT_EQ((*io)->reopen_log().error().code(), Code::kPrecondition);
  EXPECT_EQ((*io)->resize(80, 25).error().code(), Code::kPrecondition);
}

TEST_F(ProcessIoTest, PathsOfTheWrongKindAreRefused) {
  EXPECT_EQ(ProcessIo::open(context_, {false, "", folder_ / "none", ""}).error().code(), Code::kNotFound);
  EXPECT_EQ(ProcessIo::open(context_, {false, folder_.path(), "", ""}).error().code(), Code::kInvalid);
  EXPECT_EQ(ProcessIo::open(context_, {false, "cri-log:///x", "", ""}).error().code(), Code::kInvalid);
  EXPECT_EQ(ProcessIo::open(context_, {false, "", "/dev/null", ""}).error().code(), Code::kInvalid);
}

TEST_F(ProcessIoTest, FilesAreAppendedTo) {
  const std::string path = folder_ / "raw";
  ASSERT_TRUE(os::write_file_atomic(path, "before\n"));
  auto io = ProcessIo::open(context_, {false, "", "file://" + path, "file://" + path});
  ASSERT_TRUE(io) << io.error().text();
  ASSERT_TRUE(os::write_all((*io)->child_ends().out, "a\n"));
  ASSERT_TRUE(os::write_all((*io)->child_ends().err, "b\n"));
  EXPECT_EQ(os::read_file(path, 100).value(), "before\na\nb\n");
}

TEST(RelayTest, ASlowReceiverLosesNothing) {
  const auto loop = new_loop();
  Scratch scratch(*loop, LogStream::out_bytes(100));
  auto source = os::make_pipe();
  auto target = os::make_pipe();
  ASSERT_TRUE(source && target);
  auto relay = Relay::start(*loop, scratch, std::move(source->read), std::move(target->write));
  ASSERT_TRUE(relay);
  ASSERT_EQ(::fcntl(source->write.get(), F_SETFL, O_NONBLOCK), 0);
  ASSERT_EQ(::fcntl(target->read.get(), F_SETFL, O_NONBLOCK), 0);
  std::string sent;
  std::string got;
  std::array<char, 1000> buffer{};
  while (got.size() < 400'000) {
    std::string block;
    while (block.size() < 3000) block += std::to_string(sent.size() + block.size()) + ",";
    const ssize_t wrote = sent.size() < 400'000 ? ::write(source->write.get(), block.data(), block.size()) : 0;
    if (wrote > 0) sent.append(block, 0, static_cast<std::size_t>(wrote));
    ASSERT_TRUE(loop->run_once(0ms));
    const ssize_t count = ::read(target->read.get(), buffer.data(), buffer.size());
    if (count > 0) got.append(buffer.data(), static_cast<std::size_t>(count));
  }
  EXPECT_EQ(got, sent.substr(0, got.size()));
  source->write.reset();
  for (ssize_t count = 1; count != 0;) {
    ASSERT_TRUE(loop->run_once(0ms));
    count = ::read(target->read.get(), buffer.data(), buffer.size());
    if (count > 0) got.append(buffer.data(), static_cast<std::size_t>(count));
  }
  EXPECT_EQ(got, sent);
}

}  // namespace
}  // namespace berth::shim
