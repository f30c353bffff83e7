#include "cri/pod_resources.h"

#include <algorithm>
#include <limits>
#include <map>
#include <string>
#include <string_view>
#include <utility>

#include "base/strings.h"

namespace berth::cri {

namespace {

using Resources = pb::LinuxContainerResources;

constexpr std::int64_t kMost = std::numeric_limits<std::int64_t>::max();
constexpr std::int64_t kDefaultPeriodUs = 100'000;  // of the kernel, sched-bwc.rst
constexpr std::int64_t kMinPeriodUs = 1'000;
constexpr std::int64_t kMaxPeriodUs = 1'000'000;
constexpr std::int64_t kMaxShares = 262'144;  // MAX_SHARES in kernel/sched/sched.h

std::int64_t sum(std::int64_t a, std::int64_t b) {
  return a > kMost - b ? kMost : a + b;
}

Result<> check(const Resources& one, const char* name) {
  const auto bad = [name](const std::string& what) { return fail(Code::kInvalid, std::string(name) + "." + what); };
  if (one.cpu_shares() < 0) return bad("cpu_shares is below 0");
  if (one.cpu_period() != 0 && (one.cpu_period() < kMinPeriodUs || one.cpu_period() > kMaxPeriodUs)) {
    return bad("cpu_period is not between 1000 and 1000000 microseconds");
  }
  const auto list = [](std::string_view text) { return text.find_first_not_of("0123456789,-") == text.npos; };
  if (!list(one.cpuset_cpus())) return bad("cpuset_cpus is no list of numbers");
  if (!list(one.cpuset_mems())) return bad("cpuset_mems is no list of numbers");
  for (const auto& [file, value] : one.unified()) {
    // Those do not limit: they freeze, kill and move.
    if (file.starts_with("cgroup.") || file.find('.') == std::string::npos || file.find('/') != std::string::npos) {
      return bad("unified: \"" + file + "\" is no limit of a cgroup");
    }
  }
  return {};
}

/// A page size names a file: nothing but digits and a unit may pass.
bool is_page_size(const std::string& size) {
  const auto digits = std::min(size.find_first_not_of("0123456789"), size.size());
  const auto unit = std::string_view(size).substr(digits);
  return digits > 0 && digits <= 12 && (unit == "KB" || unit == "MB" || unit == "GB");
}

class Planner final {
 public:
  Planner(const PodResources& whole, const PodResources& asked, const HostFacts& host)
      : all_(whole.resources), over_(whole.overhead), asked_(asked), host_(host) {}

  Result<os::CgroupPlan> plan() {
    BERTH_TRY(memory(), "memory");
    BERTH_TRY(cpu(), "cpu");
    BERTH_TRY(cpusets(), "cpuset");
    BERTH_TRY(huge_pages(), "huge pages");
    BERTH_TRY(unified(), "unified");
    return std::move(plan_);
  }

 private:
  /// Whether the request names one of these.
  template <class Get>
  [[nodiscard]] bool names(Get get) const {
    return get(asked_.resources) || get(asked_.overhead);
  }
  /// What RunPodSandbox was given is not checked.
  static std::int64_t period_of(const Resources& one) {
    const bool possible = one.cpu_period() >= kMinPeriodUs && one.cpu_period() <= kMaxPeriodUs;
    return possible ? one.cpu_period() : kDefaultPeriodUs;
  }
  void add(const char* controller, std::string file, std::string value, bool optional = false) {
    plan_.push_back({controller, std::move(file), std::move(value), optional});
  }
  [[nodiscard]] std::string limit(std::int64_t value) const {
    return value >= 0 ? std::to_string(value) : host_.cgroup_v2 ? "max" : "-1";
  }

