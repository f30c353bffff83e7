// Handlers: what runs the pods of a RuntimeClass, tried through the CRI for each of them, and their change by SIGHUP.
#include <gmock/gmock.h>
#include <signal.h>

#include <algorithm>
#include <filesystem>
#include <fstream>

#include "base/strings.h"
#include "fixture.h"
#include "remote_session.h"
#include "shared_folder.h"
#include "wait.h"

namespace berth::test {
namespace {

using testing::ElementsAre;
using testing::HasSubstr;
using testing::IsEmpty;

constexpr std::chrono::seconds kPatience{20};

struct Named {
  const char* handler;
  const char* binary;  ///< "": ours
};
void PrintTo(const Named& named, std::ostream* out) {
  *out << named.handler;
}

struct WithHandlers {
  static TestHostOptions options() {
    return {.config =
                "[handlers.berth]\nengine = \"process\"\n"
                "[handlers.crun]\nengine = \"external\"\nbinary = \"/usr/bin/crun\"\n"
                "[handlers.runc]\nengine = \"external\"\nbinary = \"/usr/sbin/runc\"\n"
                "[handlers.runc-shim]\nshim = \"/usr/bin/containerd-shim-runc-v2\"\n"
                "[handlers.absent]\nengine = \"external\"\nbinary = \"/no/such/runtime\"\n"};
  }
};

class HandlerTest : public HostTest<WithHandlers>, public testing::WithParamInterface<Named> {
 protected:
  void SetUp() override {
    HostTest::SetUp();
    if (HasFatalFailure()) return;
    const std::string binary = GetParam().binary;
    if (!binary.empty() && !os::exists(binary)) GTEST_SKIP() << binary << " is not here";
    config_ = host().pod_config("pod");
    pod_ = must(cri().run_pod(config_, GetParam().handler));
  }
  void TearDown() override {
    HostTest::TearDown();
    if (IsSkipped()) return;
    EXPECT_THAT(os::list_dir(host().state() + "/pods").value_or(std::vector<std::string>{"?"}), IsEmpty());
    EXPECT_THAT(cgroups_left(), IsEmpty());
  }
  /// Its runtime keeps state in the pod's folder.
  static bool external() {
    return std::string_view(GetParam().handler).find("runc-shim") != 0 && GetParam().binary[0] != '\0';
  }
  std::string run(const std::string& script, const std::string& name = "main") {
    return must(cri().run(pod_, host().shell_config(name, script), config_));
  }
  std::string log(const std::string& name = "main") const {
    std::ifstream in(host().logs("pod") + "/" + name + ".log");
    return {std::istreambuf_iterator<char>(in), {}};
  }
  struct Pod {
    std::string id;
    pb::PodSandboxConfig config;
  };
  static Pod privileged_pod(const std::string& name) {
    Pod pod{.id = {}, .config = host().pod_config(name)};
    pod.config.mutable_linux()->mutable_security_context()->set_privileged(true);
    pod.id = must(cri().run_pod(pod.config, GetParam().handler));
    return pod;
  }
  /// Runs a privileged container with the volumes at /vol0, /vol1, ...
  static std::string run_with(const Pod& pod,
                              const std::vector<std::pair<const SharedFolder*, pb::MountPropagation>>& volumes) {
    auto wanted = host().shell_config("main", "exec sleep 1000");
    wanted.mutable_linux()->mutable_security_context()->set_privileged(true);
    for (const auto& [folder, propagation] : volumes) {
      auto& mount = *wanted.add_mounts();
      mount.set_container_path("/vol" + std::to_string(wanted.mounts_size() - 1));
      mount.set_host_path(folder->path());
      mount.set_propagation(propagation);
    }
    return must(cri().run(pod.id, wanted, pod.config));
  }
  /// What the runtime keeps of containers.
  std::vector<std::string> kept() const {
    return os::list_dir(host().state() + "/pods/" + pod_ + "/runtime").value_or(std::vector<std::string>());
  }
  static pid_t shim_of(const std::string& pod) {
    for (const auto& entry : os::list_dir("/proc").value_or(std::vector<std::string>())) {
      const auto command = os::read_file("/proc/" + entry + "/cmdline", 65536).value_or("");
      if (command.find("containerd-shim-berth-v2") != std::string::npos && command.find(pod) != std::string::npos)
        return parse_number<pid_t>(entry).value_or(0);
    }
    return 0;
  }
  static std::vector<std::string> cgroups_left() {
    std::vector<std::string> left;
    for (const auto& hierarchy : os::list_dir("/sys/fs/cgroup").value_or(std::vector<std::string>())) {
      const std::string path = "/sys/fs/cgroup/" + hierarchy + host().cgroup_parent();
      for (const auto& name : os::list_dir(path).value_or(std::vector<std::string>())) {
        if (std::filesystem::is_directory(path + "/" + name)) left.push_back(path + "/" + name);
      }
    }
    return left;
  }

