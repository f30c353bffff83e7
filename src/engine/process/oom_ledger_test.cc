#include "engine/process/oom_ledger.h"

#include <fcntl.h>
#include <gtest/gtest.h>
#include <unistd.h>

#include "base/ids.h"
#include "os/file.h"

namespace berth::engine::process {
namespace {

/// Cgroups v2 as folders with the one file that is read.
class OomLedgerTest : public testing::Test {
 protected:
  void SetUp() override {
    top_ = testing::TempDir() + "berth-oom-" + random_hex(4);
    count("/s.slice", 0);
    layout_.v2 = true;
    auto root = os::open_file(top_, O_PATH | O_DIRECTORY);
    ASSERT_TRUE(root.has_value());
    layout_.hierarchies.push_back({"", {}, std::move(*root)});
  }
  void TearDown() override { ignore(os::remove_tree(top_), "a temporary folder"); }
  void count(const std::string& path, int kills) {
    ASSERT_TRUE(os::make_dirs(top_ + path).has_value());
    const std::string text = "max 3\noom 9\noom_kill " + std::to_string(kills) + "\noom_group_kill 0\n";
    ASSERT_TRUE(os::write_file_atomic(top_ + path + "/memory.events", text).has_value());
  }
  void remove(const std::string& path) { ASSERT_TRUE(os::remove_tree(top_ + path).has_value()); }
  std::string member(const std::string& name) {
    const std::string path = "/s.slice/" + name;
    count(path, 0);
    ledger_.add(layout_, path);
    return path;
  }
  std::uint64_t kills(const std::string& path) { return ledger_.kills(layout_, path); }

  std::string top_;
  os::CgroupLayout layout_;
  OomLedger ledger_;
};

TEST_F(OomLedgerTest, WhatIsThereIsRead) {
  const auto a = member("a");
  EXPECT_EQ(kills(a), 0U);
  count("/s.slice", 2);
  count(a, 2);
  EXPECT_EQ(kills(a), 2U);
  EXPECT_EQ(kills("/s.slice/stranger"), 0U);
}

TEST_F(OomLedgerTest, WhatIsGoneIsConcluded) {
  count("/s.slice", 5);  // of others, before
  const auto a = member("a");
  const auto b = member("b");
  const auto c = member("c");
  count("/s.slice", 7);
  count(b, 1);
  remove(a);
  remove(c);
  EXPECT_EQ(kills(a), 1U) << "7 less 5 before and 1 of b";
  EXPECT_EQ(kills(c), 0U) << "it has been told";
  EXPECT_EQ(kills(b), 1U);
  EXPECT_EQ(kills(a), 1U) << "the same when it is asked for again";
}

TEST_F(OomLedgerTest, WhatIsForgottenStaysCounted) {
  const auto a = member("a");
  count("/s.slice", 1);
  remove(a);
  EXPECT_EQ(kills(a), 1U);
  ledger_.forget(layout_, a);
  const auto b = member("b");
  count("/s.slice", 3);
  count(b, 2);
  ledger_.forget(layout_, b);  // nobody had asked
  const auto c = member("c");
  remove(c);
  EXPECT_EQ(kills(c), 0U);
  ledger_.forget(layout_, c);
  ledger_.forget(layout_, c);
}

}  // namespace
}  // namespace berth::engine::process