  Result<> memory() {
    const bool asked = names([](const Resources& one) { return one.memory_limit_in_bytes() != 0; });
    const auto own = all_.memory_limit_in_bytes();
    const auto whole = own > 0 ? sum(own, std::max<std::int64_t>(over_.memory_limit_in_bytes(), 0)) : own;
    if (asked && own != 0) {
      add("memory", host_.cgroup_v2 ? "memory.max" : "memory.limit_in_bytes", limit(whole), own < 0);
    }
    // Without a wish nothing is said of swap: what the containers may use is in their own limits.
    if (!names([](const Resources& one) { return one.memory_swap_limit_in_bytes() != 0; })) return {};
    const auto swap = all_.memory_swap_limit_in_bytes();
    if (swap == 0) return {};
    if (!host_.swap_accounting && swap > 0) return fail(Code::kUnsupported, "this kernel does not account swap");
    const auto over = std::max(over_.memory_swap_limit_in_bytes(), over_.memory_limit_in_bytes());
    const auto both = swap > 0 ? sum(swap, std::max<std::int64_t>(over, 0)) : swap;
    if (!host_.cgroup_v2) {
      add("memory", "memory.memsw.limit_in_bytes", limit(both), swap < 0);
    } else if (swap < 0) {
      add("memory", "memory.swap.max", "max", true);
    } else if (whole <= 0 || both < whole) {
      return fail(Code::kInvalid,
                  "memory_swap_limit_in_bytes counts memory and swap: it must be at least the memory's");
    } else {
      add("memory", "memory.swap.max", std::to_string(both - whole), both == whole);
    }
    return {};
  }

  Result<> cpu() {
    if (names([](const Resources& one) { return one.cpu_shares() != 0; }) && all_.cpu_shares() > 0) {
      const auto shares = std::min(sum(all_.cpu_shares(), std::max<std::int64_t>(over_.cpu_shares(), 0)), kMaxShares);
      if (host_.cgroup_v2) {
        add("cpu", "cpu.weight", std::to_string(os::cpu_weight_of_shares(static_cast<std::uint64_t>(shares))));
      } else {
        add("cpu", "cpu.shares", std::to_string(shares));
      }
    }
    if (!names([](const Resources& one) { return one.cpu_quota() != 0 || one.cpu_period() != 0; })) return {};
    const auto period = period_of(all_);
    auto quota = all_.cpu_quota();
    if (quota > 0 && over_.cpu_quota() > 0) {
      const auto over_period = period_of(over_);
      if (over_.cpu_quota() >= kMost / kMaxPeriodUs) return fail(Code::kInvalid, "overhead.cpu_quota is out of range");
      // In the other's period, rounded up.
      quota = sum(quota, (over_.cpu_quota() * period + over_period - 1) / over_period);
    }
    if (quota == 0) return {};
    if (host_.cgroup_v2) {
      add("cpu", "cpu.max", limit(quota < 0 ? -1 : quota) + " " + std::to_string(period), quota < 0);
      return {};
    }
    add("cpu", "cpu.cfs_period_us", std::to_string(period));
    add("cpu", "cpu.cfs_quota_us", limit(quota < 0 ? -1 : quota), quota < 0);
    return {};
  }

  Result<> cpusets() {
    const auto join = [](const std::string& own, const std::string& over) {
      return own.empty() || over.empty() || own == over ? own : own + "," + over;
    };
    if (names([](const Resources& one) { return !one.cpuset_cpus().empty(); }) && !all_.cpuset_cpus().empty()) {
      add("cpuset", "cpuset.cpus", join(all_.cpuset_cpus(), over_.cpuset_cpus()));
    }
    if (names([](const Resources& one) { return !one.cpuset_mems().empty(); }) && !all_.cpuset_mems().empty()) {
      add("cpuset", "cpuset.mems", join(all_.cpuset_mems(), over_.cpuset_mems()));
    }
    return {};
  }

  Result<> huge_pages() {
    if (!names([](const Resources& one) { return one.hugepage_limits_size() > 0; })) return {};
    std::map<std::string, std::uint64_t> sizes;
    for (const auto& page : all_.hugepage_limits()) sizes[page.page_size()] = page.limit();
    for (const auto& page : over_.hugepage_limits()) {
      if (const auto found = sizes.find(page.page_size()); found != sizes.end()) found->second += page.limit();
    }
    for (const auto& [size, bytes] : sizes) {
      if (!is_page_size(size)) return fail(Code::kInvalid, "page size \"" + size + "\" is no <number>(KB|MB|GB)");
      // A kubelet always sends limits of 0, also for controllers that are not there.
      if (!host_.hugetlb && bytes == 0) continue;
      if (!host_.hugetlb) return fail(Code::kUnsupported, "this kernel has no hugetlb controller for " + size);
      add("hugetlb", "hugetlb." + size + (host_.cgroup_v2 ? ".max" : ".limit_in_bytes"), std::to_string(bytes),
          bytes == 0);
    }
    return {};
  }

