#pragma once
#include <string>

#include "base/result.h"
#include "cri/runtime/v1/api.pb.h"

namespace berth::cli {

/// "8080:80", "127.0.0.1:8080:80/udp", "[::1]:8080:80": as docker and podman take it. kInvalid says what is expected.
Result<::runtime::v1::PortMapping> parse_port(const std::string& text);
/// "/host:/container[:ro|rw]"; both absolute.
Result<::runtime::v1::Mount> parse_volume(const std::string& text);
/// "64m", "1g", "512k", "1048576": bytes, binary units.
Result<std::int64_t> parse_bytes(const std::string& text);
/// "NAME=value", or "NAME" for the caller's own value of it.
Result<::runtime::v1::KeyValue> parse_env(const std::string& text);

}  // namespace berth::cli
