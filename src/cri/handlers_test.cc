#include "cri/handlers.h"

#include <gtest/gtest.h>

namespace berth::cri {
namespace {

TEST(HandlersTest, ANameIsFoundOrTheKnownOnesAreTold) {
  Handlers handlers({.default_handler = "berth", .handlers = {{"berth", {}}, {"crun", {.binary = "/usr/bin/crun"}}}});
  EXPECT_EQ(handlers.find("")->binary, "");
  EXPECT_EQ(handlers.find("berth")->binary, "");
  EXPECT_EQ(handlers.find("crun")->binary, "/usr/bin/crun");
  const auto unknown = handlers.find("gone");
  ASSERT_FALSE(unknown.has_value());
  EXPECT_EQ(unknown.error().code(), Code::kNotFound);
  EXPECT_EQ(unknown.error().text(), "runtime handler \"gone\" is not configured; known: \"berth\", \"crun\"");
}

TEST(HandlersTest, ATableIsReplacedWhole) {
  Handlers handlers({.default_handler = "berth", .handlers = {{"berth", {}}, {"a", {.binary = "/a"}}}});
  handlers.replace({.default_handler = "b", .handlers = {{"b", {.binary = "/b"}}}});
  EXPECT_FALSE(handlers.find("a").has_value());
  EXPECT_FALSE(handlers.find("berth").has_value());
  EXPECT_EQ(handlers.find("")->binary, "/b");
  EXPECT_EQ(handlers.table().handlers.size(), 1U);
}

TEST(HandlersTest, AProgramThatIsNotThereIsNamed) {
  EXPECT_TRUE(check_ready({}).has_value());
  EXPECT_TRUE(check_ready({.binary = "/bin/sh"}).has_value());
  for (const char* path : {"/no/such/runtime", "/etc/passwd"}) {
    const auto checked = check_ready({.binary = path});
    ASSERT_FALSE(checked.has_value());
    EXPECT_EQ(checked.error().code(), Code::kUnavailable);
    EXPECT_NE(checked.error().text().find(path), std::string::npos);
  }
}

}  // namespace
}  // namespace berth::cri
