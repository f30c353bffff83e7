// Our shim below Debian's containerd as the runtime io.containerd.berth.v2, beside the one that containerd brings.
#include <gmock/gmock.h>
#include <sys/stat.h>

#include <algorithm>
#include <csignal>

#include "base/strings.h"
#include "os/file.h"
#include "peer_host.h"
#include "spec/json_text.h"
#include "wait.h"

namespace berth::test {
namespace {

using ::testing::HasSubstr;
using ::testing::IsEmpty;

constexpr std::chrono::seconds kPatience{20};
constexpr std::size_t kSmall = 1U << 20;

class ShimTest : public PeerTest {
 protected:
  void SetUp() override {
    PeerTest::SetUp();
    import_image();
    must({"save", "--quiet", "--format", "docker-archive", "--output", folder() + "/archive.tar", kImage});
    write("containerd.toml",
          "version = 2\nroot = \"" + at() + "/root\"\nstate = \"" + at() +
              "/state\"\ndisabled_plugins = [\"io.containerd.grpc.v1.cri\"]\n[grpc]\n  address = \"" + at() +
              "/sock\"\n[ttrpc]\n  address = \"" + at() + "/ttrpc\"\n");
    ASSERT_TRUE(os::make_dirs(at()).has_value());
    start_server();
    for (const char* snapshotter : {"native", "overlayfs"}) {
      const Ran imported = ctr({"image", "import", "--snapshotter", snapshotter, folder() + "/archive.tar"});
      ASSERT_EQ(imported.code, 0) << imported.err;
    }
  }
  void TearDown() override {
    EXPECT_EQ(trim(ctr({"container", "list", "--quiet"}).out), "");
    EXPECT_THAT(os::list_dir(bundles()).value_or(std::vector<std::string>()), IsEmpty());
    // Whatever shim of ours ran here is gone, and so is its socket (a killed one of containerd's leaves its own).
    EXPECT_TRUE(wait_until(kPatience, [] {
      const auto sockets = os::list_dir("/run/containerd/s").value_or(std::vector<std::string>());
      return std::ranges::none_of(sockets, [](const auto& socket) { return socket.starts_with("berth-"); });
    }));
    EXPECT_TRUE(server_.stop(kPatience).has_value());
    // The runtime's own folder for a namespace of containerd's.
    EXPECT_TRUE(os::remove_tree("/run/containerd/runc/" + name()).has_value());
    PeerTest::TearDown();
  }
  void start_server() {
    const std::string bin = runtimes().front().path.substr(0, runtimes().front().path.rfind('/'));
    // By env: of two PATHs in an environment the first counts.
    auto server =
        Process::start({"env", "PATH=" + bin + ":/usr/local/sbin:/usr/local/bin:/usr/sbin:/usr/bin:/sbin:/bin",
                        "containerd", "--config", folder() + "/containerd.toml", "--log-level", "info"},
                       folder() + "/containerd.log", environment());
    ASSERT_TRUE(server.has_value()) << server.error().text();
    server_ = std::move(*server);
    ASSERT_TRUE(wait_until(kPatience, [this] { return ctr({"version"}).code == 0; }));
  }
  [[nodiscard]] bool ours() const { return runtime().name == "berth-oci"; }
  [[nodiscard]] std::string at() const { return folder() + "/containerd"; }
  [[nodiscard]] std::string bundles() const { return at() + "/state/io.containerd.runtime.v2.task/" + name(); }
  [[nodiscard]] std::vector<std::string> ctr_words() const {
    return {"ctr", "--address", at() + "/sock", "--namespace", name()};
  }
  Ran ctr(const std::vector<std::string>& words) {
    auto all = ctr_words();
    all.insert(all.end(), words.begin(), words.end());
    return run(std::move(all));
  }
  [[nodiscard]] std::vector<std::string> run_command(const std::vector<std::string>& flags, const std::string& id,
                                                     const std::vector<std::string>& words) const {
    std::vector<std::string> all{"run", "--runtime", ours() ? "io.containerd.berth.v2" : "io.containerd.runc.v2"};
    if (std::ranges::find(flags, "--snapshotter") == flags.end()) all.insert(all.end(), {"--snapshotter", "native"});
    all.insert(all.end(), flags.begin(), flags.end());
    all.insert(all.end(), {kImage, id});
    all.insert(all.end(), words.begin(), words.end());
    return all;
  }
  Ran ctr_run(const std::vector<std::string>& flags, const std::string& id, const std::vector<std::string>& words) {
    return ctr(run_command(flags, id, words));
  }
  void start_task(const std::string& id, const std::vector<std::string>& flags = {}) {
    std::vector<std::string> all{"--detach"};
    all.insert(all.end(), flags.begin(), flags.end());
    const Ran started = ctr_run(all, id, {"sleep", "1000"});
    ASSERT_EQ(started.code, 0) << started.err;
    ASSERT_TRUE(becomes(id, "RUNNING")) << status(id);
  }
  void end_task(const std::string& id) {
    ctr({"task", "kill", "--signal", "SIGKILL", id});
    EXPECT_TRUE(becomes(id, "STOPPED")) << status(id);
    ctr({"task", "delete", id});
    EXPECT_EQ(ctr({"container", "delete", id}).code, 0);
  }
  /// A word of the task's line: its pid (1) or status (2); "" when there is no such task.
  std::string task_word(const std::string& id, std::size_t index) {
    const std::string tasks = ctr({"task", "list"}).out;
    for (const auto line : split(tasks, '\n')) {
      std::vector<std::string> words;
      for (const auto word : split(line, ' ')) {
        if (!trim(word).empty()) words.emplace_back(trim(word));
      }
      if (words.size() > index && words[0] == id) return words[index];
    }
    return {};
  }
  std::string status(const std::string& id) { return task_word(id, 2); }
  bool becomes(const std::string& id, const std::string& wanted) {
    return wait_until(kPatience, [&] { return status(id) == wanted; });
  }
  /// The process whose socket the bundle names: the parent of the task's first process.
  pid_t shim_of(const std::string& id) {
    const auto text = os::read_file("/proc/" + task_word(id, 1) + "/status", kSmall).value_or("");
    for (const auto line : split(text, '\n')) {
      if (line.starts_with("PPid:")) return parse_number<pid_t>(trim(line.substr(5))).value_or(0);
    }
    return 0;
  }
  [[nodiscard]] bool cgroup_exists(const std::string& id) const {
    return os::exists("/sys/fs/cgroup/memory/" + name() + "/" + id);
  }

