#include <gmock/gmock.h>

#include "engine/process/test_container.h"

namespace berth::engine::process {
namespace {

using testing::EngineTest;
using ::testing::HasSubstr;

class HooksTest : public EngineTest {
 protected:
  /// A hook that appends its name and the state it reads to the file `log`, as that path is seen where it runs.
  static spec::Hook hook(const std::string& name, const std::string& log, const std::string& more = "") {
    spec::Hook entry;
    entry.path = "/bin/sh";
    entry.args = {"sh", "-c", "echo \"" + name + " $(cat) $X\" >> " + log + "; " + more};
    entry.env = {"PATH=/bin:/usr/bin", "X=env"};
    return entry;
  }
  std::string log() { return bundle_.path() + "/rootfs/tmp/log"; }
};

TEST_F(HooksTest, RunInTheirOrderWithTheState) {
  auto spec = script_spec("echo program >> /tmp/log");
  spec.annotations = {{"a", "b"}};
  auto& hooks = spec.hooks.emplace();
  hooks.prestart = {hook("prestart", log())};
  hooks.create_runtime = {hook("createRuntime", log()), hook("createRuntime2", log())};
  hooks.create_container = {hook("createContainer", log())};
  hooks.start_container = {hook("startContainer", "/tmp/log")};
  hooks.poststart = {hook("poststart", log())};
  hooks.poststop = {hook("poststop", log())};
  EXPECT_EQ(run(spec).code, 0);
  const auto lines = testing::lines_of(log());
  std::vector<std::string> names;
  for (const auto& line : lines) names.push_back(line.substr(0, line.find(' ')));
  std::erase(names, "program");
  EXPECT_EQ(names, (std::vector<std::string>{"prestart", "createRuntime", "createRuntime2", "createContainer",
                                             "startContainer", "poststart", "poststop"}));
  EXPECT_THAT(lines[0], HasSubstr("\"id\":\"" + bundle_.name() + "\",\"status\":\"creating\",\"pid\":"));
  EXPECT_THAT(lines[0], HasSubstr("\"annotations\":{\"a\":\"b\"}"));
  EXPECT_THAT(lines[0], HasSubstr("\"bundle\":\"" + bundle_.path() + "\""));
  EXPECT_THAT(lines[0], ::testing::EndsWith(" env"));
  EXPECT_THAT(lines[4], HasSubstr("\"status\":\"created\""));
  EXPECT_THAT(lines.back(), HasSubstr("\"status\":\"stopped\""));
}

TEST_F(HooksTest, TheRootIsWhereTheBundleHasIt) {
  auto spec = script_spec("cat /run/from-hook");
  spec::Mount volume;
  volume.destination = "/run";
  volume.type = volume.source = "tmpfs";
  spec.mounts.push_back(volume);
  // In the container's mount namespace, with what is mounted there, as vendors' hooks expect it.
  const std::string root = bundle_.path() + "/rootfs";
  spec.hooks.emplace().create_container = {hook("x", root + "/run/from-hook", "test -e " + root + "/proc/self")};
  const auto outcome = run(spec);
  EXPECT_EQ(outcome.code, 0);
  EXPECT_THAT(outcome.out, HasSubstr("\"bundle\":"));
  EXPECT_FALSE(os::exists(root + "/run/from-hook"));
}

TEST_F(HooksTest, AFailedOneEndsTheCreation) {
  auto spec = script_spec("true");
  auto& hooks = spec.hooks.emplace();
  hooks.create_runtime = {hook("x", "/dev/null", "echo because >&2; exit 4")};
  const Error error = refused(spec);
  EXPECT_THAT(error.text(), HasSubstr("createRuntime hook #0: /bin/sh ended with 4: because"));
  hooks.create_runtime.clear();
  hooks.create_container = {hook("x", "/dev/null", "exit 5")};
  EXPECT_THAT(refused(spec).text(), HasSubstr("createContainer hook #0: /bin/sh ended with 5"));
}

TEST_F(HooksTest, TimeoutsAreKept) {
  auto spec = script_spec("true");
  spec.hooks.emplace().prestart = {hook("x", "/dev/null", "sleep 100")};
  spec.hooks->prestart[0].timeout = 1;
  EXPECT_EQ(refused(spec).code(), Code::kTimeout);
}

TEST_F(HooksTest, PoststartFailuresAreTolerated) {
  auto spec = script_spec("exit 6");
  spec.hooks.emplace().poststart = {hook("x", "/dev/null", "exit 1")};
  EXPECT_EQ(run(spec).code, 6);
}

}  // namespace
}  // namespace berth::engine::process
