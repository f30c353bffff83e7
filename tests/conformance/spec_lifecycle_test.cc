// The life of a container: runtime.md "Lifecycle" and "Operations", and runc's command line where the specification
// leaves the words to runtimes.
#include <sys/stat.h>
#include <unistd.h>

#include <csignal>

#include "base/strings.h"
#include "os/cgroup.h"
#include "os/file.h"
#include "spec_host.h"
#include "wait.h"

namespace berth::test {
namespace {

using ::testing::AnyOf;
using ::testing::HasSubstr;

BERTH_SPEC_SUITE(Lifecycle);

TEST_P(Lifecycle, CreateDoesNotRunTheProgram) {
  set_shell("echo ran");
  ASSERT_EQ(create().code, 0);
  EXPECT_EQ(status(), "created");
  EXPECT_EQ(output(), "");
  ASSERT_EQ(start().code, 0);
  EXPECT_TRUE(wait_output("ran\n"));
  EXPECT_TRUE(wait_status("stopped"));
  EXPECT_EQ(remove().code, 0);
}

TEST_P(Lifecycle, StateHasWhatTheSpecificationSays) {
  config["annotations"] = {{"org.example.key", "value"}, {"empty", ""}};
  set_args({"/bin/probe", "signals"});
  ASSERT_EQ(create().code, 0);
  const Json created = state();
  ASSERT_TRUE(created.is_object());
  EXPECT_FALSE(created.value("ociVersion", "").empty());
  EXPECT_EQ(created.value("id", ""), kId);
  EXPECT_EQ(created.value("status", ""), "created");
  EXPECT_EQ(created.value("bundle", ""), bundle());
  EXPECT_EQ(created.value("annotations", Json()), config["annotations"]);
  const pid_t pid = created.value("pid", 0);
  EXPECT_TRUE(pid > 1 && ::kill(pid, 0) == 0);
  ASSERT_EQ(start().code, 0);
  EXPECT_TRUE(wait_output("ready"));
  const Json running = state();
  EXPECT_EQ(running.value("status", ""), "running");
  EXPECT_EQ(running.value("pid", 0), pid);
  EXPECT_EQ(oci({"kill", kId, "KILL"}).code, 0);
  EXPECT_TRUE(wait_status("stopped"));
  EXPECT_EQ(remove().code, 0);
}

TEST_P(Lifecycle, StateOfAnUnknownIsAnError) {
  EXPECT_NE(oci({"state", "nobody"}).code, 0);
  EXPECT_NE(oci({"state"}).code, 0);
}

TEST_P(Lifecycle, AnIdIsGivenOnce) {
  set_args({"/bin/probe", "signals"});
  ASSERT_EQ(create().code, 0);
  const Json before = state();
  EXPECT_NE(create().code, 0);
  EXPECT_EQ(state(), before);
  EXPECT_EQ(start().code, 0);
  EXPECT_NE(create().code, 0);
  EXPECT_EQ(status(), "running");
}

TEST_P(Lifecycle, CreateNeedsAnIdAndABundle) {
  write_config();
  EXPECT_NE(oci({"create", "--bundle", bundle()}).code, 0);
  EXPECT_NE(oci({"create", "--bundle", folder() + "/nowhere", kId}).code, 0);
  EXPECT_NE(oci({"create", "--bundle", bundle(), "../outside"}).code, 0);
  ASSERT_EQ(::unlink((bundle() + "/config.json").c_str()), 0);
  EXPECT_NE(oci({"create", "--bundle", bundle(), kId}).code, 0);
  EXPECT_EQ(state(), nullptr);
}

TEST_P(Lifecycle, TheBundleIsTheWorkingFolderUnlessNamed) {
  write_config();
  ASSERT_EQ(oci({"create", kId}).code, 0);
  EXPECT_EQ(state().value("bundle", ""), bundle());
}

TEST_P(Lifecycle, BrokenJsonIsRefused) {
  write(bundle() + "/config.json", R"({"ociVersion": "1.0.2", "root": )");
  EXPECT_NE(oci({"create", "--bundle", bundle(), kId}).code, 0);
  EXPECT_EQ(state(), nullptr);
}

TEST_P(Lifecycle, AVersionMustBeGiven) {
  config.erase("ociVersion");
  expect_refused("no ociVersion");
}

TEST_P(Lifecycle, AVersionMustBeOne) {
  config["ociVersion"] = "one.zero";
  expect_refused("an ociVersion that is none");
}

TEST_P(Lifecycle, UnknownPropertiesAreIgnored) {
  config["org.example.unknown"] = {{"a", 1}};
  process()["unknown"] = true;
  linux_part()["unknown"] = Json::array({1, 2});
  EXPECT_EQ(shell("echo hello"), "hello\n");
}

TEST_P(Lifecycle, ConfigChangedAfterCreateHasNoEffect) {
  set_shell("echo first; hostname 2>/dev/null || cat /proc/sys/kernel/hostname");
  ASSERT_EQ(create().code, 0);
  set_shell("echo second");
  config["hostname"] = "other";
  write_config();
  ASSERT_EQ(start().code, 0);
  EXPECT_TRUE(wait_status("stopped"));
  EXPECT_EQ(output(), "first\nconformance\n");
}

TEST_P(Lifecycle, WithoutAProcessThereIsNoStart) {
  config.erase("process");
  // The specification allows create; what it does not allow is a start.
  const Ran created = create();
  if (created.code == 0) {
    EXPECT_NE(start().code, 0);
  }
  EXPECT_NE(status(), "running");
  if (created.code == 0) {
    EXPECT_EQ(oci({"delete", "--force", kId}).code, 0);
  }
}

TEST_P(Lifecycle, OnlyACreatedOneStarts) {
  EXPECT_NE(oci({"start"}).code, 0);
  EXPECT_NE(start("nobody").code, 0);
  set_args({"/bin/probe", "signals"});
  ASSERT_EQ(create_and_start().code, 0);
  EXPECT_TRUE(wait_output("ready"));
  const Json before = state();
  EXPECT_NE(start().code, 0);
  EXPECT_EQ(state(), before);
  EXPECT_EQ(oci({"kill", kId, "KILL"}).code, 0);
  EXPECT_TRUE(wait_status("stopped"));
  EXPECT_NE(start().code, 0);
  EXPECT_EQ(status(), "stopped");
}

TEST_P(Lifecycle, AProgramThatIsNotThereIsAnError) {
  set_args({"/bin/nobody"});
  expect_refused("a program that is not there");
}

TEST_P(Lifecycle, AProgramThatCannotBeExecutedIsAnError) {
  write(rootfs() + "/etc/text", "no program\n", 0644);
  set_args({"/etc/text"});
  expect_refused("a file that cannot be executed");
}

TEST_P(Lifecycle, KillSendsTheSignal) {
  for (const auto& [word, number] :
       {std::pair{"TERM", SIGTERM}, {"SIGUSR1", SIGUSR1}, {"12", SIGUSR2}, {"", SIGTERM}}) {
    set_args({"/bin/probe", "signals"});
    const std::string id = "with" + std::string(word);
    ASSERT_EQ(create_and_start(id).code, 0);
    ASSERT_TRUE(wait_until(std::chrono::seconds(10), [&] { return output().ends_with("ready\n"); }));
    std::vector<std::string> words{"kill", id};
    if (*word != 0) words.emplace_back(word);
    EXPECT_EQ(oci(words).code, 0);
    EXPECT_TRUE(wait_status("stopped", id));
    EXPECT_THAT(output(), ::testing::EndsWith("signal " + std::to_string(number) + "\n")) << word;
    EXPECT_EQ(remove(id).code, 0);
  }
}

TEST_P(Lifecycle, KillOfACreatedOneWorks) {
  ASSERT_EQ(create().code, 0);
  EXPECT_EQ(oci({"kill", kId, "KILL"}).code, 0);
  EXPECT_TRUE(wait_status("stopped"));
  EXPECT_EQ(remove().code, 0);
}

TEST_P(Lifecycle, KillOfAStoppedOneIsAnError) {
  set_args({"/bin/true"});
  ASSERT_EQ(create_and_start().code, 0);
  EXPECT_TRUE(wait_status("stopped"));
  EXPECT_NE(oci({"kill", kId, "KILL"}).code, 0);
  EXPECT_EQ(status(), "stopped");
}

TEST_P(Lifecycle, KillOfAnUnknownIsAnError) {
  EXPECT_NE(oci({"kill", "nobody", "KILL"}).code, 0);
  EXPECT_NE(oci({"kill"}).code, 0);
}

TEST_P(Lifecycle, KillOfAnUnknownSignalIsAnError) {
  set_args({"/bin/probe", "signals"});
  ASSERT_EQ(create_and_start().code, 0);
  EXPECT_TRUE(wait_output("ready"));
  EXPECT_NE(oci({"kill", kId, "NOSUCH"}).code, 0);
  EXPECT_EQ(status(), "running");
}

TEST_P(Lifecycle, ARunningOneIsNotDeleted) {
  set_args({"/bin/probe", "signals"});
  ASSERT_EQ(create_and_start().code, 0);
  EXPECT_TRUE(wait_output("ready"));
  EXPECT_NE(remove().code, 0);
  EXPECT_EQ(status(), "running");
  EXPECT_EQ(oci({"delete", "--force", kId}).code, 0);
  EXPECT_EQ(state(), nullptr);
}

TEST_P(Lifecycle, ACreatedOneIsNotDeleted) {
  ASSERT_EQ(create().code, 0);
  EXPECT_NE(remove().code, 0) << "it is deleted";
}

TEST_P(Lifecycle, ADeletedIdIsFree) {
  set_args({"/bin/true"});
  for (int round = 0; round < 2; ++round) {
    ASSERT_EQ(create_and_start().code, 0);
    EXPECT_TRUE(wait_status("stopped"));
    EXPECT_EQ(remove().code, 0);
    EXPECT_EQ(state(), nullptr);
    EXPECT_NE(remove().code, 0);
  }
}

TEST_P(Lifecycle, DeleteByForceOfAnUnknownIsNoError) {
  EXPECT_NE(remove("nobody").code, 0);
  EXPECT_EQ(oci({"delete", "--force", "nobody"}).code, 0);
}

TEST_P(Lifecycle, DeleteTakesOnlyWhatCreateMade) {
  const auto layout = os::find_cgroups("/sys/fs/cgroup");
  ASSERT_TRUE(layout.has_value());
  const std::string others = cgroup().substr(0, cgroup().rfind('/')) + "/others";
  for (const auto& hierarchy : layout->hierarchies)
    ASSERT_TRUE(os::make_cgroup(hierarchy.root.get(), others).has_value());
  ASSERT_TRUE(os::make_dirs(folder() + "/data").has_value());
  write(folder() + "/data/file", "kept");
  add_mount("/home", "bind", folder() + "/data", {"rbind"});
  set_args({"/bin/true"});
  ASSERT_EQ(create_and_start().code, 0);
  EXPECT_TRUE(wait_status("stopped"));
  EXPECT_EQ(remove().code, 0);
  EXPECT_TRUE(os::exists(rootfs() + "/bin/probe"));
  EXPECT_TRUE(os::exists(bundle() + "/config.json"));
  EXPECT_EQ(os::read_file(folder() + "/data/file", 64).value_or(""), "kept");
  EXPECT_EQ(cgroup_file("memory", "cgroup.procs"), "none") << "its cgroup is left";
  for (const auto& hierarchy : layout->hierarchies) {
    EXPECT_TRUE(os::exists("/sys/fs/cgroup/" + hierarchy.name + others) || hierarchy.name.starts_with("name="));
    EXPECT_TRUE(os::remove_cgroup(hierarchy.root.get(), others).has_value());
  }
}

TEST_P(Lifecycle, ThePidFileHoldsThePid) {
  ASSERT_EQ(create(kId, {"--pid-file", folder() + "/pid"}).code, 0);
  EXPECT_EQ(os::read_file(folder() + "/pid", 64).value_or(""), std::to_string(state().value("pid", 0)));
}

TEST_P(Lifecycle, RunEndsWithTheProgramsCode) {
  set_args({"/bin/probe", "exit", "7"});
  EXPECT_EQ(run_once().code, 7);
  EXPECT_EQ(state(), nullptr);
  set_shell("kill -9 $$; exec /bin/probe exit 3");
  EXPECT_THAT(run_once().code, AnyOf(3, 128 + SIGKILL));
}

TEST_P(Lifecycle, PausedItStandsStill) {
  set_args({"/bin/probe", "signals"});
  ASSERT_EQ(create_and_start().code, 0);
  EXPECT_TRUE(wait_output("ready"));
  EXPECT_EQ(oci({"pause", kId}).code, 0);
  EXPECT_EQ(status(), "paused");
  EXPECT_EQ(cgroup_file("freezer", "freezer.state"), "FROZEN");
  EXPECT_EQ(oci({"kill", kId, "TERM"}).code, 0);
  EXPECT_EQ(output(), "ready\n");
  EXPECT_EQ(oci({"resume", kId}).code, 0);
  EXPECT_TRUE(wait_status("stopped"));
  EXPECT_EQ(output(), "ready\nsignal 15\n");
}

TEST_P(Lifecycle, ExecIsInTheContainer) {
  set_args({"/bin/probe", "wait"});
  process()["env"].push_back("FROM=config");
  ASSERT_EQ(create_and_start().code, 0);
  ASSERT_TRUE(wait_output("ready\n"));
  const Json first = Json::parse(output().substr(0, output().find('\n')), nullptr, false);
  const Ran ran = oci({"exec", kId, "/bin/probe", "report"});
  ASSERT_EQ(ran.code, 0) << ran.err;
  const Json second = Json::parse(ran.out, nullptr, false);
  EXPECT_EQ(second.value("namespaces", Json()), first.value("namespaces", Json(1)));
  EXPECT_EQ(second.value("cgroup", Json()), first.value("cgroup", Json(1)));
  EXPECT_EQ(second["status"]["CapEff"], first["status"]["CapEff"]);
  EXPECT_THAT(second["env"].dump(), HasSubstr("FROM=config"));
  EXPECT_EQ(oci({"exec", kId, "/bin/probe", "exit", "5"}).code, 5);
  EXPECT_NE(oci({"exec", kId, "/bin/nobody"}).code, 0);
  EXPECT_EQ(oci({"kill", kId, "KILL"}).code, 0);
  EXPECT_TRUE(wait_status("stopped"));
  EXPECT_NE(oci({"exec", kId, "/bin/true"}).code, 0);
}

TEST_P(Lifecycle, ExecTakesAProcessFile) {
  set_args({"/bin/probe", "signals"});
  ASSERT_EQ(create_and_start().code, 0);
  EXPECT_TRUE(wait_output("ready"));
  Json other = process();
  other["args"] = {"/bin/probe", "report", "more"};
  other["cwd"] = "/tmp";
  other["user"] = {{"uid", 33}, {"gid", 44}, {"additionalGids", {55}}};
  other["env"] = {"ONLY=this"};
  write(folder() + "/process.json", other.dump());
  const Ran ran = oci({"exec", "--process", folder() + "/process.json", kId});
  ASSERT_EQ(ran.code, 0) << ran.err;
  const Json seen = Json::parse(ran.out, nullptr, false);
  EXPECT_EQ(seen["args"], other["args"]);
  EXPECT_EQ(seen["cwd"], "/tmp");
  EXPECT_EQ(seen["ids"]["uid"], Json({33, 33, 33}));
  EXPECT_EQ(seen["ids"]["gid"], Json({44, 44, 44}));
  EXPECT_THAT(seen["ids"]["groups"].dump(), HasSubstr("55"));
  EXPECT_THAT(seen["env"].dump(), HasSubstr("ONLY=this"));
}

TEST_P(Lifecycle, ListAndPsKnowIt) {
  set_args({"/bin/probe", "signals"});
  ASSERT_EQ(create_and_start().code, 0);
  EXPECT_TRUE(wait_output("ready"));
  EXPECT_EQ(oci({"list", "--quiet"}).out, "one\n");
  const Json all = Json::parse(oci({"list", "--format", "json"}).out, nullptr, false);
  ASSERT_TRUE(all.is_array() && all.size() == 1);
  EXPECT_EQ(all[0].value("status", ""), "running");
  const Json processes = Json::parse(oci({"ps", "--format", "json", kId}).out, nullptr, false);
  EXPECT_EQ(processes, Json({state().value("pid", 0)}));
}

TEST_P(Lifecycle, WhatSpecWritesRuns) {
  ASSERT_EQ(oci({"spec", "--bundle", bundle()}).code, 0);
  config = Json::parse(os::read_file(bundle() + "/config.json", 1U << 20).value_or(""), nullptr, false);
  ASSERT_TRUE(config.is_object());
  config["process"]["terminal"] = false;
  config["process"]["args"] = {"/bin/sh", "-c", "echo ran"};
  config["linux"]["cgroupsPath"] = cgroup();
  const Ran ran = run_once();
  EXPECT_EQ(ran.out, "ran\n") << ran.err;
}

}  // namespace
}  // namespace berth::test
