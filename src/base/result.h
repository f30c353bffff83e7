#pragma once
#include <expected>
#include <utility>

#include "base/error.h"

namespace berth {

/// The one way to fail: a value or an Error. g++ 12 has std::expected without its monadic members.
template <class T = void>
using Result = std::expected<T, Error>;

/// `return fail(Code::kInvalid, "...")` from a function that returns Result.
[[nodiscard]] inline std::unexpected<Error> fail(Code code, std::string text, int errno_value = 0) {
  return std::unexpected(Error(code, std::move(text), errno_value));
}
/// `return fail(std::move(r).error().in("step"))`.
[[nodiscard]] inline std::unexpected<Error> fail(Error error) {
  return std::unexpected(std::move(error));
}
/// `return fail_errno(errno, "open /x")`: errno is read at once by the caller.
[[nodiscard]] inline std::unexpected<Error> fail_errno(int errno_value, std::string_view what) {
  return std::unexpected(errno_error(errno_value, what));
}

/// Drops a failure on purpose; the reason stands in the code for the reader.
template <class T>
void ignore(const Result<T>& /*result*/, const char* /*reason*/) {}

}  // namespace berth

/// Evaluates `expr` (a Result) and returns its error, with the step `step` added, from the enclosing function.
#define BERTH_TRY(expr, step)                                             \
  do {                                                                    \
    if (auto berth_try_result = (expr); !berth_try_result) {              \
      return ::berth::fail(std::move(berth_try_result).error().in(step)); \
    }                                                                     \
  } while (false)

#define BERTH_CONCAT_INNER(a, b) a##b
#define BERTH_CONCAT(a, b) BERTH_CONCAT_INNER(a, b)
/// `BERTH_ASSIGN(auto fd, open_file(p), "read the config")`: declares from a Result or returns its error with the step.
#define BERTH_ASSIGN(decl, expr, step) BERTH_ASSIGN_INNER(BERTH_CONCAT(berth_assign_, __LINE__), decl, expr, step)
// NOLINTBEGIN(bugprone-macro-parentheses): `decl` is a declaration
#define BERTH_ASSIGN_INNER(tmp, decl, expr, step)                  \
  auto tmp = (expr);                                               \
  if (!tmp) return ::berth::fail(std::move(tmp).error().in(step)); \
  decl = std::move(*tmp)
// NOLINTEND(bugprone-macro-parentheses)
