#include "cri/checkpoint_match.h"

#include <gmock/gmock.h>
#include <gtest/gtest.h>

#include <functional>

namespace berth::cri {
namespace {

using ::testing::HasSubstr;

pb::ContainerConfig example() {
  pb::ContainerConfig config;
  config.mutable_metadata()->set_name("main");
  config.add_command("/bin/sh");
  config.add_args("-c");
  config.set_working_dir("/work");
  auto& variable = *config.add_envs();
  variable.set_key("A");
  variable.set_value("1");
  auto& mount = *config.add_mounts();
  mount.set_container_path("/data");
  mount.set_host_path("/var/lib/old");
  config.add_devices()->set_host_path("/dev/fuse");
  config.mutable_linux()->mutable_security_context()->set_readonly_rootfs(true);
  return config;
}

TEST(CheckpointMatch, WhatLiesOutsideOfTheProcessesMayDiffer) {
  auto asked = example();
  (*asked.mutable_labels())["a"] = "b";
  (*asked.mutable_annotations())["a"] = "b";
  asked.set_log_path("other.log");
  asked.mutable_metadata()->set_attempt(3);
  asked.mutable_mounts(0)->set_host_path("/var/lib/new");
  asked.mutable_linux()->mutable_resources()->set_memory_limit_in_bytes(1);
  EXPECT_TRUE(match_container(asked, example()).has_value());
}

TEST(CheckpointMatch, TheFirstFieldThatMustNotDifferIsNamed) {
  const auto refused = [](const std::function<void(pb::ContainerConfig&)>& change) {
    auto asked = example();
    change(asked);
    const auto matched = match_container(asked, example());
    if (matched) return std::string();
    EXPECT_EQ(matched.error().code(), Code::kInvalid);
    return matched.error().text();
  };
  EXPECT_THAT(refused([](auto& c) { c.set_command(0, "/bin/bash"); }), HasSubstr("command"));
  EXPECT_THAT(refused([](auto& c) { c.clear_args(); }), HasSubstr("args"));
  EXPECT_THAT(refused([](auto& c) { c.set_working_dir("/"); }), HasSubstr("working_dir"));
  EXPECT_THAT(refused([](auto& c) { c.mutable_envs(0)->set_value("2"); }), HasSubstr("envs"));
  EXPECT_THAT(refused([](auto& c) { c.set_tty(true); }), HasSubstr("tty"));
  EXPECT_THAT(refused([](auto& c) { c.set_stdin(true); }), HasSubstr("stdin"));
  EXPECT_THAT(refused([](auto& c) { c.clear_mounts(); }), HasSubstr("mount /data"));
  EXPECT_THAT(refused([](auto& c) { c.mutable_mounts(0)->set_readonly(true); }), HasSubstr("mount /data"));
  EXPECT_THAT(refused([](auto& c) { c.add_mounts()->set_container_path("/more"); }), HasSubstr("mount /more"));
  EXPECT_THAT(refused([](auto& c) { c.mutable_mounts(0)->mutable_image()->set_image("x"); }), HasSubstr("mount /data"));
  EXPECT_THAT(refused([](auto& c) { c.mutable_devices(0)->set_permissions("r"); }), HasSubstr("device /dev/fuse"));
  EXPECT_THAT(refused([](auto& c) { c.add_cdi_devices()->set_name("v.org/x=1"); }), HasSubstr("cdi_devices"));
  EXPECT_THAT(refused([](auto& c) { c.mutable_linux()->mutable_security_context()->set_privileged(true); }),
              HasSubstr("security_context"));
}

TEST(CheckpointMatch, APodsNamespacesAreWhatTheyWere) {
  pb::PodSandboxConfig saved;
  saved.set_hostname("old");
  auto asked = saved;
  asked.set_hostname("new");
  EXPECT_TRUE(match_pod(asked, saved).has_value());
  asked.mutable_linux()->mutable_security_context()->mutable_namespace_options()->set_network(pb::NODE);
  EXPECT_THAT(match_pod(asked, saved).error().text(), HasSubstr("namespace_options"));
}

}  // namespace
}  // namespace berth::cri
