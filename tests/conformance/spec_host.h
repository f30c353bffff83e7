#pragma once
#include <gmock/gmock.h>
#include <gtest/gtest-spi.h>
#include <gtest/gtest.h>

#include <memory>
#include <nlohmann/json.hpp>
#include <string>
#include <vector>

#include "peer_host.h"
#include "spec_differences.h"

namespace berth::test {

using Json = nlohmann::json;

/// A rule of the OCI runtime-spec, tried on one runtime: each test writes a bundle, drives the runtime by its command
/// line and looks at what the container's program saw. Rules that a runtime does not keep are in differences(); their
/// failures are caught and must be those that stand there. At the end nothing of the container may be left.
class SpecTest : public ::testing::TestWithParam<Runtime> {
 protected:
  void SetUp() override;
  void TearDown() override;

  static constexpr const char* kId = "one";

  [[nodiscard]] const Runtime& runtime() const { return GetParam(); }
  [[nodiscard]] const std::string& folder() const { return folder_; }
  [[nodiscard]] std::string bundle() const { return folder_ + "/bundle"; }
  [[nodiscard]] std::string rootfs() const { return bundle() + "/rootfs"; }
  /// The cgroup of the test's container, below which nobody else is.
  [[nodiscard]] std::string cgroup() const { return "/" + name_ + "/" + kId; }

  /// What the next create writes as config.json: `runc spec`'s, with the probe as program and a cgroup of the test's.
  Json config;
  Json& process() { return config["process"]; }
  Json& linux_part() { return config["linux"]; }
  void set_args(std::vector<std::string> words) { config["process"]["args"] = std::move(words); }
  void set_shell(const std::string& script) { set_args({"/bin/sh", "-c", script}); }
  void add_mount(const std::string& place, const std::string& type, const std::string& source,
                 const std::vector<std::string>& options);
  /// Takes the namespace away; with `path` it is to be joined instead of made.
  void drop_namespace(const std::string& type);
  void set_namespace(const std::string& type, const std::string& path = "");

  /// The runtime with these words, ended; stdin is /dev/null, the rest goes to files that the container keeps.
  Ran oci(std::vector<std::string> words, const std::vector<std::string>& more_env = {});
  void write_config() const;
  Ran create(const std::string& id = kId, const std::vector<std::string>& flags = {});
  Ran start(const std::string& id = kId) { return oci({"start", id}); }
  Ran remove(const std::string& id = kId) { return oci({"delete", id}); }
  /// create and start; the first failure.
  Ran create_and_start(const std::string& id = kId);
  /// The runtime's state of a container; null when it has none.
  Json state(const std::string& id = kId);
  [[nodiscard]] std::string status(const std::string& id = kId);
  [[nodiscard]] bool wait_status(const std::string& wanted, const std::string& id = kId);
  /// What the container that create made has written.
  [[nodiscard]] std::string output() const;
  [[nodiscard]] bool wait_output(const std::string& part) const;

  /// `run` to the end.
  Ran run_once();
  /// `run` of the probe: what it reports. A runtime that fails ends the test with its words.
  Json report();
  /// The probe's report about files.
  Json access(const std::vector<std::string>& paths);
  Json calls(const std::vector<std::string>& names);
  /// The output of a script, which must succeed.
  std::string shell(const std::string& script);
  /// `run`, or create and start, must fail, and nothing may be left.
  void expect_refused(const std::string& what);
  /// Whether a run succeeded.
  bool runs() { return run_once().code == 0; }

  void write(const std::string& path, const std::string& text, mode_t mode = 0644) const;
  /// A process that holds new namespaces of these kinds (unshare's flags); its number.
  pid_t hold_namespaces(const std::vector<std::string>& flags);
  /// A file of the test's container's cgroup: "none" when there is none.
  [[nodiscard]] std::string cgroup_file(const std::string& controller, const std::string& file) const;

 private:
  static Json parsed(const Ran& ran);
  void make_rootfs() const;
  void check_nothing_left();
  void end_containers();

  std::string name_;
  std::string folder_;
  std::string mounts_before_;
  unsigned calls_ = 0;
  std::vector<Difference> differences_;
  ::testing::TestPartResultArray caught_;
  std::unique_ptr<::testing::ScopedFakeTestPartResultReporter> catcher_;
  std::vector<Process> holders_;
};

/// The mount of a report at `place`, the one on top; null without one.
[[nodiscard]] Json mount_at(const Json& report, const std::string& place);
/// Its options, the words between the commas.
[[nodiscard]] std::vector<std::string> options_of(const Json& mount);
/// "shared", "slave", "unbindable" or "private".
[[nodiscard]] std::string propagation_of(const Json& mount);
/// The number of a namespace of this process.
[[nodiscard]] std::string own_namespace(const std::string& kind);
/// Ours, runc and crun, as far as they are installed.
[[nodiscard]] std::vector<Runtime> spec_runtimes();

}  // namespace berth::test

// NOLINTNEXTLINE(cppcoreguidelines-macro-usage): gtest's registration works at namespace scope only
#define BERTH_SPEC_SUITE(suite)     \
  class suite : public SpecTest {}; \
  INSTANTIATE_TEST_SUITE_P(Runtimes, suite, ::testing::ValuesIn(spec_runtimes()), runtime_name)
