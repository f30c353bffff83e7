#pragma once
#include <gmock/gmock.h>
#include <poll.h>
#include <unistd.h>

#include <array>
#include <csignal>
#include <string>
#include <vector>

#include "base/strings.h"
#include "oci_fixture.h"
#include "os/pidfd.h"
#include "os/spawn.h"

/// What the tests of checkpoint and restore share.
namespace berth::oci::testing {

/// Asked of criu itself, once.
inline bool criu_works() {
  static const bool works = [] {
    os::RunOptions options;
    options.spawn.argv = {"criu", "check"};
    options.spawn.env = environment();
    options.timeout = std::chrono::seconds(120);
    const auto output = os::run(std::move(options));
    return output && output->exit_code == 0;
  }();
  return works;
}

// The word is only in the process's memory: whoever still says it after a restore is the same process.
inline constexpr const char* kCounter =
    "word=$(cat /proc/sys/kernel/random/uuid); i=0; while :; do i=$((i+1)); echo \"$word $i\" > /tmp/n.new; "
    "mv /tmp/n.new /tmp/n; sleep 0.02; done";

class Checkpoint : public OciTest {
 protected:
  void TearDown() override {
    OciTest::TearDown();
    expect_gone();
  }
  void expect_gone() {
    EXPECT_EQ(oci({"list", "--quiet"}).out, "");
    for (const char* hierarchy : {"", "memory/", "freezer/"}) {
      EXPECT_FALSE(os::exists("/sys/fs/cgroup/" + std::string(hierarchy) + bundle_.name()));
    }
    EXPECT_FALSE(os::exists(root() + "/" + bundle_.name()));
  }
  std::string images() { return bundle_.path() + "/images"; }
  /// Words after which the container's or our caller's process holds the standard streams, as `fds` says. The exit
  /// code; what went wrong is in log().
  int with_streams(std::vector<std::string> words, std::vector<os::FdMapping> fds,
                   std::vector<std::string> more_env = {}) {
    os::SpawnOptions options;
    options.argv = std::move(words);
    options.argv.insert(options.argv.begin(), {program(), "--root", root(), "--log", log_path()});
    options.env = environment();
    options.env.insert(options.env.end(), more_env.begin(), more_env.end());
    options.cwd = bundle_.path();
    options.fds = std::move(fds);
    const auto child = os::spawn(options);
    EXPECT_TRUE(child.has_value());
    return child ? os::wait_exit(*child).value_or(-1) : -1;
  }
  int detached(std::vector<std::string> words, std::vector<std::string> more_env = {}) {
    return with_streams(std::move(words), {}, std::move(more_env));
  }
  std::string log_path() { return bundle_.path() + "/log"; }
  std::string log() { return os::read_file(log_path(), 1U << 20).value_or(""); }
  spec::Spec script_spec(const std::string& script) { return default_spec(bundle_, {"/bin/sh", "-c", script}); }
  void start(const spec::Spec& spec) {
    write_config(spec);
    ASSERT_EQ(detached({"run", "--detach", bundle_.name()}), 0) << log();
  }
  os::RunOutput checkpoint(std::vector<std::string> flags = {}) {
    flags.insert(flags.begin(), {"checkpoint", "--image-path", images()});
    flags.push_back(bundle_.name());
    return oci(std::move(flags));
  }
  int restore(std::vector<std::string> flags = {}) {
    flags.insert(flags.begin(), {"restore", "--detach", "--image-path", images()});
    flags.push_back(bundle_.name());
    return detached(std::move(flags));
  }
  std::string in_root(const std::string& path) { return bundle_.path() + "/rootfs" + path; }
  static void wait_for_file(const std::string& path) {
    for (int i = 0; i < 30'000 && !os::exists(path); ++i) ::usleep(1000);
    ASSERT_TRUE(os::exists(path)) << path;
  }
  struct Count {
    std::string word;
    int number = 0;
  };
  Count count() {
    const std::string text = os::read_file(in_root("/tmp/n"), 100).value_or("");
    const auto parts = split(trim(text), ' ');
    if (parts.size() != 2) return {};
    return {std::string(parts[0]), parse_number<int>(parts[1]).value_or(0)};
  }
  /// The counter goes on, as the same process.
  void expect_counting(const Count& before) {
    Count now = count();
    for (int i = 0; i < 30'000 && now.number <= before.number; ++i) {
      ::usleep(1000);
      now = count();
    }
    EXPECT_EQ(now.word, before.word);
    EXPECT_GT(now.number, before.number);
  }
  Count counted() {
    wait_for_file(in_root("/tmp/n"));
    return count();
  }
};

class CheckpointByCriu : public Checkpoint {
 protected:
  void SetUp() override {
    Checkpoint::SetUp();
    if (!criu_works()) GTEST_SKIP() << "criu does not work on this kernel";
  }
};

/// Reads until `wanted` was there.
inline std::string read_until(int fd, const std::string& wanted) {
  std::string text;
  for (int i = 0; i < 1000 && text.find(wanted) == std::string::npos; ++i) {
    pollfd entry{fd, POLLIN, 0};
    if (::poll(&entry, 1, 60'000) != 1) break;
    std::array<char, 256> buffer;
    const ssize_t n = ::read(fd, buffer.data(), buffer.size());
    if (n <= 0) break;
    text.append(buffer.data(), static_cast<std::size_t>(n));
  }
  return text;
}

}  // namespace berth::oci::testing
