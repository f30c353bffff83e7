#pragma once
#include <cstdint>
#include <optional>
#include <string>
#include <string_view>
#include <vector>

#include "base/result.h"

namespace berth::os {

struct SeccompArgRule {
  unsigned index = 0;
  std::string_view op;  ///< "SCMP_CMP_EQ", ...
  std::uint64_t value = 0;
  std::uint64_t value_two = 0;
};
/// One rule of a filter. The views must live as long as the call that takes them.
struct SeccompRule {
  std::string_view action;  ///< "SCMP_ACT_ERRNO", ...
  std::optional<std::uint32_t> errno_ret;
  const std::vector<std::string>* names = nullptr;
  std::vector<SeccompArgRule> args;
};
struct SeccompPolicy {
  std::string_view default_action;
  std::optional<std::uint32_t> default_errno_ret;
  const std::vector<std::string>* architectures = nullptr;
  std::vector<SeccompRule> rules;
};

/// The program of a policy: BPF instructions as the kernel takes them.
struct SeccompProgram {
  std::vector<std::uint64_t> instructions;
};

/// Compiles by libseccomp. System calls that no architecture here knows are skipped, as every runtime does. Errors:
/// kInvalid an unknown action, operator or architecture.
Result<SeccompProgram> compile_seccomp(const SeccompPolicy& policy);

/// "SECCOMP_FILTER_FLAG_LOG", ... as bits; kInvalid for an unknown one.
Result<unsigned> seccomp_flags(const std::vector<std::string>& names);

/// seccomp(2), SECCOMP_SET_MODE_FILTER, for the calling thread. Needs no_new_privs or CAP_SYS_ADMIN.
Result<> load_seccomp(const SeccompProgram& program, unsigned flags);

/// Whether a rule asks a supervisor (SCMP_ACT_NOTIFY), so that the filter needs a listener.
[[nodiscard]] bool needs_listener(const SeccompPolicy& policy);
/// As load_seccomp(), with a listener: its descriptor's number, CLOEXEC. No owner, since from here on the filter
/// decides about every call, close(2) too.
Result<int> load_seccomp_listener(const SeccompProgram& program, unsigned flags);

/// What compile_seccomp() and seccomp_flags() take, for `features`.
[[nodiscard]] std::vector<std::string_view> seccomp_action_names();
[[nodiscard]] std::vector<std::string_view> seccomp_op_names();
[[nodiscard]] std::vector<std::string_view> seccomp_arch_names();
[[nodiscard]] std::vector<std::string_view> seccomp_flag_names();

}  // namespace berth::os
