#include "cri/cdi_devices.h"

#include <sys/stat.h>
#include <sys/sysmacros.h>

#include "cri/cdi_file.h"
#include "cri/yaml_text.h"
#include "gmock/gmock.h"
#include "gtest/gtest.h"
#include "os/file.h"

namespace berth::cri::cdi {
namespace {

using testing::ElementsAre;
using testing::HasSubstr;
using testing::IsEmpty;

constexpr const char* kWhole = R"({
  "cdiVersion": "1.0.0", "kind": "vendor.com/gpu", "annotations": {"made": "by hand"},
  "containerEdits": {"env": ["ALL=yes"], "mounts": [
    {"hostPath": "/usr/lib/vendor", "containerPath": "/vendor/lib", "options": ["ro", "rbind", "rprivate"]}]},
  "devices": [{"name": "0", "annotations": {"a": "b"}, "containerEdits": {
      "env": ["GPU=0"],
      "deviceNodes": [{"path": "/dev/gpu0", "hostPath": "/dev/null", "permissions": "rw", "fileMode": 432, "uid": 5, "gid": 6},
                      {"path": "/dev/made", "type": "u", "major": 10, "minor": 200, "permissions": "none"}],
      "mounts": [{"hostPath": "tmpfs", "containerPath": "/vendor", "type": "tmpfs", "options": ["mode=755"]}],
      "hooks": [{"hookName": "createContainer", "path": "/bin/true", "args": ["true", "x"], "env": ["A=b"], "timeout": 3}],
      "additionalGids": [0, 44, 44], "intelRdt": {"closID": "c", "l3CacheSchema": "L3:0=f", "enableCMT": true}}},
    {"name": "all", "containerEdits": {"env": ["GPU=all"]}}]})";

TEST(CdiFile, EveryMember) {
  const auto file = parse_file(kWhole, Format::kJson);
  ASSERT_TRUE(file) << file.error().text();
  EXPECT_EQ(file->kind, "vendor.com/gpu");
  EXPECT_THAT(file->edits.env, ElementsAre("ALL=yes"));
  ASSERT_EQ(file->edits.mounts.size(), 1U);
  EXPECT_EQ(file->edits.mounts[0].type, "bind");
  ASSERT_EQ(file->devices.size(), 2U);
  const auto& edits = file->devices[0].edits;
  ASSERT_EQ(edits.device_nodes.size(), 2U);
  EXPECT_EQ(edits.device_nodes[0].access, "rw");
  EXPECT_EQ(edits.device_nodes[0].file_mode, 0660U);
  EXPECT_EQ(edits.device_nodes[1].type, "c");
  EXPECT_EQ(edits.device_nodes[1].access, "");
  ASSERT_EQ(edits.hooks.size(), 1U);
  EXPECT_EQ(edits.hooks[0].name, HookName::kCreateContainer);
  EXPECT_EQ(edits.hooks[0].hook.timeout, 3);
  EXPECT_THAT(edits.additional_gids, ElementsAre(44U, 44U));
  EXPECT_EQ(edits.intel_rdt->clos_id, "c");
}

TEST(CdiFile, YamlSaysTheSame) {
  const auto file = parse_file(R"(---
# made by a vendor
cdiVersion: 0.7.0
kind: vendor.com/gpu
devices:
- name: "0"
  containerEdits:
    deviceNodes:
    - path: /dev/gpu0
      fileMode: 0660
      major: 0x1F
      uid: 0
- name: 1
  containerEdits: {env: [A=1, 'B=two words'], additionalGids: [44]}
containerEdits:
  hooks:
    - {hookName: prestart, path: /bin/true, args: [true]}
)",
                               Format::kYaml);
  // An argument `true` is no text in YAML, and the vendor is told so.
  EXPECT_THAT(file.error().text(), HasSubstr("containerEdits.hooks[0].args[0]"));
  const auto good = parse_file(R"(
cdiVersion: v0.7.0
kind: vendor.com/gpu
devices:
- name: "0"
  containerEdits:
    deviceNodes:
    - path: /dev/gpu0
      fileMode: 0660
      major: 0x1F
      uid:
- name: 1
  containerEdits: {env: [A=1, 'B=two words'], additionalGids: [44]}
)",
                               Format::kYaml);
  ASSERT_TRUE(good) << good.error().text();
  const auto& node = good->devices[0].edits.device_nodes[0];
  EXPECT_EQ(node.file_mode, 0660U);
  EXPECT_EQ(node.major, 31);
  EXPECT_FALSE(node.uid);
  EXPECT_EQ(good->devices[1].name, "1");
  EXPECT_THAT(good->devices[1].edits.env, ElementsAre("A=1", "B=two words"));
}

