#include "ttrpc/status.h"

namespace berth::ttrpc {

std::int32_t status_of(Code code) {
  switch (code) {
    case Code::kCancelled:
      return 1;
    case Code::kInvalid:
      return 3;
    case Code::kTimeout:
      return 4;
    case Code::kNotFound:
      return 5;
    case Code::kExists:
      return 6;
    case Code::kDenied:
      return 7;
    case Code::kExhausted:
      return 8;
    case Code::kPrecondition:
      return 9;
    case Code::kUnsupported:
      return 12;
    case Code::kInternal:
      return 13;
    case Code::kUnavailable:
      return 14;
    case Code::kCorrupt:
      return 15;
  }
  return 13;
}

Code code_of(std::int32_t status) {
  switch (status) {
    case 1:
      return Code::kCancelled;
    case 3:
    case 11:
      return Code::kInvalid;  // 11: out of range
    case 4:
      return Code::kTimeout;
    case 5:
      return Code::kNotFound;
    case 6:
      return Code::kExists;
    case 7:
    case 16:
      return Code::kDenied;  // 16: unauthenticated
    case 8:
      return Code::kExhausted;
    case 9:
    case 10:
      return Code::kPrecondition;  // 10: aborted
    case 12:
      return Code::kUnsupported;
    case 14:
      return Code::kUnavailable;
    case 15:
      return Code::kCorrupt;
    default:
      return Code::kInternal;  // 2: unknown, 13: internal
  }
}

}  // namespace berth::ttrpc
