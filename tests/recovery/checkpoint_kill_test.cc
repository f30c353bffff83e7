// Every failpoint on the way of a checkpoint or a restore kills its process, where criu works (the guest of tests/vm):
// nothing stays frozen, no half archive and no half pod is left, and a retry does it.
#include <gmock/gmock.h>

#include <iostream>

#include "checkpoint_fixture.h"
#include "failpoint_list.h"

namespace berth::test {
namespace {

using testing::ElementsAre;
using testing::IsEmpty;

struct WithFailpoints {
  static TestHostOptions options() { return {.failpoints = true}; }
};

class CheckpointKillTest : public CountingPods<WithFailpoints> {
 protected:
  void SetUp() override {
    if (!criu_works()) GTEST_SKIP() << "criu does not work on this kernel";
    CountingPods::SetUp();
  }
  void TearDown() override {
    if (!IsSkipped()) CountingPods::TearDown();
  }
  /// The daemon, if it was that which died: a moment after its answer could not come.
  static void revive() {
    if (!wait_until(std::chrono::milliseconds(500), [] { return !host().daemon_alive(); })) return;
    // One of the points is on the way of a start.
    if (const auto started = host().start_daemon(); !started) must(host().start_daemon());
  }
  static std::vector<std::string> points(std::function<bool(const std::string&)> wanted) {
    std::vector<std::string> names;
    for (const auto& point : must(all_failpoints())) {
      if (point.needs_criu && wanted(point.name)) names.push_back(point.name);
    }
    return names;
  }
  static bool all_gone() { return must(cri().pods()).empty() && must(cri().containers()).empty(); }
};

TEST_F(CheckpointKillTest, ContainersGoOnAndNoHalfCheckpointIsLeft) {
  const auto config = pod_config("pod");
  const auto pod = must(cri().run_pod(config));
  const auto id = must(cri().run(pod, counter("main"), config));
  unsigned number = 0;
  for (const auto& point : points([](const std::string& name) { return !name.starts_with("restore."); })) {
    SCOPED_TRACE(point);
    const bool of_pod = point.starts_with("checkpoint-pod.");
    const bool shim_dies = point == "shim.checkpoint.thawed";
    if (shim_dies) continue;  // last: the pod goes with it
    const auto before = count(id);
    const auto path = folder("out" + std::to_string(++number));
    const auto ask = [&] {
      if (of_pod) return checkpoint_pod(pod_request(pod, path, {id})).has_value();
      return checkpoint(id, path + "/one.tar").has_value();
    };
    must(host().arm(point, "kill"));
    const bool answered = ask();
    EXPECT_TRUE(host().fired(point));
    revive();
    must(host().disarm());
    expect_counting(id, before);
    EXPECT_TRUE(wait_until(kPatience, [&] {
      const auto drafts = os::list_dir(host().root() + "/checkpoint-notes");
      return !drafts || drafts->empty();
    }));
    expect_no_drafts();
    EXPECT_FALSE(answered);
    // It is there whole or not at all.
    const auto names = names_in(path);
    if (!names.empty()) {
      EXPECT_THAT(names, ElementsAre(of_pod ? "berth-checkpoint" : "one.tar"));
      must(os::remove_tree(path));
      must(os::make_dirs(path, 0700));
    }
    EXPECT_TRUE(ask());
    expect_counting(id, before);
  }
  EXPECT_GT(number, 5U);
  // A shim that dies takes its containers along, frozen ones too.
  must(host().arm("shim.checkpoint.thawed", "kill"));
  EXPECT_FALSE(checkpoint(id, out() + "/dead.tar"));
  EXPECT_TRUE(host().fired("shim.checkpoint.thawed"));
  must(host().disarm());
  EXPECT_TRUE(ok(cri().wait_exited(id)));
  EXPECT_FALSE(os::exists(out() + "/dead.tar"));
  expect_no_drafts();
}

TEST_F(CheckpointKillTest, NoHalfPodIsLeft) {
  auto config = pod_config("old");
  const auto pod = must(cri().run_pod(config));
  const auto id = must(cri().run(pod, counter("main"), config));
  const auto word = count(id);
  const auto path = folder("pod");
  must(checkpoint_pod(pod_request(pod, path, {id})));
  must(cri().end_pod(pod));
  const auto before = look(host());
  unsigned number = 0;
  for (const auto& point : points([](const std::string& name) { return name.starts_with("restore."); })) {
    SCOPED_TRACE(point);
    config = pod_config("new" + std::to_string(++number));
    auto request = restore_request(path, config, {counter("main")});
    must(host().arm(point, "kill"));
    // These are on the way back, of a failure or of a daemon that died half-way.
    if (point == "restore.failed") must(host().arm("restore.container", "error(EIO)"));
    if (point == "restore.recovered") must(host().arm("restore.container", "kill"));
    EXPECT_FALSE(restore_pod(request));
    revive();
    EXPECT_TRUE(host().fired(point));
    must(host().disarm());
    const bool whole = point == "restore.answer" || point == "restore.stored";
    if (!whole) {
      EXPECT_TRUE(wait_until(kPatience, all_gone));
      EXPECT_EQ(leftovers(host(), before), "");
    }
    const auto reply = restore_pod(request);
    ASSERT_TRUE(ok(reply));
    const auto& restored = reply->restored_containers(0).container_id();
    EXPECT_EQ(must(cri().pods()).size(), 1U);
    ASSERT_TRUE(ok(cri().start(restored)));
    expect_counting(restored, word);
    must(cri().end_pod(reply->pod_sandbox_id()));
    EXPECT_EQ(leftovers(host(), before), "");
  }
  EXPECT_GT(number, 5U);
}

}  // namespace
}  // namespace berth::test
