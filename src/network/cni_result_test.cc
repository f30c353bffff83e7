#include "network/cni_result.h"

#include <gmock/gmock.h>
#include <gtest/gtest.h>

#include "network/json.h"

namespace berth::network {
namespace {

using testing::ElementsAre;
using testing::HasSubstr;

constexpr const char* kResult110 = R"({"cniVersion":"1.1.0",
  "interfaces":[{"name":"cni0","mac":"aa:aa:aa:aa:aa:aa"},
                {"name":"veth1"},
                {"name":"eth0","mac":"0a:58:0a:01:00:05","sandbox":"/proc/1/ns/net","mtu":1400,"pciID":"0000:00:1f.6"}],
  "ips":[{"address":"10.1.0.1/16","interface":0},
         {"address":"10.1.0.5/16","gateway":"10.1.0.1","interface":2},
         {"address":"fd00::5/64","gateway":"fd00::1","interface":2}],
  "routes":[{"dst":"0.0.0.0/0","gw":"10.1.0.1","mtu":1300,"priority":5,"table":100},{"dst":"::/0"}],
  "dns":{"nameservers":["10.96.0.10"],"domain":"local","search":["a","b"],"options":["ndots:5"]}})";

Json convert(const char* text, const char* version) {
  const auto result = parse_cni_result(text, "1.1.0");
  EXPECT_TRUE(result) << result.error().text();
  return result ? Json::parse(format_cni_result(*result, version)) : Json();
}

TEST(CniResult, RoundTripInTheNewestVersion) {
  EXPECT_EQ(convert(kResult110, "1.1.0"), Json::parse(kResult110));
}

TEST(CniResult, OlderVersionsLeaveOutWhatTheyDoNotHave) {
  const Json v1 = convert(kResult110, "1.0.0");
  EXPECT_EQ(v1["cniVersion"], "1.0.0");
  EXPECT_FALSE(v1["interfaces"][2].contains("mtu"));
  EXPECT_EQ(v1["routes"][0], Json::parse(R"({"dst":"0.0.0.0/0","gw":"10.1.0.1"})"));
  EXPECT_FALSE(v1["ips"][0].contains("version"));
  const Json v04 = convert(kResult110, "0.4.0");
  EXPECT_EQ(v04["ips"][1],
            Json::parse(R"({"version":"4","address":"10.1.0.5/16","gateway":"10.1.0.1","interface":2})"));
  EXPECT_EQ(v04["ips"][2]["version"], "6");
  const Json v02 = convert(kResult110, "0.2.0");
  EXPECT_EQ(v02["ip4"]["ip"], "10.1.0.1/16");
  EXPECT_EQ(v02["ip6"], Json::parse(R"({"ip":"fd00::5/64","gateway":"fd00::1","routes":[{"dst":"::/0"}]})"));
}

TEST(CniResult, TheOldFormIsUnderstood) {
  const auto result = parse_cni_result(
      R"({"cniVersion":"0.2.0","ip4":{"ip":"10.0.0.2/24","gateway":"10.0.0.1","routes":[{"dst":"0.0.0.0/0"}]}})",
      "1.0.0");
  ASSERT_TRUE(result) << result.error().text();
  EXPECT_EQ(Json::parse(format_cni_result(*result, "0.3.1")), Json::parse(R"({"cniVersion":"0.3.1",
    "ips":[{"version":"4","address":"10.0.0.2/24","gateway":"10.0.0.1"}],"routes":[{"dst":"0.0.0.0/0"}],"dns":{}})"));
}

TEST(CniResult, WhatThePodGot) {
  const auto result = parse_cni_result(kResult110, "1.1.0");
  ASSERT_TRUE(result);
  const auto attachment = attachment_of(*result, "eth0", "pods");
  EXPECT_THAT(attachment.ips, ElementsAre("10.1.0.5", "fd00::5")) << "not the bridge's address";
  EXPECT_EQ(attachment.gateway, "10.1.0.1");
  EXPECT_EQ(attachment.mac, "0a:58:0a:01:00:05");
  EXPECT_EQ(attachment.network, "pods");
}

TEST(CniResult, NonsenseIsRefused) {
  for (const char* bad :
       {"", "ok", "{", R"([1])", R"({"cniVersion":"3.0"})", R"({"cniVersion":1})", R"({"ips":{}})", R"({"ips":[1]})",
        R"({"ips":[{"address":"10.0.0.1"}]})", R"({"ips":[{"address":"10.0.0.1/33"}]})",
        R"({"ips":[{"address":"x/8"}]})", R"({"ips":[{"address":"10.0.0.1/8","interface":0}]})",
        R"({"ips":[{"address":"10.0.0.1/8","gateway":"no"}]})", R"({"interfaces":[{"name":7}]})",
        R"({"routes":[{"dst":"everywhere"}]})", R"({"dns":[]})", R"({"dns":{"nameservers":"1.1.1.1"}})",
        R"({"routes":[{"dst":"::/0","mtu":-1}]})"}) {
    EXPECT_FALSE(parse_cni_result(bad, "1.0.0")) << bad;
  }
  std::string many = R"({"ips":[{"address":"10.0.0.1/8"})";
  for (int i = 0; i < 300; ++i) many += R"(,{"address":"10.0.0.1/8"})";
  EXPECT_EQ(parse_cni_result(many + "]}", "1.0.0").error().code(), Code::kExhausted);
  EXPECT_EQ(parse_cni_result(std::string(2'000'000, ' '), "1.0.0").error().code(), Code::kExhausted);
}

TEST(CniError, Objects) {
  const auto error = parse_cni_error(R"({"cniVersion":"1.0.0","code":7,"msg":"bad\nthing","details":"why"})");
  ASSERT_TRUE(error);
  EXPECT_EQ(error->code, 7U);
  EXPECT_EQ(error->message, "bad thing");
  EXPECT_EQ(error->details, "why");
  for (const char* none : {"", "{}", R"({"code":"7"})", R"({"msg":"x"})", "Segmentation fault"}) {
    EXPECT_FALSE(parse_cni_error(none)) << none;
  }
  EXPECT_EQ(printable_tail("  abc\x1b[31m\n", 6), "c [31m");
}

}  // namespace
}  // namespace berth::network
