#include "os/caps.h"

#include <linux/capability.h>
#include <sys/prctl.h>
#include <sys/syscall.h>
#include <unistd.h>

#include <algorithm>
#include <array>
#include <string>

namespace berth::os {

namespace {
// Index = number. Source: linux/capability.h of Linux 6.18.
constexpr std::array<std::string_view, 41> kNames{"CAP_CHOWN",
                                                  "CAP_DAC_OVERRIDE",
                                                  "CAP_DAC_READ_SEARCH",
                                                  "CAP_FOWNER",
                                                  "CAP_FSETID",
                                                  "CAP_KILL",
                                                  "CAP_SETGID",
                                                  "CAP_SETUID",
                                                  "CAP_SETPCAP",
                                                  "CAP_LINUX_IMMUTABLE",
                                                  "CAP_NET_BIND_SERVICE",
                                                  "CAP_NET_BROADCAST",
                                                  "CAP_NET_ADMIN",
                                                  "CAP_NET_RAW",
                                                  "CAP_IPC_LOCK",
                                                  "CAP_IPC_OWNER",
                                                  "CAP_SYS_MODULE",
                                                  "CAP_SYS_RAWIO",
                                                  "CAP_SYS_CHROOT",
                                                  "CAP_SYS_PTRACE",
                                                  "CAP_SYS_PACCT",
                                                  "CAP_SYS_ADMIN",
                                                  "CAP_SYS_BOOT",
                                                  "CAP_SYS_NICE",
                                                  "CAP_SYS_RESOURCE",
                                                  "CAP_SYS_TIME",
                                                  "CAP_SYS_TTY_CONFIG",
                                                  "CAP_MKNOD",
                                                  "CAP_LEASE",
                                                  "CAP_AUDIT_WRITE",
                                                  "CAP_AUDIT_CONTROL",
                                                  "CAP_SETFCAP",
                                                  "CAP_MAC_OVERRIDE",
                                                  "CAP_MAC_ADMIN",
                                                  "CAP_SYSLOG",
                                                  "CAP_WAKE_ALARM",
                                                  "CAP_BLOCK_SUSPEND",
                                                  "CAP_AUDIT_READ",
                                                  "CAP_PERFMON",
                                                  "CAP_BPF",
                                                  "CAP_CHECKPOINT_RESTORE"};

using CapData = std::array<__user_cap_data_struct, 2>;
}  // namespace

std::optional<int> cap_number(std::string_view name) {
  const auto* const found = std::find(kNames.begin(), kNames.end(), name);
  if (found == kNames.end()) return std::nullopt;
  return static_cast<int>(found - kNames.begin());
}

std::span<const std::string_view> cap_names() {
  return kNames;
}

Result<CapSets> get_caps() {
  __user_cap_header_struct header{_LINUX_CAPABILITY_VERSION_3, 0};
  CapData data{};
  if (::syscall(SYS_capget, &header, data.data()) != 0) return fail_errno(errno, "capget");
  const auto whole = [](std::uint32_t low, std::uint32_t high) {
    return static_cast<std::uint64_t>(low) | (static_cast<std::uint64_t>(high) << 32U);
  };
  return CapSets{whole(data[0].effective, data[1].effective), whole(data[0].permitted, data[1].permitted),
                 whole(data[0].inheritable, data[1].inheritable)};
}

Result<> set_caps(const CapSets& sets) {
  __user_cap_header_struct header{_LINUX_CAPABILITY_VERSION_3, 0};
  CapData data{};
  for (unsigned i = 0; i < 2; ++i) {
    data[i].effective = static_cast<std::uint32_t>(sets.effective >> (32 * i));
    data[i].permitted = static_cast<std::uint32_t>(sets.permitted >> (32 * i));
    data[i].inheritable = static_cast<std::uint32_t>(sets.inheritable >> (32 * i));
  }
  if (::syscall(SYS_capset, &header, data.data()) != 0) return fail_errno(errno, "capset");
  return {};
}

std::uint64_t bounding_caps(std::uint64_t among) {
  std::uint64_t set = 0;
  for (unsigned cap = 0; cap < 64; ++cap) {
    if ((among & (1ULL << cap)) == 0) continue;
    const int held = ::prctl(PR_CAPBSET_READ, cap, 0, 0, 0);
    if (held < 0) break;  // past the last capability of this kernel
    if (held == 1) set |= 1ULL << cap;
  }
  return set;
}

Result<> limit_bounding_caps(std::uint64_t keep) {
  for (unsigned cap = 0; cap < 64; ++cap) {
    if ((keep & (1ULL << cap)) != 0 || ::prctl(PR_CAPBSET_DROP, cap, 0, 0, 0) == 0) continue;
    const int e = errno;
    if (e == EINVAL) break;                                     // past the last capability of this kernel
    if (::prctl(PR_CAPBSET_READ, cap, 0, 0, 0) == 0) continue;  // may not drop any, and need not drop this one
    return fail_errno(e, "drop capability " + std::to_string(cap) + " from the bounding set");
  }
  return {};
}

Result<> set_ambient_caps(std::uint64_t caps) {
  if (::prctl(PR_CAP_AMBIENT, PR_CAP_AMBIENT_CLEAR_ALL, 0, 0, 0) != 0) return fail_errno(errno, "clear ambient caps");
  for (unsigned cap = 0; cap < 64; ++cap) {
    if ((caps & (1ULL << cap)) == 0) continue;
    if (::prctl(PR_CAP_AMBIENT, PR_CAP_AMBIENT_RAISE, cap, 0, 0) != 0) {
      return fail_errno(errno, "raise ambient capability " + std::to_string(cap));
    }
  }
  return {};
}

Result<> keep_caps(bool on) {
  if (::prctl(PR_SET_KEEPCAPS, on ? 1 : 0, 0, 0, 0) != 0) return fail_errno(errno, "keep capabilities");
  return {};
}

Result<> set_groups(std::span<const gid_t> groups) {
  if (::syscall(SYS_setgroups, groups.size(), groups.data()) != 0) return fail_errno(errno, "setgroups");
  return {};
}

Result<> set_ids(uid_t uid, gid_t gid) {
  // -1 means "as it is" to these calls: who asked for that id would go on as the caller, who is root.
  if (uid == static_cast<uid_t>(-1)) return fail(Code::kInvalid, std::to_string(uid) + " is no user");
  if (gid == static_cast<gid_t>(-1)) return fail(Code::kInvalid, std::to_string(gid) + " is no group");
  if (::syscall(SYS_setresgid, gid, gid, gid) != 0) {
    const int e = errno;
    return fail_errno(e, "set gid " + std::to_string(gid));
  }
  if (::syscall(SYS_setresuid, uid, uid, uid) != 0) {
    const int e = errno;
    return fail_errno(e, "set uid " + std::to_string(uid));
  }
  return {};
}

}  // namespace berth::os
