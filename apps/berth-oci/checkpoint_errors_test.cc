#include <fcntl.h>

#include "checkpoint_fixture.h"
#include "checkpoint_flags.h"

/// What checkpoint and restore say, and leave, where criu is not there, cannot, dies or talks nonsense. Needs root.
namespace berth::oci {
namespace {

using ::testing::HasSubstr;
using namespace berth::oci::testing;  // NOLINT(google-build-using-namespace): a test's own fixture

class CheckpointErrors : public Checkpoint {
 protected:
  // A response of the type VERSION, successful, with 3.17.
  static constexpr const char* kVersion = R"(printf '\010\012\020\001\122\004\010\003\020\021' >&3)";

  /// A program in criu's place: takes the request and does what `script` says, with descriptor 3 to answer by.
  std::string fake_criu(const std::string& script) {
    const std::string path = bundle_.path() + "/fake-criu";
    EXPECT_TRUE(os::write_file_atomic(path, "#!/bin/sh\ndd bs=4096 count=1 <&3 >/dev/null 2>&1\n" + script + "\n", 0755)
                    .has_value());
    return path;
  }
  os::RunOutput by(const std::string& criu, std::vector<std::string> words) {
    words.insert(words.begin(), {program(), "--root", root(), "--criu", criu});
    return run_words(std::move(words), bundle_.path());
  }
};

TEST_F(CheckpointErrors, WithoutCriuTheErrorNamesIt) {
  start(script_spec(kCounter));
  counted();
  const auto none = by("no-such-criu", {"checkpoint", "--image-path", images(), bundle_.name()});
  EXPECT_EQ(none.exit_code, 1);
  EXPECT_THAT(none.err, HasSubstr("need the program no-such-criu, which is not in PATH"));
  expect_counting(count());
}

TEST_F(CheckpointErrors, ACriuThatCannotGivesItsReason) {
  // Where criu works at all it fails on this stream, a file of a mount that the container does not have.
  const std::string outside = bundle_.path() + "/outside";
  ASSERT_TRUE(os::write_file_atomic(outside, "").has_value());
  const auto file = os::open_file(outside, O_RDONLY);
  ASSERT_TRUE(file.has_value());
  write_config(script_spec(kCounter));
  ASSERT_EQ(with_streams({"run", "--detach", bundle_.name()}, {{file->get(), 0}}), 0) << log();
  counted();
  const auto failed = checkpoint();
  EXPECT_EQ(failed.exit_code, 1);
  EXPECT_THAT(failed.err, HasSubstr("criu failed: "));
  EXPECT_THAT(failed.err, HasSubstr(criu_works() ? "Can't lookup mount" : "kerndat"));
  EXPECT_THAT(failed.err, HasSubstr("dump.log"));
  EXPECT_EQ(status(), "running");
  expect_counting(count());
  EXPECT_EQ(oci({"delete", "--force", bundle_.name()}).exit_code, 0);
  EXPECT_EQ(restore(), 1) << "what is not whole is no checkpoint";
  EXPECT_THAT(log(), HasSubstr("criu failed: "));
  expect_gone();
}

TEST_F(CheckpointErrors, ACriuThatIsKilledLeavesTheContainerRunning) {
  start(script_spec(kCounter));
  counted();
  const bool v2 = os::exists("/sys/fs/cgroup/cgroup.controllers");
  const std::string freeze = v2 ? "echo 1 > /sys/fs/cgroup/" + bundle_.name() + "/cgroup.freeze"
                                : "echo FROZEN > /sys/fs/cgroup/freezer/" + bundle_.name() + "/freezer.state";
  const std::string once = bundle_.path() + "/once";
  const std::string criu =
      fake_criu("[ -e " + once + " ] || { : > " + once + "; " + kVersion + "; exit 0; }\n" + freeze + "\nkill -9 $$");
  const auto killed = by(criu, {"checkpoint", "--image-path", images(), bundle_.name()});
  EXPECT_EQ(killed.exit_code, 1);
  EXPECT_THAT(killed.err, HasSubstr("criu ended without an answer (137)"));
  EXPECT_EQ(status(), "running");
  expect_counting(count());
}

TEST_F(CheckpointErrors, AnswersThatAreNoneAreRefused) {
  start(script_spec(kCounter));
  counted();
  const std::vector<std::string> words{"checkpoint", "--image-path", images(), bundle_.name()};
  EXPECT_THAT(by(fake_criu("printf 'hello there' >&3; sleep 100"), words).err, HasSubstr("no message of its protocol"));
  EXPECT_THAT(by(fake_criu(R"(printf '\010\001\020\001' >&3; sleep 100)"), words).err, HasSubstr("another question"));
  EXPECT_THAT(by(fake_criu("dd if=/dev/zero bs=70000 count=1 >&3 2>/dev/null; sleep 100"), words).err,
              HasSubstr("a packet of more than"));
  EXPECT_THAT(by(fake_criu(R"(printf '\010\012\020\001\122\004\010\002\020\021' >&3)"), words).err,
              HasSubstr("too old"));
  EXPECT_THAT(by(bundle_.path(), words).err, HasSubstr("criu"));
  expect_counting(count());
}

TEST_F(CheckpointErrors, WhatCannotBeIsRefusedBeforeAnythingHappens) {
  write_config(script_spec(kCounter));
  EXPECT_THAT(checkpoint().err, HasSubstr("container does not exist"));
  EXPECT_EQ(restore(), 1);
  EXPECT_THAT(log(), HasSubstr("no checkpoint in " + images()));
  expect_gone();
  ASSERT_EQ(detached({"create", bundle_.name()}), 0) << log();
  EXPECT_THAT(checkpoint().err, HasSubstr("cannot be checkpointed in created state"));
  ASSERT_EQ(oci({"start", bundle_.name()}).exit_code, 0);
  counted();
  const std::string criu = fake_criu(kVersion);
  const auto with = [&](std::vector<std::string> flags) {
    flags.insert(flags.begin(), {"checkpoint", "--image-path", images()});
    flags.push_back(bundle_.name());
    return by(criu, std::move(flags)).err;
  };
  EXPECT_THAT(with({"--parent-path", "/abs"}), HasSubstr("must be relative"));
  EXPECT_THAT(with({"--parent-path", "../none"}), HasSubstr("--parent-path"));
  EXPECT_THAT(with({"--page-server", "nowhere"}), HasSubstr("is not ADDRESS:PORT"));
  EXPECT_THAT(with({"--manage-cgroups-mode", "hard"}), HasSubstr("none of soft, full, strict, ignore"));
  EXPECT_THAT(with({"--empty-ns", "pid"}), HasSubstr("is not supported"));
  EXPECT_THAT(with({"--status-fd", "77"}), HasSubstr("--status-fd 77"));
  EXPECT_EQ(status(), "running");
  EXPECT_EQ(oci({"kill", bundle_.name(), "KILL"}).exit_code, 0);
  for (int i = 0; i < 5000 && status() != "stopped"; ++i) ::usleep(1000);
  EXPECT_THAT(checkpoint().err, HasSubstr("cannot be checkpointed in stopped state"));
  EXPECT_EQ(oci({"delete", bundle_.name()}).exit_code, 0);
  // A folder without a checkpoint in it.
  ASSERT_TRUE(os::make_dirs(images() + "-empty").has_value());
  EXPECT_EQ(detached({"restore", "--detach", "--image-path", images() + "-empty", bundle_.name()}), 1);
  EXPECT_THAT(log(), HasSubstr("descriptors.json"));
  expect_gone();
}

TEST_F(CheckpointErrors, ARestoreWhoseCriuDiesLeavesNothing) {
  write_config(script_spec(kCounter));
  ASSERT_TRUE(os::make_dirs(images()).has_value());
  ASSERT_TRUE(
      os::write_file_atomic(images() + "/descriptors.json", R"(["pipe:[1]","/dev/null","/dev/null"])").has_value());
  const auto died = by(fake_criu("kill -9 $$"), {"restore", "--detach", "--image-path", images(), bundle_.name()});
  EXPECT_EQ(died.exit_code, 1);
  EXPECT_THAT(died.err, HasSubstr("criu ended without an answer (137)"));
  expect_gone();
  // A mount that cannot be made is told by the process that tried.
  auto spec = script_spec(kCounter);
  spec::Mount mount;
  mount.destination = "/data";
  mount.type = "bind";
  mount.source = "/does/not/exist";
  mount.options = {"bind"};
  spec.mounts.push_back(std::move(mount));
  write_config(spec);
  const auto missing = by(fake_criu("exit 0"), {"restore", "--detach", "--image-path", images(), bundle_.name()});
  EXPECT_THAT(missing.err, HasSubstr("/does/not/exist"));
  EXPECT_THAT(missing.err, HasSubstr("No such file or directory"));
  expect_gone();
}

TEST(PageServer, AddressAndPort) {
  const auto parsed = parse_page_server("[fe80::1]:99");
  ASSERT_TRUE(parsed.has_value());
  EXPECT_EQ(parsed->address, "fe80::1");
  EXPECT_EQ(parsed->port, 99);
  EXPECT_EQ(parse_page_server("host:1")->address, "host");
  for (const char* bad : {"", ":", "host", "host:", ":5", "host:0", "host:65536", "fe80::1:99", "host:1x"}) {
    EXPECT_FALSE(parse_page_server(bad).has_value()) << bad;
  }
}

}  // namespace
}  // namespace berth::oci