TEST(CdiFile, WhatIsWrongIsNamed) {
  const auto refused = [](const std::string& text, const std::string& words, Format format = Format::kJson) {
    const auto file = parse_file(text, format);
    ASSERT_FALSE(file) << text;
    EXPECT_THAT(file.error().text(), HasSubstr(words)) << text;
  };
  const auto with = [](const std::string& edits, const std::string& version = "1.0.0") {
    return R"({"cdiVersion":")" + version + R"(","kind":"v.com/c","devices":[{"name":"d","containerEdits":)" + edits +
           "}]}";
  };
  refused("", "");
  refused("[]", "");
  refused(R"({"kind":"v.com/c","devices":[{"name":"d"}]})", "cdiVersion is missing");
  refused(R"({"cdiVersion":"9.0.0","kind":"v.com/c","devices":[{"name":"d"}]})", "9.0.0");
  refused(R"({"cdiVersion":"0.5.0","devices":[{"name":"d"}]})", "kind is missing");
  refused(R"({"cdiVersion":"0.5.0","kind":"c","devices":[{"name":"d"}]})", "kind");
  refused(R"({"cdiVersion":"0.5.0","kind":"v.com/c"})", "devices");
  refused(R"({"cdiVersion":"0.5.0","kind":"v.com/c","devices":[]})", "devices");
  refused(R"({"cdiVersion":"0.5.0","kind":"v.com/c","devices":[{"name":"d"},{"name":"d"}]})", "devices[1]");
  refused(R"({"cdiVersion":"0.5.0","kind":"v.com/c","devices":[{"name":"-d"}]})", "devices[0].name");
  refused(R"({"cdiVersion":"0.5.0","kind":"v.com/c","device":[]})", "\"device\" is no member");
  refused(with(R"({"env":["=x"]})"), "devices[0].containerEdits.env[0]");
  refused(with(R"({"envs":[]})"), "\"envs\" is no member");
  refused(with(R"({"deviceNodes":[{"hostPath":"/dev/x"}]})"), "path is missing");
  refused(with(R"({"deviceNodes":[{"path":"dev/x"}]})"), "deviceNodes[0].path");
  refused(with(R"({"deviceNodes":[{"path":"/dev/x","type":"d"}]})"), "deviceNodes[0].type");
  refused(with(R"({"deviceNodes":[{"path":"/dev/x","permissions":"rx"}]})"), "permissions");
  refused(with(R"({"deviceNodes":[{"path":"/dev/x","major":-1}]})"), "major");
  refused(with(R"({"mounts":[{"hostPath":"/a","containerPath":"/b"}]})"), "neither a type");
  refused(with(R"({"mounts":[{"hostPath":"a","containerPath":"/b","options":["bind"]}]})"), "hostPath");
  refused(with(R"({"mounts":[{"hostPath":"/a","containerPath":"/b","options":["bind","X-berth.host"]}]})"), "X-berth.");
  refused(with(R"({"hooks":[{"hookName":"before","path":"/bin/true"}]})"), "hooks[0].hookName");
  refused(with(R"({"hooks":[{"hookName":"poststop","path":"true"}]})"), "hooks[0].path");
  refused(with(R"({"hooks":[{"hookName":"poststop","path":"/bin/true","timeout":0}]})"), "timeout");
  refused(with(R"({"netDevices":[{"hostInterfaceName":"eth9","name":"x"}]})", "1.1.0"), "netDevices");
  // What is younger than the version that the file names.
  refused(with(R"({"deviceNodes":[{"path":"/dev/x","hostPath":"/dev/y"}]})", "0.4.0"), "0.5.0 has");
  refused(with(R"({"additionalGids":[1]})", "0.6.0"), "0.7.0 has");
  refused(with(R"({"intelRdt":{"schemata":["L3:0=f"]}})", "1.0.0"), "1.1.0 has");
  refused(R"({"cdiVersion":"0.5.0","kind":"v.com/c.d","devices":[{"name":"d"}]})", "0.6.0 has");
  refused(R"({"cdiVersion":"0.4.0","kind":"v.com/c","devices":[{"name":"1"}]})", "0.5.0 has");
  EXPECT_TRUE(parse_file(with("null", "0.2.0"), Format::kJson));
  // YAML that is more than plain.
  refused("a: &x 1\nb: *x\n", "anchors", Format::kYaml);
  refused("a: !!binary aGk=\n", "tags", Format::kYaml);
  refused("cdiVersion: 1.0.0\n---\nkind: x\n", "second document", Format::kYaml);
  refused("a: [1, 2\n", "line", Format::kYaml);
  refused("? [a, b]\n: c\n", "key", Format::kYaml);
  refused(std::string(100, '[') + std::string(100, ']'), "deeper", Format::kYaml);
  refused("", "empty", Format::kYaml);
}

