#include "network/cni_conf.h"

#include <gmock/gmock.h>
#include <gtest/gtest.h>

#include "base/ids.h"
#include "network/json.h"
#include "os/file.h"

namespace berth::network {
namespace {

using testing::ElementsAre;
using testing::HasSubstr;

constexpr const char* kList = R"({
  "cniVersion": "0.4.0", "name": "pods", "disableCheck": true,
  "plugins": [
    {"type": "bridge", "bridge": "cni0", "ipam": {"type": "host-local", "ranges": [[{"subnet": "10.1.0.0/16"}]]}},
    {"type": "portmap", "capabilities": {"portMappings": true, "bandwidth": false}, "snat": true}
  ]})";

PodNetwork pod() {
  PodNetwork out;
  out.sandbox_id = "sb1";
  out.pod_name = "web";
  out.pod_namespace = "shop";
  out.pod_uid = "u-1";
  out.ports = {{"TCP", 80, 8080, "10.0.0.1"}, {"udp", 53, 0, ""}};
  out.annotations = {{"kubernetes.io/ingress-bandwidth", "10M"}, {"kubernetes.io/egress-bandwidth", "1Gi"}};
  out.dns.servers = {"10.96.0.10"};
  out.cgroup_path = "/kubepods/x";
  return out;
}

TEST(CniConf, AListIsRead) {
  const auto conf = parse_cni_conf(kList);
  ASSERT_TRUE(conf) << conf.error().text();
  EXPECT_EQ(conf->name, "pods");
  EXPECT_EQ(conf->version, "0.4.0");
  EXPECT_TRUE(conf->disable_check);
  ASSERT_EQ(conf->plugins.size(), 2U);
  EXPECT_EQ(conf->plugins[0].type, "bridge");
  EXPECT_THAT(conf->plugins[1].capabilities, ElementsAre("portMappings"));
}

TEST(CniConf, ASinglePluginIsAListOfOne) {
  const auto conf = parse_cni_conf(R"({"cniVersion":"0.3.1","name":"one","type":"ptp","mtu":1400})");
  ASSERT_TRUE(conf);
  ASSERT_EQ(conf->plugins.size(), 1U);
  const auto input = plugin_input(*conf, 0, pod(), "");
  ASSERT_TRUE(input);
  EXPECT_EQ(Json::parse(*input), Json::parse(R"({"cniVersion":"0.3.1","name":"one","type":"ptp","mtu":1400})"));
}

TEST(CniConf, TheHighestKnownVersionIsTaken) {
  const auto conf = parse_cni_conf(
      R"({"cniVersion":"0.4.0","cniVersions":["1.0.0","1.1.0","9.0.0"],"name":"n","plugins":[{"type":"x"}]})");
  ASSERT_TRUE(conf);
  EXPECT_EQ(conf->version, "1.1.0");
  EXPECT_TRUE(cni_version_at_least(conf->version, "1.0.0"));
  EXPECT_FALSE(cni_version_at_least("0.3.1", "0.4.0"));
}

TEST(CniConf, EachFaultIsNamed) {
  struct Case {
    const char* text;
    Code code;
    const char* says;
  };
  const Case cases[] = {
      {"", Code::kCorrupt, ""},
      {"{", Code::kCorrupt, "parse error"},
      {"[]", Code::kCorrupt, "not a JSON object"},
      {"{} trailing", Code::kCorrupt, ""},
      {R"({"name":"n","plugins":[{"type":"x"}]})", Code::kInvalid, "cniVersion is missing"},
      {R"({"cniVersion":7,"name":"n","plugins":[]})", Code::kInvalid, "cniVersion is not a string"},
      {R"({"cniVersion":"0.2.0","name":"n","type":"x"})", Code::kUnsupported, "0.2.0"},
      {R"({"cniVersion":"2.0.0","name":"n","type":"x"})", Code::kUnsupported, "2.0.0"},
      {R"({"cniVersion":"1.0.0","plugins":[{"type":"x"}]})", Code::kInvalid, "name"},
      {R"({"cniVersion":"1.0.0","name":"../n","plugins":[{"type":"x"}]})", Code::kInvalid, "name"},
      {R"({"cniVersion":"1.0.0","name":"n"})", Code::kInvalid, "type is missing"},
      {R"({"cniVersion":"1.0.0","name":"n","plugins":[]})", Code::kInvalid, "plugins is empty"},
      {R"({"cniVersion":"1.0.0","name":"n","plugins":{}})", Code::kInvalid, "plugins is not a list"},
      {R"({"cniVersion":"1.0.0","name":"n","plugins":[3]})", Code::kInvalid, "plugin 1"},
      {R"({"cniVersion":"1.0.0","name":"n","plugins":[{"type":"a/b"}]})", Code::kInvalid, "type"},
      {R"({"cniVersion":"1.0.0","name":"n","plugins":[{"type":".."}]})", Code::kInvalid, "type"},
      {R"({"cniVersion":"1.0.0","name":"n","plugins":[{"type":"x","capabilities":[]}]})", Code::kInvalid,
       "capabilities"},
      {R"({"cniVersion":"1.0.0","name":"n","disableCheck":"x","plugins":[{"type":"x"}]})", Code::kInvalid,
       "disableCheck"},
  };
  for (const auto& c : cases) {
    const auto conf = parse_cni_conf(c.text);
    ASSERT_FALSE(conf) << c.text;
    EXPECT_EQ(conf.error().code(), c.code) << c.text << conf.error().text();
    EXPECT_THAT(conf.error().text(), HasSubstr(c.says));
  }
}

