#include "cri/handler_features.h"

#include <gtest/gtest.h>

namespace berth::cri {
namespace {

constexpr const char* kAll =
    R"({"ociVersionMax":"1.2.0","mountOptions":["ro","rro"],"linux":{"namespaces":["pid","user"],
  "mountExtensions":{"idmap":{"enabled":true}}}})";

TEST(RuntimeFeatures, AreReadFromItsOwnWords) {
  const auto all = parse_runtime_features(kAll);
  ASSERT_TRUE(all) << all.error().text();
  EXPECT_TRUE(all->user_namespaces());
  EXPECT_TRUE(all->recursive_read_only_mounts());
  // As runc 1.1 has it: no word of id-mapped mounts.
  const auto old = parse_runtime_features(R"({"mountOptions":["ro","rro"],"linux":{"namespaces":["user"]}})");
  ASSERT_TRUE(old);
  EXPECT_EQ(old->no_user_namespaces, "the runtime does not offer id-mapped mounts");
  EXPECT_TRUE(old->recursive_read_only_mounts());
  for (const char* bare : {"{}", R"({"linux":[],"mountOptions":{}})", R"({"linux":{"namespaces":"user"}})",
                           R"({"linux":{"namespaces":["user"],"mountExtensions":{"idmap":{"enabled":"true"}}}})"}) {
    const auto none = parse_runtime_features(bare);
    ASSERT_TRUE(none) << bare;
    EXPECT_FALSE(none->user_namespaces()) << bare;
    EXPECT_FALSE(none->recursive_read_only_mounts()) << bare;
  }
  for (const char* bad : {"", "[]", "unknown command features", "{"}) {
    EXPECT_EQ(parse_runtime_features(bad).error().code(), Code::kCorrupt) << bad;
  }
}

TEST(ShimFeatures, TellWhyNot) {
  const auto some = parse_shim_features(R"({"user_namespaces":"","recursive_read_only_mounts":"why"})");
  ASSERT_TRUE(some);
  EXPECT_TRUE(some->user_namespaces());
  EXPECT_EQ(some->no_recursive_read_only, "why");
  for (const char* bad : {"", "{}", R"({"user_namespaces":true,"recursive_read_only_mounts":true})"}) {
    EXPECT_EQ(parse_shim_features(bad).error().code(), Code::kCorrupt) << bad;
  }
}

TEST(FeatureTable, OfEachKindOfHandler) {
  FeatureTable table;
  const Handler ours;
  const Handler foreign{.shim = "/some/shim"};
  const Handler external{.binary = "/no/such/runtime"};
  EXPECT_FALSE(table.of(ours).user_namespaces());
  table.set_machine({.no_user_namespaces = "", .no_recursive_read_only = ""});
  EXPECT_TRUE(table.of(ours).user_namespaces());
  EXPECT_TRUE(table.of(ours).recursive_read_only_mounts());
  EXPECT_FALSE(table.of(foreign).user_namespaces());
  EXPECT_FALSE(table.of(external).user_namespaces());
  table.learn({.default_handler = "a", .handlers = {{"a", external}}});
  EXPECT_NE(table.of(external).no_user_namespaces.find("does not tell"), std::string::npos);
}

}  // namespace
}  // namespace berth::cri
