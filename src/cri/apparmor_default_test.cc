#include "cri/apparmor_default.h"

#include "gmock/gmock.h"
#include "gtest/gtest.h"

namespace berth::cri {
namespace {

using testing::HasSubstr;
using testing::Not;

TEST(AppArmorDefault, TheProfileIsWholeAndItsOwnPeer) {
  const auto text = default_apparmor_profile();
  EXPECT_THAT(text, HasSubstr("profile berth-default flags=("));
  EXPECT_THAT(text, HasSubstr("signal (send, receive) peer=berth-default,"));
  EXPECT_THAT(text, HasSubstr("deny mount,"));
  EXPECT_THAT(text, Not(HasSubstr("@NAME@")));
  EXPECT_THAT(text, Not(HasSubstr("include")));
  EXPECT_TRUE(text.ends_with("}\n"));
}

TEST(AppArmorDefault, ALoadedProfileIsKnownByItsName) {
  const char* const loaded = "man (enforce)\nberth-default-2 (enforce)\nberth-default (enforce)\n";
  EXPECT_TRUE(has_apparmor_profile(loaded, "berth-default"));
  EXPECT_TRUE(has_apparmor_profile(loaded, "man"));
  EXPECT_FALSE(has_apparmor_profile(loaded, "berth"));
  EXPECT_FALSE(has_apparmor_profile("", "berth-default"));
}

}  // namespace
}  // namespace berth::cri