TEST(CniConf, SizeDepthAndCountAreBounded) {
  EXPECT_EQ(parse_cni_conf(std::string(300'000, ' ')).error().code(), Code::kExhausted);
  EXPECT_EQ(parse_cni_conf(std::string(100'000, '[')).error().code(), Code::kExhausted);
  EXPECT_EQ(parse_cni_conf(R"({"a":")" + std::string(1000, '[') + R"("})").error().code(), Code::kInvalid)
      << "brackets in a string are no depth";
  std::string many = R"({"cniVersion":"1.0.0","name":"n","plugins":[{"type":"x"})";
  for (int i = 0; i < 40; ++i) many += R"(,{"type":"x"})";
  EXPECT_EQ(parse_cni_conf(many + "]}").error().code(), Code::kExhausted);
}

TEST(CniConf, CapabilitiesGetTheirValues) {
  const auto conf = parse_cni_conf(
      R"({"cniVersion":"1.0.0","name":"n","plugins":[{"type":"x","capabilities":{"portMappings":true,"bandwidth":true,
      "dns":true,"cgroupPath":true,"ips":true}},{"type":"y"}]})");
  ASSERT_TRUE(conf);
  const auto input = plugin_input(*conf, 0, pod(), R"({"cniVersion":"1.0.0"})");
  ASSERT_TRUE(input);
  EXPECT_EQ(Json::parse(*input), Json::parse(R"({"cniVersion":"1.0.0","name":"n","type":"x",
    "prevResult":{"cniVersion":"1.0.0"},
    "runtimeConfig":{
      "portMappings":[{"hostPort":8080,"containerPort":80,"protocol":"tcp","hostIP":"10.0.0.1"}],
      "bandwidth":{"ingressRate":10000000,"ingressBurst":2147483647,"egressRate":1073741824,"egressBurst":2147483647},
      "dns":{"servers":["10.96.0.10"],"searches":[],"options":[]},
      "cgroupPath":"/kubepods/x"}})"));
  const auto plain = plugin_input(*conf, 1, pod(), "");
  ASSERT_TRUE(plain);
  EXPECT_EQ(Json::parse(*plain), Json::parse(R"({"cniVersion":"1.0.0","name":"n","type":"y"})"));
}

TEST(CniConf, ArgsAreTheOnesUsersKnow) {
  EXPECT_EQ(cni_args(pod()).value(),
            "IgnoreUnknown=1;K8S_POD_NAMESPACE=shop;K8S_POD_NAME=web;K8S_POD_INFRA_CONTAINER_ID=sb1;K8S_POD_UID=u-1");
  auto sly = pod();
  sly.pod_name = "a;IgnoreUnknown=0";
  EXPECT_EQ(cni_args(sly).error().code(), Code::kInvalid);
}

TEST(CniConf, FirstFileByName) {
  const std::string dir = testing::TempDir() + "berth-conf-" + random_hex(8);
  EXPECT_EQ(first_cni_file(dir).value(), "");
  ASSERT_TRUE(os::make_dirs(dir));
  EXPECT_EQ(first_cni_file(dir).value(), "");
  for (const char* name : {"00-readme.txt", "20-b.conf", "10-a.conflist", "15.json", "05-x.conflist.bak"}) {
    ASSERT_TRUE(os::write_file_atomic(dir + "/" + name, "{}"));
  }
  EXPECT_EQ(first_cni_file(dir).value(), dir + "/10-a.conflist");
  ASSERT_TRUE(os::remove_tree(dir));
}

}  // namespace
}  // namespace berth::network
