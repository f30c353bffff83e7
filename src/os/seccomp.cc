#include "os/seccomp.h"

#include <fcntl.h>
#include <linux/filter.h>
#include <linux/seccomp.h>
#include <seccomp.h>
#include <sys/mman.h>
#include <sys/syscall.h>
#include <unistd.h>

#include <algorithm>
#include <array>
#include <memory>
#include <utility>

#include "base/unique_fd.h"
#include "os/file.h"

namespace berth::os {

namespace {

// What follows has the OCI runtime-spec's names (config-linux.md, "Seccomp").
constexpr std::string_view kNotify = "SCMP_ACT_NOTIFY";
constexpr std::array<std::pair<std::string_view, std::uint32_t>, 9> kActions{{
    {"SCMP_ACT_KILL", SCMP_ACT_KILL_THREAD},
    {"SCMP_ACT_KILL_THREAD", SCMP_ACT_KILL_THREAD},
    {"SCMP_ACT_KILL_PROCESS", SCMP_ACT_KILL_PROCESS},
    {"SCMP_ACT_TRAP", SCMP_ACT_TRAP},
    {"SCMP_ACT_ERRNO", SCMP_ACT_ERRNO(0)},
    {"SCMP_ACT_TRACE", SCMP_ACT_TRACE(0)},
    {"SCMP_ACT_ALLOW", SCMP_ACT_ALLOW},
    {"SCMP_ACT_LOG", SCMP_ACT_LOG},
    {kNotify, SCMP_ACT_NOTIFY},
}};
constexpr std::array<std::pair<std::string_view, scmp_compare>, 7> kOps{{
    {"SCMP_CMP_NE", SCMP_CMP_NE},
    {"SCMP_CMP_LT", SCMP_CMP_LT},
    {"SCMP_CMP_LE", SCMP_CMP_LE},
    {"SCMP_CMP_EQ", SCMP_CMP_EQ},
    {"SCMP_CMP_GE", SCMP_CMP_GE},
    {"SCMP_CMP_GT", SCMP_CMP_GT},
    {"SCMP_CMP_MASKED_EQ", SCMP_CMP_MASKED_EQ},
}};
constexpr std::array<std::pair<std::string_view, std::uint32_t>, 19> kArchs{{
    {"SCMP_ARCH_X86", SCMP_ARCH_X86},
    {"SCMP_ARCH_X86_64", SCMP_ARCH_X86_64},
    {"SCMP_ARCH_X32", SCMP_ARCH_X32},
    {"SCMP_ARCH_ARM", SCMP_ARCH_ARM},
    {"SCMP_ARCH_AARCH64", SCMP_ARCH_AARCH64},
    {"SCMP_ARCH_MIPS", SCMP_ARCH_MIPS},
    {"SCMP_ARCH_MIPS64", SCMP_ARCH_MIPS64},
    {"SCMP_ARCH_MIPS64N32", SCMP_ARCH_MIPS64N32},
    {"SCMP_ARCH_MIPSEL", SCMP_ARCH_MIPSEL},
    {"SCMP_ARCH_MIPSEL64", SCMP_ARCH_MIPSEL64},
    {"SCMP_ARCH_MIPSEL64N32", SCMP_ARCH_MIPSEL64N32},
    {"SCMP_ARCH_PPC", SCMP_ARCH_PPC},
    {"SCMP_ARCH_PPC64", SCMP_ARCH_PPC64},
    {"SCMP_ARCH_PPC64LE", SCMP_ARCH_PPC64LE},
    {"SCMP_ARCH_S390", SCMP_ARCH_S390},
    {"SCMP_ARCH_S390X", SCMP_ARCH_S390X},
    {"SCMP_ARCH_PARISC", SCMP_ARCH_PARISC},
    {"SCMP_ARCH_PARISC64", SCMP_ARCH_PARISC64},
    {"SCMP_ARCH_RISCV64", SCMP_ARCH_RISCV64},
}};
constexpr std::array<std::pair<std::string_view, unsigned>, 4> kFlags{{
    {"SECCOMP_FILTER_FLAG_TSYNC", SECCOMP_FILTER_FLAG_TSYNC},
    {"SECCOMP_FILTER_FLAG_LOG", SECCOMP_FILTER_FLAG_LOG},
    {"SECCOMP_FILTER_FLAG_SPEC_ALLOW", SECCOMP_FILTER_FLAG_SPEC_ALLOW},
    {"SECCOMP_FILTER_FLAG_WAIT_KILLABLE_RECV", SECCOMP_FILTER_FLAG_WAIT_KILLABLE_RECV},
}};

template <class Table>
[[nodiscard]] std::vector<std::string_view> names_of(const Table& table) {
  std::vector<std::string_view> names;
  for (const auto& entry : table) names.push_back(entry.first);
  return names;
}

template <class Table>
[[nodiscard]] auto look_up(const Table& table, std::string_view name) {
  using Value = std::remove_cvref_t<decltype(table[0].second)>;
  for (const auto& [known, value] : table) {
    if (known == name) return std::optional<Value>(value);
  }
  return std::optional<Value>();
}

Result<std::uint32_t> action_of(std::string_view name, std::optional<std::uint32_t> errno_ret) {
  const auto action = look_up(kActions, name);
  if (!action) return fail(Code::kInvalid, "seccomp: unknown action \"" + std::string(name) + "\"");
  constexpr std::uint32_t kReturnMask = 0xffff;
  if (name == "SCMP_ACT_ERRNO") return *action | (errno_ret.value_or(EPERM) & kReturnMask);
  if (name == "SCMP_ACT_TRACE") return *action | (errno_ret.value_or(EPERM) & kReturnMask);
  return *action;
}

struct Release {
  void operator()(void* context) const { ::seccomp_release(context); }
};
using Context = std::unique_ptr<void, Release>;

Result<> add_rule(scmp_filter_ctx context, const SeccompRule& rule, std::uint32_t default_action) {
  BERTH_ASSIGN(const std::uint32_t action, action_of(rule.action, rule.errno_ret), "rule");
  if (action == default_action) return {};  // libseccomp refuses what changes nothing
  std::vector<scmp_arg_cmp> args;
  unsigned seen = 0;
  bool repeated = false;
  for (const auto& arg : rule.args) {
    const auto op = look_up(kOps, arg.op);
    if (!op) return fail(Code::kInvalid, "seccomp: unknown operator \"" + std::string(arg.op) + "\"");
    if (arg.index > 5) return fail(Code::kInvalid, "seccomp: argument index " + std::to_string(arg.index));
    repeated = repeated || (seen & (1U << arg.index)) != 0;
    seen |= 1U << arg.index;
    args.push_back({arg.index, *op, arg.value, arg.value_two});
  }
  for (const auto& name : *rule.names) {
    const int number = ::seccomp_syscall_resolve_name(name.c_str());
    if (number == __NR_SCMP_ERROR) continue;
    // libseccomp takes each argument once in a rule; several conditions on one are then one rule each ("or"), which is
    // what every runtime does with such a profile.
    int result = 0;
    if (repeated) {
      for (const auto& arg : args) {
        result = ::seccomp_rule_add_array(context, action, number, 1, &arg);
        if (result != 0 && result != -EEXIST) break;
      }
    } else {
      result = ::seccomp_rule_add_array(context, action, number, static_cast<unsigned>(args.size()), args.data());
    }
    if (result != 0 && result != -EEXIST) return fail_errno(-result, "seccomp rule for " + name);
  }
  return {};
}

Result<SeccompProgram> export_program(scmp_filter_ctx context) {
  const int raw = ::memfd_create("seccomp", MFD_CLOEXEC);
  if (raw < 0) return fail_errno(errno, "memfd_create");
  const UniqueFd fd(raw);
  if (const int result = ::seccomp_export_bpf(context, fd.get()); result != 0) {
    return fail_errno(-result, "seccomp: compile the filter");
  }
  if (::lseek(fd.get(), 0, SEEK_SET) != 0) return fail_errno(errno, "seccomp: lseek");
  constexpr std::size_t kMaxBytes = std::size_t{BPF_MAXINSNS} * sizeof(sock_filter);
  BERTH_ASSIGN(const std::string bytes, read_all(fd.get(), kMaxBytes), "seccomp: read the filter");
  SeccompProgram program;
  static_assert(sizeof(sock_filter) == sizeof(std::uint64_t));
  program.instructions.resize(bytes.size() / sizeof(sock_filter));
  bytes.copy(reinterpret_cast<char*>(program.instructions.data()), bytes.size());
  return program;
}

int set_filter(const SeccompProgram& program, unsigned flags) {
  sock_fprog prog{};
  prog.len = static_cast<unsigned short>(program.instructions.size());
  prog.filter = reinterpret_cast<sock_filter*>(const_cast<std::uint64_t*>(program.instructions.data()));
  return static_cast<int>(::syscall(SYS_seccomp, SECCOMP_SET_MODE_FILTER, flags, &prog));
}

}  // namespace

Result<SeccompProgram> compile_seccomp(const SeccompPolicy& policy) {
  BERTH_ASSIGN(const std::uint32_t default_action, action_of(policy.default_action, policy.default_errno_ret),
               "default action");
  const Context context(::seccomp_init(default_action));
  if (!context) return fail(Code::kInternal, "seccomp_init failed");
  if (policy.architectures != nullptr) {
    for (const auto& name : *policy.architectures) {
      const auto arch = look_up(kArchs, name);
      if (!arch) return fail(Code::kInvalid, "seccomp: unknown architecture \"" + name + "\"");
      const int result = ::seccomp_arch_add(context.get(), *arch);
      if (result != 0 && result != -EEXIST) return fail_errno(-result, "seccomp architecture " + name);
    }
  }
  // no_new_privs is the caller's business; a tree of jumps instead of a list makes each call cheaper for the container.
  ::seccomp_attr_set(context.get(), SCMP_FLTATR_CTL_NNP, 0);
  ::seccomp_attr_set(context.get(), SCMP_FLTATR_CTL_OPTIMIZE, 2);
  for (const auto& rule : policy.rules) BERTH_TRY(add_rule(context.get(), rule, default_action), "seccomp");
  return export_program(context.get());
}

Result<unsigned> seccomp_flags(const std::vector<std::string>& names) {
  unsigned flags = 0;
  for (const auto& name : names) {
    const auto flag = look_up(kFlags, name);
    if (!flag) return fail(Code::kInvalid, "seccomp: unknown flag \"" + name + "\"");
    flags |= *flag;
  }
  return flags;
}

bool needs_listener(const SeccompPolicy& policy) {
  return policy.default_action == kNotify ||
         std::ranges::any_of(policy.rules, [](const auto& rule) { return rule.action == kNotify; });
}

Result<> load_seccomp(const SeccompProgram& program, unsigned flags) {
  // Says how a listener waits; without one the kernel refuses it.
  const unsigned wanted = flags & ~static_cast<unsigned>(SECCOMP_FILTER_FLAG_WAIT_KILLABLE_RECV);
  if (set_filter(program, wanted) < 0) return fail_errno(errno, "load the seccomp filter");
  return {};
}

Result<int> load_seccomp_listener(const SeccompProgram& program, unsigned flags) {
  // The kernel has one result for both a listener and a thread that cannot be reached; there is but one thread here.
  const unsigned wanted = flags & ~static_cast<unsigned>(SECCOMP_FILTER_FLAG_TSYNC);
  const int listener = set_filter(program, wanted | SECCOMP_FILTER_FLAG_NEW_LISTENER);
  if (listener < 0) return fail_errno(errno, "load the seccomp filter with a listener");
  return listener;
}

std::vector<std::string_view> seccomp_action_names() {
  return names_of(kActions);
}
std::vector<std::string_view> seccomp_op_names() {
  return names_of(kOps);
}
std::vector<std::string_view> seccomp_arch_names() {
  return names_of(kArchs);
}
std::vector<std::string_view> seccomp_flag_names() {
  return names_of(kFlags);
}

}  // namespace berth::os