TEST(CdiName, Parts) {
  const auto name = parse_name("vendor.com/net_x=eth0:1");
  ASSERT_TRUE(name);
  EXPECT_EQ(name->kind, "vendor.com/net_x");
  EXPECT_EQ(name->device, "eth0:1");
  for (const auto* bad :
       {"", "gpu", "vendor.com/gpu", "vendor.com=0", "/gpu=0", "vendor.com/=0", "vendor.com/gpu=", "vendor.com/gpu=-",
        "1vendor.com/gpu=0", "vendor.com/g/pu=0", "vendor.com/gpu=a b", "/dev/x"}) {
    EXPECT_EQ(parse_name(bad).error().code(), Code::kInvalid) << bad;
  }
}

class CdiDevices : public testing::Test {
 protected:
  void SetUp() override {
    dir_ = testing::TempDir() + "/cdi-XXXXXX";
    ASSERT_NE(::mkdtemp(dir_.data()), nullptr);
    for (const auto* name : {"etc", "run"}) ASSERT_TRUE(os::make_dirs(dir_ + "/" + name));
  }
  void TearDown() override { EXPECT_TRUE(os::remove_tree(dir_)); }
  void write(const std::string& name, const std::string& kind, const std::string& device, const std::string& value) {
    ASSERT_TRUE(os::write_file_atomic(
        dir_ + "/" + name, R"({"cdiVersion":"0.5.0","kind":")" + kind + R"(","devices":[{"name":")" + device +
                               R"(","containerEdits":{"env":["FROM=)" + value + R"("]}}]})"));
  }
  Result<std::vector<Chosen>> find(const std::vector<std::string>& names) {
    return find_devices({dir_ + "/etc", dir_ + "/absent", dir_ + "/run"}, names);
  }
  static std::vector<std::string> env_of(const std::vector<Chosen>& chosen) {
    std::vector<std::string> all;
    for (const auto& each : chosen) all.insert(all.end(), each.edits.env.begin(), each.edits.env.end());
    return all;
  }
  static spec::Spec empty_spec() {
    spec::Spec spec;
    spec.process.emplace();
    spec.process->env = {"PATH=/bin", "GPU=none"};
    spec.linux.emplace();
    spec.linux->resources.emplace();
    return spec;
  }
  std::string dir_;
};

