#include "engine/process/cgroup_plan.h"

#include <algorithm>

#include "engine/process/device_filter.h"

namespace berth::engine::process {

namespace {

class Writer {
 public:
  void add(const char* controller, std::string file, std::string value, bool optional = false) {
    plan_.push_back({controller, std::move(file), std::move(value), optional});
  }
  template <class N>
  void number(const char* controller, const char* file, const std::optional<N>& value, bool optional = false) {
    if (value) add(controller, file, std::to_string(*value), optional);
  }
  [[nodiscard]] CgroupPlan take() { return std::move(plan_); }

 private:
  CgroupPlan plan_;
};

std::string device_number(std::int64_t major, std::int64_t minor) {
  return std::to_string(major) + ":" + std::to_string(minor);
}

/// "-1" is "max" under v2.
std::string v2_limit(std::int64_t value) {
  return value < 0 ? "max" : std::to_string(value);
}

std::string pids_limit(std::int64_t value) {
  return value <= 0 ? "max" : std::to_string(value);
}

std::string device_rule(const spec::DeviceRule& rule) {
  const auto part = [](const std::optional<std::int64_t>& n) {
    return !n || *n < 0 ? std::string("*") : std::to_string(*n);
  };
  std::string text = rule.type.empty() ? "a" : rule.type;
  text.append(" ").append(part(rule.major)).append(":").append(part(rule.minor));
  return text.append(" ").append(rule.access.empty() ? "rwm" : rule.access);
}

void devices_v1(const spec::Resources& resources, Writer& out) {
  for (const auto& rule : with_default_rules(resources.devices)) {
    out.add("devices", rule.allow ? "devices.allow" : "devices.deny", device_rule(rule));
  }
}

void memory_v1(const spec::MemoryResources& memory, Writer& out) {
  if (memory.limit && *memory.limit != 0) {
    out.add("memory", "memory.limit_in_bytes", std::to_string(*memory.limit), *memory.limit < 0);
  }
  if (memory.swap && *memory.swap != 0) {
    // Kernels without swap accounting have no such file; a limit equal to the memory's means "no swap", which they hold
    // only where there is none, so the file may be missing for "no limit" alone.
    out.add("memory", "memory.memsw.limit_in_bytes", std::to_string(*memory.swap), *memory.swap < 0);
  }
  if (memory.reservation && *memory.reservation != 0) {
    out.add("memory", "memory.soft_limit_in_bytes", std::to_string(*memory.reservation), *memory.reservation < 0);
  }
  // memory.kmem.limit_in_bytes is gone since Linux 6.1: runtimes ignore `kernel`, as the specification allows.
  if (memory.kernel_tcp && *memory.kernel_tcp != 0) {
    out.add("memory", "memory.kmem.tcp.limit_in_bytes", std::to_string(*memory.kernel_tcp), *memory.kernel_tcp < 0);
  }
  if (memory.swappiness && *memory.swappiness <= 100) out.number("memory", "memory.swappiness", memory.swappiness);
  if (memory.disable_oom_killer && *memory.disable_oom_killer) out.add("memory", "memory.oom_control", "1");
}

void cpu_v1(const spec::CpuResources& cpu, Writer& out) {
  if (cpu.shares && *cpu.shares != 0) out.number("cpu", "cpu.shares", cpu.shares);
  // The real-time period first: the runtime must fit in it.
  if (cpu.realtime_period && *cpu.realtime_period != 0) out.number("cpu", "cpu.rt_period_us", cpu.realtime_period);
  if (cpu.realtime_runtime && *cpu.realtime_runtime != 0) out.number("cpu", "cpu.rt_runtime_us", cpu.realtime_runtime);
  if (cpu.period && *cpu.period != 0) out.number("cpu", "cpu.cfs_period_us", cpu.period);
  if (cpu.quota && *cpu.quota != 0) out.add("cpu", "cpu.cfs_quota_us", std::to_string(*cpu.quota), *cpu.quota < 0);
  // After the quota, which bounds it.
  if (cpu.burst) out.number("cpu", "cpu.cfs_burst_us", cpu.burst, *cpu.burst == 0);
  if (cpu.idle) out.number("cpu", "cpu.idle", cpu.idle, *cpu.idle == 0);
  if (!cpu.cpus.empty()) out.add("cpuset", "cpuset.cpus", cpu.cpus);
  if (!cpu.mems.empty()) out.add("cpuset", "cpuset.mems", cpu.mems);
}

void throttle_v1(const char* file, const std::vector<spec::ThrottleDevice>& devices, Writer& out) {
  for (const auto& device : devices) {
    out.add("blkio", file, device_number(device.major, device.minor) + " " + std::to_string(device.rate));
  }
}

void block_io_v1(const spec::BlockIoResources& io, Writer& out) {
  if (io.weight && *io.weight != 0) out.number("blkio", "blkio.weight", io.weight);
  if (io.leaf_weight && *io.leaf_weight != 0) out.number("blkio", "blkio.leaf_weight", io.leaf_weight);
  for (const auto& device : io.weight_device) {
    const std::string number = device_number(device.major, device.minor) + " ";
    if (device.weight) out.add("blkio", "blkio.weight_device", number + std::to_string(*device.weight));
    if (device.leaf_weight) out.add("blkio", "blkio.leaf_weight_device", number + std::to_string(*device.leaf_weight));
  }
  throttle_v1("blkio.throttle.read_bps_device", io.throttle_read_bps_device, out);
  throttle_v1("blkio.throttle.write_bps_device", io.throttle_write_bps_device, out);
  throttle_v1("blkio.throttle.read_iops_device", io.throttle_read_iops_device, out);
  throttle_v1("blkio.throttle.write_iops_device", io.throttle_write_iops_device, out);
}

void network_v1(const spec::NetworkResources& network, Writer& out) {
  if (network.class_id && *network.class_id != 0) out.number("net_cls", "net_cls.classid", network.class_id);
  for (const auto& entry : network.priorities) {
    out.add("net_prio", "net_prio.ifpriomap", entry.name + " " + std::to_string(entry.priority));
  }
}

void rdma(const spec::Resources& resources, Writer& out) {
  for (const auto& [device, limit] : resources.rdma) {
    std::string value = device;
    if (limit.hca_handles) value.append(" hca_handle=").append(std::to_string(*limit.hca_handles));
    if (limit.hca_objects) value.append(" hca_object=").append(std::to_string(*limit.hca_objects));
    if (value != device) out.add("rdma", "rdma.max", value);
  }
}

/// A page size names a file: nothing but digits and a unit may pass.
Result<> check_page_size(const std::string& size) {
  const std::size_t digits = std::min(size.find_first_not_of("0123456789"), size.size());
  const std::string_view unit = std::string_view(size).substr(digits);
  if (digits == 0 || digits > 12 || (unit != "KB" && unit != "MB" && unit != "GB")) {
    return fail(Code::kInvalid, "linux.resources.hugepageLimits: page size \"" + size + "\" is no <number>(KB|MB|GB)");
  }
  return {};
}

Result<> hugepages(const spec::Resources& resources, bool v2, Writer& out) {
  for (const auto& entry : resources.hugepage_limits) {
    BERTH_TRY(check_page_size(entry.page_size), "cgroup");
    out.add("hugetlb", "hugetlb." + entry.page_size + (v2 ? ".max" : ".limit_in_bytes"), std::to_string(entry.limit),
            entry.limit == 0);
  }
  return {};
}

Result<> memory_v2(const spec::MemoryResources& memory, Writer& out) {
  const std::int64_t limit = memory.limit.value_or(0);
  if (limit != 0) out.add("memory", "memory.max", v2_limit(limit), limit < 0);
  if (memory.swap && *memory.swap != 0) {
    if (*memory.swap < 0) {
      out.add("memory", "memory.swap.max", "max", true);
    } else if (limit > 0 && *memory.swap >= limit) {
      // v2 counts swap alone; without a swap file in the kernel "no swap" holds by itself.
      out.add("memory", "memory.swap.max", std::to_string(*memory.swap - limit), *memory.swap == limit);
    } else {
      return fail(Code::kInvalid, "linux.resources.memory.swap must be at least the memory limit under cgroup v2");
    }
  }
  if (memory.reservation && *memory.reservation != 0) {
    out.add("memory", "memory.low", v2_limit(*memory.reservation), *memory.reservation < 0);
  }
  return {};
}

void cpu_v2(const spec::CpuResources& cpu, Writer& out) {
  if (cpu.idle) out.number("cpu", "cpu.idle", cpu.idle, *cpu.idle == 0);
  if (cpu.shares && *cpu.shares != 0) out.add("cpu", "cpu.weight", std::to_string(cpu_weight_of_shares(*cpu.shares)));
  const std::int64_t quota = cpu.quota.value_or(0);
  const std::uint64_t period = cpu.period.value_or(0);
  if (quota != 0 || period != 0) {
    constexpr std::uint64_t kDefaultPeriodUs = 100'000;  // cgroup-v2.rst, cpu.max
    std::string value = quota > 0 ? std::to_string(quota) : "max";
    value.append(" ").append(std::to_string(period != 0 ? period : kDefaultPeriodUs));
    out.add("cpu", "cpu.max", value, quota <= 0);
  }
  if (cpu.burst) out.number("cpu", "cpu.max.burst", cpu.burst, *cpu.burst == 0);
  if (!cpu.cpus.empty()) out.add("cpuset", "cpuset.cpus", cpu.cpus);
  if (!cpu.mems.empty()) out.add("cpuset", "cpuset.mems", cpu.mems);
}

void throttle_v2(const char* key, const std::vector<spec::ThrottleDevice>& devices, Writer& out) {
  for (const auto& device : devices) {
    out.add("io", "io.max",
            device_number(device.major, device.minor) + " " + key + "=" +
                (device.rate == 0 ? "max" : std::to_string(device.rate)));
  }
}

void block_io_v2(const spec::BlockIoResources& io, Writer& out) {
  if (io.weight && *io.weight != 0) {
    // blkio weights go from 10 to 1000, io.weight from 1 to 10000.
    const std::uint64_t weight =
        1 + (static_cast<std::uint64_t>(std::max<std::uint16_t>(*io.weight, 10)) - 10) * 9999 / 990;
    out.add("io", "io.weight", "default " + std::to_string(weight));
  }
  for (const auto& device : io.weight_device) {
    if (!device.weight) continue;
    out.add("io", "io.bfq.weight", device_number(device.major, device.minor) + " " + std::to_string(*device.weight));
  }
  throttle_v2("rbps", io.throttle_read_bps_device, out);
  throttle_v2("wbps", io.throttle_write_bps_device, out);
  throttle_v2("riops", io.throttle_read_iops_device, out);
  throttle_v2("wiops", io.throttle_write_iops_device, out);
}

Result<> unified(const spec::Resources& resources, Writer& out) {
  for (const auto& [file, value] : resources.unified) {
    const std::size_t dot = file.find('.');
    if (dot == std::string::npos || dot == 0 || file.find('/') != std::string::npos) {
      return fail(Code::kInvalid, "linux.resources.unified: \"" + file + "\" is no control file");
    }
    out.add(file.substr(0, dot).c_str(), file, value);
  }
  return {};
}

}  // namespace

Result<CgroupPlan> plan_cgroup_v1(const spec::Resources& resources) {
  if (!resources.unified.empty()) {
    return fail(Code::kUnsupported, "linux.resources.unified needs cgroup v2, this host has v1");
  }
  Writer out;
  if (resources.cpu) cpu_v1(*resources.cpu, out);
  if (resources.memory) memory_v1(*resources.memory, out);
  if (resources.pids && resources.pids->limit)
    out.add("pids", "pids.max", pids_limit(*resources.pids->limit), *resources.pids->limit <= 0);
  if (resources.block_io) block_io_v1(*resources.block_io, out);
  BERTH_TRY(hugepages(resources, false, out), "cgroup v1");
  if (resources.network) network_v1(*resources.network, out);
  rdma(resources, out);
  devices_v1(resources, out);
  return out.take();
}

Result<CgroupPlan> plan_cgroup_v2(const spec::Resources& resources) {
  Writer out;
  if (resources.cpu) cpu_v2(*resources.cpu, out);
  if (resources.memory) BERTH_TRY(memory_v2(*resources.memory, out), "cgroup v2");
  if (resources.pids && resources.pids->limit)
    out.add("pids", "pids.max", pids_limit(*resources.pids->limit), *resources.pids->limit <= 0);
  if (resources.block_io) block_io_v2(*resources.block_io, out);
  BERTH_TRY(hugepages(resources, true, out), "cgroup v2");
  rdma(resources, out);
  BERTH_TRY(unified(resources, out), "cgroup v2");
  return out.take();
}

}  // namespace berth::engine::process
