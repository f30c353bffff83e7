#include "spec/runtime.h"

#include <gtest/gtest.h>

#include <fstream>
#include <functional>
#include <nlohmann/json.hpp>
#include <sstream>

#include "spec/state.h"

namespace berth::spec {
namespace {

std::string read_data(const std::string& name) {
  std::ifstream file("tests/data/spec/" + name);
  EXPECT_TRUE(file.is_open()) << name;
  std::ostringstream text;
  text << file.rdbuf();
  return text.str();
}

Spec parsed(std::string_view json) {
  auto spec = parse_spec(json);
  EXPECT_TRUE(spec) << (spec ? "" : spec.error().text());
  return spec ? *spec : Spec{};
}

std::string error_of(std::string_view json, const Limits& limits = {}) {
  const auto spec = parse_spec(json, limits);
  return spec ? "" : spec.error().text();
}

class RoundTrip : public ::testing::TestWithParam<const char*> {};

/// Not a value may be lost or changed, by the judgement of another JSON library.
TEST_P(RoundTrip, KeepsEveryMember) {
  const std::string text = read_data(GetParam());
  const Spec spec = parsed(text);
  const std::string written = write_spec(spec);
  EXPECT_EQ(nlohmann::json::parse(written), nlohmann::json::parse(text));
  EXPECT_EQ(parsed(written), spec);
  EXPECT_EQ(write_spec(parsed(written)), written);
}

INSTANTIATE_TEST_SUITE_P(Files, RoundTrip,
                         ::testing::Values("runc_default.json", "crun_default.json", "kubernetes_container.json",
                                           "podman_rootless.json", "every_member.json"));

/// Every known member must land in a struct: whatever stays in an Extra but "x" and what the data file marks is a typo
/// here.
TEST(ParseSpec, KnowsEveryMember) {
  const Spec spec = parsed(read_data("every_member.json"));
  const auto names = [](const Extra& extra) {
    std::string text;
    for (const auto& [name, value] : extra) text.append(name).append(" ");
    return text;
  };
  EXPECT_EQ(names(spec.extra), "vm windows x y\"z ");
  EXPECT_EQ(names(spec.process->extra), "apparmorProfile commandLine env noNewPrivileges x ");
  EXPECT_EQ(names(spec.process->user.extra), "additionalGids x ");
  EXPECT_EQ(names(spec.process->capabilities->extra), "x ");
  EXPECT_EQ(names(spec.process->rlimits.at(0).extra), "x ");
  EXPECT_EQ(names(spec.process->scheduler->extra), "x ");
  EXPECT_EQ(names(spec.process->io_priority->extra), "x ");
  EXPECT_EQ(names(spec.process->exec_cpu_affinity->extra), "x ");
  EXPECT_EQ(names(spec.process->console_size->extra), "x ");
  EXPECT_EQ(names(spec.root->extra), "readonly x ");
  EXPECT_EQ(names(spec.mounts.at(0).extra), "x ");
  EXPECT_EQ(names(spec.hooks->extra), "x ");
  EXPECT_EQ(names(spec.hooks->create_container.at(0).extra), "x ");
  const Linux& linux = *spec.linux;
  EXPECT_EQ(names(linux.extra), "x ");
  EXPECT_EQ(names(linux.uid_mappings.at(0).extra), "x ");
  EXPECT_EQ(names(linux.namespaces.at(0).extra), "x ");
  EXPECT_EQ(names(linux.time_offsets.at("monotonic").extra), "x ");
  EXPECT_EQ(names(linux.time_offsets.at("boottime").extra), "secs ");
  EXPECT_EQ(names(linux.devices.at(0).extra), "x ");
  EXPECT_EQ(names(linux.net_devices.at("eth1").extra), "x ");
  EXPECT_EQ(names(linux.seccomp->extra), "x ");
  EXPECT_EQ(names(linux.seccomp->syscalls.at(0).extra), "comment excludes includes ");
  EXPECT_EQ(names(linux.seccomp->syscalls.at(0).args.at(0).extra), "x ");
  EXPECT_EQ(names(linux.intel_rdt->extra), "x ");
  EXPECT_EQ(names(linux.memory_policy->extra), "x ");
  EXPECT_EQ(names(linux.personality->extra), "x ");
  const Resources& resources = *linux.resources;
  EXPECT_EQ(names(resources.extra), "x ");
  EXPECT_EQ(names(resources.devices.at(0).extra), "x ");
  EXPECT_EQ(names(resources.memory->extra), "x ");
  EXPECT_EQ(names(resources.cpu->extra), "x ");
  EXPECT_EQ(names(resources.pids->extra), "x ");
  EXPECT_EQ(names(resources.block_io->extra), "x ");
  EXPECT_EQ(names(resources.block_io->weight_device.at(0).extra), "x ");
  EXPECT_EQ(names(resources.block_io->throttle_write_iops_device.at(0).extra), "x ");
  EXPECT_EQ(names(resources.hugepage_limits.at(0).extra), "x ");
  EXPECT_EQ(names(resources.network->extra), "x ");
  EXPECT_EQ(names(resources.network->priorities.at(0).extra), "x ");
  EXPECT_EQ(names(resources.rdma.at("mlx5_1").extra), "x ");
}

TEST(ParseSpec, ReadsValues) {
  const Spec spec = parsed(read_data("kubernetes_container.json"));
  EXPECT_EQ(spec.oci_version, "1.2.0");
  EXPECT_EQ(spec.process->args.at(2), "--name=naïve ☃ 😀");
  EXPECT_EQ(spec.process->user.additional_gids, (std::vector<std::uint32_t>{1000, 2000, 3000}));
  EXPECT_EQ(spec.process->rlimits.at(1).hard, UINT64_MAX);
  EXPECT_EQ(spec.process->oom_score_adj, 968);
  EXPECT_TRUE(spec.root->readonly);
  EXPECT_EQ(spec.mounts.at(11).uid_mappings.at(0).host_id, 65536U);
  EXPECT_EQ(spec.linux->resources->memory->limit, 134217728);
  EXPECT_EQ(spec.linux->resources->memory->reservation, std::nullopt);
  EXPECT_EQ(spec.linux->resources->devices.at(0).major, std::nullopt);
  EXPECT_EQ(spec.linux->find_namespace(NamespaceType::kNetwork)->path, "/proc/4242/ns/net");
  EXPECT_EQ(spec.linux->find_namespace(NamespaceType::kUser), nullptr);
  EXPECT_EQ(spec.linux->seccomp->syscalls.at(1).args.at(0).op, "SCMP_CMP_NE");
  EXPECT_EQ(spec.linux->seccomp->syscalls.back().errno_ret, 38U);
  EXPECT_EQ(spec.linux->resources->unified.at("memory.high"), "104857600");
}

TEST(ParseSpec, EmptyAndAbsentAreToldApartWhereItMatters) {
  const Spec spec = parsed(R"({"ociVersion":"1.0.0","process":{"oomScoreAdj":0,"capabilities":{},"args":null},
    "linux":{"resources":{"pids":{}},"seccomp":null}})");
  EXPECT_EQ(spec.process->oom_score_adj, 0);
  EXPECT_TRUE(spec.process->capabilities.has_value());
  EXPECT_TRUE(spec.linux->resources->pids.has_value());
  EXPECT_FALSE(spec.linux->seccomp.has_value());
  EXPECT_FALSE(spec.root.has_value());
}

TEST(WriteSpec, ASetMemberWinsOverTheRememberedEmptyOne) {
  Spec spec = parsed(R"({"ociVersion":"1.0.0","hostname":"","mounts":[]})");
  spec.hostname = "h";
  EXPECT_EQ(write_spec(spec), R"({"ociVersion":"1.0.0","hostname":"h","mounts":[]})");
  spec.hostname.clear();
  spec.extra.clear();
  EXPECT_EQ(write_spec(spec), R"({"ociVersion":"1.0.0"})");
}

TEST(ParseSpec, ErrorsNameTheJsonPath) {
  EXPECT_EQ(error_of(R"({"process":{"user":{"uid":-1}}})"), "process.user.uid: expected a number from 0 to 4294967295");
  EXPECT_EQ(error_of(R"({"process":{"user":{"uid":4294967296}}})"),
            "process.user.uid: expected a number from 0 to 4294967295");
  EXPECT_EQ(error_of(R"({"process":{"user":{"uid":1.0}}})"),
            "process.user.uid: expected a number from 0 to 4294967295");
  EXPECT_EQ(error_of(R"({"process":{"user":{"uid":"0"}}})"),
            "process.user.uid: expected a number from 0 to 4294967295");
  EXPECT_EQ(error_of(R"({"process":{"oomScoreAdj":3e2}})"),
            "process.oomScoreAdj: expected a number from -2147483648 to 2147483647");
  EXPECT_EQ(error_of(R"({"linux":{"resources":{"memory":{"limit":9223372036854775808}}}})"),
            "linux.resources.memory.limit: expected a number from -9223372036854775808 to 9223372036854775807");
  EXPECT_EQ(error_of(R"({"linux":{"namespaces":[{"type":"pid"},{"type":"disk"}]}})"),
            "linux.namespaces[1].type: no such namespace type: \"disk\"");
  EXPECT_EQ(error_of(R"({"mounts":{}})"), "mounts: expected an array");
  EXPECT_EQ(error_of(R"({"root":[]})"), "root: expected an object");
  EXPECT_EQ(error_of(R"({"hostname":5})"), "hostname: expected a string");
  EXPECT_EQ(error_of(R"({"root":{"readonly":"yes"}})"), "root.readonly: expected true or false");
  EXPECT_EQ(error_of(R"({"annotations":{"a.b/c":1}})"), "annotations[\"a.b/c\"]: expected a string");
  EXPECT_EQ(error_of("[]"), "document: expected an object");
  EXPECT_EQ(error_of(""), "line 1 column 1: expected an object");
}

TEST(ParseSpec, RefusesNulInEveryString) {
  EXPECT_EQ(error_of(R"({"process":{"args":["a","b\u0000c"]}})"), "process.args[1]: must not hold a NUL byte");
  EXPECT_EQ(error_of(R"({"process":{"cwd":"/\u0000"}})"), "process.cwd: must not hold a NUL byte");
  EXPECT_EQ(error_of(R"({"linux":{"sysctl":{"a\u0000":"1"}}})"), "linux.sysctl: must not hold a NUL byte");
  EXPECT_EQ(error_of(R"({"future":"\u0000"})"), "");
}

TEST(ParseSpec, RefusesMembersThatAppearTwice) {
  EXPECT_EQ(error_of(R"({"root":{"path":"a","path":"b"}})"), "root.path: is there twice");
  EXPECT_EQ(error_of(R"({"root":{},"ro\u006ft":{}})"), "root: is there twice");
  EXPECT_EQ(error_of(R"({"root":null,"root":{}})"), "root: is there twice");
  EXPECT_EQ(error_of(R"({"x":1,"x":2})"), "x: is there twice");
  EXPECT_EQ(error_of(R"({"annotations":{"k":"1","k":"2"}})"), "annotations.k: is there twice");
}

TEST(ParseSpec, KeepsItsLimits) {
  EXPECT_EQ(error_of(std::string(R"({"x":)") + std::string(64, '[') + std::string(64, ']') + "}").substr(0, 4), "x[0]");
  EXPECT_EQ(error_of(std::string(R"({"x":)") + std::string(63, '[') + std::string(63, ']') + "}"), "");
  std::string many = R"({"process":{"args":[)";
  for (int i = 0; i < 100'000; ++i) many.append("\"\",");
  many.append("\"\"]}}");
  EXPECT_EQ(error_of(many), "process.args[99998]: the document has more than 100000 elements");
  EXPECT_EQ(parse_spec(std::string((4U << 20) + 1, ' ')).error().code(), Code::kExhausted);
  EXPECT_EQ(error_of(std::string(R"({"hostname":")") + std::string((1U << 20) + 1, 'h') + "\"}"),
            "hostname: a string is longer than 1048576 bytes");
}

TEST(Process, AloneRoundTrips) {
  const auto process = parse_process(R"({"user":{"uid":1,"gid":2},"args":["sh"],"cwd":"/","y":[true]})");
  ASSERT_TRUE(process);
  EXPECT_EQ(process->user.gid, 2U);
  EXPECT_EQ(write_process(*process), R"({"user":{"uid":1,"gid":2},"args":["sh"],"cwd":"/","y":[true]})");
  EXPECT_FALSE(parse_process("null"));
}

TEST(Resources, AloneRoundTrips) {
  const auto resources = parse_resources(R"({"memory":{"limit":-1},"cpu":{"quota":-1}})");
  ASSERT_TRUE(resources);
  EXPECT_EQ(write_resources(*resources), R"({"memory":{"limit":-1},"cpu":{"quota":-1}})");
}

TEST(State, RoundTrips) {
  const std::string text =
      R"({"ociVersion":"1.3.0","id":"c1","status":"running","pid":42,"bundle":"/b","annotations":{"a":"b"},"owner":""})";
  const auto state = parse_state(text);
  ASSERT_TRUE(state) << state.error().text();
  EXPECT_EQ(state->status, Status::kRunning);
  EXPECT_EQ(write_state(*state), text);
  EXPECT_EQ(write_state({.oci_version = "1.3.0", .id = "x", .status = Status::kStopped, .pid = 0, .bundle = "/"}),
            R"({"ociVersion":"1.3.0","id":"x","status":"stopped","bundle":"/"})");
  EXPECT_EQ(parse_state(R"({"status":"lost"})").error().text(), "status: no such status: \"lost\"");
}

// ---- validate ----

Spec minimal() {
  return parsed(R"({"ociVersion":"1.0.2-dev","process":{"user":{"uid":0,"gid":0},"args":["sh"],"cwd":"/"},
    "root":{"path":"rootfs"},"linux":{"namespaces":[{"type":"mount"},{"type":"pid"}]}})");
}

std::string fault_of(const std::function<void(Spec&)>& change) {
  Spec spec = minimal();
  change(spec);
  const auto checked = validate(spec);
  return checked ? "" : checked.error().text();
}

TEST(Validate, TakesWhatTheToolsWrite) {
  for (const char* name :
       {"runc_default.json", "crun_default.json", "kubernetes_container.json", "podman_rootless.json"}) {
    const auto checked = validate(parsed(read_data(name)));
    EXPECT_TRUE(checked) << name << ": " << checked.error().text();
  }
  EXPECT_EQ(fault_of([](Spec& s) { s.process.reset(); }), "");
  EXPECT_EQ(fault_of([](Spec& s) { s.linux.reset(); }), "");
  EXPECT_EQ(fault_of([](Spec& s) { s.mounts.push_back({.destination = "relative", .type = "tmpfs"}); }), "");
}

TEST(Validate, RefusesBrokenProcesses) {
  EXPECT_EQ(fault_of([](Spec& s) { s.process->args.clear(); }), "process.args: is empty");
  EXPECT_EQ(fault_of([](Spec& s) { s.process->args = {""}; }), "process.args[0]: is empty");
  EXPECT_EQ(fault_of([](Spec& s) { s.process->cwd = ""; }), "process.cwd: must be an absolute path");
  EXPECT_EQ(fault_of([](Spec& s) { s.process->env = {"A=b", std::string("B\0", 2)}; }),
            "process.env[1]: must not hold a NUL byte");
  EXPECT_EQ(fault_of([](Spec& s) { s.process->rlimits = {{.type = "RLIMIT_CPU", .hard = 1, .soft = 2}}; }),
            "process.rlimits[0]: the soft limit is above the hard limit");
  EXPECT_EQ(fault_of([](Spec& s) { s.process->rlimits = {{.type = "RLIMIT_CPU"}, {.type = "RLIMIT_CPU"}}; }),
            "process.rlimits[1]: RLIMIT_CPU is there twice");
  EXPECT_EQ(fault_of([](Spec& s) { s.process->oom_score_adj = 1001; }),
            "process.oomScoreAdj: must be from -1000 to 1000");
}

TEST(Validate, RefusesBrokenDocuments) {
  EXPECT_EQ(fault_of([](Spec& s) { s.oci_version.clear(); }), "ociVersion: is missing");
  EXPECT_EQ(fault_of([](Spec& s) { s.oci_version = "one"; }), "ociVersion: \"one\" is no semantic version");
  EXPECT_EQ(fault_of([](Spec& s) { s.oci_version = "2.0.0"; }), "ociVersion: \"2.0.0\" is not supported, only 1.x is");
  EXPECT_EQ(fault_of([](Spec& s) { s.root.reset(); }), "root: is missing");
  EXPECT_EQ(fault_of([](Spec& s) { s.root->path.clear(); }), "root.path: is empty");
  EXPECT_EQ(fault_of([](Spec& s) { s.mounts.emplace_back(); }), "mounts[0].destination: is empty");
  EXPECT_EQ(fault_of([](Spec& s) { s.mounts.push_back({.destination = "/a", .uid_mappings = {{.size = 1}}}); }),
            "mounts[0]: uidMappings and gidMappings belong together");
  EXPECT_EQ(fault_of([](Spec& s) { s.hostname = "h"; }), "hostname: needs a UTS namespace");
  EXPECT_EQ(fault_of([](Spec& s) { s.domainname = "h"; }), "domainname: needs a UTS namespace");
  EXPECT_EQ(fault_of([](Spec& s) { s.annotations[""] = "v"; }), "annotations: a name is empty");
  EXPECT_EQ(fault_of([](Spec& s) { s.hooks = Hooks{.poststop = {{.path = "hook"}}}; }),
            "hooks.poststop[0].path: must be an absolute path");
  EXPECT_EQ(fault_of([](Spec& s) { s.hooks = Hooks{.prestart = {{.path = "/h", .timeout = 0}}}; }),
            "hooks.prestart[0].timeout: must be greater than 0");
}

TEST(Validate, RefusesBrokenNamespacesAndMappings) {
  EXPECT_EQ(fault_of([](Spec& s) { s.linux->namespaces.push_back({.type = NamespaceType::kPid}); }),
            "linux.namespaces[2]: pid is there twice");
  EXPECT_EQ(fault_of([](Spec& s) { s.linux->namespaces.push_back({.type = NamespaceType::kIpc, .path = "x"}); }),
            "linux.namespaces[2].path: must be an absolute path");
  EXPECT_EQ(fault_of([](Spec& s) { s.linux->namespaces.push_back({.type = NamespaceType::kUser}); }),
            "linux.namespaces: a new user namespace needs uidMappings and gidMappings");
  EXPECT_EQ(fault_of([](Spec& s) { s.linux->uid_mappings = {{.size = 1}}; }),
            "linux.uidMappings: id mappings need a user namespace");
  const auto mapped = [](std::vector<IdMapping> mappings) {
    return fault_of([&mappings](Spec& s) {
      s.linux->namespaces.push_back({.type = NamespaceType::kUser});
      s.linux->gid_mappings = {{.container_id = 0, .host_id = 0, .size = 1}};
      s.linux->uid_mappings = std::move(mappings);
    });
  };
  EXPECT_EQ(mapped({{0, 1000, 1, {}}, {1, 100000, 65536, {}}}), "");
  EXPECT_EQ(mapped({{0, 1000, 0, {}}}), "linux.uidMappings[0].size: is 0");
  EXPECT_EQ(mapped({{0, 1000, 10, {}}, {9, 2000, 1, {}}}), "linux.uidMappings: two ranges of container ids overlap");
  EXPECT_EQ(mapped({{20, 1009, 10, {}}, {0, 1000, 10, {}}}), "linux.uidMappings: two ranges of host ids overlap");
  EXPECT_EQ(mapped({{0, 4294967295U, 1, {}}}), "linux.uidMappings[0]: reaches past 4294967294");
  EXPECT_EQ(mapped(std::vector<IdMapping>(341)), "linux.uidMappings: has 341 entries, the kernel takes 340");
  EXPECT_EQ(fault_of([](Spec& s) { s.linux->time_offsets["monotonic"] = {}; }),
            "linux.timeOffsets: needs a time namespace");
  EXPECT_EQ(fault_of([](Spec& s) {
              s.linux->namespaces.clear();
              s.linux->readonly_paths = {"/proc/sys"};
            }),
            "linux.maskedPaths: masked and read-only paths need a mount namespace");
}

TEST(Validate, RefusesBrokenDevicesAndFilters) {
  EXPECT_EQ(fault_of([](Spec& s) { s.linux->devices = {{.path = "/dev/x", .type = "d"}}; }),
            "linux.devices[0].type: must be c, b, u or p");
  EXPECT_EQ(fault_of([](Spec& s) { s.linux->devices = {{.path = "dev/x", .type = "c"}}; }),
            "linux.devices[0].path: must be an absolute path");
  EXPECT_EQ(fault_of([](Spec& s) { s.linux->devices = {{.path = "/dev/x", .type = "c", .major = -1}}; }),
            "linux.devices[0]: major and minor must not be negative");
  EXPECT_EQ(fault_of([](Spec& s) { s.linux->resources = Resources{.devices = {{.type = "a", .access = "rx"}}}; }),
            "linux.resources.devices[0].access: must be made of r, w and m");
  EXPECT_EQ(fault_of([](Spec& s) { s.linux->seccomp = Seccomp{}; }), "linux.seccomp.defaultAction: is missing");
  EXPECT_EQ(fault_of([](Spec& s) { s.linux->seccomp = Seccomp{.default_action = "A", .syscalls = {{}}}; }),
            "linux.seccomp.syscalls[0].names: is empty");
  EXPECT_EQ(fault_of([](Spec& s) { s.linux->rootfs_propagation = "public"; }),
            "linux.rootfsPropagation: must be shared, slave, private or unbindable, or one of them with an r");
  EXPECT_EQ(fault_of([](Spec& s) {
              s.linux->namespaces.push_back({.type = NamespaceType::kNetwork});
              s.linux->net_devices["eth0/1"] = {};
            }),
            "linux.netDevices: \"eth0/1\" is no interface name");
}

}  // namespace
}  // namespace berth::spec
