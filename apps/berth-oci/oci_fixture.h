#pragma once
#include <gtest/gtest.h>

#include <csignal>
#include <cstdlib>
#include <string>
#include <vector>

#include "engine/process/test_container.h"
#include "os/spawn.h"
#include "spec/json_text.h"

/// What tests of the program as its callers see it share.
namespace berth::oci::testing {

using engine::process::testing::Bundle;
using engine::process::testing::default_spec;
using engine::process::testing::lines_of;
using engine::process::testing::mounts_now;

inline std::string program() {
  const char* const folder = std::getenv("BERTH_BIN_DIR");  // NOLINT(concurrency-mt-unsafe)
  return std::string(folder != nullptr ? folder : "build/bin") + "/berth-oci";
}

inline const std::vector<std::string>& environment() {
  static const std::vector<std::string> env{"PATH=/usr/local/sbin:/usr/local/bin:/usr/sbin:/usr/bin:/sbin:/bin",
                                            "SYSTEMD_COLORS=0"};
  return env;
}

/// Runs a program to its end, within two minutes.
inline os::RunOutput run_words(std::vector<std::string> words, const std::string& cwd, const std::string& input = "") {
  os::RunOptions options;
  options.spawn.argv = std::move(words);
  options.spawn.env = environment();
  options.spawn.cwd = cwd;
  options.input = input;
  options.timeout = std::chrono::seconds(120);
  auto output = os::run(std::move(options));
  EXPECT_TRUE(output.has_value()) << output.error().text();
  return output.value_or(os::RunOutput{-1, "", ""});
}

/// A bundle, and a folder of states beside it; after each test there is no container of it and no mount.
class OciTest : public ::testing::Test {
 protected:
  void SetUp() override {
    ::signal(SIGPIPE, SIG_IGN);
    mounts_before_ = mounts_now(bundle_.name());
  }
  void TearDown() override {
    oci({"delete", "--force", bundle_.name()});
    EXPECT_EQ(mounts_now(bundle_.name()), mounts_before_);
    EXPECT_EQ(oci({"list", "--quiet"}).out, "");
    ASSERT_TRUE(os::remove_tree(root()).has_value());
  }
  std::string root() { return bundle_.path() + "/state"; }
  os::RunOutput oci(std::vector<std::string> words, const std::string& input = "") {
    words.insert(words.begin(), {program(), "--root", root()});
    return run_words(std::move(words), bundle_.path(), input);
  }
  void write_config(const spec::Spec& spec) {
    ASSERT_TRUE(os::write_file_atomic(bundle_.path() + "/config.json", spec::write_spec(spec)).has_value());
  }
  std::string status() {
    const auto state = spec::parse_json(oci({"state", bundle_.name()}).out);
    return state ? std::string(state->string_or("status", "?")) : "none";
  }

  Bundle bundle_;
  std::vector<std::string> mounts_before_;
};

}  // namespace berth::oci::testing
