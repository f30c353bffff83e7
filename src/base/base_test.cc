#include <fcntl.h>
#include <gtest/gtest.h>
#include <unistd.h>

#include "base/base64.h"
#include "base/clock.h"
#include "base/ids.h"
#include "base/log.h"
#include "base/result.h"
#include "base/rollback.h"
#include "base/strings.h"
#include "base/unique_fd.h"

namespace berth {
namespace {

Result<int> half(int n) {
  if (n % 2 != 0) return fail(Code::kInvalid, "odd");
  return n / 2;
}
Result<int> quarter(int n) {
  BERTH_ASSIGN(const int h, half(n), "first half");
  BERTH_ASSIGN(const int q, half(h), "second half");
  return q;
}

TEST(Error, WrapKeepsCodeAndErrno) {
  const auto error = errno_error(ENOENT, "open /x").in("load config");
  EXPECT_EQ(error.code(), Code::kNotFound);
  EXPECT_EQ(error.errno_value(), ENOENT);
  EXPECT_EQ(error.text(), "load config: open /x: No such file or directory");
}

TEST(Error, AssignAddsStep) {
  EXPECT_EQ(quarter(8).value(), 2);
  const auto failed = quarter(6);
  ASSERT_FALSE(failed);
  EXPECT_EQ(failed.error().text(), "second half: odd");
}

TEST(UniqueFd, MoveAssignmentClosesTheOld) {
  UniqueFd a(::open("/dev/null", O_RDONLY | O_CLOEXEC));
  UniqueFd b(::open("/dev/null", O_RDONLY | O_CLOEXEC));
  const int old = a.get();
  const int kept = b.get();
  a = std::move(b);
  EXPECT_EQ(a.get(), kept);
  EXPECT_FALSE(b.valid());  // NOLINT(bugprone-use-after-move): the moved-from state is the contract
  EXPECT_EQ(::fcntl(old, F_GETFD), -1);
}

TEST(Rollback, RunsAllNewestFirstAndGoesOnAfterFailure) {
  std::string order;
  {
    Rollback undo;
    undo.add("a", [&order]() -> Result<> {
      order += 'a';
      return {};
    });
    undo.add("b", [&order]() -> Result<> {
      order += 'b';
      return fail(Code::kInternal, "no");
    });
    undo.add("c", [&order]() -> Result<> {
      order += 'c';
      return {};
    });
  }
  EXPECT_EQ(order, "cba");
  {
    Rollback undo;
    undo.add("d", [&order]() -> Result<> {
      order += 'd';
      return {};
    });
    undo.commit();
  }
  EXPECT_EQ(order, "cba");
}

TEST(Clock, Rfc3339HasNineDigitsAndZ) {
  EXPECT_EQ(format_rfc3339(WallTime(std::chrono::nanoseconds(0))), "1970-01-01T00:00:00.000000000Z");
  EXPECT_EQ(format_rfc3339(WallTime(std::chrono::nanoseconds(1'709'210'096'000'000'007))),
            "2024-02-29T12:34:56.000000007Z");
}

TEST(Ids, NewIdIsValidAndUnique) {
  EXPECT_EQ(new_id().size(), 64U);
  EXPECT_NE(new_id(), new_id());
  EXPECT_TRUE(valid_id(new_id()));
  for (const auto* bad : {"", ".", "..", "a/b", "a b", "-x", ".x", "a\n"}) EXPECT_FALSE(valid_id(bad)) << bad;
}

TEST(Strings, Numbers) {
  EXPECT_EQ(parse_number<int>("12"), 12);
  EXPECT_FALSE(parse_number<int>("12x"));
  EXPECT_FALSE(parse_number<unsigned>("-1"));
  EXPECT_FALSE(parse_number<int>(""));
  EXPECT_FALSE(parse_number<std::uint8_t>("256"));
  EXPECT_EQ(human_bytes(0), "0 B");
  EXPECT_EQ(human_bytes(1536), "1.5 KiB");
  EXPECT_EQ(human_bytes(UINT64_MAX).substr(0, 4), "1638");
}

TEST(Strings, CleanPath) {
  EXPECT_EQ(clean_path("/data/"), "/data");
  EXPECT_EQ(clean_path("//a/./b//c/../d/"), "/a/b/d");
  EXPECT_EQ(clean_path("/x/.."), "/");
  EXPECT_EQ(clean_path("/../.."), "/");
  EXPECT_EQ(clean_path("a"), "/a");
  EXPECT_EQ(clean_path(""), "/");
}

TEST(Strings, SplitTrimJoin) {
  EXPECT_EQ(split("a//b", '/').size(), 3U);
  EXPECT_EQ(split("", '/').size(), 1U);
  EXPECT_EQ(trim(" \t x y\n"), "x y");
  EXPECT_EQ(join({"a", "b"}, ", "), "a, b");
}

TEST(Log, QuotesAndDropsControlBytes) {
  int pipe_fds[2];
  ASSERT_EQ(::pipe2(pipe_fds, O_CLOEXEC), 0);
  const UniqueFd reader(pipe_fds[0]);
  const UniqueFd writer(pipe_fds[1]);
  set_log_fd(writer.get());
  log_info("hello \"you\"", {{"path", "/a b"}, {"n", 3}, {"esc", "\x1b[31m"}});
  set_log_fd(2);
  char buffer[512];
  const auto n = ::read(reader.get(), buffer, sizeof buffer);
  ASSERT_GT(n, 0);
  const std::string_view line(buffer, static_cast<std::size_t>(n));
  EXPECT_NE(line.find(R"(msg="hello \"you\"" path="/a b" n=3 esc="?[31m")"), std::string_view::npos) << line;
}

TEST(Base64, GoesRound) {
  for (const std::string& text :
       {std::string(), std::string("a"), std::string("ab"), std::string("abc"), std::string("user:pass\xff")}) {
    EXPECT_EQ(base64_decode(base64_encode(text)), text);
  }
  EXPECT_EQ(base64_decode("dTpw"), "u:p");
  EXPECT_EQ(base64_decode("dTpwcQ"), "u:pq");  // without padding
  for (const char* text : {"a", "dT=w", "====", "dTp*", "a-bc"}) EXPECT_FALSE(base64_decode(text)) << text;
}

}  // namespace
}  // namespace berth
