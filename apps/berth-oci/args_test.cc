#include "args.h"

#include <gmock/gmock.h>

#include <array>

#include "output.h"

namespace berth::oci {
namespace {

constexpr std::array<FlagSpec, 3> kFlags{{{"bundle", 'b', true}, {"all", 'a', false}, {"env", 'e', true}}};

struct Words {
  explicit Words(std::vector<std::string> words) : text(std::move(words)) {
    for (auto& word : text) pointers.push_back(word.data());
  }
  std::vector<std::string> text;
  std::vector<char*> pointers;
};

TEST(Args, FlagsAndWords) {
  Words words({"--bundle", "/b", "-a", "-e=A=1", "--env", "B=2", "id", "-a", "--nosuch"});
  const auto args = Args::parse(words.pointers, kFlags);
  ASSERT_TRUE(args.has_value());
  EXPECT_EQ(args->value_or("bundle", ""), "/b");
  EXPECT_TRUE(args->on("all"));
  EXPECT_EQ(args->values("env"), (std::vector<std::string>{"A=1", "B=2"}));
  ASSERT_EQ(args->rest().size(), 3U);
  EXPECT_STREQ(args->rest()[0], "id");
}

TEST(Args, EndsAtTwoDashes) {
  Words words({"-b", "x", "--", "-a"});
  const auto args = Args::parse(words.pointers, kFlags);
  ASSERT_TRUE(args.has_value());
  EXPECT_FALSE(args->has("all"));
  ASSERT_EQ(args->rest().size(), 1U);
}

TEST(Args, FaultsAreNamed) {
  Words unknown({"--wish"});
  EXPECT_EQ(Args::parse(unknown.pointers, kFlags).error().text(), "flag provided but not defined: -wish");
  Words lone({"--bundle"});
  EXPECT_EQ(Args::parse(lone.pointers, kFlags).error().text(), "flag needs an argument: -bundle");
  Words off({"--all=false"});
  EXPECT_FALSE(Args::parse(off.pointers, kFlags)->on("all"));
}

TEST(PrettyJson, Indents) {
  EXPECT_EQ(pretty_json(R"({"a":[],"b":{"c":"x,{\"y"},"d":[1,2]})"),
            "{\n  \"a\": [],\n  \"b\": {\n    \"c\": \"x,{\\\"y\"\n  },\n  \"d\": [\n    1,\n    2\n  ]\n}");
}

}  // namespace
}  // namespace berth::oci
