#include "base/strings.h"
#include "cri/spec_builder.h"

namespace berth::cri {

namespace {

Result<> set_cpu(spec::Resources& resources, const pb::LinuxContainerResources& limits) {
  spec::CpuResources cpu;
  if (limits.cpu_shares() < 0 || limits.cpu_period() < 0)
    return fail(Code::kInvalid, "cpu_shares or cpu_period below 0");
  if (limits.cpu_shares() > 0) cpu.shares = static_cast<std::uint64_t>(limits.cpu_shares());
  if (limits.cpu_period() > 0) cpu.period = static_cast<std::uint64_t>(limits.cpu_period());
  if (limits.cpu_quota() != 0) cpu.quota = limits.cpu_quota() < 0 ? -1 : limits.cpu_quota();
  cpu.cpus = limits.cpuset_cpus();
  cpu.mems = limits.cpuset_mems();
  if (cpu != spec::CpuResources{}) resources.cpu = cpu;
  return {};
}

/// Without a limit for swap, none may be used: the limit of both together is that of memory.
void set_memory(spec::Resources& resources, const pb::LinuxContainerResources& limits, const HostFacts& host) {
  if (limits.memory_limit_in_bytes() == 0 && limits.memory_swap_limit_in_bytes() == 0) return;
  spec::MemoryResources memory;
  if (limits.memory_limit_in_bytes() != 0) memory.limit = limits.memory_limit_in_bytes();
  if (host.swap_accounting) {
    if (limits.memory_swap_limit_in_bytes() != 0) {
      memory.swap = limits.memory_swap_limit_in_bytes();
    } else {
      memory.swap = limits.memory_limit_in_bytes();
    }
  }
  resources.memory = memory;
}

}  // namespace

Result<spec::Resources> build_resources(const pb::LinuxContainerResources& limits, const HostFacts& host) {
  spec::Resources resources;
  BERTH_TRY(set_cpu(resources, limits), "resources");
  set_memory(resources, limits, host);
  for (const auto& page : limits.hugepage_limits()) {
    // A kubelet always sends limits of 0, also for controllers that are not there.
    if (!host.hugetlb && page.limit() == 0) continue;
    if (!host.hugetlb) {
      return fail(Code::kUnsupported, "hugepage_limits: this kernel has no hugetlb controller for " + page.page_size());
    }
    spec::HugepageLimit limit;
    limit.page_size = page.page_size();
    limit.limit = page.limit();
    resources.hugepage_limits.push_back(std::move(limit));
  }
  if (!limits.unified().empty() && !host.cgroup_v2) {
    return fail(Code::kUnsupported, "resources.unified: this machine has cgroup v1");
  }
  for (const auto& [file, value] : limits.unified()) {
    if (file.empty() || file.find('/') != std::string::npos) {
      return fail(Code::kInvalid, "resources.unified: \"" + file + "\" is no file of a cgroup");
    }
    resources.unified[file] = value;
  }
  return resources;
}

Result<std::string> cgroup_parent_path(std::string_view parent) {
  std::string path = "/";
  path.append(parent);
  for (std::size_t at = 0; (at = path.find("..", at)) != std::string::npos; at += 2) {
    const bool starts = path[at - 1] == '/';
    const bool ends = at + 2 == path.size() || path[at + 2] == '/';
    if (starts && ends) return fail(Code::kInvalid, "cgroup_parent \"" + std::string(parent) + "\" holds \"..\"");
  }
  if (path.find('\0') != std::string::npos || path.size() > 4000) {
    return fail(Code::kInvalid, "cgroup_parent is no path");
  }
  return clean_path(path);
}

}  // namespace berth::cri
