#include "cri/user_namespace.h"

#include <gtest/gtest.h>

#include <functional>

namespace berth::cri {
namespace {

void add(google::protobuf::RepeatedPtrField<pb::IDMapping>& list, std::uint32_t inside, std::uint32_t host,
         std::uint32_t length) {
  auto& range = *list.Add();
  range.set_container_id(inside);
  range.set_host_id(host);
  range.set_length(length);
}

pb::NamespaceOption usual() {
  pb::NamespaceOption options;
  auto& user = *options.mutable_userns_options();
  options.set_pid(pb::CONTAINER);
  user.set_mode(pb::POD);
  add(*user.mutable_uids(), 0, 65536, 1000);
  add(*user.mutable_gids(), 0, 70000, 2000);
  return options;
}

TEST(PodIds, OfAPodWithAUserNamespace) {
  const auto ids = pod_ids(usual());
  ASSERT_TRUE(ids) << ids.error().text();
  ASSERT_TRUE(*ids);
  EXPECT_EQ((*ids)->root_uid(), 65536U);
  EXPECT_EQ((*ids)->root_gid(), 70000U);
  EXPECT_EQ(map_line((*ids)->gids), "0 70000 2000\n");
  pb::PodSandboxConfig config;
  EXPECT_FALSE(ids_of(config));
  *config.mutable_linux()->mutable_security_context()->mutable_namespace_options() = usual();
  EXPECT_EQ(ids_of(config), *ids);
}

TEST(PodIds, OfAPodInTheNodes) {
  pb::NamespaceOption options;
  EXPECT_EQ(pod_ids(options).value(), std::nullopt);
  options.mutable_userns_options()->set_mode(pb::NODE);
  EXPECT_EQ(pod_ids(options).value(), std::nullopt);
}

TEST(PodIds, Refusals) {
  using User = pb::UserNamespace;
  const struct {
    std::function<void(pb::NamespaceOption&, User&)> change;
    const char* words;
  } kCases[] = {
      {[](auto&, User& user) { user.set_mode(pb::CONTAINER); }, "mode CONTAINER"},
      {[](auto&, User& user) { user.set_mode(pb::TARGET); }, "mode TARGET"},
      {[](auto&, User& user) { user.set_mode(static_cast<pb::NamespaceMode>(9)); }, "mode 9"},
      {[](auto&, User& user) { user.set_mode(pb::NODE); }, "mappings with mode NODE"},
      {[](auto&, User& user) { user.clear_uids(); }, "uids: 0 ranges"},
      {[](auto&, User& user) { user.clear_gids(); }, "gids: 0 ranges"},
      {[](auto&, User& user) { add(*user.mutable_uids(), 1000, 90000, 1); }, "uids: 2 ranges"},
      {[](auto&, User& user) { user.mutable_gids(0)->set_length(0); }, "length 0"},
      {[](auto&, User& user) { user.mutable_uids(0)->set_container_id(1); }, "no root"},
      {[](auto&, User& user) { user.mutable_uids(0)->set_host_id(4294967295U); }, "past 4294967294"},
      {[](auto&, User& user) { user.mutable_uids(0)->set_length(4294967295U); }, "past 4294967294"},
      {[](pb::NamespaceOption& options, auto&) { options.set_pid(pb::NODE); }, "node's pids"},
      {[](pb::NamespaceOption& options, auto&) { options.set_ipc(pb::NODE); }, "node's IPC"},
  };
  for (const auto& refused : kCases) {
    SCOPED_TRACE(refused.words);
    auto options = usual();
    refused.change(options, *options.mutable_userns_options());
    const auto ids = pod_ids(options);
    ASSERT_FALSE(ids);
    EXPECT_EQ(ids.error().code(), Code::kInvalid);
    EXPECT_NE(ids.error().text().find(refused.words), std::string::npos) << ids.error().text();
  }
}

TEST(PodIds, AContainerHasItsPods) {
  const auto pod = pod_ids(usual()).value();
  EXPECT_TRUE(check_container_ids(usual(), pod));
  EXPECT_TRUE(check_container_ids({}, std::nullopt));
  EXPECT_EQ(check_container_ids(usual(), std::nullopt).error().code(), Code::kInvalid);
  EXPECT_EQ(check_container_ids({}, pod).error().code(), Code::kInvalid);
  auto other = usual();
  other.mutable_userns_options()->mutable_gids(0)->set_host_id(70001);
  EXPECT_EQ(check_container_ids(other, pod).error().code(), Code::kInvalid);
}

TEST(MountIds, RangesAndRefusals) {
  pb::Mount mount;
  EXPECT_TRUE(mount_ids(mount)->uids.empty());
  add(*mount.mutable_uidmappings(), 0, 65536, 10);
  EXPECT_EQ(mount_ids(mount).error().code(), Code::kInvalid) << "one list alone";
  add(*mount.mutable_gidmappings(), 5, 65536, 10);
  add(*mount.mutable_gidmappings(), 20, 80000, 10);
  const auto ids = mount_ids(mount);
  ASSERT_TRUE(ids) << ids.error().text();
  EXPECT_EQ(ids->gids.at(1).container_id, 20U);
  EXPECT_EQ(ids->gids.at(1).host_id, 80000U);
  mount.mutable_gidmappings(1)->set_container_id(14);
  EXPECT_EQ(mount_ids(mount).error().code(), Code::kInvalid) << "overlap";
  mount.mutable_gidmappings(1)->set_container_id(15);
  EXPECT_TRUE(mount_ids(mount));
  mount.mutable_gidmappings(1)->set_host_id(65545);
  EXPECT_EQ(mount_ids(mount).error().code(), Code::kInvalid) << "overlap";
  mount.mutable_gidmappings(1)->set_length(0);
  EXPECT_EQ(mount_ids(mount).error().code(), Code::kInvalid) << "length";
}

}  // namespace
}  // namespace berth::cri
