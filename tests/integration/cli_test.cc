// The operator's command line against a daemon.
#include <gmock/gmock.h>
#include <signal.h>
#include <unistd.h>

#include "base/strings.h"
#include "fixture.h"
#include "os/clone.h"
#include "os/file.h"
#include "os/pidfd.h"
#include "os/spawn.h"
#include "wait.h"

namespace berth::test {
namespace {

using testing::AllOf;
using testing::HasSubstr;
using testing::Not;

struct WithoutPull {
  static TestHostOptions options() { return {.images = {"busybox"}}; }
};

class CliTest : public HostTest<WithoutPull> {
 protected:
  // `berth ARGS...` against the daemon.
  static Ran berth(std::vector<std::string> args) {
    args.insert(args.begin(), TestHost::program("berth"));
    return must(run_program(std::move(args), std::chrono::seconds(120), {"BERTH_ADDRESS=" + host().socket()}));
  }
  // The same, which must succeed: its stdout.
  static std::string good(std::vector<std::string> args) {
    std::string line = "berth";
    for (const auto& arg : args) line.append(" ").append(arg);
    const auto ran = berth(std::move(args));
    EXPECT_EQ(ran.code, 0) << line << "\n" << ran.err;
    return ran.out;
  }
  static std::vector<std::string> run_args(std::vector<std::string> more) {
    std::vector<std::string> args = {"run", "--log-dir", host().dir() + "/logs"};
    args.insert(args.end(), more.begin(), more.end());
    return args;
  }
  static std::string image() { return TestHost::image("busybox"); }
};

TEST_F(CliTest, ImagesComeAreListedAndGo) {
  good({"rmi", image()});
  EXPECT_THAT(good({"images"}), Not(HasSubstr("busybox")));
  const auto pulled = berth({"pull", image()});
  EXPECT_EQ(pulled.code, 0) << pulled.err;
  EXPECT_TRUE(pulled.out.starts_with("sha256:")) << pulled.out;
  EXPECT_THAT(pulled.err, HasSubstr("layer "));
  EXPECT_THAT(pulled.err, HasSubstr(" done "));
  EXPECT_THAT(pulled.err, HasSubstr("pulled " + image()));
  EXPECT_THAT(pulled.err, Not(HasSubstr("\x1b"))) << "no terminal, no control sequences";
  // All of it is here: one look at the registry, no layer to tell of.
  EXPECT_THAT(berth({"pull", image()}).err, HasSubstr("pulled " + image()));
  const auto quiet = berth({"pull", "-q", image()});
  EXPECT_EQ(quiet.err, "");
  EXPECT_EQ(quiet.out, pulled.out);

  const auto list = good({"images"});
  EXPECT_THAT(list, HasSubstr("IMAGE ID"));
  EXPECT_THAT(list, HasSubstr("127.0.0.1:5000/busybox   latest"));
  EXPECT_EQ(good({"images", "-q"}), pulled.out);
  EXPECT_THAT(good({"images", "--digests"}), HasSubstr("sha256:"));
  EXPECT_THAT(good({"images", "--json"}), HasSubstr("\"repoTags\""));
  EXPECT_THAT(good({"inspect", image()}), HasSubstr(std::string(trim(pulled.out))));
}

TEST_F(CliTest, ADamagedImageIsMended) {
  const auto id = std::string(trim(good({"pull", "-q", image()})));
  const auto whole = good({"image", "verify"});
  if (whole.find("1 layers whole") == std::string::npos) GTEST_SKIP() << "layers are unpacked here: " << whole;
  const std::string layers = host().dir() + "/root/images/layers";
  const auto names = must(os::list_dir(layers));
  ASSERT_EQ(names.size(), 1U);
  must(os::write_file_atomic(layers + "/" + names[0] + "/tar", "not the archive"));
  const auto told = berth({"image", "verify", image()});
  EXPECT_EQ(told.code, 1);
  EXPECT_THAT(told.out, AllOf(HasSubstr(names[0]), HasSubstr("--repair mends it")));
  const auto mended = berth({"image", "verify", "--repair", image()});
  EXPECT_EQ(mended.code, 0) << mended.out << mended.err;
  EXPECT_THAT(good({"image", "verify", id}), HasSubstr("1 layers whole"));
  EXPECT_NE(berth({"image", "verify", "nobody"}).code, 0);
}

TEST_F(CliTest, APodFromRunToRemove) {
  const auto started = good(run_args({"--name", "web", "-p", "18085:80", "-e", "WORD=value", image()}));
  EXPECT_THAT(started, HasSubstr("pod        web ("));
  EXPECT_TRUE(wait_until(std::chrono::seconds(10), [] { return http_get("127.0.0.1", 18085).has_value(); }));
  EXPECT_THAT(good({"pods"}), HasSubstr("default/web"));
  EXPECT_THAT(good({"ps"}), HasSubstr("web"));
  EXPECT_EQ(good({"exec", "web", "sh", "-c", "echo $WORD; hostname"}), "value\nweb\n");
  EXPECT_THAT(good({"inspect", "web"}), HasSubstr("\"ip\": \"10.88."));
  EXPECT_EQ(split(trim(good({"pods", "-q"})), '\n').size(), 1U);

  good({"stop", "-t", "0", "web"});
  EXPECT_FALSE(http_get("127.0.0.1", 18085, "/", std::chrono::seconds(2)));
  EXPECT_THAT(good({"ps"}), Not(HasSubstr("web")));
  EXPECT_THAT(good({"ps", "-a"}), HasSubstr("web"));
  good({"rm", "web"});
  EXPECT_EQ(trim(good({"pods", "-q"})), "");
  EXPECT_TRUE(must(os::list_dir(host().dir() + "/logs")).empty()) << "the pod's log folder goes with it";
}

TEST_F(CliTest, WhyTellsTheStoryOfAPodAlsoAfterItsEnd) {
  EXPECT_NE(berth(run_args({"--rm", "--name", "told", image(), "sh", "-c", "exit 7"})).code, 0);
  EXPECT_NE(berth(run_args({"--rm", "--name", "wrong", image(), "/no/such/program"})).code, 0);
  const auto restart = [] {
    host().kill9_daemon();
    ASSERT_TRUE(ok(host().start_daemon()));
  };
  for (int round = 0; round < 2; ++round) {
    const auto told = good({"why", "default/told"});
    EXPECT_THAT(told, HasSubstr("pod default/told"));
    EXPECT_THAT(told, HasSubstr("(removed)"));
    for (const char* step : {"RunPodSandbox default/told: ok", "network attach", "start the shim", "CreateContainer",
                             "prepare the root file system", "StartContainer", "RemovePodSandbox"}) {
      EXPECT_THAT(told, HasSubstr(step));
    }
    EXPECT_THAT(told, HasSubstr("container told ended"));
    EXPECT_THAT(told, HasSubstr("Error, exit code 7"));
    EXPECT_THAT(told, HasSubstr(" ms  "));
    EXPECT_THAT(good({"why", "wrong"}), HasSubstr("/no/such/program"));
    EXPECT_THAT(good({"why", "--json", "wrong"}), HasSubstr("\"podName\": \"wrong\""));
    EXPECT_THAT(berth({"why", "never-was"}).err, HasSubstr("nothing is known of"));
    restart();  // and the same once more
  }
}

// What Status tells, and with what to do where something is missing.
TEST_F(CliTest, DoctorSaysWhetherTheNodeIsWell) {
  const auto ran = berth({"doctor"});
  EXPECT_EQ(ran.code, 0) << ran.out << ran.err;
  const auto status = must(cri().call(&Runtime::Status, pb::StatusRequest()));
  for (const auto& condition : status.status().conditions()) EXPECT_THAT(ran.out, HasSubstr(condition.type()));
  for (const auto* name :
       {"ok       RuntimeReady", "the built-in network", "handler berth", "recursive read-only mounts", "cgroups",
        "kernel: overlay", "AppArmor and SELinux", "image store", " free (", "criu", " ms  "}) {
    EXPECT_THAT(ran.out, HasSubstr(name));
  }
  EXPECT_THAT(good({"doctor", "-o", "json"}), AllOf(HasSubstr("\"probes\""), HasSubstr("\"HEALTH_GOOD\"")));
  EXPECT_NE(berth({"doctor", "-o", "yaml"}).code, 0);

  // A network that is not there: the same words as Status', and the exit code says so.
  must(os::make_dirs(host().cni_dir()));
  const std::string conf = host().cni_dir() + "/10-broken.conflist";
  must(os::write_file_atomic(conf, "{"));
  const auto broken = berth({"doctor"});
  const auto told = must(cri().call(&Runtime::Status, pb::StatusRequest()));
  must(os::remove_file(conf));
  EXPECT_EQ(broken.code, 1) << broken.out;
  EXPECT_THAT(broken.out, HasSubstr("BAD      NetworkReady"));
  for (const auto& condition : told.status().conditions()) {
    if (condition.type() != "NetworkReady") continue;
    EXPECT_FALSE(condition.status());
    EXPECT_THAT(broken.out, HasSubstr(condition.message()));
  }
  EXPECT_THAT(broken.out, HasSubstr("-> correct the configuration"));
  EXPECT_EQ(berth({"doctor"}).code, 0);
}

TEST_F(CliTest, FsckFindsAndRemovesWhatNothingOwns) {
  good(run_args({"--name", "owned", image(), "sleep", "1000"}));
  EXPECT_EQ(good({"fsck"}), "everything has an owner\n");

  const std::string stray = std::string(64, 'a');
  const std::string others = std::string(64, 'b');
  const std::string folder = host().state() + "/pods/" + stray;
  ASSERT_TRUE(ok(os::make_dirs(folder)));
  const auto cgroup_of = [](const std::string& id) {
    return "/sys/fs/cgroup/" + std::string(os::exists("/sys/fs/cgroup/pids") ? "pids/" : "") +
           host().cgroup_parent().substr(1) + "/" + id;
  };
  for (const auto& id : {stray, others}) ASSERT_TRUE(ok(os::make_dirs(cgroup_of(id))));
  const auto start = [](std::vector<std::string> argv, const std::string& where) {
    os::SpawnOptions options;
    options.argv = std::move(argv);
    options.program = "/bin/sh";
    options.env = {"PATH=/usr/bin:/bin"};
    options.cwd = where;
    return must(os::spawn(options));
  };
  // As the daemon's shims look, one for a pod of ours and one for a pod of somebody else's.
  const auto shim_of = [&](const std::string& id, const std::string& where) {
    return start({TestHost::program("containerd-shim-berth-v2"), "-c", "sleep 1000; :", "-id", id}, where);
  };
  const auto shim = shim_of(stray, folder);
  const auto others_shim = shim_of(others, "/");
  const auto member = start({"sh", "-c", "exec sleep 1000"}, "/");
  const auto guest = start({"sh", "-c", "exec sleep 1000"}, folder);
  ASSERT_TRUE(ok(os::write_existing(cgroup_of(stray) + "/cgroup.procs", std::to_string(member.pid))));
  for (const char* link : {"vethstra0000000", "admins0"}) {
    EXPECT_EQ(must(run_program({"ip", "link", "add", link, "master", "berth0", "type", "veth"})).code, 0);
  }

  const auto found = berth({"fsck"});
  EXPECT_EQ(found.code, 1);
  for (const std::string& line :
       {"shim     " + std::to_string(shim.pid) + " of pod " + stray, "folder   " + folder,
        "cgroup   " + host().cgroup_parent() + "/" + stray, std::string("link     vethstra0000000")}) {
    EXPECT_THAT(found.out, HasSubstr(line + ": nothing owns it\n"));
  }
  EXPECT_THAT(found.out, AllOf(Not(HasSubstr("admins0")), Not(HasSubstr(others))));
  EXPECT_THAT(good({"fsck", "--repair"}), HasSubstr("vethstra0000000: removed"));
  EXPECT_EQ(good({"fsck"}), "everything has an owner\n");
  for (const auto& path : {folder, cgroup_of(stray)}) EXPECT_FALSE(os::exists(path)) << path;
  const auto ended = [](const os::Child& child) {
    return must(os::wait_readable(child.pidfd.get(), std::chrono::milliseconds(0)));
  };
  EXPECT_TRUE(ended(shim));
  EXPECT_TRUE(ended(member));
  EXPECT_FALSE(ended(others_shim)) << "another daemon's";
  EXPECT_FALSE(ended(guest)) << "who only looks at a folder of ours";
  EXPECT_TRUE(os::exists(cgroup_of(others)));
  EXPECT_EQ(must(run_program({"ip", "link", "del", "admins0"})).code, 0);
  for (const auto* child : {&shim, &others_shim, &member, &guest}) {
    ignore(os::pidfd_signal(child->pidfd.get(), SIGKILL), "it may have ended");
    EXPECT_TRUE(ok(os::reap_pidfd(child->pidfd.get())));
  }
  ASSERT_EQ(::rmdir(cgroup_of(others).c_str()), 0);
  EXPECT_EQ(good({"exec", "owned", "echo", "lives"}), "lives\n");
  good({"rm", "-f", "owned"});
}

TEST_F(CliTest, ExecPassesOutputErrorsAndCode) {
  good(run_args({"--name", "box", image(), "sleep", "1000"}));
  const auto ran = berth({"exec", "box", "sh", "-c", "echo out; echo err >&2; exit 5"});
  EXPECT_EQ(ran.code, 5);
  EXPECT_EQ(ran.out, "out\n");
  EXPECT_EQ(ran.err, "err\n");
  EXPECT_EQ(good({"exec", "box", "echo", "-n", "--flag"}), "--flag");
  good({"rm", "-f", "box"});
}

TEST_F(CliTest, LogsAreTheContainersOutput) {
  good(run_args(
      {"--name", "talk", image(), "sh", "-c", "echo two >&2; sleep 0.3; echo one; echo three; exec sleep 1000"}));
  Ran ran;
  EXPECT_TRUE(wait_until(std::chrono::seconds(10),
                         [&ran] {
                           ran = berth({"logs", "talk"});
                           return ran.out == "one\nthree\n";
                         }))
      << ran.out << ran.err;
  EXPECT_EQ(ran.err, "two\n");
  EXPECT_EQ(good({"logs", "-n", "1", "talk"}), "three\n");
  EXPECT_THAT(good({"logs", "-t", "-n", "1", "talk"}), testing::MatchesRegex("[0-9T:.-]+Z three\n"));
  good({"rm", "-f", "talk"});
}

TEST_F(CliTest, FollowedLogsEndWithTheContainer) {
  good(run_args({"--name", "count", image(), "sh", "-c", "for i in 1 2 3 4 5; do echo $i; sleep 0.2; done"}));
  EXPECT_EQ(good({"logs", "-f", "count"}), "1\n2\n3\n4\n5\n");
  good({"rm", "-f", "count"});
  const auto ran = berth(run_args({"--rm", "--name", "once", image(), "sh", "-c", "echo shown; exit 6"}));
  EXPECT_EQ(ran.code, 6) << ran.err;
  EXPECT_EQ(ran.out, "shown\n");
  EXPECT_EQ(trim(good({"pods", "-q"})), "");
}

TEST_F(CliTest, RunFetchesAMissingImage) {
  good({"rmi", image()});
  const auto never = berth(run_args({"--pull", "never", image()}));
  EXPECT_EQ(never.code, 1);
  EXPECT_THAT(never.err, HasSubstr(image()));
  const auto ran = berth(run_args({"--rm", image(), "true"}));
  EXPECT_EQ(ran.code, 0) << ran.err;
  EXPECT_THAT(ran.err, HasSubstr("pulling " + image()));
}

TEST_F(CliTest, OptionsOfRunReachTheContainer) {
  const std::string volume = host().dir() + "/volume";
  ASSERT_TRUE(ok(os::make_dirs(volume)));
  ASSERT_TRUE(ok(os::write_file_atomic(volume + "/file", "host\n")));
  const auto out =
      good(run_args({"--rm", "-u", "1000", "-w", "/data", "-v", volume + ":/v:ro", "-m", "64m", "--read-only",
                     "--entrypoint", "/bin/sh", image(), "-c",
                     "id -u; pwd; cat /v/file; touch /x 2>&1 | grep -o Read-only; grep Seccomp: /proc/self/status"}));
  EXPECT_EQ(out, "1000\n/data\nhost\nRead-only\nSeccomp:\t2\n");
}

TEST_F(CliTest, ErrorsAreForPeople) {
  const auto says = [](std::vector<std::string> args, const std::string& words, int code = 1) {
    const auto ran = berth(std::move(args));
    EXPECT_EQ(ran.code, code) << words;
    EXPECT_THAT(ran.err, HasSubstr(words));
    EXPECT_TRUE(ran.err.starts_with("berth: ")) << ran.err;
    EXPECT_EQ(split(trim(ran.err), '\n').size(), 1U) << ran.err;
  };
  says({"logs", "nobody"}, "no container \"nobody\"");
  says({"exec", "nobody", "true"}, "nobody");
  says({"rm", "nobody"}, "nobody");
  says({"stop", "nobody"}, "nobody");
  says({"inspect", "nobody"}, "nobody");
  says({"rmi", "nobody"}, "no image \"nobody\"");
  says(run_args({"-p", "x", image()}), "port \"x\"");
  says(run_args({"-v", "x", image()}), "volume \"x\"");
  says({"--address", host().dir() + "/nothing.sock", "pods"},
       "cannot reach berthd at " + host().dir() + "/nothing.sock");
  EXPECT_THAT(berth(run_args({"--runtime", "nothing", image()})).err, HasSubstr("\"nothing\" is not configured"));
  const auto absent = berth({"pull", TestHost::image("absent")});
  EXPECT_EQ(absent.code, 1);
  EXPECT_THAT(absent.err, HasSubstr("absent"));
  const auto no_program = berth(run_args({image(), "/bin/no-such-program"}));
  EXPECT_EQ(no_program.code, 1);
  EXPECT_THAT(no_program.err, HasSubstr("/bin/no-such-program"));
  EXPECT_EQ(trim(good({"pods", "-q"})), "") << "what did not start is taken away";
  EXPECT_NE(berth({"no-such-word"}).code, 0);
}

TEST_F(CliTest, HelpAndVersion) {
  EXPECT_THAT(good({"version"}), HasSubstr("berth"));
  for (const auto* word :
       {"pull", "images", "rmi", "run", "pods", "ps", "logs", "exec", "stop", "rm", "inspect", "version"}) {
    EXPECT_THAT(good({"--help"}), HasSubstr(word));
    EXPECT_THAT(good({word, "--help"}), HasSubstr(word)) << word;
  }
}

}  // namespace
}  // namespace berth::test
