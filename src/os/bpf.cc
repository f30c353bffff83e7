#include "os/bpf.h"

#include <linux/bpf.h>
#include <sys/syscall.h>
#include <unistd.h>

#include <array>
#include <cstring>

#include "base/unique_fd.h"

namespace berth::os {

namespace {

constexpr std::size_t kMaxPrograms = 64;  // the kernel's own bound for one cgroup (BPF_CGROUP_MAX_PROGS)

long bpf(bpf_cmd command, bpf_attr& attr) {
  return ::syscall(SYS_bpf, command, &attr, sizeof attr);
}

std::vector<std::uint32_t> attached_programs(int cgroup_fd) {
  std::vector<std::uint32_t> ids(kMaxPrograms);
  bpf_attr attr{};
  attr.query.target_fd = static_cast<std::uint32_t>(cgroup_fd);
  attr.query.attach_type = BPF_CGROUP_DEVICE;
  attr.query.prog_ids = reinterpret_cast<std::uint64_t>(ids.data());
  attr.query.prog_cnt = static_cast<std::uint32_t>(ids.size());
  if (bpf(BPF_PROG_QUERY, attr) != 0) return {};
  ids.resize(attr.query.prog_cnt);
  return ids;
}

Result<> detach(int cgroup_fd, std::uint32_t id) {
  bpf_attr by_id{};
  by_id.prog_id = id;
  const UniqueFd program(static_cast<int>(bpf(BPF_PROG_GET_FD_BY_ID, by_id)));
  if (!program.valid()) return fail_errno(errno, "open an attached device program");
  bpf_attr attr{};
  attr.target_fd = static_cast<std::uint32_t>(cgroup_fd);
  attr.attach_bpf_fd = static_cast<std::uint32_t>(program.get());
  attr.attach_type = BPF_CGROUP_DEVICE;
  if (bpf(BPF_PROG_DETACH, attr) != 0) return fail_errno(errno, "detach a device program");
  return {};
}

}  // namespace

Result<> attach_device_program(int cgroup_fd, const std::vector<std::uint64_t>& instructions, bool replace) {
  static constexpr char kLicense[] = "Apache-2.0";
  bpf_attr load{};
  load.prog_type = BPF_PROG_TYPE_CGROUP_DEVICE;
  load.insns = reinterpret_cast<std::uint64_t>(instructions.data());
  load.insn_cnt = static_cast<std::uint32_t>(instructions.size());
  load.license = reinterpret_cast<std::uint64_t>(&kLicense[0]);
  std::memcpy(load.prog_name, "berth_devices", sizeof("berth_devices"));
  const UniqueFd program(static_cast<int>(bpf(BPF_PROG_LOAD, load)));
  if (!program.valid()) {
    const int e = errno;
    if (e == EINVAL) return fail(Code::kUnsupported, "the kernel takes no device program (bpf)", e);
    return fail_errno(e, "load the device program");
  }
  const auto old = replace ? attached_programs(cgroup_fd) : std::vector<std::uint32_t>();
  bpf_attr attach{};
  attach.target_fd = static_cast<std::uint32_t>(cgroup_fd);
  attach.attach_bpf_fd = static_cast<std::uint32_t>(program.get());
  attach.attach_type = BPF_CGROUP_DEVICE;
  attach.attach_flags = BPF_F_ALLOW_MULTI;
  if (bpf(BPF_PROG_ATTACH, attach) != 0) return fail_errno(errno, "attach the device program");
  // The new one first: at no moment is there none.
  for (const std::uint32_t id : old) BERTH_TRY(detach(cgroup_fd, id), "replace");
  return {};
}

}  // namespace berth::os