TEST_F(CdiDevices, ALaterFolderGoesFirst) {
  write("etc/a.json", "v.com/c", "x", "etc");
  write("etc/b.json", "v.com/c", "y", "etc");
  write("run/a.json", "v.com/c", "x", "run");
  EXPECT_THAT(env_of(*find({"v.com/c=x", "v.com/c=y"})), ElementsAre("FROM=run", "FROM=etc"));
  // Two of one folder cannot be told apart, unless one goes before both.
  write("etc/c.json", "v.com/c", "y", "etc");
  write("etc/d.json", "v.com/c", "x", "etc");
  const auto both = find({"v.com/c=y"});
  EXPECT_EQ(both.error().code(), Code::kPrecondition);
  EXPECT_THAT(both.error().text(), HasSubstr("etc/b.json and "));
  EXPECT_THAT(env_of(*find({"v.com/c=x"})), ElementsAre("FROM=run"));
}

TEST_F(CdiDevices, WhatIsNotThereNamesTheFileThatMayHaveHadIt) {
  write("etc/a.json", "v.com/c", "x", "etc");
  EXPECT_EQ(find({"v.com/c=z"}).error().code(), Code::kNotFound);
  ASSERT_TRUE(os::write_file_atomic(dir_ + "/etc/broken.json", R"({"cdiVersion":"0.5.0","kind":7})"));
  ASSERT_EQ(::mkfifo((dir_ + "/etc/pipe.json").c_str(), 0600), 0);
  ASSERT_TRUE(os::write_file_atomic(dir_ + "/etc/other.txt", "no file of ours"));
  const auto missing = find({"v.com/c=x", "v.com/c=z"});
  EXPECT_EQ(missing.error().code(), Code::kNotFound);
  EXPECT_THAT(missing.error().text(), HasSubstr("v.com/c=z"));
  EXPECT_THAT(missing.error().text(), HasSubstr("broken.json is passed over: kind"));
  EXPECT_TRUE(find({"v.com/c=x"})) << "a broken file is in nobody else's way";
  EXPECT_EQ(find_devices({}, {"v.com/c=x"}).error().code(), Code::kUnsupported);
  EXPECT_THAT(*find_devices({}, {}), IsEmpty());
}

TEST_F(CdiDevices, EditsAreMade) {
  ASSERT_TRUE(os::write_file_atomic(dir_ + "/etc/whole.json", kWhole));
  auto chosen = find({"vendor.com/gpu=0", "vendor.com/gpu=all"});
  ASSERT_TRUE(chosen) << chosen.error().text();
  auto spec = empty_spec();
  spec.mounts.push_back({.destination = "/vendor/lib/below", .type = "bind", .source = "/x", .options = {"bind"}});
  spec.mounts.push_back({.destination = "/vendor/lib", .type = "bind", .source = "/old", .options = {"bind"}});
  spec.linux->devices.push_back({.path = "/dev/gpu0", .type = "b"});
  const auto applied = apply_edits(*chosen, true, spec);
  ASSERT_TRUE(applied) << applied.error().text();
  EXPECT_THAT(spec.process->env, ElementsAre("PATH=/bin", "ALL=yes", "GPU=all"));
  std::vector<std::string> places;
  for (const auto& mount : spec.mounts) places.push_back(mount.destination);
  EXPECT_THAT(places, ElementsAre("/vendor", "/vendor/lib", "/vendor/lib/below"));
  ASSERT_EQ(spec.linux->devices.size(), 2U);
  const auto& gpu = spec.linux->devices[0];
  EXPECT_EQ(gpu.path, "/dev/gpu0");
  EXPECT_EQ(gpu.type, "c");
  EXPECT_EQ(gpu.major, 1);
  EXPECT_EQ(gpu.minor, 3);
  EXPECT_EQ(gpu.uid, 5U);
  ASSERT_EQ(spec.linux->resources->devices.size(), 1U) << "none for the one without permissions";
  EXPECT_EQ(spec.linux->resources->devices[0].access, "rw");
  EXPECT_EQ(spec.hooks->create_container.size(), 1U);
  EXPECT_THAT(spec.process->user.additional_gids, ElementsAre(44U));
  EXPECT_EQ(spec.linux->intel_rdt->l3_cache_schema, "L3:0=f");
}

