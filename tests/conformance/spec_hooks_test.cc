// Hooks: config.md "POSIX-platform Hooks", runtime.md "Lifecycle".
#include <sys/stat.h>
#include <unistd.h>

#include <algorithm>

#include "base/strings.h"
#include "os/file.h"
#include "spec_host.h"

namespace berth::test {
namespace {

using ::testing::AnyOf;
using ::testing::HasSubstr;
using ::testing::Not;

constexpr const char* kAll[] = {"prestart",       "createRuntime", "createContainer",
                                "startContainer", "poststart",     "poststop"};

class Hooks : public SpecTest {
 protected:
  [[nodiscard]] std::string log() const { return os::read_file(place() + "/log", 1U << 20).value_or(""); }
  /// A folder that the machine and the container see by the same name.
  [[nodiscard]] std::string place() const { return folder() + "/bundle/rootfs/shared"; }
  void share() {
    ASSERT_TRUE(os::make_dirs(place()).has_value());
    config["root"]["readonly"] = false;
  }
  /// A hook that runs this script. It reads its input in any case: crun dies of SIGPIPE when a hook ends before that.
  void add_hook(const std::string& kind, std::string script) {
    if (script.find("cat ") == std::string::npos) script.insert(0, "cat >/dev/null; ");
    config["hooks"][kind].push_back(
        {{"path", "/bin/sh"}, {"args", {"sh", "-c", script}}, {"env", {"PATH=/bin:/usr/bin"}}});
  }
  /// Where a hook of this kind finds the shared folder.
  [[nodiscard]] std::string seen_by(const std::string& kind) const {
    return kind == "startContainer" ? "/shared" : place();
  }
  /// Each hook writes its input to a file of its name, and its name to the log. The one in the container takes its
  /// time: who does not wait for it is seen.
  void log_all() {
    share();
    for (const char* kind : kAll)
      add_hook(kind, std::string(std::string_view(kind) == "startContainer" ? "sleep 0.3; " : "") + "cat >" +
                         seen_by(kind) + "/" + kind + "; echo " + kind + " >>" + seen_by(kind) + "/log");
    set_shell("echo program >>/shared/log");
  }
  /// What a hook of log_all() was given; empty when it did not run.
  [[nodiscard]] Json state_of_hook(const std::string& kind) const {
    const Json given = Json::parse(os::read_file(place() + "/" + kind, 1U << 20).value_or(""), nullptr, false);
    return given.is_object() ? given : Json::object();
  }
};
INSTANTIATE_TEST_SUITE_P(Runtimes, Hooks, ::testing::ValuesIn(spec_runtimes()), runtime_name);

TEST_P(Hooks, TheyRunInOrder) {
  log_all();
  ASSERT_EQ(create().code, 0);
  EXPECT_EQ(log(), "prestart\ncreateRuntime\ncreateContainer\n");
  ASSERT_EQ(start().code, 0);
  EXPECT_TRUE(wait_status("stopped"));
  std::string text = log();
  // poststart runs when the program does.
  EXPECT_THAT(text, AnyOf(HasSubstr("startContainer\nprogram\npoststart\n"),
                          HasSubstr("startContainer\npoststart\nprogram\n")));
  EXPECT_EQ(remove().code, 0);
  EXPECT_THAT(log(), ::testing::EndsWith("poststop\n"));
}

TEST_P(Hooks, SeveralOfAKindRunInTheirOrder) {
  share();
  for (const char* which : {"first", "second", "third"})
    add_hook("createRuntime", std::string("echo ") + which + " >>" + place() + "/log");
  set_args({"/bin/true"});
  EXPECT_TRUE(runs());
  EXPECT_EQ(log(), "first\nsecond\nthird\n");
}

TEST_P(Hooks, EachIsGivenTheState) {
  config["annotations"] = {{"org.example.key", "value"}};
  log_all();
  ASSERT_EQ(create_and_start().code, 0);
  EXPECT_TRUE(wait_status("stopped"));
  EXPECT_EQ(remove().code, 0);
  for (const char* kind : kAll) {
    const Json given = state_of_hook(kind);
    EXPECT_EQ(given.value("id", ""), kId) << kind;
    EXPECT_EQ(given.value("bundle", ""), bundle()) << kind;
    EXPECT_FALSE(given.value("ociVersion", "").empty()) << kind;
    EXPECT_EQ(given.value("annotations", Json()), config["annotations"]) << kind;
  }
}

TEST_P(Hooks, TheStateSaysHowFarItIs) {
  log_all();
  ASSERT_EQ(create_and_start().code, 0);
  EXPECT_TRUE(wait_status("stopped"));
  EXPECT_EQ(remove().code, 0);
  for (const char* kind : {"prestart", "createRuntime", "createContainer"})
    EXPECT_EQ(state_of_hook(kind).value("status", ""), "creating") << kind;
  EXPECT_EQ(state_of_hook("startContainer").value("status", ""), "created");
  EXPECT_EQ(state_of_hook("poststart").value("status", ""), "running");
  EXPECT_EQ(state_of_hook("poststop").value("status", ""), "stopped");
  EXPECT_GT(state_of_hook("createRuntime").value("pid", 0), 1);
}

TEST_P(Hooks, TheyHaveTheirArgumentsAndEnvironmentAlone) {
  share();
  config["hooks"]["createRuntime"].push_back(
      {{"path", "/bin/sh"},
       {"args",
        {"its name", "-c", "cat /proc/$$/cmdline >" + place() + "/log; env >>" + place() + "/log", "zero", "one two"}},
       {"env", {"A=b c", "PATH=/bin:/usr/bin"}}});
  set_args({"/bin/true"});
  write_config();
  ASSERT_EQ(oci({"run", "--bundle", bundle(), kId}, {"OF_THE_CALLER=1"}).code, 0);
  std::string words = log();
  std::ranges::replace(words, '\0', '|');
  EXPECT_THAT(words, ::testing::StartsWith("its name|-c|")) << "argv[0]";
  EXPECT_THAT(words, HasSubstr("|zero|one two|"));
  EXPECT_THAT(log(), HasSubstr("A=b c\n"));
  EXPECT_THAT(log(), Not(HasSubstr("OF_THE_CALLER")));
}

TEST_P(Hooks, TheyRunInTheNamespacesOfTheirKind) {
  share();
  for (const char* kind : {"prestart", "createRuntime", "createContainer", "poststart", "poststop"})
    add_hook(kind, std::string("readlink /proc/self/ns/mnt >") + place() + "/" + kind);
  add_hook("startContainer", "readlink /proc/self/ns/mnt >/shared/startContainer");
  set_shell("readlink /proc/self/ns/mnt >/shared/program");
  const Ran ran = run_once();
  ASSERT_EQ(ran.code, 0) << ran.err;
  const auto seen = [this](const char* kind) {
    return std::string(trim(os::read_file(place() + "/" + kind, 4096).value_or("")));
  };
  for (const char* kind : {"prestart", "createRuntime", "poststart", "poststop"})
    EXPECT_EQ(seen(kind), own_namespace("mnt")) << kind;
  for (const char* kind : {"createContainer", "startContainer"}) EXPECT_EQ(seen(kind), seen("program")) << kind;
}

TEST_P(Hooks, AFailureBeforeTheProgramEndsIt) {
  for (const char* kind : {"prestart", "createRuntime", "createContainer", "startContainer"}) {
    config.erase("hooks");
    share();
    add_hook(kind, "exit 3");
    set_shell("echo program >>/shared/log");
    expect_refused(std::string("a container whose ") + kind + " hook fails");
    EXPECT_EQ(log(), "") << kind;
  }
}

TEST_P(Hooks, AFailureAfterTheProgramBeganIsAWarning) {
  share();
  add_hook("poststart", "exit 3");
  set_args({"/bin/probe", "signals"});
  EXPECT_EQ(create_and_start().code, 0);
  EXPECT_EQ(status(), "running") << "a failed poststart hook ends it";
}

TEST_P(Hooks, AFailureAfterTheEndDoesNotKeepIt) {
  share();
  add_hook("poststop", "exit 3");
  add_hook("poststop", "echo second >" + place() + "/log");
  set_args({"/bin/true"});
  ASSERT_EQ(create_and_start().code, 0);
  EXPECT_TRUE(wait_status("stopped"));
  EXPECT_EQ(remove().code, 0);
  EXPECT_EQ(state(), nullptr);
  EXPECT_EQ(log(), "second\n");
}

TEST_P(Hooks, ATimeoutIsAFailure) {
  share();
  config["hooks"]["createRuntime"].push_back({{"path", "/bin/sleep"}, {"args", {"sleep", "20"}}, {"timeout", 1}});
  const auto before = std::chrono::steady_clock::now();
  expect_refused("a hook that takes too long");
  EXPECT_LT(std::chrono::steady_clock::now() - before, std::chrono::seconds(15));
}

TEST_P(Hooks, ThePathMustBeAbsolute) {
  config["hooks"]["createRuntime"].push_back({{"path", "true"}});
  expect_refused("a relative path");
}

}  // namespace
}  // namespace berth::test
