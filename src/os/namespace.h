#pragma once
#include <string>
#include <string_view>

#include "base/result.h"
#include "base/unique_fd.h"

namespace berth::os {

/// Opens a namespace file (/proc/PID/ns/X, a pin) and checks that it is of the kind `clone_flag` (CLONE_NEWNET ...) by
/// NS_GET_NSTYPE. kInvalid when it is something else.
Result<UniqueFd> open_namespace(const std::string& path, int clone_flag);
/// Whether two namespace files are one and the same namespace.
[[nodiscard]] bool same_namespace(int fd_a, int fd_b);
/// setns(2) by a namespace file, or by a pidfd with several CLONE_NEW* at once.
Result<> join_namespaces(int fd, int clone_flags);
/// unshare(2).
Result<> unshare_namespaces(int clone_flags);
/// "network", "mount": for messages.
[[nodiscard]] std::string_view namespace_flag_name(int clone_flag);

Result<> set_hostname(std::string_view name);
Result<> set_domainname(std::string_view name);

/// Sets the loopback interface of the caller's network namespace up.
Result<> set_loopback_up();

}  // namespace berth::os