  Result<> unified() {
    for (const auto* part : {&asked_.resources, &asked_.overhead}) {
      if (!part->unified().empty() && !host_.cgroup_v2) {
        return fail(Code::kUnsupported, "this machine has cgroup v1");
      }
    }
    std::map<std::string, std::string> files(asked_.resources.unified().begin(), asked_.resources.unified().end());
    for (const auto& [file, value] : asked_.overhead.unified()) {
      if (!files.emplace(file, value).second) {
        return fail(Code::kInvalid, "\"" + file + "\" is in resources and in overhead, and text has no sum");
      }
    }
    for (const auto& [file, value] : files) add(file.substr(0, file.find('.')).c_str(), file, value);
    return {};
  }

  const Resources& all_;
  const Resources& over_;
  const PodResources& asked_;
  const HostFacts& host_;
  os::CgroupPlan plan_;
};

}  // namespace

pb::LinuxContainerResources merged(const pb::LinuxContainerResources& old, const pb::LinuxContainerResources& asked) {
  pb::LinuxContainerResources result = old;
  if (asked.cpu_period() != 0) result.set_cpu_period(asked.cpu_period());
  if (asked.cpu_quota() != 0) result.set_cpu_quota(asked.cpu_quota());
  if (asked.cpu_shares() != 0) result.set_cpu_shares(asked.cpu_shares());
  if (asked.memory_limit_in_bytes() != 0) result.set_memory_limit_in_bytes(asked.memory_limit_in_bytes());
  if (asked.memory_swap_limit_in_bytes() != 0)
    result.set_memory_swap_limit_in_bytes(asked.memory_swap_limit_in_bytes());
  if (!asked.cpuset_cpus().empty()) result.set_cpuset_cpus(asked.cpuset_cpus());
  if (!asked.cpuset_mems().empty()) result.set_cpuset_mems(asked.cpuset_mems());
  if (asked.hugepage_limits_size() > 0) *result.mutable_hugepage_limits() = asked.hugepage_limits();
  for (const auto& [file, value] : asked.unified()) (*result.mutable_unified())[file] = value;
  return result;
}

Result<os::CgroupPlan> plan_pod_cgroup(const PodResources& whole, const PodResources& asked, const HostFacts& host) {
  BERTH_TRY(check(asked.resources, "resources"), "pod");
  BERTH_TRY(check(asked.overhead, "overhead"), "pod");
  if (asked.overhead.memory_limit_in_bytes() < 0) {
    return fail(Code::kInvalid, "overhead.memory_limit_in_bytes is below 0");
  }
  return Planner(whole, asked, host).plan();
}

void write_resources_json(spec::JsonWriter& json, const pb::LinuxContainerResources& resources) {
  json.begin_object();
  const auto number = [&json](const char* name, std::int64_t value) {
    if (value != 0) json.key(name).number(value);
  };
  const auto text = [&json](const char* name, const std::string& value) {
    if (!value.empty()) json.key(name).string(value);
  };
  number("cpuPeriod", resources.cpu_period());
  number("cpuQuota", resources.cpu_quota());
  number("cpuShares", resources.cpu_shares());
  number("memoryLimitInBytes", resources.memory_limit_in_bytes());
  number("memorySwapLimitInBytes", resources.memory_swap_limit_in_bytes());
  text("cpusetCpus", resources.cpuset_cpus());
  text("cpusetMems", resources.cpuset_mems());
  if (resources.hugepage_limits_size() > 0) {
    json.key("hugepageLimits").begin_object();
    for (const auto& page : resources.hugepage_limits()) json.key(page.page_size()).unsigned_number(page.limit());
    json.end_object();
  }
  if (!resources.unified().empty()) {
    json.key("unified").begin_object();
    const std::map<std::string, std::string> sorted(resources.unified().begin(), resources.unified().end());
    for (const auto& [file, value] : sorted) json.key(file).string(value);
    json.end_object();
  }
  json.end_object();
}

}  // namespace berth::cri