  pb::PodSandboxConfig config_;
  std::string pod_;
};

INSTANTIATE_TEST_SUITE_P(Handlers, HandlerTest,
                         testing::Values(Named{"berth", ""}, Named{"crun", "/usr/bin/crun"},
                                         Named{"runc", "/usr/sbin/runc"},
                                         Named{"runc-shim", "/usr/bin/containerd-shim-runc-v2"}),
                         [](const auto& parameter) {
                           std::string name = parameter.param.handler;
                           std::erase(name, '-');
                           return name;
                         });

TEST_P(HandlerTest, ALifeFromPodToNothing) {
  EXPECT_EQ(must(cri().pod_status(pod_)).runtime_handler(), GetParam().handler);
  const auto id = run("echo out; echo err >&2; trap 'exit 9' TERM; while :; do sleep 0.05; done");
  EXPECT_TRUE(wait_until(kPatience, [&] { return log().find("stderr F err") != std::string::npos; }));
  EXPECT_THAT(log(), HasSubstr("stdout F out"));
  EXPECT_EQ(kept().size(), external() ? 1U : 0U);
  const auto reply = must(cri().exec(id, {"sh", "-c", "echo in; echo bad >&2; exit 12"}));
  EXPECT_EQ(reply.exit_code(), 12);
  EXPECT_EQ(reply.stdout(), "in\n");
  EXPECT_EQ(reply.stderr(), "bad\n");
  EXPECT_EQ(must(cri().shell(id, "hostname")), config_.hostname() + "\n");
  must(cri().stop(id, 20));
  const auto status = must(cri().status(id));
  EXPECT_EQ(status.state(), pb::CONTAINER_EXITED);
  EXPECT_EQ(status.exit_code(), 9);
  EXPECT_EQ(status.reason(), "Error");
  must(cri().remove(id));
  EXPECT_THAT(kept(), IsEmpty());
}

TEST_P(HandlerTest, EndsAreTold) {
  const auto done = run("exit 0", "done");
  EXPECT_EQ(must(cri().wait_exited(done)).reason(), "Completed");
  const auto seven = run("exit 7", "seven");
  EXPECT_EQ(must(cri().wait_exited(seven)).exit_code(), 7);
  const auto killed = run("exec sleep 1000", "killed");
  must(cri().stop(killed, 0));
  EXPECT_EQ(must(cri().status(killed)).exit_code(), 137);
  const auto missing = must(cri().create(pod_, host().container_config("missing", "busybox", {"/no/such"}), config_));
  EXPECT_TRUE(fails(cri().start(missing), Code::kInvalid, "/no/such"));
  EXPECT_EQ(must(cri().status(missing)).state(), pb::CONTAINER_EXITED);
}

// The process of a runtime that was let go, but is not the program yet, must not swallow the signal.
TEST_P(HandlerTest, AStopAtOnceReachesTheProgram) {
  for (int i = 0; i < 5; ++i) {
    const auto id = run("trap 'exit 3' TERM; while true; do sleep 0.05; done", "quick" + std::to_string(i));
    const auto start = std::chrono::steady_clock::now();
    must(cri().stop(id, 30));
    EXPECT_LT(std::chrono::steady_clock::now() - start, std::chrono::seconds(15));
    EXPECT_EQ(must(cri().status(id)).exit_code(), 3);
  }
}

TEST_P(HandlerTest, InputOfAClientAndItsEndReachTheProgram) {
  auto config = host().shell_config("once", "cat; echo the end");
  config.set_stdin(true);
  config.set_stdin_once(true);
  const auto id = must(cri().run(pod_, config, config_));
  const StreamSet set{.in = true};
  auto session = open_session(attach_url(cri(), id, set), set);
  ASSERT_TRUE(ok(session.client->write(session.in, "all of it\n", true)));
  ASSERT_TRUE(ok(session.finish()));
  EXPECT_EQ(session.out_text(), "all of it\nthe end\n");
  EXPECT_EQ(must(cri().wait_exited(id)).exit_code(), 0);
  const auto other = run("exec sleep 1000", "exec");
  auto exec = open_session(exec_url(cri(), other, {"cat"}, set), set);
  ASSERT_TRUE(ok(exec.client->write(exec.in, "that too\n", true)));
  ASSERT_TRUE(ok(exec.finish()));
  EXPECT_EQ(exec.out_text(), "that too\n");
}

TEST_P(HandlerTest, LimitsHoldAndChange) {
  auto wanted = host().shell_config("main", "exec sleep 1000");
  wanted.mutable_linux()->mutable_resources()->set_memory_limit_in_bytes(64 << 20);
  const auto id = must(cri().run(pod_, wanted, config_));
  pb::UpdateContainerResourcesRequest update;
  update.set_container_id(id);
  update.mutable_linux()->set_memory_limit_in_bytes(96 << 20);
  must(cri().call(&Runtime::UpdateContainerResources, update));
  pb::ContainerStatsRequest asked;
  asked.set_container_id(id);
  const auto stats = must(cri().call(&Runtime::ContainerStats, asked));
  EXPECT_GT(stats.stats().memory().usage_bytes().value(), 0U);
  // What is left of 96 MiB: usage and the rest are told together.
  EXPECT_THAT(must(cri().shell(id, "cat /sys/fs/cgroup/memory/memory.limit_in_bytes || cat /sys/fs/cgroup/memory.max")),
              HasSubstr(std::to_string(96 << 20)));
  auto hungry = host().shell_config("hungry", "x=$(head -c 200000000 /dev/zero | tr '\\0' x); echo $x | wc -c");
  hungry.mutable_linux()->mutable_resources()->set_memory_limit_in_bytes(16 << 20);
  const auto eats = must(cri().run(pod_, hungry, config_));
  const auto end = must(cri().wait_exited(eats));
  EXPECT_EQ(end.reason(), "OOMKilled") << end.exit_code() << " " << end.message();
}

TEST_P(HandlerTest, AnExecThatTakesTooLongGoesWithItsChildren) {
  const auto id = run("exec sleep 1000");
  const auto late = cri().exec(id, {"sh", "-c", "sleep 5551 & sleep 5552"}, 1);
  EXPECT_TRUE(fails(late, Code::kTimeout));
  EXPECT_TRUE(
      wait_until(kPatience, [&] { return must(cri().shell(id, "ps | grep -c '[s]leep 555' || true")) == "0\n"; }));
  EXPECT_EQ(must(cri().shell(id, "echo alive")), "alive\n");
}

TEST_P(HandlerTest, ATerminalIsLogged) {
  auto wanted = host().shell_config("main", "test -t 1 && echo is a terminal");
  wanted.set_tty(true);
  const auto id = must(cri().run(pod_, wanted, config_));
  EXPECT_EQ(must(cri().wait_exited(id)).exit_code(), 0);
  EXPECT_THAT(log(), HasSubstr("is a terminal"));
}

TEST_P(HandlerTest, ADaemonThatIsStartedAgainTakesItOver) {
  const auto id = run("echo begun; trap 'exit 5' TERM; while :; do sleep 0.05; done");
  host().kill9_daemon();
  ASSERT_TRUE(ok(host().start_daemon()));
  EXPECT_EQ(must(cri().status(id)).state(), pb::CONTAINER_RUNNING);
  EXPECT_EQ(must(cri().shell(id, "echo still")), "still\n");
  must(cri().stop(id, 20));
  EXPECT_EQ(must(cri().status(id)).exit_code(), 5);
}

TEST_P(HandlerTest, AShimThatIsKilledLeavesNothing) {
  const auto id = run("exec sleep 1000");
  const pid_t shim = shim_of(pod_);
  ASSERT_GT(shim, 0);
  ASSERT_EQ(::kill(shim, SIGKILL), 0);
  EXPECT_EQ(must(cri().wait_exited(id)).exit_code(), 137);
  must(cri().end_pod(pod_));
  EXPECT_THAT(cgroups_left(), IsEmpty());
}

// What a runtime knows by paths alone is given to it as paths.
TEST_P(HandlerTest, MountsThatPropagateAndThoseOfImages) {
  const SharedFolder shared(host().dir() + "/shared", MS_SHARED);
  ASSERT_TRUE(shared.made());
  ASSERT_TRUE(shared.mount_below("hosts"));
  const auto before = mounts(host());
  auto pod_config = host().pod_config("volumes");
  pod_config.mutable_linux()->mutable_security_context()->set_privileged(true);
  const auto pod = must(cri().run_pod(pod_config, GetParam().handler));
  auto wanted = host().shell_config("main", "exec sleep 1000");
  wanted.mutable_linux()->mutable_security_context()->set_privileged(true);
  auto& both_ways = *wanted.add_mounts();
  both_ways.set_host_path(shared.path());
  both_ways.set_container_path("/vol");
  both_ways.set_propagation(pb::PROPAGATION_BIDIRECTIONAL);
  auto& image = *wanted.add_mounts();
  image.mutable_image()->set_image(TestHost::image("busybox"));
  image.set_image_sub_path("data");
  image.set_container_path("/img");
  auto& file = *wanted.add_mounts();
  file = image;
  file.set_image_sub_path("data/kept");
  file.set_container_path("/one-file");
  const auto id = must(cri().run(pod, wanted, pod_config));
  EXPECT_EQ(must(cri().shell(id, "cat /img/kept; cat /one-file; cat /vol/hosts/mark")), "kept\nkept\nhosts");
  EXPECT_TRUE(fails(cri().shell(id, "echo x > /img/kept"), Code::kInternal, "Read-only"));
  must(cri().shell(id, "mkdir -p /vol/made && mount -t tmpfs none /vol/made && echo made > /vol/made/mark"));
  EXPECT_EQ(os::read_file(shared.at("made/mark"), 100).value_or("none"), "made\n");
  must(cri().shell(id, "umount /vol/made"));
  must(cri().stop(id, 0));
  must(cri().remove(id));
  must(cri().end_pod(pod));
  EXPECT_EQ(os::read_file(shared.at("hosts/mark"), 100).value_or("none"), "hosts") << "it was there before";
  EXPECT_EQ(difference(before, mounts(host())), "");
  EXPECT_TRUE(shared.unmount_below("hosts"));
}

// A path names the topmost mount alone: what lies beneath must neither be unmounted on the host nor be emptied.
TEST_P(HandlerTest, WhatTheHostMountsOnAVolumeOutlivesTheContainer) {
  const SharedFolder inwards(host().dir() + "/inwards", MS_SHARED);
  const SharedFolder both(host().dir() + "/both", MS_SHARED);
  ASSERT_TRUE(inwards.made() && both.made());
  const auto pod = privileged_pod("stacked");
  const auto before = mounts(host());
  const auto id =
      run_with(pod, {{&inwards, pb::PROPAGATION_HOST_TO_CONTAINER}, {&both, pb::PROPAGATION_BIDIRECTIONAL}});
  for (const auto* volume : {&inwards, &both}) {
    must(os::write_file_atomic(volume->at("kept"), "kept"));
    ASSERT_TRUE(volume->mount_below("below"));
    ASSERT_TRUE(volume->mount_below("."));  // on its root
  }
  must(cri().stop(id, 0));
  must(cri().remove(id));
  for (const auto* volume : {&inwards, &both}) {
    EXPECT_EQ(os::read_file(volume->at("mark"), 100).value_or("none"), ".");
    EXPECT_TRUE(volume->unmount_below("."));
    EXPECT_EQ(os::read_file(volume->at("below/mark"), 100).value_or("none"), "below");
    EXPECT_TRUE(volume->unmount_below("below"));
    EXPECT_EQ(os::read_file(volume->at("kept"), 100).value_or("none"), "kept");
  }
  must(cri().end_pod(pod.id));
  EXPECT_EQ(difference(before, mounts(host())), "");
}

TEST_P(HandlerTest, WhatAContainerMountsOnItsVolumeOutlivesItWithTheFilesBeneath) {
  // On the file system of the containers' own folders: no device number keeps a removal out of it.
  const SharedFolder volume(host().state() + "/volume", MS_SHARED);
  ASSERT_TRUE(volume.made());
  must(os::make_dirs(volume.at("folder")));
  must(os::write_file_atomic(volume.at("folder/kept"), "kept"));
  const auto before = mounts(host());
  const auto pod = privileged_pod("stacked");
  for (const bool shim_ends : {false, true}) {
    const auto id = run_with(pod, {{&volume, pb::PROPAGATION_BIDIRECTIONAL}});
    must(cri().shell(id, "mount -t tmpfs none /vol0 && echo on top > /vol0/mark"));
    if (shim_ends) {
      ASSERT_EQ(::kill(shim_of(pod.id), SIGKILL), 0);
    } else {
      must(cri().stop(id, 0));
    }
    must(cri().wait_exited(id));
    must(cri().remove(id));
    EXPECT_EQ(os::read_file(volume.at("mark"), 100).value_or("none"), "on top\n") << shim_ends;
    EXPECT_TRUE(volume.unmount_below("."));
    EXPECT_EQ(os::read_file(volume.at("folder/kept"), 100).value_or("none"), "kept") << shim_ends;
  }
  must(cri().end_pod(pod.id));
  EXPECT_EQ(difference(before, mounts(host())), "");
}

TEST_P(HandlerTest, OnePidNamespaceForThePod) {
  auto pod_config = host().pod_config("pids");
  pod_config.mutable_linux()->mutable_security_context()->mutable_namespace_options()->set_pid(pb::POD);
  const auto pod = must(cri().run_pod(pod_config, GetParam().handler));
  const auto start = [&](const std::string& name, const std::string& time) {
    auto wanted = host().shell_config(name, "exec sleep " + time);
    wanted.mutable_linux()->mutable_security_context()->mutable_namespace_options()->set_pid(pb::POD);
    return must(cri().run(pod, wanted, pod_config));
  };
  const auto one = start("one", "1001");
  const auto two = start("two", "1002");
  std::string list;
  EXPECT_TRUE(wait_until(kPatience, [&] {
    list = must(cri().shell(one, "ps -o pid,args"));
    return list.find("sleep 1001") != std::string::npos && list.find("sleep 1002") != std::string::npos;
  })) << list;
  EXPECT_THAT(list, HasSubstr("    1 berth-pod-init"));
  must(cri().stop(one, 0));
  EXPECT_EQ(must(cri().status(two)).state(), pb::CONTAINER_RUNNING);
  must(cri().end_pod(pod));
}

class HandlersTest : public HostTest<WithHandlers> {
 protected:
  void TearDown() override {
    HostTest::TearDown();
    // Whatever a test has made of the configuration, the next one has the first again.
    if (!os::exists(drop_in())) return;
    EXPECT_TRUE(ok(os::remove_file(drop_in())));
    ASSERT_TRUE(ok(host().stop_daemon()));
    ASSERT_TRUE(ok(host().start_daemon()));
  }
  static std::string drop_in() { return host().dir() + "/config.d/handlers.toml"; }
  /// Writes the file, sends SIGHUP and waits until the log has `answer` once more.
  static void reload(const std::string& text, const std::string& answer) {
    const auto count = [&] {
      const std::string log = host().daemon_log(1U << 20);
      std::size_t found = 0;
      for (std::size_t at = log.find(answer); at != std::string::npos; at = log.find(answer, at + 1)) ++found;
      return found;
    };
    const std::size_t before = count();
    must(os::make_dirs(host().dir() + "/config.d"));
    must(os::write_file_atomic(drop_in(), text));
    ASSERT_EQ(::kill(host().daemon_pid(), SIGHUP), 0);
    ASSERT_TRUE(wait_until(kPatience, [&] { return count() > before; })) << answer;
  }
  static std::vector<std::string> listed() {
    std::vector<std::string> names;
    const auto status = must(cri().call(&Runtime::Status, pb::StatusRequest()));
    for (const auto& handler : status.runtime_handlers()) {
      names.push_back(handler.name());
    }
    return names;
  }
  static pb::PodSandboxConfig pod(const std::string& name) { return host().pod_config(name); }
};

TEST_F(HandlersTest, AreListedWithWhatTheyAre) {
  EXPECT_THAT(listed(), ElementsAre("", "absent", "berth", "crun", "runc", "runc-shim"));
  pb::StatusRequest verbose;
  verbose.set_verbose(true);
  const auto status = must(cri().call(&Runtime::Status, verbose));
  EXPECT_THAT(status.info().at("berth"),
              HasSubstr(R"("absent":{"engine":"external","binary":"/no/such/runtime","ready":false,"message":)"));
  EXPECT_THAT(status.info().at("berth"), HasSubstr(R"("berth":{"engine":"process","ready":true})"));
}

TEST_F(HandlersTest, OneWithoutItsProgramIsToldAndRefused) {
  EXPECT_THAT(host().daemon_log(), HasSubstr("a handler is not ready"));
  EXPECT_TRUE(fails(cri().run_pod(pod("p"), "absent"), Code::kUnavailable, "/no/such/runtime"));
  EXPECT_TRUE(fails(cri().run_pod(pod("p"), "nobody"), Code::kNotFound,
                    "known: \"absent\", \"berth\", \"crun\", \"runc\", \"runc-shim\""));
  EXPECT_THAT(must(cri().pods()), IsEmpty());
}

// As for wasm and for sandboxes: what the runtime starts is the container, and no other program is ever executed.
TEST_F(HandlersTest, ARuntimeThatNeverExecutesAProgramDelaysOneStart) {
  struct Tried {
    std::string handler;
    std::string shim;
    std::string runtime;
  };
  std::string text;
  std::vector<std::string> handlers;
  for (const auto& [handler, shim, runtime] :
       {Tried{"stays-crun", "", "/usr/bin/crun"}, Tried{"stays-runc", "", "/usr/sbin/runc"},
        Tried{"stays-shim", "/usr/bin/containerd-shim-runc-v2", "/usr/sbin/runc"}}) {
    if (!os::exists(runtime) || (!shim.empty() && !os::exists(shim))) continue;
    // All that it is asked but to start.
    const std::string path = host().dir() + "/" + handler;
    must(os::write_file_atomic(
        path, "#!/bin/sh\nfor word; do test \"$word\" = start && exit 0; done\nexec " + runtime + " \"$@\"\n", 0755));
    text += "[handlers." + handler + "]\nbinary = \"" + path + "\"\n";
    text += shim.empty() ? "engine = \"external\"\n" : "shim = \"" + shim + "\"\n";
    handlers.push_back(handler);
  }
  if (handlers.empty()) GTEST_SKIP() << "no other runtime is here";
  reload(text, "handlers are read anew");
  for (const auto& handler : handlers) {
    const auto config = pod(handler);
    const auto id = must(cri().run_pod(config, handler));
    const auto start = [&](const std::string& name) {
      const auto container = must(cri().create(id, host().shell_config(name, "exec sleep 1000"), config));
      const auto begin = std::chrono::steady_clock::now();
      must(cri().start(container));
      return std::chrono::steady_clock::now() - begin;
    };
    const auto first = start("first");
    EXPECT_GE(first, std::chrono::milliseconds(200)) << handler << ": its process stays what it is";
    auto quickest = first;
    for (const auto* name : {"second", "third", "fourth"}) quickest = std::min(quickest, start(name));
    EXPECT_LT(quickest, std::chrono::milliseconds(200)) << handler;
    must(cri().end_pod(id));
  }
}

TEST_F(HandlersTest, ComeAndGoBySighup) {
  if (!os::exists("/usr/bin/crun")) GTEST_SKIP() << "/usr/bin/crun is not here";
  reload("[handlers.later]\nengine = \"external\"\nbinary = \"/usr/bin/crun\"\n", "handlers are read anew");
  EXPECT_THAT(listed(), ElementsAre("", "absent", "berth", "crun", "later", "runc", "runc-shim"));
  const auto config = pod("later");
  const auto id = must(cri().run_pod(config, "later"));
  const auto container = must(cri().run(id, host().shell_config("main", "exec sleep 1000"), config));

  // One wrong handler among right ones: none is taken.
  reload("[handlers.good]\nengine = \"process\"\n[handlers.bad]\nengine = \"wasm\"\n",
         "the configuration stays as it was");
  EXPECT_THAT(listed(), ElementsAre("", "absent", "berth", "crun", "later", "runc", "runc-shim"));

  reload("[runtime]\ndefault_handler = \"runc\"\n", "handlers are read anew");
  EXPECT_THAT(listed(), ElementsAre("", "absent", "berth", "crun", "runc", "runc-shim"));
  EXPECT_TRUE(fails(cri().run_pod(pod("p"), "later"), Code::kNotFound, "later"));
  // The pod of the handler that is gone lives on, in this daemon and in the next.
  EXPECT_EQ(must(cri().shell(container, "echo lives")), "lives\n");
  ASSERT_TRUE(ok(host().stop_daemon()));
  ASSERT_TRUE(ok(host().start_daemon()));
  EXPECT_EQ(must(cri().pod_status(id)).runtime_handler(), "later");
  EXPECT_EQ(must(cri().shell(container, "echo lives")), "lives\n");
  must(cri().stop(container, 0));
  must(cri().end_pod(id));
}

}  // namespace
}  // namespace berth::test
