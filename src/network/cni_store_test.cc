#include "network/cni_store.h"

#include <gmock/gmock.h>
#include <gtest/gtest.h>

#include "base/ids.h"
#include "os/file.h"

namespace berth::network {
namespace {

using testing::ElementsAre;

CniRecord sample() {
  CniRecord record;
  record.state = CniRecord::State::kRemoving;
  record.pod.sandbox_id = "sb-1";
  record.pod.pod_name = "web";
  record.pod.netns_path = "/proc/7/ns/net";
  record.pod.ports = {{"udp", 53, 5353, "127.0.0.1"}};
  record.pod.annotations = {{"a", "b\n\"c\""}};
  record.pod.dns.servers = {"1.1.1.1"};
  record.netns_dev = 4;
  record.netns_inode = 4026531840;
  record.ifname = "eth0";
  record.conf = R"({"cniVersion":"1.0.0","name":"n","plugins":[{"type":"x"},{"type":"y"}]})";
  record.result = "{}";
  record.pending = {1, 0};
  return record;
}

TEST(CniRecord, RoundTrip) {
  const auto text = format_cni_record(sample());
  const auto back = parse_cni_record(text);
  ASSERT_TRUE(back) << back.error().text();
  EXPECT_EQ(format_cni_record(*back), text);
  EXPECT_EQ(back->state, CniRecord::State::kRemoving);
  EXPECT_EQ(back->netns_inode, 4026531840U);
}

TEST(CniRecord, BrokenOnesAreRefused) {
  const auto text = format_cni_record(sample());
  for (std::size_t size = 0; size < text.size(); size += 7) EXPECT_FALSE(parse_cni_record(text.substr(0, size)));
  auto bad = sample();
  bad.pending = {2};
  EXPECT_FALSE(parse_cni_record(format_cni_record(bad)));
  bad = sample();
  bad.pod.sandbox_id = "../x";
  EXPECT_FALSE(parse_cni_record(format_cni_record(bad)));
  EXPECT_EQ(parse_cni_record(R"({"version":2})").error().code(), Code::kUnsupported);
}

TEST(CniStore, SurvivesARestartAndSetsBrokenFilesAside) {
  const std::string dir = testing::TempDir() + "berth-cni-" + random_hex(8);
  {
    auto store = CniStore::open(dir);
    ASSERT_TRUE(store);
    EXPECT_EQ(CniStore::open(dir).error().code(), Code::kPrecondition);
    ASSERT_TRUE((*store)->put(sample()));
    auto other = sample();
    other.pod.sandbox_id = "sb-2";
    ASSERT_TRUE((*store)->put(other));
    ASSERT_TRUE((*store)->erase("sb-2"));
    ASSERT_TRUE((*store)->erase("sb-2"));
  }
  ASSERT_TRUE(os::write_file_atomic(dir + "/cut.json", "{\"version\":1"));
  ASSERT_TRUE(os::write_file_atomic(dir + "/renamed.json", format_cni_record(sample())));
  auto store = CniStore::open(dir);
  ASSERT_TRUE(store) << store.error().text();
  EXPECT_THAT((*store)->ids(), ElementsAre("sb-1"));
  EXPECT_TRUE(os::exists(dir + "/cut.json.bad"));
  EXPECT_TRUE(os::exists(dir + "/renamed.json.bad"));
  ASSERT_TRUE(os::remove_tree(dir));
}

}  // namespace
}  // namespace berth::network
