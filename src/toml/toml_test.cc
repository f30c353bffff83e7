#include "toml/toml.h"

#include <gtest/gtest.h>

namespace berth::toml {
namespace {

std::string error_of(std::string_view text, std::size_t limit = 1000) {
  const auto node = parse(text, limit);
  return node ? "" : node.error().text();
}

TEST(Toml, KeepsTheOrderOfTheFile) {
  const auto node = parse(
      "z = 1\n[t.\"https://b\"]\nx = [\"1\", 2]\n[t.\"https://a\"]\ny = true\n[t.\"https://b\".u]\nv = \"w\"\n", 1000);
  ASSERT_TRUE(node) << node.error().text();
  ASSERT_EQ(node->members.size(), 2U);
  EXPECT_EQ(node->members[0].key, "z");
  EXPECT_EQ(node->members[0].value.number, 1);
  const Member* table = node->find("t");
  ASSERT_NE(table, nullptr);
  ASSERT_EQ(table->value.members.size(), 2U);
  const Member& first = table->value.members[0];
  EXPECT_EQ(first.key, "https://b");
  EXPECT_EQ(first.line, 2U);
  EXPECT_EQ(table->value.members[1].key, "https://a");
  const Member* list = first.value.find("x");
  ASSERT_NE(list, nullptr);
  EXPECT_EQ(list->line, 3U);
  ASSERT_EQ(list->value.items.size(), 2U);
  EXPECT_EQ(list->value.items[0].text, "1");
  EXPECT_EQ(list->value.items[1].type, "a whole number");
  EXPECT_EQ(first.value.find("nothing"), nullptr);
  EXPECT_EQ(first.value.find("u")->value.find("v")->value.text, "w");
}

TEST(Toml, OrdersWhatStandsOnOneLine) {
  const auto node = parse("t = { b = 1, a = 2 }", 1000);
  ASSERT_TRUE(node);
  ASSERT_EQ(node->members[0].value.members.size(), 2U);
  EXPECT_EQ(node->members[0].value.members[0].key, "b");
}

TEST(Toml, NamesTheLineOfAFault) {
  EXPECT_TRUE(error_of("a = 1\nb = \n").starts_with("2: ")) << error_of("a = 1\nb = \n");
  EXPECT_EQ(error_of("a = 1", 3), "1: the file is larger than 3 bytes");
  EXPECT_EQ(error_of("\na" + std::string(100, '.') + "b = 1"), "2: a key has too many dots");
  EXPECT_NE(error_of("a = " + std::string(200, '[')), "");
}

}  // namespace
}  // namespace berth::toml
