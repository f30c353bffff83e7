// podman without root, with our runtime and with the one that it is made for. The user exists in this test's mount
// namespace alone.
#include <fcntl.h>
#include <gmock/gmock.h>
#include <sys/mount.h>
#include <sys/stat.h>
#include <unistd.h>

#include <csignal>

#include "base/strings.h"
#include "os/file.h"
#include "peer_host.h"
#include "wait.h"

namespace berth::test {
namespace {

using ::testing::HasSubstr;
using ::testing::Not;

constexpr const char* kUser = "54321";
constexpr const char* kUserName = "berthtest";
constexpr const char* kSubIds = "1000000";

class RootlessTest : public PeerTest {
 protected:
  void SetUp() override {
    PeerTest::SetUp();
    for (const char* tool : {"/usr/bin/newuidmap", "/usr/bin/newgidmap"}) {
      if (!os::exists(tool)) GTEST_SKIP() << tool << " is not installed";
    }
    ASSERT_TRUE(os::make_dirs(folder() + "/etc").has_value());
    const std::string home = folder() + "/home";
    add_line("passwd", std::string(kUserName) + ":x:" + kUser + ":" + kUser + "::" + home + ":/bin/sh\n");
    add_line("group", std::string(kUserName) + ":x:" + kUser + ":\n");
    add_line("subuid", std::string(kUserName) + ":" + kSubIds + ":65536\n");
    add_line("subgid", std::string(kUserName) + ":" + kSubIds + ":65536\n");
    // The user may run what lies here, wherever the build folder is.
    const Ran copied = run({"sh", "-c",
                            "cp \"$1\" \"$0\"/\"$2\" && chmod 755 \"$0\"/\"$2\" && mkdir -p -m 700 \"$0\"/xdg && "
                            "chown -R " +
                                std::string(kUser) + ":" + kUser + " \"$0\"",
                            folder(), runtime().path, runtime().name});
    ASSERT_EQ(copied.code, 0) << copied.err;
    const Ran imported = user_podman({"import", folder() + "/image.tar", kImage});
    ASSERT_EQ(imported.code, 0) << imported.err;
    ready_ = true;
  }
  void TearDown() override {
    if (ready_) {
      user_podman({"pod", "rm", "--all", "--force", "--time", "0"});
      user_podman({"rm", "--all", "--force", "--time", "0"});
      EXPECT_TRUE(wait_until(std::chrono::seconds(20), [this] {
        const std::string state = folder() + "/xdg/" + runtime().name;
        return os::list_dir(state).value_or(std::vector<std::string>()).empty();
      })) << "the runtime keeps state";
    }
    // podman's own process, which holds its user namespace.
    const Ran found = run({"find", folder(), "-name", "pause.pid"});
    for (const auto file : split(found.out, '\n')) {
      const auto pid = parse_number<pid_t>(trim(os::read_file(std::string(file), 64).value_or("")));
      if (pid && *pid > 1) {
        EXPECT_EQ(::kill(*pid, SIGKILL), 0);
      }
    }
    for (const auto& file : mounted_) EXPECT_EQ(::umount2(file.c_str(), MNT_DETACH), 0) << file;
    PeerTest::TearDown();
  }
  /// /etc/NAME with a line more, in this mount namespace.
  void add_line(const std::string& name, const std::string& line) {
    const std::string place = "/etc/" + name;
    if (!os::exists(place)) GTEST_SKIP() << place << " is not there";
    const std::string old = os::read_file(place, 1U << 20).value_or("");
    write("etc/" + name, old + line);
    ASSERT_EQ(::mount((folder() + "/etc/" + name).c_str(), place.c_str(), nullptr, MS_BIND, nullptr), 0);
    mounted_.push_back(place);
  }
  Ran user_podman(std::vector<std::string> words) {
    std::vector<std::string> all{"setpriv",
                                 "--reuid",
                                 kUser,
                                 "--regid",
                                 kUser,
                                 "--clear-groups",
                                 "--inh-caps=-all",
                                 "env",
                                 "--chdir",
                                 folder(),
                                 "XDG_RUNTIME_DIR=" + folder() + "/xdg",
                                 std::string("USER=") + kUserName};
    const auto podman = podman_words(folder() + "/" + runtime().name, folder() + "/user");
    all.insert(all.end(), podman.begin(), podman.end());
    all.insert(all.end(), words.begin(), words.end());
    return run(std::move(all));
  }
  Ran user_run(const std::vector<std::string>& flags, const std::vector<std::string>& words) {
    return user_podman(run_words({"run"}, flags, words));
  }

