#include <gmock/gmock.h>

#include "base/proto_wire.h"
#include "engine/process/checkpoint.h"
#include "engine/process/criu_wire.h"

namespace berth::engine::process {
namespace {

using ::testing::ElementsAre;
using ::testing::HasSubstr;

std::string number(unsigned field, std::int64_t value) {
  std::string out;
  proto::put_number(out, field, value);
  return out;
}
std::string bytes(unsigned field, std::string_view value) {
  std::string out;
  proto::put_bytes(out, field, value);
  return out;
}

TEST(CriuWire, ARequestHasWhatIsSetAndNothingElse) {
  CriuRequest request;
  request.type = CriuRequestType::kDump;
  CriuSettings settings;
  settings.images_dir_fd = 5;
  settings.pid = 300;
  settings.cgroups_mode = 0;  // "ignore" is a word of its own and must be said
  settings.ext_mounts.emplace_back("/data", "/data");
  settings.inherit_fds.emplace_back("pipe:[7]", 0);
  settings.cgroup_roots.emplace_back("", "/c1");
  request.settings = settings;
  EXPECT_EQ(encode_criu_request(request),
            number(1, 1) + bytes(2, number(1, 5) + number(2, 300) + number(9, 4) + number(12, 1) + number(34, 0) +
                                        bytes(23, bytes(1, "/data") + bytes(2, "/data")) +
                                        bytes(25, bytes(1, "") + bytes(2, "/c1")) +
                                        bytes(27, bytes(1, "pipe:[7]") + number(2, 0))));
}

TEST(CriuWire, NotificationsAreAnsweredAlsoWithNo) {
  CriuRequest reply;
  reply.type = CriuRequestType::kNotify;
  reply.notify_success = false;
  EXPECT_EQ(encode_criu_request(reply), number(1, 6) + number(3, 0));
}

TEST(CriuWire, ResponsesOfEachKind) {
  const auto notice =
      decode_criu_response(number(1, 6) + number(2, 1) + bytes(5, bytes(1, "post-restore") + number(2, 77)));
  ASSERT_TRUE(notice.has_value());
  EXPECT_EQ(notice->script, "post-restore");
  EXPECT_EQ(notice->notify_pid, 77);
  const auto restored = decode_criu_response(number(1, 2) + number(2, 1) + bytes(4, number(1, 1234)));
  EXPECT_EQ(restored->restored_pid, 1234);
  const auto version = decode_criu_response(number(1, 10) + number(2, 1) +
                                            bytes(10, number(1, 3) + number(2, 17) + bytes(3, "x") + number(4, 1)));
  EXPECT_EQ(version->version, 31701);
  const auto features = decode_criu_response(number(1, 9) + number(2, 1) + bytes(8, number(1, 1)));
  EXPECT_TRUE(features->features.mem_track);
  EXPECT_FALSE(features->features.lazy_pages);
  const auto failed = decode_criu_response(number(1, 1) + number(2, 0) + number(7, 3) + bytes(9, "no\x1b[31m such\n"));
  EXPECT_FALSE(failed->success);
  EXPECT_EQ(failed->criu_errno, 3);
  EXPECT_EQ(failed->error_text, "no?[31m such");
}

TEST(CriuWire, WhatIsNoMessageIsRefused) {
  for (const std::string& bad : {std::string("hello there"), std::string("\x0a"), number(1, 6) + "\x2a\x7f",
                                 std::string(3, '\xff'), bytes(10, number(1, 1000))}) {
    EXPECT_EQ(decode_criu_response(bad).error().code(), Code::kCorrupt);
  }
  // Numbers that are no pids are none.
  EXPECT_EQ(decode_criu_response(bytes(4, number(1, -5)))->restored_pid, 0);
}

TEST(CriuLog, TheLastErrorsWithoutTimesAndPlaces) {
  EXPECT_EQ(criu_log_errors(""), "");
  EXPECT_EQ(criu_log_errors("(00.1) all is well\n"), "");
  EXPECT_EQ(
      criu_log_errors("(00.000001) Error (criu/a.c:1): first\n(00.2) fine\nError (criu/b.c:22): second: more  \n"),
      "first; second: more");
  std::string many;
  for (int i = 0; i < 100; ++i) many += "(00.1) Error (criu/a.c:1): " + std::to_string(i) + "\n";
  EXPECT_EQ(criu_log_errors(many), "96; 97; 98; 99");
  EXPECT_LE(criu_log_errors("Error (x): " + std::string(100'000, 'y')).size(), 512U);
  EXPECT_EQ(criu_log_errors("Error (x): a\x07\xff"), "a??");
}

TEST(Descriptors, OfThreeStreams) {
  EXPECT_EQ(write_descriptors({"pipe:[1]"}), R"(["pipe:[1]","/dev/null","/dev/null"])");
  EXPECT_THAT(read_descriptors(R"(["pipe:[1]","/dev/null","/a \"b"])").value(),
              ElementsAre("pipe:[1]", "/dev/null", "/a \"b"));
  for (const char* bad : {"", "{}", "[1]", R"(["a","b","c","d"])", R"(["a")", R"(["a"] x)"}) {
    EXPECT_EQ(read_descriptors(bad).error().code(), Code::kCorrupt) << bad;
  }
}

}  // namespace
}  // namespace berth::engine::process
