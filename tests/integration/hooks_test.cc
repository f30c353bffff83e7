// OCI hooks from folders on the node, through the CRI.
#include <gmock/gmock.h>
#include <unistd.h>

#include "fixture.h"

namespace berth::test {
namespace {

using testing::HasSubstr;

std::string hooks_dir() {
  return "/tmp/berth-test-hooks-" + std::to_string(::getpid());
}

struct WithHooks {
  static TestHostOptions options() {
    return {.config = "[runtime]\nhooks_dirs = [\"" + hooks_dir() + "/a\", \"" + hooks_dir() + "/b\"]\n"};
  }
};

class HooksTest : public HostTest<WithHooks> {
 protected:
  void SetUp() override {
    HostTest::SetUp();
    must(os::make_dirs(hooks_dir() + "/a"));
    must(os::make_dirs(hooks_dir() + "/b"));
  }
  void TearDown() override {
    HostTest::TearDown();
    EXPECT_TRUE(ok(os::remove_tree(hooks_dir())));
  }
  /// A hook that appends its word and the container's id to hooks_dir()/log.
  static void put(const std::string& file, const std::string& word, const std::string& when,
                  const std::string& stages) {
    const std::string script =
        "echo " + word + " $(sed 's/.*\\\"id\\\":\\\"\\\\([^\\\"]*\\\\).*/\\\\1/') >> " + hooks_dir() + "/log";
    must(os::write_file_atomic(hooks_dir() + "/" + file,
                               R"({"version": "1.0.0", "hook": {"path": "/bin/sh", "args": ["sh", "-c", ")" + script +
                                   R"("]}, "when": )" + when + R"(, "stages": )" + stages + "}"));
  }
  static std::string log() { return os::read_file(hooks_dir() + "/log", 65536).value_or(""); }
};

TEST_F(HooksTest, RunAtTheirStagesInTheContainersThatTheyAreFor) {
  put("a/20-all.json", "all", R"({"always": true})", R"(["createRuntime", "poststop"])");
  put("a/10-first.json", "first", R"({"commands": ["/sh$"]})", R"(["createRuntime"])");
  put("a/30-masked.json", "masked", R"({"always": true})", R"(["createRuntime"])");
  put("b/30-masked.json", "masking", R"({"annotations": {"^example\\.org/pod$": "^yes$"}})", R"(["createRuntime"])");
  put("b/40-mounts.json", "mounts", R"({"hasBindMounts": true})", R"(["createRuntime"])");
  auto config = host().pod_config("hooks");
  (*config.mutable_annotations())["example.org/pod"] = "yes";
  const auto pod = must(cri().run_pod(config));
  const auto id = must(cri().run(pod, host().shell_config("main", "exec sleep 1000"), config));
  EXPECT_EQ(log(), "first " + id + "\nall " + id + "\nmasking " + id + "\n");
  must(cri().stop(id, 0));
  must(cri().remove(id));
  EXPECT_THAT(log(), HasSubstr("masking " + id + "\nall " + id + "\n"));
}

TEST_F(HooksTest, AWrongFileFailsTheContainerWithItsName) {
  must(os::write_file_atomic(hooks_dir() + "/a/x.json", R"({"version": "1.0.0", "hook": {"path": "/bin/sh"}})"));
  const auto config = host().pod_config("wrong");
  const auto pod = must(cri().run_pod(config));
  EXPECT_TRUE(fails(cri().create(pod, host().shell_config("main", "exit"), config), Code::kInvalid,
                    "hook file " + hooks_dir() + "/a/x.json"));
  must(os::remove_file(hooks_dir() + "/a/x.json"));
  EXPECT_TRUE(ok(cri().create(pod, host().shell_config("main", "exit"), config)));
}

}  // namespace
}  // namespace berth::test