  Process server_;
};

/// What the shim of containerd 1.6 does not know.
class OurShimTest : public ShimTest {};

INSTANTIATE_TEST_SUITE_P(Shims, ShimTest, ::testing::ValuesIn(runtimes()), runtime_name);
INSTANTIATE_TEST_SUITE_P(Shims, OurShimTest, ::testing::Values(runtimes().front()), runtime_name);

TEST_P(ShimTest, RunGivesOutputAndExitCode) {
  const Ran ran = ctr_run({"--rm"}, "once", {"sh", "-c", "echo out; echo err >&2; exit 11"});
  EXPECT_EQ(ran.code, 11) << ran.err;
  EXPECT_EQ(ran.out, "out\n");
  EXPECT_THAT(ran.err, HasSubstr("err\n"));
  const Ran missing = ctr_run({"--rm"}, "missing", {"nosuch"});
  EXPECT_EQ(missing.code, 1);
  EXPECT_THAT(missing.err, HasSubstr("exec: \"nosuch\": executable file not found in $PATH"));
  EXPECT_THAT(ctr_run({"--rm", "--read-only"}, "ro", {"touch", "/x"}).err, HasSubstr("Read-only file system"));
}

TEST_P(ShimTest, StandardInputComesThroughAFifo) {
  std::vector<std::string> words{"sh", "-c", "printf 'one\\ntwo\\n' | \"$@\"", "sh"};
  const auto command = ctr_words();
  words.insert(words.end(), command.begin(), command.end());
  // Which ends by itself: of an input that is over before the task is there ctr does not tell (nor to containerd's
  // shim).
  const auto rest = run_command({"--rm"}, "head", {"head", "-n", "2"});
  words.insert(words.end(), rest.begin(), rest.end());
  const Ran ran = run(std::move(words));
  EXPECT_EQ(ran.code, 0) << ran.err;
  EXPECT_EQ(ran.out, "one\ntwo\n");
}

TEST_P(ShimTest, RootsComeAsBindAndOverlayMounts) {
  for (const char* snapshotter : {"native", "overlayfs"}) {
    const Ran ran = ctr_run({"--rm", "--snapshotter", snapshotter}, "root",
                            {"sh", "-c", "echo kept > /new && cat /new && stat -f -c %T /"});
    EXPECT_EQ(ran.code, 0) << snapshotter << ran.err;
    EXPECT_THAT(ran.out, HasSubstr("kept\n"));
    if (ours()) {
      const std::string mounts = os::read_file("/proc/mounts", kSmall).value_or("");
      EXPECT_EQ(mounts.find(bundles()), std::string::npos) << "a root is mounted in the host's namespace";
    }
  }
}

TEST_P(ShimTest, ALifeFromRunToDelete) {
  auto events = Process::start({"ctr", "--address", at() + "/sock", "--namespace", name(), "events"},
                               folder() + "/events.log", environment());
  ASSERT_TRUE(events.has_value());
  // It has subscribed when it sees something.
  ASSERT_TRUE(wait_until(kPatience, [this] {
    ctr({"label", "no"});
    ctr({"namespace", "label", name(), "seen=yes"});
    return !os::read_file(folder() + "/events.log", kSmall).value_or("").empty();
  }));
  start_task("life", {"--memory-limit", "33554432"});
  EXPECT_EQ(cgroup_value(task_word("life", 1), "memory", "memory.limit_in_bytes"), "33554432");
  const Ran inside = ctr({"task", "exec", "--exec-id", "e1", "life", "sh", "-c", "echo in; exit 12"});
  EXPECT_EQ(inside.code, 12) << inside.err;
  EXPECT_EQ(inside.out, "in\n");
  EXPECT_EQ(ctr({"task", "pause", "life"}).code, 0);
  EXPECT_TRUE(becomes("life", "PAUSED")) << status("life");
  EXPECT_EQ(ctr({"task", "resume", "life"}).code, 0);
  EXPECT_TRUE(becomes("life", "RUNNING")) << status("life");
  EXPECT_THAT(ctr({"task", "metrics", "life"}).out, HasSubstr("memory.usage_in_bytes"));
  EXPECT_THAT(ctr({"task", "ps", "life"}).out, HasSubstr(task_word("life", 1)));
  EXPECT_EQ(ctr({"task", "kill", "--signal", "SIGKILL", "life"}).code, 0);
  EXPECT_TRUE(becomes("life", "STOPPED")) << status("life");
  EXPECT_THAT(ctr({"task", "delete", "life"}).err, HasSubstr("137"));
  EXPECT_EQ(ctr({"container", "delete", "life"}).code, 0);
  EXPECT_FALSE(cgroup_exists("life"));
  for (const char* topic : {"/tasks/create", "/tasks/start", "/tasks/exec-added", "/tasks/exec-started",
                            "/tasks/paused", "/tasks/resumed", "/tasks/exit", "/tasks/delete"}) {
    EXPECT_TRUE(wait_until(kPatience, [&] {
      return os::read_file(folder() + "/events.log", kSmall).value_or("").find(topic) != std::string::npos;
    })) << topic;
  }
  EXPECT_THAT(os::read_file(folder() + "/events.log", kSmall).value_or(""), HasSubstr("\"exit_status\":137"));
}

TEST_P(ShimTest, AnotherContainerdTakesTheTaskOver) {
  start_task("kept");
  const std::string pid = task_word("kept", 1);
  server_.kill();
  start_server();
  EXPECT_TRUE(becomes("kept", "RUNNING")) << status("kept");
  EXPECT_EQ(task_word("kept", 1), pid);
  EXPECT_EQ(ctr({"task", "exec", "--exec-id", "e1", "kept", "echo", "still"}).out, "still\n");
  end_task("kept");
}

TEST_P(ShimTest, WhatAKilledShimLeavesIsCleared) {
  start_task("orphan");
  const std::string pid = task_word("orphan", 1);
  const pid_t shim = shim_of("orphan");
  ASSERT_GT(shim, 1);
  ASSERT_EQ(::kill(shim, SIGKILL), 0);
  EXPECT_TRUE(wait_until(kPatience, [&] { return status("orphan") != "RUNNING"; }));
  EXPECT_TRUE(wait_until(kPatience, [&] {
    const auto text = os::read_file("/proc/" + pid + "/status", kSmall);
    return !text || text->find("State:\tZ") != std::string::npos;
  }));
  ctr({"task", "delete", "--force", "orphan"});
  EXPECT_EQ(ctr({"container", "delete", "orphan"}).code, 0);
  EXPECT_TRUE(wait_until(kPatience, [this] { return !cgroup_exists("orphan"); }));
}

TEST_P(ShimTest, ContainersOfAPodShareAShim) {
  const std::vector<std::string> pod{"--annotation", "io.kubernetes.cri.sandbox-id=pod1"};
  start_task("pod1", pod);
  start_task("other", pod);
  EXPECT_EQ(shim_of("pod1"), shim_of("other"));
  start_task("alone");
  EXPECT_NE(shim_of("pod1"), shim_of("alone"));
  end_task("other");
  EXPECT_EQ(status("pod1"), "RUNNING");
  end_task("pod1");
  end_task("alone");
}

TEST_P(OurShimTest, NewerContainerdsGetTheirFormOfTheAddress) {
  const std::string bundle = folder() + "/bundle";
  ASSERT_TRUE(os::make_dirs(bundle).has_value());
  write("bundle/config.json", R"({"ociVersion": "1.0.2", "annotations": {}})");
  const std::string shim =
      runtimes().front().path.substr(0, runtimes().front().path.rfind('/')) + "/containerd-shim-berth-v2";
  const auto start = [&](const std::string& version) {
    return run({"env", "MAX_SHIM_VERSION=" + version, "sh", "-c", "cd \"$0\" && exec \"$@\"", bundle, shim,
                "-namespace", name(), "-address", at() + "/sock", "-id", "task", "start"});
  };
  const Ran third = start("3");
  ASSERT_EQ(third.code, 0) << third.err;
  const auto json = spec::parse_json(third.out);
  ASSERT_TRUE(json.has_value()) << third.out;
  EXPECT_EQ(json->get("version")->as_int(), 3);
  EXPECT_EQ(json->string_or("protocol"), "ttrpc");
  const std::string address(json->string_or("address"));
  EXPECT_TRUE(address.starts_with("unix:///run/containerd/s/")) << address;
  // It runs already: the same shim is named again, to an older containerd by its address alone.
  EXPECT_EQ(start("2").out, address);
  EXPECT_EQ(os::read_file(bundle + "/address", kSmall).value_or(""), address);
  const Ran info = run({shim, "-info"});
  EXPECT_EQ(info.code, 0);
  EXPECT_THAT(info.out, HasSubstr("io.containerd.berth.v2"));
  // A shim without containers ends when it is asked to.
  bool asked = false;
  for (const auto& entry : os::list_dir("/proc").value_or(std::vector<std::string>())) {
    const auto command = os::read_file("/proc/" + entry + "/cmdline", kSmall).value_or("");
    if (command.find(address.substr(7)) == std::string::npos || command.find("serve") == std::string::npos) continue;
    asked = ::kill(parse_number<pid_t>(entry).value_or(0), SIGTERM) == 0;
  }
  EXPECT_TRUE(asked);
}

}  // namespace
}  // namespace berth::test
