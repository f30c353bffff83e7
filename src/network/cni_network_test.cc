#include <gmock/gmock.h>
#include <gtest/gtest.h>

#include "base/strings.h"
#include "network/host_fixture_test.h"
#include "network/json.h"
#include "network/network.h"
#include "network/plugins_fixture_test.h"

namespace berth::network {
namespace {

using testing::AllOf;
using testing::ElementsAre;
using testing::HasSubstr;
using testing::IsEmpty;

// A plugin that writes down how it was called, keeps its input, and answers at ADD with an address.
constexpr const char* kGood = R"(
me=$(basename $0)
echo "$CNI_COMMAND $me" >> calls
cat > $me.$CNI_COMMAND.in
echo "$CNI_NETNS" > $me.$CNI_COMMAND.netns
[ -e $me.fail-$CNI_COMMAND ] && { echo '{"code":100,"msg":"told to fail"}'; exit 1; }
[ $CNI_COMMAND = ADD ] && echo '{"cniVersion":"'$(cat version)'","interfaces":[{"name":"eth0","sandbox":"x","extra":1}],"ips":[{"version":"4","address":"10.7.0.9/24","gateway":"10.7.0.1","interface":0}]}'
exit 0
)";

class CniNetworkTest : public testing::Test {
 protected:
  void SetUp() override {
    if (const auto why = host_.make(); !why.empty()) GTEST_SKIP() << why;
    ASSERT_TRUE(os::make_dirs(conf_dir_));
    plugins_.add("first", kGood);
    plugins_.add("second", kGood);
    configure("1.0.0");
    open();
  }
  void configure(const std::string& version, const std::string& name = "10-pods.conflist") {
    plugins_.put("version", version);
    ASSERT_TRUE(os::write_file_atomic(
        conf_dir_ + "/" + name,
        R"({"cniVersion":")" + version + R"(","name":"pods","plugins":[{"type":"first"},{"type":"second"}]})"));
  }
  void open() {
    network_.reset();
    NetworkOptions options;
    options.state_dir = plugins_.dir() + "/state";
    options.conf_dir = conf_dir_;
    options.bin_dirs = {"/nonexistent", plugins_.dir()};
    options.plugin_timeout_s = 20;
    host_.on_node([&] {
      auto opened = Network::open(options);
      ASSERT_TRUE(opened) << opened.error().text();
      network_ = std::move(*opened);
    });
  }
  Result<Attachment> add(const std::string& name) {
    Result<Attachment> out = fail(Code::kInternal, "not run");
    const auto request = host_.request(name);
    host_.on_node([&] { out = network_->add(request, {}); });
    return out;
  }
  Result<> remove(const std::string& name) {
    PodNetwork request;
    request.sandbox_id = name;
    Result<> out;
    host_.on_node([&] { out = network_->remove(request); });
    return out;
  }
  std::string calls() {
    std::string text = plugins_.read("calls");
    plugins_.erase("calls");
    return text;
  }

