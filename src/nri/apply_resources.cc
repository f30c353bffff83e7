#include <algorithm>

#include "nri/apply_linux.h"

namespace berth::nri {
namespace {

void apply_memory(const api::LinuxMemory& asked, const Machine& machine, spec::MemoryResources& into) {
  // 0 is how plugins in Go say that they set none.
  if (asked.has_limit() && asked.limit().value() != 0) {
    into.limit = asked.limit().value();
    if (machine.swap_accounting) into.swap = into.limit;
  }
  if (asked.has_reservation()) into.reservation = asked.reservation().value();
  // Where swap is not counted there is no file for it, and the whole update would fail.
  if (machine.swap_accounting && asked.swap().value() != 0) into.swap = asked.swap().value();
  if (asked.has_kernel()) into.kernel = asked.kernel().value();
  if (asked.has_kernel_tcp()) into.kernel_tcp = asked.kernel_tcp().value();
  if (asked.has_swappiness()) into.swappiness = asked.swappiness().value();
  if (asked.has_disable_oom_killer()) into.disable_oom_killer = asked.disable_oom_killer().value();
  if (asked.has_use_hierarchy()) into.use_hierarchy = asked.use_hierarchy().value();
}

void apply_cpu(const api::LinuxCPU& asked, spec::CpuResources& into) {
  if (asked.has_shares() && asked.shares().value() != 0) into.shares = asked.shares().value();
  if (asked.has_quota() && asked.quota().value() != 0) into.quota = std::max<std::int64_t>(asked.quota().value(), -1);
  if (asked.has_period() && asked.period().value() != 0) into.period = asked.period().value();
  if (asked.has_realtime_runtime()) into.realtime_runtime = asked.realtime_runtime().value();
  if (asked.has_realtime_period()) into.realtime_period = asked.realtime_period().value();
  if (!asked.cpus().empty()) into.cpus = asked.cpus();
  if (!asked.mems().empty()) into.mems = asked.mems();
}

Result<> apply_hugepages(const api::LinuxResources& asked, const Machine& machine, const FieldName& name,
                         spec::Resources& into) {
  for (const auto& page : asked.hugepage_limits()) {
    if (!machine.hugetlb && page.limit() == 0) continue;
    if (!machine.hugetlb) {
      return fail(Code::kUnsupported,
                  name(api::HugepageLimits, page.page_size()) + ": this kernel has no hugetlb controller");
    }
    std::erase_if(into.hugepage_limits, [&](const auto& other) { return other.page_size == page.page_size(); });
    spec::HugepageLimit limit;
    limit.page_size = page.page_size();
    limit.limit = page.limit();
    into.hugepage_limits.push_back(std::move(limit));
  }
  return {};
}

}  // namespace

Result<> apply(const api::LinuxResources& asked, const Machine& machine, spec::Resources& into) {
  return apply_resources(asked, machine, field_words, into);
}

Result<> apply_resources(const api::LinuxResources& asked, const Machine& machine, const FieldName& name,
                         spec::Resources& into) {
  if (asked.has_memory()) {
    spec::MemoryResources memory = into.memory.value_or(spec::MemoryResources{});
    apply_memory(asked.memory(), machine, memory);
    if (memory != spec::MemoryResources{}) into.memory = memory;
  }
  if (asked.has_cpu()) {
    spec::CpuResources cpu = into.cpu.value_or(spec::CpuResources{});
    apply_cpu(asked.cpu(), cpu);
    if (cpu != spec::CpuResources{}) into.cpu = cpu;
  }
  if (asked.has_pids()) {
    into.pids.emplace();
    into.pids->limit = asked.pids().limit();
  }
  BERTH_TRY(apply_hugepages(asked, machine, name, into), "resources");
  for (const auto& [file, value] : asked.unified()) {
    if (!machine.cgroup_v2) {
      return fail(Code::kUnsupported, name(api::CgroupsUnified, file) + ": this machine has cgroup v1");
    }
    if (file.empty() || file.find('/') != file.npos) {
      return fail(Code::kInvalid, name(api::CgroupsUnified, file) + ": it is no file of a cgroup");
    }
    into.unified[file] = value;
  }
  return {};
}

}  // namespace berth::nri
