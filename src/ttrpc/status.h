#pragma once
#include <cstdint>

#include "base/error.h"

namespace berth::ttrpc {

/// The gRPC status code that carries `code` over the wire. Source: grpc/grpc doc/statuscodes.md.
[[nodiscard]] std::int32_t status_of(Code code);
/// The other way; codes that we have no own name for become the nearest one, unknown numbers kInternal.
/// `status` is not 0, which means success.
[[nodiscard]] Code code_of(std::int32_t status);

}  // namespace berth::ttrpc