  TestHost host_;
  TestPlugins plugins_;
  const std::string conf_dir_ = plugins_.dir() + "/net.d";
  std::unique_ptr<Network> network_;
};

TEST_F(CniNetworkTest, ChainInOrderAndBackwards) {
  const auto added = add("a");
  ASSERT_TRUE(added) << added.error().text();
  EXPECT_THAT(added->ips, ElementsAre("10.7.0.9"));
  EXPECT_EQ(added->gateway, "10.7.0.1");
  EXPECT_EQ(added->network, "pods");
  EXPECT_EQ(calls(), "ADD first\nADD second\n");
  EXPECT_FALSE(Json::parse(plugins_.read("first.ADD.in")).contains("prevResult"));
  const Json input = Json::parse(plugins_.read("second.ADD.in"));
  EXPECT_EQ(input["name"], "pods");
  EXPECT_EQ(input["prevResult"]["interfaces"][0]["extra"], 1) << "passed on as it is";
  EXPECT_EQ(trim(plugins_.read("first.ADD.netns")), host_.request("a").netns_path);
  EXPECT_THAT(network_->holders(), ElementsAre("a"));
  // A retry joins: no plugin runs again.
  const auto again = add("a");
  ASSERT_TRUE(again);
  EXPECT_THAT(again->ips, ElementsAre("10.7.0.9"));
  EXPECT_EQ(calls(), "");
  ASSERT_TRUE(remove("a"));
  EXPECT_EQ(calls(), "DEL second\nDEL first\n");
  EXPECT_EQ(Json::parse(plugins_.read("second.DEL.in"))["prevResult"]["ips"][0]["address"], "10.7.0.9/24");
  EXPECT_EQ(trim(plugins_.read("first.DEL.netns")), host_.request("a").netns_path);
  EXPECT_THAT(network_->holders(), IsEmpty());
  ASSERT_TRUE(remove("a"));
  EXPECT_EQ(calls(), "");
  const TestServer lo(host_.pod("a"), "tcp", 80);
  EXPECT_EQ(lo.talk(host_.pod("a"), "127.0.0.1", 80), "127.0.0.1") << "loopback is ours";
}

TEST_F(CniNetworkTest, OldVersionsGetNoPreviousResultAtDel) {
  configure("0.3.1");
  ASSERT_TRUE(add("a"));
  ASSERT_TRUE(remove("a"));
  EXPECT_FALSE(Json::parse(plugins_.read("first.DEL.in")).contains("prevResult"));
}

TEST_F(CniNetworkTest, ResultsOfAnotherVersionAreConverted) {
  plugins_.put("version", "0.4.0");
  ASSERT_TRUE(add("a"));
  const Json input = Json::parse(plugins_.read("second.ADD.in"));
  EXPECT_EQ(input["prevResult"]["cniVersion"], "1.0.0");
  EXPECT_FALSE(input["prevResult"]["ips"][0].contains("version"));
  ASSERT_TRUE(remove("a"));
}

TEST_F(CniNetworkTest, FailedAddIsTakenBackByEveryPlugin) {
  plugins_.put("second.fail-ADD", "");
  const auto added = add("a");
  ASSERT_FALSE(added);
  EXPECT_THAT(added.error().text(), AllOf(HasSubstr("default/a-pod"), HasSubstr("network pods"),
                                          HasSubstr("CNI plugin second failed at ADD: told to fail")));
  EXPECT_EQ(calls(), "ADD first\nADD second\nDEL second\nDEL first\n");
  EXPECT_THAT(network_->holders(), IsEmpty());
}

TEST_F(CniNetworkTest, GarbageInsteadOfAResultIsTakenBack) {
  plugins_.add("second",
               "echo \"$CNI_COMMAND second\" >> calls; echo '{\"cniVersion\":\"1.0.0\",\"ips\":[{\"addr'; exit 0");
  const auto added = add("a");
  ASSERT_FALSE(added);
  EXPECT_THAT(added.error().text(), HasSubstr("result of CNI plugin second"));
  EXPECT_EQ(calls(), "ADD first\nADD second\nDEL second\nDEL first\n");
  plugins_.add("second", "echo '{\"cniVersion\":\"1.0.0\"}'");
  EXPECT_THAT(add("a").error().text(), HasSubstr("no address for the pod"));
  EXPECT_THAT(network_->holders(), IsEmpty());
}

TEST_F(CniNetworkTest, FailedDelIsRememberedForThatPluginAlone) {
  ASSERT_TRUE(add("a"));
  EXPECT_EQ(calls(), "ADD first\nADD second\n");
  plugins_.put("second.fail-DEL", "");
  const auto removed = remove("a");
  ASSERT_FALSE(removed);
  EXPECT_THAT(removed.error().text(), HasSubstr("CNI plugin second failed at DEL: told to fail"));
  EXPECT_EQ(calls(), "DEL second\nDEL first\n") << "the others run all the same";
  EXPECT_THAT(network_->holders(), ElementsAre("a"));
  EXPECT_FALSE(remove("a"));
  EXPECT_EQ(calls(), "DEL second\n");
  open();
  EXPECT_EQ(calls(), "DEL second\n") << "tried at start";
  EXPECT_THAT(network_->holders(), ElementsAre("a"));
  plugins_.erase("second.fail-DEL");
  open();
  EXPECT_EQ(calls(), "DEL second\n");
  EXPECT_THAT(network_->holders(), IsEmpty());
}

TEST_F(CniNetworkTest, RemovedPluginsProgramIsNoSuccess) {
  ASSERT_TRUE(add("a"));
  plugins_.erase("second");
  const auto removed = remove("a");
  ASSERT_FALSE(removed);
  EXPECT_THAT(removed.error().text(), HasSubstr("CNI plugin second is not in"));
  EXPECT_THAT(network_->holders(), ElementsAre("a"));
  plugins_.add("second", kGood);
  EXPECT_TRUE(remove("a"));
}

TEST_F(CniNetworkTest, UnknownContainerAtDelIsSuccess) {
  ASSERT_TRUE(add("a"));
  plugins_.add("second", R"(echo '{"code":3,"msg":"unknown container"}'; exit 1)");
  EXPECT_TRUE(remove("a"));
}

TEST_F(CniNetworkTest, DelUsesTheConfigurationOfAdd) {
  ASSERT_TRUE(add("a"));
  EXPECT_EQ(calls(), "ADD first\nADD second\n");
  ASSERT_TRUE(
      os::write_file_atomic(conf_dir_ + "/00-other.conf", R"({"cniVersion":"1.0.0","name":"other","type":"first"})"));
  EXPECT_EQ(network_->status().network, "other");
  host_.kill_pod("a");
  ASSERT_TRUE(remove("a"));
  EXPECT_EQ(calls(), "DEL second\nDEL first\n");
  EXPECT_EQ(trim(plugins_.read("first.DEL.netns")), "") << "the namespace is gone";
}

TEST_F(CniNetworkTest, AnotherNamespaceUnderTheOldPathIsNotHanded) {
  ASSERT_TRUE(add("a"));
  const auto request = host_.request("a");
  host_.kill_pod("a");
  host_.pod("b");  // gets the descriptor number, and so the path, of the first one
  ASSERT_EQ(host_.request("b").netns_path, request.netns_path);
  host_.on_node([&] { EXPECT_TRUE(network_->remove(request)); });
  EXPECT_EQ(trim(plugins_.read("first.DEL.netns")), "");
}

TEST_F(CniNetworkTest, CrashInTheMiddleOfAddIsTakenBackAtStart) {
  ASSERT_TRUE(add("a"));
  calls();
  const std::string path = plugins_.dir() + "/state/cni/a.json";
  network_.reset();
  Json record = Json::parse(*os::read_file(path, 1U << 20));
  record["state"] = "adding";
  record["result"] = "";
  ASSERT_TRUE(os::write_file_atomic(path, record.dump()));
  open();
  EXPECT_THAT(network_->holders(), ElementsAre("a")) << "its namespace lives: the daemon decides";
  EXPECT_EQ(calls(), "");
  host_.kill_pod("a");
  open();
  EXPECT_THAT(network_->holders(), IsEmpty());
  EXPECT_EQ(calls(), "DEL second\nDEL first\n");
}

TEST_F(CniNetworkTest, RetryAfterACrashBeginsAnew) {
  ASSERT_TRUE(add("a"));
  host_.kill_pod("a");
  calls();
  const auto again = add("a");
  ASSERT_TRUE(again) << again.error().text();
  EXPECT_EQ(calls(), "DEL second\nDEL first\nADD first\nADD second\n");
  ASSERT_TRUE(remove("a"));
}

TEST_F(CniNetworkTest, FolderChangesAreNoticed) {
  EXPECT_TRUE(network_->status().ready);
  EXPECT_EQ(network_->status().network, "pods");
  EXPECT_FALSE(network_->status().builtin);
  ASSERT_TRUE(os::write_file_atomic(conf_dir_ + "/05-broken.conf", "{ not json"));
  const auto broken = network_->status();
  EXPECT_FALSE(broken.ready);
  EXPECT_EQ(broken.reason, "InvalidNetworkConfiguration");
  EXPECT_THAT(broken.message, HasSubstr("05-broken.conf: "));
  EXPECT_THAT(add("a").error().text(), HasSubstr("05-broken.conf"));
  ASSERT_TRUE(os::remove_file(conf_dir_ + "/05-broken.conf"));
  EXPECT_TRUE(network_->status().ready);
  // In place, same size, within the same tick.
  for (const char* name : {"podx", "pody", "podz"}) {
    auto fd = os::open_file(conf_dir_ + "/10-pods.conflist", O_WRONLY);
    ASSERT_TRUE(fd);
    ASSERT_TRUE(os::write_at(fd->get(), std::string(R"({"cniVersion":"1.0.0","name":")") + name, 0));
    EXPECT_EQ(network_->status().network, name);
  }
  ASSERT_TRUE(os::remove_tree(conf_dir_));
  EXPECT_TRUE(network_->status().builtin);
  const auto builtin = add("a");
  ASSERT_TRUE(builtin) << builtin.error().text();
  EXPECT_EQ(builtin->network, "berth");
  ASSERT_TRUE(os::make_dirs(conf_dir_));
  configure("1.0.0");
  EXPECT_EQ(network_->status().network, "pods");
  EXPECT_EQ(add("b")->network, "pods");
  EXPECT_THAT(network_->holders(), ElementsAre("a", "b"));
  EXPECT_TRUE(remove("a"));
  EXPECT_TRUE(remove("b"));
  host_.on_node([&] { EXPECT_TRUE(network_->teardown()); });
  EXPECT_THAT(host_.links(), IsEmpty());
}

TEST_F(CniNetworkTest, StatusOfPluginsIsAskedFromOneOneOn) {
  EXPECT_TRUE(network_->probe());
  EXPECT_EQ(calls(), "");
  configure("1.1.0");
  plugins_.put("second.fail-STATUS", "");
  EXPECT_FALSE(network_->probe());
  EXPECT_EQ(calls(), "STATUS first\nSTATUS second\n");
  const auto status = network_->status();
  EXPECT_FALSE(status.ready);
  EXPECT_EQ(status.reason, "NetworkPluginNotReady");
  EXPECT_THAT(status.message, HasSubstr("CNI plugin second failed at STATUS: told to fail"));
  plugins_.erase("second.fail-STATUS");
  EXPECT_TRUE(network_->probe());
  EXPECT_TRUE(network_->status().ready);
  ASSERT_TRUE(add("a"));
  EXPECT_TRUE(remove("a"));
}

TEST_F(CniNetworkTest, CallingOffTakesBack) {
  plugins_.add("second", "echo \"$CNI_COMMAND second\" >> calls; [ $CNI_COMMAND = ADD ] && exec sleep 1000; exit 0");
  std::stop_source stop;
  stop.request_stop();
  const auto request = host_.request("a");
  host_.on_node([&] {
    const auto added = network_->add(request, stop.get_token());
    ASSERT_FALSE(added);
    EXPECT_EQ(added.error().code(), Code::kCancelled);
  });
  EXPECT_THAT(calls(), HasSubstr("DEL second\nDEL first\n"));
  EXPECT_THAT(network_->holders(), IsEmpty());
}

}  // namespace
}  // namespace berth::network
