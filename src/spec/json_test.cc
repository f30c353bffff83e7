#include <gtest/gtest.h>

#include <nlohmann/json.hpp>

#include "spec/json_reader.h"
#include "spec/json_text.h"

namespace berth::spec {
namespace {

std::string error_of(std::string_view text, const Limits& limits = {}) {
  const auto value = parse_json(text, limits);
  return value ? "" : value.error().text();
}

TEST(Quote, EscapesWhatJsonDemands) {
  EXPECT_EQ(quote(""), R"("")");
  EXPECT_EQ(quote("plain /path"), R"("plain /path")");
  EXPECT_EQ(quote("a\"b\\c\n\t\r\b\f"), R"("a\"b\\c\n\t\r\b\f")");
  EXPECT_EQ(quote(std::string_view("\0\x01\x1f\x7f", 4)), "\"\\u0000\\u0001\\u001f\x7f\"");
  EXPECT_EQ(quote("naïve ☃ 😀"), "\"naïve ☃ 😀\"");
}

TEST(Quote, ReplacesWhatIsNotUtf8) {
  EXPECT_EQ(quote("a\xff"), "\"a\xEF\xBF\xBD\"");
  EXPECT_EQ(quote("\xe2\x98"), "\"\xEF\xBF\xBD\xEF\xBF\xBD\"");
  EXPECT_EQ(quote("\xed\xa0\x80"), "\"\xEF\xBF\xBD\xEF\xBF\xBD\xEF\xBF\xBD\"");  // a surrogate
}

TEST(Utf8, LengthOfTheFirstSequence) {
  EXPECT_EQ(utf8_length(""), 0U);
  EXPECT_EQ(utf8_length("a"), 1U);
  EXPECT_EQ(utf8_length("é"), 2U);
  EXPECT_EQ(utf8_length("☃"), 3U);
  EXPECT_EQ(utf8_length("😀"), 4U);
  for (const char* bad : {"\x80", "\xc0\xaf", "\xc1\xbf", "\xe0\x9f\xbf", "\xed\xa0\x80", "\xf0\x8f\xbf\xbf",
                          "\xf4\x90\x80\x80", "\xf5\x80\x80\x80", "\xc3", "\xe2\x98", "\xf0\x9f\x98", "\xc3("}) {
    EXPECT_EQ(utf8_length(bad), 0U) << quote(bad);
  }
}

TEST(JsonWriter, PutsTheCommas) {
  JsonWriter writer;
  writer.begin_object().key("a").number(-1).key("b").begin_array().string("[").string("").boolean(true).null();
  writer.begin_object().end_object().unsigned_number(UINT64_MAX).end_array().key("c:").raw("{}").key("d").raw("");
  writer.end_object();
  EXPECT_EQ(writer.take(), R"({"a":-1,"b":["[","",true,null,{},18446744073709551615],"c:":{},"d":null})");
  EXPECT_EQ(writer.take(), "");
}

TEST(Json, ReadsEveryKind) {
  const auto value = parse_json(R"( {"s":"x\u00e9\ud83d\ude00\/","n":-12,"u":18446744073709551615,"d":1.5e2,"t":true,
    "f":false,"z":null,"a":[1,"two",[]],"o":{"k":"v"},"s2":"a"} )");
  ASSERT_TRUE(value) << value.error().text();
  EXPECT_EQ(value->string_or("s"), "xé😀/");
  EXPECT_EQ(value->string_or("n", "other"), "other");
  EXPECT_EQ(value->string_or("missing", "other"), "other");
  EXPECT_EQ(value->get("n")->as_int(), -12);
  EXPECT_EQ(value->get("n")->as_uint(), std::nullopt);
  EXPECT_EQ(value->get("u")->as_uint(), UINT64_MAX);
  EXPECT_EQ(value->get("u")->as_int(), std::nullopt);
  EXPECT_EQ(value->get("d")->as_double(), 150.0);
  EXPECT_EQ(value->get("d")->as_int(), std::nullopt);
  EXPECT_EQ(value->get("t")->as_bool(), true);
  EXPECT_EQ(value->get("f")->as_bool(), false);
  EXPECT_TRUE(value->get("z")->is_null());
  ASSERT_EQ(value->get("a")->items().size(), 3U);
  EXPECT_EQ(value->get("a")->items()[1].as_string(), "two");
  EXPECT_EQ(value->get("o")->string_or("k"), "v");
  EXPECT_EQ(value->get("s")->get("k"), nullptr);
  EXPECT_EQ(value->members().size(), 10U);
  EXPECT_EQ(parse_json(value->write())->write(), value->write());
}

TEST(Json, LastOfEqualNamesCounts) {
  EXPECT_EQ(parse_json(R"({"a":"1","a":"2"})")->string_or("a"), "2");
}

/// What is and what is not JSON, by a second opinion.
TEST(Json, AgreesWithAnotherParser) {
  const std::vector<std::string> texts = {"",
                                          " ",
                                          "{",
                                          "}",
                                          "[]",
                                          "[1,]",
                                          "[,1]",
                                          "[1 2]",
                                          "{\"a\"}",
                                          "{\"a\":}",
                                          "{\"a\":1,}",
                                          "{a:1}",
                                          "{'a':1}",
                                          "[1]]",
                                          "nul",
                                          "nulll",
                                          "true",
                                          "tru",
                                          "false ",
                                          "01",
                                          "-",
                                          "-0",
                                          "0.",
                                          ".5",
                                          "1e",
                                          "1e+",
                                          "1e5",
                                          "1.5E-3",
                                          "+1",
                                          "0x1",
                                          "NaN",
                                          "\"a",
                                          "\"\\q\"",
                                          "\"\\u12\"",
                                          "\"\\u12g4\"",
                                          "\"\\ud800\"",
                                          "\"\\udc00\"",
                                          "\"\\ud800\\u0041\"",
                                          "\"\\ud83d\\ude00\"",
                                          "\"\t\"",
                                          "\"\x7f\"",
                                          "\"\xff\"",
                                          "\"\xc3\xa9\"",
                                          "[[[[]]]]",
                                          "/* c */ 1",
                                          "1 // c",
                                          "{\"a\":1}{",
                                          "\"a\"\"b\"",
                                          "[1\n,\t2\r]",
                                          "\v1",
                                          "{\"a\":{\"b\":[]}}",
                                          "-01",
                                          "1.0.0",
                                          "--1",
                                          "\"\\\"",
                                          "\"\\\\\"",
                                          "[\"a\",]",
                                          "{,}",
                                          "{\"a\":1 \"b\":2}",
                                          "\"\\u-123\""};
  for (const auto& text : texts) {
    EXPECT_EQ(parse_json(text).has_value(), nlohmann::json::accept(text)) << text;
  }
}

TEST(Json, ErrorsNameThePlace) {
  EXPECT_EQ(error_of("{\n  \"a\": [1, 2,\n  x]}"), "line 3 column 3 (a[2]): expected a value");
  EXPECT_EQ(error_of("{\"a\" 1}"), "line 1 column 6 (a): expected ':' after the member name");
  EXPECT_EQ(error_of("[1] x"), "line 1 column 5: unexpected text after the document");
  EXPECT_EQ(error_of(R"({"a":{"b c":["\u0000"]}})"), R"(a["b c"][0]: must not hold a NUL byte)");
  EXPECT_EQ(error_of("{\"" + std::string(100, 'k') + "\":\x01}"),
            "line 1 column 105 ([\"" + std::string(64, 'k') + "\"]): expected a value");
}

TEST(Json, LimitsAreKept) {
  EXPECT_EQ(error_of("[[[]]]", {.max_depth = 3}), "");
  EXPECT_EQ(error_of("[[[]]]", {.max_depth = 2}), "[0][0]: nested deeper than 2 levels");
  EXPECT_EQ(error_of("[1,2,3]", {.max_elements = 3}), "");
  EXPECT_EQ(error_of("[1,2,3,4]", {.max_elements = 3}), "[3]: the document has more than 3 elements");
  EXPECT_EQ(error_of("\"1234\"", {.max_string_bytes = 4}), "");
  EXPECT_EQ(error_of("\"12345\"", {.max_string_bytes = 4}), "document: a string is longer than 4 bytes");
  EXPECT_EQ(error_of("\"\\n\\n\\n\\n\\n\"", {.max_string_bytes = 4}), "document: a string is longer than 4 bytes");
  EXPECT_EQ(error_of("[1]", {.max_bytes = 2}), "document: is 3 bytes, at most 2 are read");
  EXPECT_EQ(parse_json("[1]", {.max_bytes = 2}).error().code(), Code::kExhausted);
}

TEST(Json, DepthIsBoundedWhateverIsAsked) {
  const std::string deep(200'000, '[');
  const auto value = parse_json(deep, {.max_depth = 1U << 30});
  ASSERT_FALSE(value);
  EXPECT_EQ(value.error().code(), Code::kExhausted);
}

TEST(JsonReader, SkipKeepsCompactText) {
  const std::string_view text = "{ \"a\" : [ 1 , \"x y\\u0000\" , { } , null ] ,\n\"b\":-1.5e3, \"c\\n\": true }";
  JsonReader reader(text, {});
  std::string compact;
  ASSERT_TRUE(reader.skip(&compact) && reader.finish());
  EXPECT_EQ(compact, R"({"a":[1,"x y\u0000",{},null],"b":-1.5e3,"c\n":true})");
}

}  // namespace
}  // namespace berth::spec
