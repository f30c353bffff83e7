// buildah builds with the runtime, and containerd's own shim drives it by its option BinaryName.
#include <gmock/gmock.h>

#include <csignal>

#include "base/strings.h"
#include "os/file.h"
#include "peer_host.h"
#include "wait.h"

namespace berth::test {
namespace {

using ::testing::HasSubstr;

class BuildahTest : public PeerTest {
 protected:
  void SetUp() override {
    PeerTest::SetUp();
    import_image();
  }
  Ran buildah(std::vector<std::string> words) {
    std::vector<std::string> all{"buildah",          "--root", folder() + "/graph", "--runroot", folder() + "/run",
                                 "--storage-driver", "vfs"};
    if (words[0] == "run" || words[0] == "build") {
      words.insert(words.begin() + 1, {"--runtime", runtime().path, "--isolation", "oci", "--network", "none"});
    }
    if (words[0] == "build") words.insert(words.begin() + 1, {"--cgroup-parent", "/" + name() + "/build"});
    all.insert(all.end(), words.begin(), words.end());
    return run(std::move(all));
  }
};

INSTANTIATE_TEST_SUITE_P(Runtimes, BuildahTest, ::testing::ValuesIn(runtimes()), runtime_name);

TEST_P(BuildahTest, AnImageIsBuilt) {
  write("Containerfile", std::string("FROM ") + kImage +
                             "\nRUN echo built > /out && id -u > /uid\nUSER web\nRUN id -u > /tmp/uid\n"
                             "CMD [\"cat\", \"/out\", \"/uid\", \"/tmp/uid\"]\n");
  const Ran built = buildah({"build", "--tag", "localhost/built:1", "--file", folder() + "/Containerfile", folder()});
  EXPECT_EQ(built.code, 0) << built.err;
  const Ran ran = podman({"run", "--rm", "--network", "none", "localhost/built:1"});
  EXPECT_EQ(ran.out, "built\n0\n1000\n") << ran.err;
  write("Failing", std::string("FROM ") + kImage + "\nRUN exit 3\n");
  const Ran failed = buildah({"build", "--file", folder() + "/Failing", folder()});
  EXPECT_NE(failed.code, 0);
  EXPECT_THAT(failed.err, HasSubstr("exit status 3"));
}

TEST_P(BuildahTest, ACommandRunsInAWorkingContainer) {
  const std::string container(trim(buildah({"from", kImage}).out));
  ASSERT_NE(container, "");
  const Ran ran = buildah({"run", container, "--", "sh", "-c", "echo inside > /file; cat /file; exit 9"});
  EXPECT_EQ(ran.code, 9);
  EXPECT_EQ(ran.out, "inside\n");
  EXPECT_EQ(buildah({"run", container, "--", "cat", "/file"}).out, "inside\n");
  EXPECT_EQ(buildah({"rm", container}).code, 0);
}

class ContainerdTest : public PeerTest {
 protected:
  void SetUp() override {
    PeerTest::SetUp();
    import_image();
    must({"save", "--quiet", "--format", "docker-archive", "--output", folder() + "/archive.tar", kImage});
    const std::string at = folder() + "/containerd";
    write("containerd.toml",
          "version = 2\nroot = \"" + at + "/root\"\nstate = \"" + at +
              "/state\"\ndisabled_plugins = [\"io.containerd.grpc.v1.cri\"]\n[grpc]\n  address = \"" + at +
              "/sock\"\n[ttrpc]\n  address = \"" + at + "/ttrpc\"\n");
    ASSERT_TRUE(os::make_dirs(at).has_value());
    auto server = Process::start({"containerd", "--config", folder() + "/containerd.toml", "--log-level", "warn"},
                                 folder() + "/containerd.log", environment());
    ASSERT_TRUE(server.has_value()) << server.error().text();
    server_ = std::move(*server);
    ASSERT_TRUE(wait_until(std::chrono::seconds(20), [this] { return ctr({"version"}).code == 0; }));
    const Ran imported = ctr({"image", "import", "--snapshotter", "native", folder() + "/archive.tar"});
    ASSERT_EQ(imported.code, 0) << imported.err;
  }
  void TearDown() override {
    EXPECT_TRUE(server_.stop(std::chrono::seconds(20)).has_value());
    // The shim gives the runtime a state folder for each namespace, which stays.
    const std::string state = "/run/" + runtime().name + "/" + name();
    EXPECT_THAT(os::list_dir(state).value_or(std::vector<std::string>()), ::testing::IsEmpty());
    EXPECT_TRUE(os::remove_tree(state).has_value());
    PeerTest::TearDown();
  }
  /// The namespace of containerd's is the name of the cgroup above its containers.
  Ran ctr(std::vector<std::string> words) {
    std::vector<std::string> all{"ctr", "--address", folder() + "/containerd/sock", "--namespace", name()};
    all.insert(all.end(), words.begin(), words.end());
    return run(std::move(all));
  }
  Ran ctr_run(std::vector<std::string> flags, const std::string& id, std::vector<std::string> words) {
    std::vector<std::string> all{"run",          "--runtime",   "io.containerd.runc.v2",  "--runc-binary",
                                 runtime().path, "--runc-root", "/run/" + runtime().name, "--snapshotter",
                                 "native"};
    all.insert(all.end(), flags.begin(), flags.end());
    all.insert(all.end(), {kImage, id});
    all.insert(all.end(), words.begin(), words.end());
    return ctr(std::move(all));
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
  std::string pid(const std::string& id) { return task_word(id, 1); }
  std::string status(const std::string& id) { return task_word(id, 2); }
  bool becomes(const std::string& id, const std::string& wanted) {
    return wait_until(std::chrono::seconds(20), [&] { return status(id) == wanted; });
  }

 private:
  Process server_;
};

INSTANTIATE_TEST_SUITE_P(Runtimes, ContainerdTest, ::testing::ValuesIn(runtimes()), runtime_name);

TEST_P(ContainerdTest, RunGivesOutputAndExitCode) {
  const Ran ran = ctr_run({"--rm"}, "once", {"sh", "-c", "echo out; exit 11"});
  EXPECT_EQ(ran.code, 11) << ran.err;
  EXPECT_EQ(ran.out, "out\n");
  const Ran missing = ctr_run({"--rm"}, "missing", {"nosuch"});
  EXPECT_EQ(missing.code, 1);
  EXPECT_THAT(missing.err, HasSubstr("OCI runtime create failed"));
  EXPECT_THAT(missing.err, HasSubstr("exec: \"nosuch\": executable file not found in $PATH"));
  EXPECT_THAT(ctr_run({"--rm", "--read-only"}, "ro", {"touch", "/x"}).err, HasSubstr("Read-only file system"));
  EXPECT_EQ(trim(ctr({"container", "list", "--quiet"}).out), "");
}

TEST_P(ContainerdTest, ALifeFromRunToDelete) {
  const Ran started = ctr_run({"--detach", "--memory-limit", "33554432"}, "life", {"sleep", "1000"});
  ASSERT_EQ(started.code, 0) << started.err;
  EXPECT_TRUE(becomes("life", "RUNNING")) << status("life");
  EXPECT_EQ(cgroup_value(pid("life"), "memory", "memory.limit_in_bytes"), "33554432");
  const Ran inside = ctr({"task", "exec", "--exec-id", "e1", "life", "sh", "-c", "echo in; exit 12"});
  EXPECT_EQ(inside.code, 12) << inside.err;
  EXPECT_EQ(inside.out, "in\n");
  EXPECT_EQ(ctr({"task", "pause", "life"}).code, 0);
  EXPECT_TRUE(becomes("life", "PAUSED")) << status("life");
  EXPECT_EQ(ctr({"task", "resume", "life"}).code, 0);
  EXPECT_TRUE(becomes("life", "RUNNING")) << status("life");
  EXPECT_THAT(ctr({"task", "metrics", "life"}).out, HasSubstr("memory.usage_in_bytes"));
  EXPECT_EQ(ctr({"task", "kill", "--signal", "SIGKILL", "life"}).code, 0);
  EXPECT_TRUE(becomes("life", "STOPPED")) << status("life");
  const Ran deleted = ctr({"task", "delete", "life"});
  EXPECT_THAT(deleted.err, HasSubstr("137"));
  EXPECT_EQ(ctr({"container", "delete", "life"}).code, 0);
  EXPECT_EQ(trim(ctr({"container", "list", "--quiet"}).out), "");
}

}  // namespace
}  // namespace berth::test
