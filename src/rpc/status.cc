#include "rpc/status.h"

#include <array>
#include <utility>

namespace berth::rpc {
namespace {

constexpr std::array<std::pair<Code, grpc::StatusCode>, 12> kCodes = {{
    {Code::kInvalid, grpc::StatusCode::INVALID_ARGUMENT},
    {Code::kNotFound, grpc::StatusCode::NOT_FOUND},
    {Code::kExists, grpc::StatusCode::ALREADY_EXISTS},
    {Code::kPrecondition, grpc::StatusCode::FAILED_PRECONDITION},
    {Code::kDenied, grpc::StatusCode::PERMISSION_DENIED},
    {Code::kExhausted, grpc::StatusCode::RESOURCE_EXHAUSTED},
    {Code::kTimeout, grpc::StatusCode::DEADLINE_EXCEEDED},
    {Code::kCancelled, grpc::StatusCode::CANCELLED},
    {Code::kUnavailable, grpc::StatusCode::UNAVAILABLE},
    {Code::kUnsupported, grpc::StatusCode::UNIMPLEMENTED},
    {Code::kCorrupt, grpc::StatusCode::DATA_LOSS},
    {Code::kInternal, grpc::StatusCode::INTERNAL},
}};

}  // namespace

grpc::Status to_status(const Error& error) {
  auto code = grpc::StatusCode::INTERNAL;
  for (const auto& [ours, theirs] : kCodes) {
    if (ours == error.code()) code = theirs;
  }
  std::string text = error.text();
  for (char& c : text) {
    if (static_cast<unsigned char>(c) < ' ' || c == 0x7f) c = ' ';
  }
  // What docs/errors.md explains it under.
  text.append(" [").append(code_name(error.code())).append("]");
  return {code, text};
}

Error from_status(const grpc::Status& status) {
  for (const auto& [ours, theirs] : kCodes) {
    if (theirs == status.error_code()) return {ours, status.error_message()};
  }
  return {Code::kInternal, status.error_message()};
}

}  // namespace berth::rpc
