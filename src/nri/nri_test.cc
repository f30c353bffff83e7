#include <string>

#include "gmock/gmock.h"
#include "gtest/gtest.h"
#include "nri/adjustment.h"
#include "nri/apply.h"
#include "nri/mux_frame.h"
#include "nri/spec_view.h"
#include "nri/validator.h"

namespace berth::nri {
namespace {

using testing::ElementsAre;
using testing::HasSubstr;
using testing::IsEmpty;

// ---- the mux ----

struct Frame {
  std::uint32_t connection;
  std::size_t size;
  bool operator==(const Frame&) const = default;
};

std::vector<Frame> frames_of(std::string_view bytes) {
  std::vector<Frame> frames;
  while (bytes.size() >= kMuxHeaderSize) {
    const auto at = [&](std::size_t i) { return static_cast<std::uint32_t>(static_cast<unsigned char>(bytes[i])); };
    const std::uint32_t connection = at(0) << 24 | at(1) << 16 | at(2) << 8 | at(3);
    const std::uint32_t size = at(4) << 24 | at(5) << 16 | at(6) << 8 | at(7);
    frames.push_back({connection, size});
    bytes.remove_prefix(kMuxHeaderSize + size);
  }
  EXPECT_TRUE(bytes.empty());
  return frames;
}

TEST(Mux, AMessageIsCutAtTheReadBufferOfGo) {
  std::string out;
  append_mux_frames(out, 1, std::string(4096, 'x'));
  append_mux_frames(out, 2, std::string(4097, 'x'));
  append_mux_frames(out, 1, std::string(3U << 20, 'x'));
  EXPECT_THAT(frames_of(out),
              ElementsAre(Frame{1, 4096}, Frame{2, 4096}, Frame{2, 1}, Frame{1, 4096}, Frame{1, (3U << 20) - 4096}));
}

TEST(Mux, ALengthBeyondReasonEndsIt) {
  MuxDecoder decoder;
  const auto header = encode_mux_header(1, kMaxMuxPayload + 1);
  std::string_view input(header.data(), header.size());
  EXPECT_FALSE(decoder.next(input));
}

// ---- what plugins make of a container together ----

api::CreateContainerRequest request() {
  api::CreateContainerRequest request;
  request.mutable_container()->set_id("c1");
  request.mutable_container()->add_env("OLD=1");
  request.mutable_container()->add_mounts()->set_destination("/data");
  return request;
}

api::CreateContainerResponse with_mount(const std::string& destination) {
  api::CreateContainerResponse answer;
  answer.mutable_adjust()->add_mounts()->set_destination(destination);
  return answer;
}

TEST(Adjustment, RemovalsReachTheSpecification) {
  auto asked = request();
  Adjustment all(asked);
  api::CreateContainerResponse answer;
  answer.mutable_adjust()->add_env()->set_key("-OLD");
  answer.mutable_adjust()->add_mounts()->set_destination("-/data");
  ASSERT_TRUE(all.add(answer, "10-a"));
  EXPECT_EQ(asked.container().env_size(), 0);
  EXPECT_EQ(asked.container().mounts_size(), 0);
  EXPECT_EQ(all.collected().env(0).key(), "-OLD");
  EXPECT_EQ(all.collected().mounts(0).destination(), "-/data");
}

TEST(Adjustment, OnePluginTakesOverWhatAnotherSetByRemovingIt) {
  auto asked = request();
  Adjustment all(asked);
  ASSERT_TRUE(all.add(with_mount("/x"), "10-a"));
  const auto conflict = all.add(with_mount("/x"), "20-b");
  ASSERT_FALSE(conflict);
  EXPECT_EQ(conflict.error().code(), Code::kPrecondition);
  EXPECT_THAT(conflict.error().text(), HasSubstr("10-a and 20-b both set the mount /x of container c1"));
  auto over = with_mount("/x");
  over.mutable_adjust()->add_mounts()->set_destination("-/x");
  ASSERT_TRUE(all.add(over, "20-b"));
  EXPECT_EQ(all.collected().mounts_size(), 1);
  EXPECT_EQ(all.owners().of("c1", api::Mounts, "/x"), "20-b");
}

TEST(Adjustment, OnePlaceHasOneName) {
  auto asked = request();
  Adjustment all(asked);
  ASSERT_TRUE(all.add(with_mount("-//data/"), "10-a"));
  EXPECT_EQ(asked.container().mounts_size(), 0);
  EXPECT_EQ(all.collected().mounts(0).destination(), "-/data");
  ASSERT_TRUE(all.add(with_mount("/x/"), "10-a"));
  EXPECT_THAT(all.add(with_mount("/y/../x"), "20-b").error().text(), HasSubstr("both set the mount /x of"));
  EXPECT_EQ(all.owners().of("c1", api::Mounts, "/x"), "10-a");
  api::CreateContainerResponse device;
  device.mutable_adjust()->mutable_linux()->add_devices()->set_path("/dev//gpu");
  ASSERT_TRUE(all.add(device, "10-a"));
  device.mutable_adjust()->mutable_linux()->mutable_devices(0)->set_path("/dev/gpu/");
  EXPECT_THAT(all.add(device, "20-b").error().text(), HasSubstr("both set the device /dev/gpu of"));
}

TEST(Adjustment, HooksAddUpAndHaveSeveralOwners) {
  auto asked = request();
  Adjustment all(asked);
  api::CreateContainerResponse answer;
  answer.mutable_adjust()->mutable_hooks()->add_poststop()->set_path("/h");
  ASSERT_TRUE(all.add(answer, "10-a"));
  ASSERT_TRUE(all.add(answer, "20-b"));
  EXPECT_EQ(all.collected().hooks().poststop_size(), 2);
  EXPECT_EQ(all.owners().of("c1", api::OciHooks), "10-a,20-b");
}

TEST(Adjustment, AnUpdateThatMayFailIsLeftOutAtAConflict) {
  auto asked = request();
  Adjustment all(asked);
  api::CreateContainerResponse answer;
  auto& update = *answer.add_update();
  update.set_container_id("other");
  update.mutable_linux()->mutable_resources()->mutable_cpu()->mutable_shares()->set_value(1);
  ASSERT_TRUE(all.add(answer, "10-a"));
  update.mutable_linux()->mutable_resources()->mutable_cpu()->mutable_shares()->set_value(2);
  EXPECT_FALSE(all.add(answer, "20-b"));
  update.set_ignore_failure(true);
  EXPECT_TRUE(all.add(answer, "20-b"));
  const auto updates = all.take_updates();
  ASSERT_EQ(updates.size(), 1U);
  EXPECT_EQ(updates[0].linux().resources().cpu().shares().value(), 1U);
  EXPECT_FALSE(updates[0].ignore_failure());
  update.set_container_id("c1");
  EXPECT_FALSE(all.add(answer, "30-c"));
}

// ---- applied ----

spec::Spec simple() {
  spec::Spec spec;
  spec.process.emplace();
  spec.process->args = {"sh"};
  spec.process->env = {"A=1", "B=2"};
  spec.linux.emplace();
  spec.mounts.emplace_back();
  spec.mounts[0].destination = "/proc";
  return spec;
}

TEST(Apply, MemoryBringsSwapWhereItIsCounted) {
  spec::Resources resources;
  api::LinuxResources asked;
  asked.mutable_memory()->mutable_limit()->set_value(100);
  ASSERT_TRUE(apply(asked, {.swap_accounting = true}, resources));
  EXPECT_EQ(resources.memory->swap, 100);
  asked.mutable_memory()->mutable_swap()->set_value(150);
  ASSERT_TRUE(apply(asked, {.swap_accounting = true}, resources));
  EXPECT_EQ(resources.memory->swap, 150);
  spec::Resources plain;
  ASSERT_TRUE(apply(asked, {}, plain));
  EXPECT_EQ(plain.memory->limit, 100);
  EXPECT_FALSE(plain.memory->swap.has_value());
  // 0 is none, here too.
  asked.mutable_memory()->mutable_swap()->set_value(0);
  spec::Resources unset;
  ASSERT_TRUE(apply(asked, {.swap_accounting = true}, unset));
  EXPECT_EQ(unset.memory->swap, 100);
  (*asked.mutable_unified())["memory.high"] = "1";
  EXPECT_EQ(apply(asked, {}, plain).error().code(), Code::kUnsupported);
}

api::Mount& bind(api::ContainerAdjustment& adjust, const std::string& place, const std::string& source,
                 const std::vector<std::string>& options) {
  auto& mount = *adjust.add_mounts();
  mount.set_destination(place);
  mount.set_source(source);
  mount.set_type("bind");
  for (const auto& option : options) mount.add_options(option);
  return mount;
}

TEST(Apply, MountsHaveCleanPlaces) {
  auto spec = simple();
  for (const char* place : {"/data", "/gone"}) spec.mounts.push_back({.destination = place, .type = "tmpfs"});
  api::ContainerAdjustment adjust;
  bind(adjust, "//data/.", "/a", {"rbind"});
  adjust.add_mounts()->set_destination("-/gone/");
  ASSERT_TRUE(apply(adjust, {}, "c1", {.shared_mounts = true}, spec));
  ASSERT_EQ(spec.mounts.size(), 2U);
  EXPECT_EQ(spec.mounts[1].destination, "/data");
  EXPECT_EQ(spec.mounts[1].source, "/a");
  EXPECT_THAT(spec.mounts[1].options, ElementsAre("rbind"));
}

TEST(Apply, ABindMountSeesTheHostAsItsVolumesDo) {
  const auto options_of = [](const Machine& machine, const std::string& source, const std::string& propagation) {
    auto spec = simple();
    // As the daemon makes that of its pod.
    spec.mounts.push_back(
        {.destination = "/dev/shm", .type = "bind", .source = "/pod/shm", .options = {"rbind", "rprivate"}});
    api::ContainerAdjustment adjust;
    bind(adjust, "/x", source, {"rbind", propagation});
    adjust.add_mounts()->set_destination("/tmpfs");
    adjust.mutable_mounts(1)->set_type("tmpfs");
    EXPECT_TRUE(apply(adjust, {}, "c1", machine, spec));
    EXPECT_EQ(spec.linux->rootfs_propagation, propagation.ends_with("slave") ? "rslave" : "");
    api::Container seen;
    describe(spec, seen);
    for (const auto& mount : spec.mounts) {
      if (mount.destination == "/tmpfs") {
        EXPECT_THAT(mount.options, IsEmpty());
      }
    }
    for (const auto& mount : seen.mounts()) {
      if (mount.destination() == "/x") {
        EXPECT_THAT(mount.options(), ElementsAre("rbind", propagation));
      }
    }
    const auto found = std::ranges::find(spec.mounts, "/x", &spec::Mount::destination);
    return found == spec.mounts.end() ? std::vector<std::string>() : found->options;
  };
  const Machine shared{.shared_mounts = true};
  EXPECT_THAT(options_of(shared, "/a", "rprivate"), ElementsAre("rbind", "rprivate"));
  EXPECT_THAT(options_of(shared, "/a", "rslave"), ElementsAre("rbind", "rslave", "X-berth.host"));
  EXPECT_THAT(options_of(shared, "/a", "slave"), ElementsAre("rbind", "slave", "X-berth.host"));
  EXPECT_THAT(options_of({}, "/a", "rprivate"), ElementsAre("rbind", "rprivate", "X-berth.host"));
  EXPECT_THAT(options_of({}, "/pod/shm", "rprivate"), ElementsAre("rbind", "rprivate"));
}

TEST(Apply, EverythingOfTheTask) {
  auto spec = simple();
  api::ContainerAdjustment adjust;
  auto& task = *adjust.mutable_linux();
  task.mutable_scheduler()->set_policy(api::LINUX_SCHED_BATCH);
  task.mutable_scheduler()->set_nice(3);
  task.mutable_scheduler()->add_flags(api::LINUX_SCHED_FLAG_RESET_ON_FORK);
  task.mutable_memory_policy()->set_mode(api::MPOL_BIND);
  task.mutable_memory_policy()->set_nodes("0");
  task.mutable_rdt()->mutable_clos_id()->set_value("gold");
  (*task.mutable_net_devices())["eth7"].set_name("net1");
  task.add_namespaces()->set_type("cgroup");
  task.mutable_io_priority()->set_class_(api::IOPRIO_CLASS_BE);
  task.mutable_io_priority()->set_priority(4);
  ASSERT_TRUE(apply(adjust, {}, "c1", {}, spec));
  EXPECT_EQ(spec.process->scheduler->policy, "SCHED_BATCH");
  EXPECT_THAT(spec.process->scheduler->flags, ElementsAre("SCHED_FLAG_RESET_ON_FORK"));
  EXPECT_EQ(spec.linux->memory_policy->mode, "MPOL_BIND");
  EXPECT_EQ(spec.linux->intel_rdt->clos_id, "gold");
  EXPECT_EQ(spec.linux->net_devices.at("eth7").name, "net1");
  EXPECT_EQ(spec.process->io_priority->io_class, "IOPRIO_CLASS_BE");
  EXPECT_NE(spec.linux->find_namespace(spec::NamespaceType::kCgroup), nullptr);
  // And back: what the next plugin would see.
  api::Container seen;
  describe(spec, seen);
  EXPECT_EQ(seen.linux().scheduler().policy(), api::LINUX_SCHED_BATCH);
  EXPECT_EQ(seen.linux().scheduler().flags(0), api::LINUX_SCHED_FLAG_RESET_ON_FORK);
  EXPECT_EQ(seen.linux().io_priority().class_(), api::IOPRIO_CLASS_BE);
  EXPECT_THAT(seen.env(), ElementsAre("A=1", "B=2"));
}

TEST(Apply, RefusesWhatCannotBe) {
  const auto refusal = [](const std::function<void(api::ContainerAdjustment&)>& change) {
    auto spec = simple();
    api::ContainerAdjustment adjust;
    change(adjust);
    Owners owners;
    EXPECT_TRUE(owners.claim("c1", api::Mounts, "/x", "10-a"));
    EXPECT_TRUE(owners.claim("c1", api::Env, "A=B", "10-a"));
    EXPECT_TRUE(owners.claim("c1", api::HugepageLimits, "2MB", "10-a"));
    EXPECT_TRUE(owners.claim("c1", api::CgroupsUnified, "memory.high", "10-a"));
    const auto done = apply(adjust, owners, "c1", {}, spec);
    return done ? std::string() : done.error().text();
  };
  EXPECT_THAT(refusal([](auto& a) { a.add_mounts()->set_destination("/"); }), HasSubstr("no path below"));
  EXPECT_THAT(refusal([](auto& a) { a.add_mounts()->set_destination("/x/.."); }), HasSubstr("no path below"));
  EXPECT_THAT(refusal([](auto& a) { a.add_mounts()->set_destination("x"); }), HasSubstr("no path below"));
  EXPECT_THAT(refusal([](auto& a) { bind(a, "/x", "/a", {"shared"}); }),
              HasSubstr("NRI plugin 10-a: mount /x: propagation \"shared\": a plugin's mounts never"));
  EXPECT_THAT(refusal([](auto& a) { bind(a, "/x/", "/a", {"X-berth.host"}); }),
              HasSubstr("NRI plugin 10-a: mount /x: option \"X-berth.host\""));
  EXPECT_THAT(refusal([](auto& a) { a.add_env()->set_key("A=B"); }),
              HasSubstr("NRI plugin 10-a: environment variable A=B"));
  EXPECT_THAT(refusal([](auto& a) {
                auto& pages = *a.mutable_linux()->mutable_resources()->add_hugepage_limits();
                pages.set_page_size("2MB");
                pages.set_limit(1);
              }),
              HasSubstr("NRI plugin 10-a: hugepage limit 2MB"));
  EXPECT_THAT(
      refusal([](auto& a) { (*a.mutable_linux()->mutable_resources()->mutable_unified())["memory.high"] = "1"; }),
      HasSubstr("NRI plugin 10-a: cgroup v2 file memory.high"));
  EXPECT_THAT(refusal([](auto& a) { a.mutable_linux()->set_cgroups_path("system.slice:x:y"); }), HasSubstr("systemd"));
  EXPECT_THAT(refusal([](auto& a) { a.mutable_linux()->set_cgroups_path("/a/../b"); }), HasSubstr("no absolute"));
  EXPECT_THAT(refusal([](auto& a) { a.mutable_linux()->add_namespaces()->set_type("-mount"); }), HasSubstr("mount"));
  EXPECT_THAT(refusal([](auto& a) { a.mutable_linux()->mutable_seccomp_policy(); }), HasSubstr("default action"));
  EXPECT_THAT(refusal([](auto& a) { a.mutable_hooks()->add_poststop()->set_path("h"); }), HasSubstr("no absolute"));
  EXPECT_THAT(refusal([](auto&) {}), IsEmpty());
}

// ---- the validator ----

TEST(Validator, RequiredPluginsAndWhoMayDoWithout) {
  api::ValidateContainerAdjustmentRequest request;
  request.mutable_container()->set_name("main");
  const ValidatorOptions options{
      .enabled = true, .required_plugins = {"a"}, .tolerate_missing_annotation = "example.org/tolerate"};
  EXPECT_EQ(validate_adjustment(options, request, {}).error().code(), Code::kUnavailable);
  auto& annotations = *request.mutable_pod()->mutable_annotations();
  annotations["example.org/tolerate"] = "true";
  EXPECT_TRUE(validate_adjustment(options, request, {}));
  annotations["example.org/tolerate/container.main"] = "false";
  EXPECT_FALSE(validate_adjustment(options, request, {}));
  annotations["example.org/tolerate/container.main"] = "perhaps";
  EXPECT_EQ(validate_adjustment(options, request, {}).error().code(), Code::kInvalid);
  annotations.clear();
  auto& plugin = *request.add_plugins();
  plugin.set_name("a");
  plugin.set_index("10");
  EXPECT_TRUE(validate_adjustment(options, request, {}));
  annotations["required-plugins.noderesource.dev/pod"] = "- 10-a\n- \"b\"\n";
  EXPECT_THAT(validate_adjustment(options, request, {}).error().text(), HasSubstr("NRI plugin b is required"));
}

}  // namespace
}  // namespace berth::nri
