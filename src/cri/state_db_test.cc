#include "cri/state_db.h"

#include <sys/wait.h>
#include <unistd.h>

#include <csignal>
#include <filesystem>
#include <fstream>

#include "cri/registry.h"
#include "gtest/gtest.h"
#include "os/file.h"

namespace berth::cri {
namespace {

class StateDbTest : public testing::Test {
 protected:
  void SetUp() override {
    dir_ = std::filesystem::temp_directory_path() / ("berth-state-db-" + std::to_string(::getpid()));
    std::filesystem::remove_all(dir_);
    std::filesystem::create_directories(dir_);
    path_ = dir_ + "/state.db";
  }
  void TearDown() override { std::filesystem::remove_all(dir_); }

  std::unique_ptr<StateDb> open() {
    auto db = StateDb::open(path_, &rescued_);
    EXPECT_TRUE(db) << db.error().text();
    return db ? std::move(*db) : nullptr;
  }

  std::string dir_;
  std::string path_;
  std::string rescued_;
};

SandboxRecord sandbox(const std::string& id) {
  SandboxRecord record;
  record.id = id;
  record.state = SandboxState::kStopping;
  record.created_at_ns = 123456789;
  record.config.mutable_metadata()->set_name("web");
  (*record.config.mutable_labels())["a"] = "b";
  record.handler = "berth";
  record.cgroup_parent = "/kubepods/pod1";
  record.cgroup_top = "/kubepods";
  record.network_held = true;
  record.network = {.ips = {"10.0.0.2", "fd00::2"}, .gateway = "10.0.0.1", .mac = "02:00:00:00:00:01", .network = "n"};
  record.shim_pid = 42;
  record.shim_start = ~0ULL;
  record.init_pid = 4711;
  record.message = "why";
  return record;
}

ContainerRecord container(const std::string& id) {
  ContainerRecord record;
  record.id = id;
  record.sandbox_id = "s";
  record.phase = ContainerPhase::kExited;
  record.created_at_ns = 1;
  record.started_at_ns = 2;
  record.finished_at_ns = 3;
  record.exit_code = -5;
  record.reason = "OOMKilled";
  record.message = "m";
  record.config.mutable_metadata()->set_attempt(7);
  record.resources.set_memory_limit_in_bytes(1 << 20);
  record.image_id = "sha256:1";
  record.image_ref = "r@sha256:2";
  record.log_path = "/var/log/x";
  record.process_json = "{}";
  record.cgroups_path = "/c";
  record.stop_signal = 3;
  record.create_error = "no such program";
  record.shim_deleted = true;
  record.pid = 9;
  record.user = {.uid = 1000, .gid = 4294967294U, .groups = {4294967294U, 5}};
  return record;
}

TEST_F(StateDbTest, RecordsComeBackWhole) {
  {
    const auto db = open();
    ASSERT_TRUE(db->put(sandbox("s")));
    ASSERT_TRUE(db->put(container("c")));
    ASSERT_TRUE(db->put(container("gone")));
    ASSERT_TRUE(db->erase_container("gone"));
    ASSERT_TRUE(db->erase_container("never was"));
    ASSERT_TRUE(db->set_meta("boot_id", "b"));
  }
  const auto db = open();
  const auto content = db->load();
  ASSERT_TRUE(content) << content.error().text();
  ASSERT_EQ(content->sandboxes.size(), 1U);
  ASSERT_EQ(content->containers.size(), 1U);
  EXPECT_TRUE(content->unreadable.empty());
  EXPECT_EQ(encode(content->sandboxes[0]), encode(sandbox("s")));
  EXPECT_EQ(encode(content->containers[0]), encode(container("c")));
  EXPECT_EQ(content->containers[0].user, container("c").user);
  EXPECT_EQ(content->sandboxes[0].network.ips, sandbox("s").network.ips);
  EXPECT_EQ(*db->meta("boot_id"), "b");
  EXPECT_EQ(*db->meta("nothing"), "");
}

TEST(Records, FieldsOutOfRangeAreDamage) {
  auto blob = encode(sandbox("s"));
  for (std::size_t i = 4; i < blob.size(); ++i) {
    auto bad = blob;
    bad[i] = static_cast<char>(bad[i] ^ 0x80);
    const auto decoded = decode_sandbox(bad);  // must not crash, and what it gives is a record or an error
    if (decoded) {
      EXPECT_LE(static_cast<int>(decoded->state), static_cast<int>(SandboxState::kRemoving));
    }
  }
  EXPECT_EQ(decode_container(encode(SandboxRecord{})).error().code(), Code::kCorrupt);
}

// A process is killed between and inside writes, again and again: what it said was written is there, and no half record
// is.
TEST_F(StateDbTest, WhatWasAnsweredSurvivesKill) {
  for (int round = 0; round < 5; ++round) {
    auto pipe = os::make_pipe();
    ASSERT_TRUE(pipe);
    const pid_t child = ::fork();
    ASSERT_GE(child, 0);
    if (child == 0) {
      auto db = StateDb::open(path_, nullptr);
      if (!db) ::_exit(1);
      for (unsigned i = 0;; ++i) {
        auto record = container("c" + std::to_string(i % 7));
        record.exit_code = static_cast<std::int32_t>(i);
        if (!(*db)->put(record)) ::_exit(2);
        if (!os::write_all(pipe->write.get(), std::string_view(reinterpret_cast<const char*>(&i), sizeof i)))
          ::_exit(3);
      }
    }
    pipe->write.reset();
    unsigned last = 0;
    for (int i = 0; i < 50 * (round + 1); ++i)
      ASSERT_EQ(::read(pipe->read.get(), &last, sizeof last), ssize_t{sizeof last});
    ::kill(child, SIGKILL);
    int status = 0;
    ::waitpid(child, &status, 0);
    ASSERT_TRUE(WIFSIGNALED(status));
    while (::read(pipe->read.get(), &last, sizeof last) == ssize_t{sizeof last}) {
    }
    const auto db = open();
    EXPECT_TRUE(rescued_.empty());
    const auto content = db->load();
    ASSERT_TRUE(content);
    EXPECT_TRUE(content->unreadable.empty());
    ASSERT_EQ(content->containers.size(), 7U);
    std::int32_t newest = 0;
    for (const auto& record : content->containers) newest = std::max(newest, record.exit_code);
    EXPECT_GE(newest, static_cast<std::int32_t>(last));
  }
}

TEST_F(StateDbTest, ADamagedFileIsSetAside) {
  {
    std::ofstream(path_) << std::string(8192, 'x');
  }
  const auto db = open();
  ASSERT_TRUE(db);
  EXPECT_TRUE(os::exists(rescued_));
  EXPECT_TRUE(db->put(sandbox("s")));
}

TEST_F(StateDbTest, FollowersHearTheStateAndThenEachChangeInOrder) {
  const auto db = open();
  Registry registry(*db);
  ASSERT_TRUE(registry.erase_container("never-was"));
  ASSERT_TRUE(registry.erase_sandbox("never-was"));
  auto pod = sandbox("s");
  pod.state = SandboxState::kReady;
  ASSERT_TRUE(registry.add(pod));
  ASSERT_TRUE(registry.add(container("before")));
  std::vector<std::string> heard;
  const auto follower = registry.follow([&heard](const Event& event) {
    heard.push_back(std::to_string(event.number) + " " + event.object + " " + std::to_string(event.type) + " of " +
                    event.sandbox->id + " with " + std::to_string(event.containers.size()));
  });
  auto made = container("c");
  made.phase = ContainerPhase::kCreating;
  ASSERT_TRUE(registry.add(made));  // not shown yet
  for (const auto phase : {ContainerPhase::kCreated, ContainerPhase::kStarting, ContainerPhase::kRunning,
                           ContainerPhase::kExited, ContainerPhase::kRemoving}) {
    made.phase = phase;
    ASSERT_TRUE(registry.add(made));
  }
  ASSERT_TRUE(registry.erase_container("c"));
  pod.state = SandboxState::kStopped;
  ASSERT_TRUE(registry.add(pod));
  registry.unfollow(follower);
  ASSERT_TRUE(registry.erase_sandbox("s"));
  const auto first = heard.empty() ? 0 : std::stoi(heard.at(2)) - 1;  // what came before anybody followed
  const auto line = [first](int number, const std::string& rest) {
    return std::to_string(number == 0 ? 0 : first + number) + " " + rest;
  };
  const std::vector<std::string> expected = {line(0, "s 1 of s with 1"), line(0, "before 2 of s with 1"),
                                             line(1, "c 0 of s with 2"), line(2, "c 1 of s with 2"),
                                             line(3, "c 2 of s with 2"), line(4, "c 3 of s with 1"),
                                             line(5, "s 2 of s with 1")};
  EXPECT_EQ(heard, expected);
}

TEST_F(StateDbTest, RegistryFindsByPrefixAndTellsChanges) {
  const auto db = open();
  Registry registry(*db);
  ASSERT_TRUE(registry.add(sandbox("abc1")));
  ASSERT_TRUE(registry.add(sandbox("abc2")));
  EXPECT_EQ((*registry.find_sandbox("abc1"))->id, "abc1");
  EXPECT_EQ(registry.find_sandbox("abc").error().code(), Code::kInvalid);
  EXPECT_EQ(registry.find_sandbox("x").error().code(), Code::kNotFound);
  EXPECT_EQ(registry.find_sandbox("").error().code(), Code::kInvalid);
  const auto held = registry.sandbox("abc1");
  ASSERT_TRUE(registry.update_sandbox("abc1", [](SandboxRecord& record) {
    record.message = "new";
    return true;
  }));
  EXPECT_EQ(held->message, "why") << "what a reader holds never changes";
  EXPECT_EQ(registry.sandbox("abc1")->message, "new");
  EXPECT_EQ(registry.update_sandbox("x", [](SandboxRecord&) { return true; }).error().code(), Code::kNotFound);
  Registry again(*db);
  std::vector<Timeline> timelines;
  ASSERT_TRUE(again.load(timelines));
  EXPECT_EQ(again.sandbox("abc1")->message, "new");
}

}  // namespace
}  // namespace berth::cri
