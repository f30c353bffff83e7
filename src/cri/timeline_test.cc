#include "cri/timeline.h"

#include <gmock/gmock.h>
#include <gtest/gtest.h>

#include <thread>

namespace berth::cri {
namespace {

using ::testing::ElementsAre;

TimelineEntry entry(std::int64_t at, std::string step, std::string error = {}) {
  return {.at_ns = at, .took_us = 5, .operation = "RunPodSandbox", .step = std::move(step), .error = std::move(error)};
}

class TimelinesTest : public ::testing::Test {
 protected:
  std::vector<std::string> ids(std::string_view object) {
    std::vector<std::string> found;
    for (const auto& timeline : timelines_.find(object)) found.push_back(timeline.sandbox_id);
    return found;
  }
  std::map<std::string, std::string> disk_;
  Timelines timelines_{{.store = [this](const auto& id, const auto& blob) { disk_[id] = blob; },
                        .forget = [this](const auto& id) { disk_.erase(id); }}};
};

TEST_F(TimelinesTest, FoundByEveryNameThatUsersHave) {
  timelines_.begin("sandbox-one", "default", "web");
  timelines_.begin("sandbox-two", "other", "web");
  timelines_.note("sandbox-one", "container-one", {entry(1, "a")});
  EXPECT_THAT(ids("sandbox-one"), ElementsAre("sandbox-one"));
  EXPECT_THAT(ids("sandbox-"), ElementsAre("sandbox-one", "sandbox-two"));
  EXPECT_THAT(ids("container-o"), ElementsAre("sandbox-one"));
  EXPECT_THAT(ids("web"), ElementsAre("sandbox-one", "sandbox-two"));
  EXPECT_THAT(ids("other/web"), ElementsAre("sandbox-two"));
  for (const char* nothing : {"", "san", "otherweb", "other/", "default/web2"})
    EXPECT_THAT(ids(nothing), ElementsAre());
}

TEST_F(TimelinesTest, WhatIsStoredComesBack) {
  timelines_.begin("sandbox-one", "default", "web");
  timelines_.note("sandbox-one", "container-one", {entry(7, "stat volume /x"), entry(9, "", "no such file")});
  timelines_.removed("sandbox-one");
  timelines_.note("sandbox-one", {}, {entry(11, "")});
  auto read = decode_timeline(disk_.at("sandbox-one"));
  ASSERT_TRUE(read.has_value()) << read.error().text();
  EXPECT_TRUE(read->removed);
  EXPECT_THAT(read->containers, ElementsAre("container-one"));
  EXPECT_THAT(read->entries, ElementsAre(entry(7, "stat volume /x"), entry(9, "", "no such file"), entry(11, "")));
  Timelines next({.store = [](const auto&, const auto&) {}, .forget = [](const auto&) {}});
  next.load({*read}, [](const auto&) { return true; });
  EXPECT_EQ(next.find("default/web").size(), 1U);
  EXPECT_EQ(decode_timeline("garbage").error().code(), Code::kCorrupt);
}

TEST_F(TimelinesTest, BoundedInEveryDirection) {
  timelines_.begin("full", "default", "full");
  for (int i = 0; i < 1000; ++i) timelines_.note("full", "container-" + std::to_string(i), {entry(i, "step")});
  timelines_.note("full", {}, {entry(1000, std::string(1U << 20U, 'x'))});
  const auto full = timelines_.find("full").front();
  EXPECT_EQ(full.entries.size(), Timeline::kMaxEntries);
  EXPECT_EQ(full.left_out, 1001 - Timeline::kMaxEntries);
  EXPECT_EQ(full.entries.front().at_ns, 0) << "how it began is kept";
  EXPECT_EQ(full.entries.back().at_ns, 1000);
  EXPECT_EQ(full.entries.back().step.size(), Timeline::kMaxText);
  EXPECT_EQ(full.containers.size(), Timeline::kMaxContainers);

  constexpr int kMany = 250;
  for (int i = 0; i < kMany; ++i) {
    const std::string id = "gone-" + std::to_string(1000 + i);
    timelines_.begin(id, "default", "gone");
    timelines_.note(id, {}, {entry(i, "step")});
    timelines_.removed(id);
  }
  const auto gone = ids("gone");
  ASSERT_EQ(gone.size(), Timelines::kMaxRemoved);
  EXPECT_EQ(gone.front(), "gone-1050");
  EXPECT_EQ(disk_.size(), Timelines::kMaxRemoved + 1);
  EXPECT_EQ(ids("full").size(), 1U) << "a pod that is there does not count";
}

TEST_F(TimelinesTest, AStartKeepsNoMoreThanWhatIsThereAndTheLastOnes) {
  std::vector<Timeline> stored;
  for (int i = 0; i < 300; ++i) {
    Timeline timeline;
    timeline.sandbox_id = "id-" + std::to_string(1000 + i);
    timeline.pod_name = "stored";
    timeline.entries.push_back(entry(i, "step"));
    disk_[timeline.sandbox_id] = encode(timeline);
    stored.push_back(std::move(timeline));
  }
  // None of them was told to be removed: the daemon was killed before that, each time.
  timelines_.load(stored, [](const std::string& id) { return id == "id-1000"; });
  const auto left = ids("stored");
  ASSERT_EQ(left.size(), Timelines::kMaxRemoved + 1);
  EXPECT_EQ(left.front(), "id-1000");
  EXPECT_EQ(left.back(), "id-1299");
  EXPECT_EQ(disk_.size(), left.size());
}

TEST_F(TimelinesTest, WhatIsStoredLastIsWhatWasNotedLast) {
  timelines_.begin("busy", "default", "busy");
  std::vector<std::thread> threads;
  for (int t = 0; t < 8; ++t) {
    threads.emplace_back([this] {
      for (int i = 0; i < 30; ++i) timelines_.note("busy", {}, {entry(i, "step")});
    });
  }
  for (auto& thread : threads) thread.join();
  EXPECT_EQ(decode_timeline(disk_.at("busy"))->entries.size(), 240U);
}

}  // namespace
}  // namespace berth::cri
