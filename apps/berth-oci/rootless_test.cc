#include "rootless.h"

#include <gtest/gtest.h>
#include <unistd.h>

#include <array>
#include <cstdlib>

namespace berth::oci {
namespace {

constexpr std::array<FlagSpec, 1> kFlags{{{"rootless", 0, true}}};

Result<bool> with_word(std::string word) {
  std::string flag = "--rootless";
  const std::array<char*, 2> words{flag.data(), word.data()};
  auto args = Args::parse(words, kFlags);
  if (!args) return fail(std::move(args).error());
  return rootless_of(*args);
}

TEST(Rootless, TheFlagDecidesAndAutoLooks) {
  EXPECT_TRUE(with_word("true").value_or(false));
  EXPECT_FALSE(with_word("false").value_or(true));
  EXPECT_EQ(with_word("maybe").error().code(), Code::kInvalid);
  if (::geteuid() != 0) {
    EXPECT_TRUE(with_word("auto").value_or(false));
  }
}

TEST(Rootless, TheStateIsTheUsersWhereTheUserIsNotRoot) {
  ::setenv("XDG_RUNTIME_DIR", "/run/user/77", 1);  // NOLINT(concurrency-mt-unsafe): one thread
  ::setenv("USER", "root", 1);                     // NOLINT(concurrency-mt-unsafe)
  EXPECT_EQ(default_root(), ::geteuid() == 0 ? "/run/berth-oci" : "/run/user/77/berth-oci");
  ::unsetenv("XDG_RUNTIME_DIR");  // NOLINT(concurrency-mt-unsafe)
  EXPECT_EQ(default_root(), "/run/berth-oci");
}

TEST(Rootless, ACgroupBelowWhatOneMayNotWriteCannotBeMade) {
  EXPECT_TRUE(may_make_cgroup("")) << "nothing is asked for";
  EXPECT_EQ(may_make_cgroup("/berth-test/not/there"), ::geteuid() == 0);
}

TEST(Rootless, OnlyRulesForDevicesAreDropped) {
  spec::Spec spec;
  drop_device_rules(spec);
  spec.linux.emplace().resources.emplace().devices.resize(2);
  spec.linux->resources->pids.emplace().limit = 7;
  drop_device_rules(spec);
  EXPECT_TRUE(spec.linux->resources->devices.empty());
  EXPECT_EQ(spec.linux->resources->pids->limit, 7);
}

}  // namespace
}  // namespace berth::oci
