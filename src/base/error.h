#pragma once
#include <string>
#include <string_view>

namespace berth {

/// What kind of failure an Error is. Maps 1:1 to gRPC status codes in rpc/ and to exit codes in apps/.
enum class Code {
  kInvalid,       ///< the request or file is wrong; retrying as it is cannot help
  kNotFound,      ///< no such object
  kExists,        ///< the object is there already and differs from what was asked for
  kPrecondition,  ///< the object is in a state that forbids this
  kDenied,        ///< permission or credentials
  kExhausted,     ///< a limit, quota or disk is full
  kTimeout,       ///< the deadline passed; the work may still be going on
  kCancelled,     ///< the caller gave up
  kUnavailable,   ///< a peer (registry, shim) cannot be reached now; a retry may help
  kUnsupported,   ///< not built here, or not offered by this kernel
  kCorrupt,       ///< bytes that do not verify: digest, checksum, format
  kInternal,      ///< a bug, or a kernel answer that has no better name
};

/// "invalid", "not-found", ... : stable, for logs and for the code that users look up in docs/errors.md.
[[nodiscard]] std::string_view code_name(Code code);

/// One failure: a code, the errno of the failing call (0 if none) and a text, outermost step first.
/// Text is for people: lower case, no full stop; no code compares it. Values copy; thread-compatible.
class [[nodiscard]] Error {
 public:
  Error(Code code, std::string text, int errno_value = 0) : code_(code), errno_(errno_value), text_(std::move(text)) {}

  [[nodiscard]] Code code() const { return code_; }
  [[nodiscard]] int errno_value() const { return errno_; }
  [[nodiscard]] const std::string& text() const { return text_; }

  /// Adds an outer step: what was attempted, on which object. Code and errno survive.
  Error in(std::string_view step) &&;
  Error in(std::string_view step) const&;
  /// The same failure under another code, where the caller knows better what it means.
  Error as(Code code) && {
    code_ = code;
    return std::move(*this);
  }

 private:
  Code code_;
  int errno_;
  std::string text_;
};

/// The error of a failed system call: "<what>: <strerror>". Takes `errno_value` explicitly, at once after the call.
/// The code follows from errno: ENOENT kNotFound, EEXIST kExists, EPERM/EACCES kDenied, ENOSPC/EDQUOT/EMFILE/ENOMEM
/// kExhausted, ENOSYS kUnsupported, ENOTDIR kInvalid, ETIMEDOUT kTimeout, ECONNREFUSED kUnavailable, else kInternal.
Error errno_error(int errno_value, std::string_view what);

}  // namespace berth
