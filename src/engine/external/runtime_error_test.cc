// What the texts of runc 1.1 and crun 1.8 are taken for.
#include "engine/external/runtime_error.h"

#include <gtest/gtest.h>

#include <cerrno>

namespace berth::engine::external {
namespace {

TEST(RuntimeErrorTest, TheLastErrorOfALogIsTold) {
  const std::string log =
      "{\"level\":\"warning\",\"msg\":\"w\"}\n{\"msg\":\"first\",\"level\":\"error\"}\nno json\n"
      "{\"level\":\"fatal\",\"msg\":\"runc create failed\",\"time\":\"t\"}\n{\"level\":\"info\",\"msg\":\"i\"}\n";
  EXPECT_EQ(last_error(log, "x"), "runc create failed");
  EXPECT_EQ(last_error("", "exit code 3"), "exit code 3");
  EXPECT_EQ(last_error("{\"level\":\"info\",\"msg\":\"i\"}\n[", "exit code 3"), "exit code 3");
  EXPECT_EQ(last_error("{\"level\":\"error\",\"msg\":\"" + std::string(5000, 'x') + "\"}", "").size(), 1024U);
}

TEST(RuntimeErrorTest, TextsHaveMeanings) {
  const struct {
    const char* text;
    Code code;
    int error;
  } kCases[] = {
      {"executable file `nosuch` not found in $PATH: No such file or directory", Code::kNotFound, ENOENT},
      {"runc create failed: unable to start container process: exec: \"nosuch\": executable file not found in $PATH",
       Code::kNotFound, ENOENT},
      {"runc create failed: unable to start container process: exec: \"/x\": stat /x: no such file or directory",
       Code::kNotFound, ENOENT},
      {"exec failed: unable to start container process: exec: \"/etc\": permission denied", Code::kDenied, EACCES},
      {"exec: \"/bin/x\": exec format error", Code::kInternal, ENOEXEC},
      {"container does not exist", Code::kNotFound, 0},
      {"error opening file `/run/crun/x/status`: No such file or directory", Code::kNotFound, 0},
      {"container not running", Code::kNotFound, 0},
      {"mount `proc` to `proc`: Operation not permitted", Code::kInternal, 0},
  };
  for (const auto& known : kCases) {
    SCOPED_TRACE(known.text);
    const Error error = classify(known.text);
    EXPECT_EQ(error.code(), known.code);
    EXPECT_EQ(error.errno_value(), known.error);
    EXPECT_EQ(error.text(), known.text);
  }
}

TEST(RuntimeErrorTest, ARefusedCgroupLayoutIsKnown) {
  EXPECT_TRUE(refuses_hybrid_cgroups("cgroups in hybrid mode not supported, drop all controllers from cgroupv2"));
  EXPECT_FALSE(refuses_hybrid_cgroups("cgroup: permission denied"));
}

}  // namespace
}  // namespace berth::engine::external