TEST_F(CdiDevices, AMountSeesTheHostAsAVolumeDoes) {
  const auto options_with = [this](const std::string& propagation, bool shared_mounts) {
    EXPECT_TRUE(os::write_file_atomic(
        dir_ + "/etc/m.json",
        R"({"cdiVersion":"0.5.0","kind":"v.com/c","devices":[{"name":"m","containerEdits":{"mounts":[)"
        R"({"hostPath":"/a","containerPath":"/b","options":["rbind",")" +
            propagation + R"("]}]}}]})"));
    auto spec = empty_spec();
    EXPECT_TRUE(apply_edits(find({"v.com/c=m"}).value(), shared_mounts, spec));
    EXPECT_EQ(spec.linux->rootfs_propagation, propagation == "rslave" ? "rslave" : "");
    return spec.mounts.front().options;
  };
  EXPECT_THAT(options_with("rprivate", true), ElementsAre("rbind", "rprivate"));
  EXPECT_THAT(options_with("rprivate", false), ElementsAre("rbind", "rprivate", "X-berth.host"));
  EXPECT_THAT(options_with("rslave", true), ElementsAre("rbind", "rslave", "X-berth.host"));
}

TEST_F(CdiDevices, OfALaterCallAFileIsUsedOnce) {
  ASSERT_TRUE(os::write_file_atomic(dir_ + "/etc/whole.json", kWhole));
  const auto words = [](const std::string& name) { return "whoever asks for " + name; };
  const auto more = [&](const std::vector<std::string>& names, const std::vector<std::string>& before) {
    return find_devices({dir_ + "/etc"}, names, before, words);
  };
  EXPECT_THAT(env_of(more({"vendor.com/gpu=all"}, {}).value()), ElementsAre("ALL=yes", "GPU=all"));
  EXPECT_THAT(env_of(more({"vendor.com/gpu=all"}, {"vendor.com/gpu=0"}).value()), ElementsAre("GPU=all"));
  EXPECT_THAT(more({"vendor.com/gpu=9"}, {}).error().text(), HasSubstr("whoever asks for vendor.com/gpu=9: no file"));
}

TEST_F(CdiDevices, ADeviceMustBeOne) {
  const auto with = [this](const std::string& node) {
    EXPECT_TRUE(os::write_file_atomic(
        dir_ + "/etc/n.json",
        R"({"cdiVersion":"0.5.0","kind":"v.com/c","devices":[{"name":"n","containerEdits":{"deviceNodes":[)" + node +
            "]}}]}"));
    auto spec = empty_spec();
    return apply_edits(find({"v.com/c=n"}).value(), true, spec);
  };
  EXPECT_EQ(with(R"({"path":"/dev/no-such"})").error().code(), Code::kNotFound);
  EXPECT_THAT(with(R"({"path":"/dev/no-such"})").error().text(), HasSubstr("n.json"));
  EXPECT_EQ(with(R"({"path":"/dev/x","hostPath":"/etc/passwd"})").error().code(), Code::kInvalid);
  EXPECT_EQ(with(R"({"path":"/dev/null","type":"b"})").error().code(), Code::kInvalid);
  EXPECT_TRUE(with(R"({"path":"/dev/no-such","type":"c","major":7,"minor":1})"));
}

TEST(CdiRequest, FieldAndAnnotations) {
  pb::ContainerConfig config;
  config.add_cdi_devices()->set_name("v.com/c=a");
  (*config.mutable_annotations())["cdi.k8s.io/plugin"] = "v.com/c=b,v.com/c=a";
  (*config.mutable_annotations())["cdi.k8s.io/a-plugin"] = "v.com/d=z";
  (*config.mutable_annotations())["other"] = "no device";
  EXPECT_THAT(*requested_devices(config), ElementsAre("v.com/c=a", "v.com/d=z", "v.com/c=b"));
  (*config.mutable_annotations())["cdi.k8s.io/bad"] = "v.com/c=b, v.com/c=c";
  const auto bad = requested_devices(config);
  EXPECT_EQ(bad.error().code(), Code::kInvalid);
  EXPECT_THAT(bad.error().text(), HasSubstr("cdi.k8s.io/bad"));
}

}  // namespace
}  // namespace berth::cri::cdi