 private:
  std::vector<std::string> mounted_;
  bool ready_ = false;
};

INSTANTIATE_TEST_SUITE_P(Runtimes, RootlessTest, ::testing::ValuesIn(runtimes()), runtime_name);

TEST_P(RootlessTest, RunGivesOutputAndExitCode) {
  const Ran ran = user_run({"--rm"}, {"sh", "-c", "id -u; cat /proc/self/uid_map; exit 7"});
  EXPECT_EQ(ran.code, 7) << ran.err;
  EXPECT_THAT(ran.out, HasSubstr("0\n"));
  EXPECT_THAT(ran.out, HasSubstr(kUser));
  EXPECT_THAT(ran.out, HasSubstr(kSubIds));
  EXPECT_EQ(user_run({"--rm"}, {"nosuch"}).code, 127);
  const Ran keep = user_run({"--rm", "--userns", "keep-id"}, {"id", "-u"});
  EXPECT_EQ(keep.out, std::string(kUser) + "\n") << keep.err;
  const Ran other = user_run({"--rm", "--read-only", "--user", "web", "--cap-drop", "all"},
                             {"sh", "-c", "id -un; touch /x 2>&1; grep CapEff /proc/self/status"});
  EXPECT_THAT(other.out, HasSubstr("web\ntouch: /x: Read-only file system\nCapEff:\t0000000000000000\n")) << other.err;
}

TEST_P(RootlessTest, ALifeFromRunToRemove) {
  const Ran started =
      user_run({"--detach", "--name", "life"},
               {"sh", "-c", "echo hello; trap 'exit 3' TERM; touch /tmp/ready; while :; do sleep 0.05; done"});
  ASSERT_EQ(started.code, 0) << started.err;
  EXPECT_TRUE(wait_until(std::chrono::seconds(20),
                         [this] { return user_podman({"exec", "life", "test", "-f", "/tmp/ready"}).code == 0; }));
  const Ran inside = user_podman({"exec", "--user", "web", "life", "sh", "-c", "id -un; exit 5"});
  EXPECT_EQ(inside.code, 5) << inside.err;
  EXPECT_EQ(inside.out, "web\n");
  EXPECT_EQ(user_podman({"exec", "--tty", "life", "tty"}).out, "/dev/pts/0\r\n");
  EXPECT_EQ(user_podman({"logs", "life"}).out, "hello\n");
  EXPECT_THAT(user_podman({"top", "life"}).out, HasSubstr("echo hello"));
  EXPECT_EQ(user_podman({"stop", "--time", "20", "life"}).code, 0);
  EXPECT_EQ(user_podman({"wait", "life"}).out, "3\n");
  EXPECT_EQ(user_podman({"start", "life"}).code, 0);
  EXPECT_EQ(user_podman({"kill", "life"}).code, 0);
  EXPECT_EQ(user_podman({"wait", "life"}).out, "137\n");
  EXPECT_EQ(user_podman({"rm", "life"}).code, 0);
}

TEST_P(RootlessTest, APodSharesItsNamespaces) {
  if (!os::exists("/usr/bin/catatonit")) GTEST_SKIP() << "catatonit is not installed: no program for the pod itself";
  const Ran made = user_podman({"pod", "create", "--name", "pod", "--network", "none", "--share", "net,ipc,uts,pid"});
  ASSERT_EQ(made.code, 0) << made.err;
  const Ran first = user_podman({"run", "--detach", "--pod", "pod", kImage, "sleep", "1000"});
  EXPECT_EQ(first.code, 0) << first.err;
  const Ran second = user_podman({"run", "--rm", "--pod", "pod", kImage, "ps"});
  EXPECT_THAT(second.out, HasSubstr("sleep 1000")) << second.err;
}

}  // namespace
}  // namespace berth::test
