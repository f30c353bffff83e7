#include "cri/detached.h"

#include <gtest/gtest.h>

namespace berth::cri {
namespace {

TEST(Detached, RoundTrip) {
  EXPECT_TRUE(decode_detached("")->empty());
  EXPECT_TRUE(decode_detached(encode({}))->empty());
  const std::vector<Detached> all = {{"a", {"/pods/a/1", "/pods/a/\"quoted\" 2"}, "/pods/a", "/pods", false},
                                     {"b", {}, "/x", "", false},
                                     {"c", {"/c.slice/berth-1.scope"}, "/c.slice", "/c.slice", true}};
  const auto back = decode_detached(encode(all));
  ASSERT_TRUE(back) << back.error().text();
  EXPECT_EQ(*back, all);
}

TEST(Detached, ForeignTextIsRefusedAndNeverNamesTheRoot) {
  for (const auto* text : {"{", "{}", "[{}]", R"([{"sandbox":"a"}])", R"([{"cgroups":[]}])"}) {
    const auto read = decode_detached(text);
    ASSERT_FALSE(read) << text;
    EXPECT_EQ(read.error().code(), Code::kCorrupt);
  }
  const auto read = decode_detached(R"([{"sandbox":"a","cgroups":["/","","relative",7,"/ok"]}])");
  ASSERT_TRUE(read);
  EXPECT_EQ(read->front().cgroups, std::vector<std::string>{"/ok"});
}

}  // namespace
}  // namespace berth::cri
