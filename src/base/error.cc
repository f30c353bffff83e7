#include "base/error.h"

#include <cerrno>
#include <cstring>

namespace berth {

std::string_view code_name(Code code) {
  switch (code) {
    case Code::kInvalid:
      return "invalid";
    case Code::kNotFound:
      return "not-found";
    case Code::kExists:
      return "exists";
    case Code::kPrecondition:
      return "precondition";
    case Code::kDenied:
      return "denied";
    case Code::kExhausted:
      return "exhausted";
    case Code::kTimeout:
      return "timeout";
    case Code::kCancelled:
      return "cancelled";
    case Code::kUnavailable:
      return "unavailable";
    case Code::kUnsupported:
      return "unsupported";
    case Code::kCorrupt:
      return "corrupt";
    case Code::kInternal:
      return "internal";
  }
  return "internal";
}

Error Error::in(std::string_view step) && {
  std::string text;
  text.reserve(step.size() + 2 + text_.size());
  text.append(step).append(": ").append(text_);
  text_ = std::move(text);
  return std::move(*this);
}

Error Error::in(std::string_view step) const& {
  return Error(*this).in(step);
}

namespace {
Code code_of_errno(int errno_value) {
  switch (errno_value) {
    case ENOENT:
    case ESRCH:
      return Code::kNotFound;
    case EEXIST:
      return Code::kExists;
    case EPERM:
    case EACCES:
    case EROFS:
      return Code::kDenied;
    case ENOSPC:
    case EDQUOT:
    case EMFILE:
    case ENFILE:
    case EAGAIN:
    case ENOMEM:
      return Code::kExhausted;
    case ENOSYS:
    case EOPNOTSUPP:
      return Code::kUnsupported;
    // A path that cannot be one, whoever looks for it.
    case ENOTDIR:
    case EISDIR:
    case ENAMETOOLONG:
      return Code::kInvalid;
    case ETIMEDOUT:
      return Code::kTimeout;
    case ECONNREFUSED:
    case ECONNRESET:
    case EPIPE:
      return Code::kUnavailable;
    default:
      return Code::kInternal;
  }
}
}  // namespace

Error errno_error(int errno_value, std::string_view what) {
  std::string text(what);
  // strerrordesc_np: thread-safe, no locale.
  const char* description = ::strerrordesc_np(errno_value);
  text.append(": ").append(description != nullptr ? description : "unknown error");
  return {code_of_errno(errno_value), std::move(text), errno_value};
}

}  // namespace berth
