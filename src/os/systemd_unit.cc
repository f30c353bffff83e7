#include "os/systemd_unit.h"

#include <algorithm>
#include <array>
#include <cmath>
#include <cstdint>
#include <optional>

#include "base/strings.h"
#include "os/id_list.h"

namespace berth::os {

namespace {

constexpr std::size_t kMaxName = 255;  // systemd's UNIT_NAME_MAX
constexpr std::uint64_t kDefaultPeriodUs = 100'000;
constexpr std::uint64_t kSecondUs = 1'000'000;

std::string limit_value(const std::string& value) {
  return value == "max" || value.starts_with('-') ? std::string(kNoUnitLimit) : value;
}

/// A file whose whole value is the property's.
struct Direct {
  std::string_view file;
  std::string_view property;
};
constexpr std::array<Direct, 8> kDirectV2{{{"memory.min", "MemoryMin"},
                                           {"memory.low", "MemoryLow"},
                                           {"memory.high", "MemoryHigh"},
                                           {"memory.max", "MemoryMax"},
                                           {"memory.swap.max", "MemorySwapMax"},
                                           {"cpu.weight", "CPUWeight"},
                                           {"pids.max", "TasksMax"},
                                           {"io.weight", "IOWeight"}}};
constexpr std::array<Direct, 4> kDirectV1{{{"memory.limit_in_bytes", "MemoryLimit"},
                                           {"cpu.shares", "CPUShares"},
                                           {"pids.max", "TasksMax"},
                                           {"blkio.weight", "BlockIOWeight"}}};

template <std::size_t kSize>
void add_direct(const CgroupWrite& write, const std::array<Direct, kSize>& table, UnitProperties& out) {
  for (const auto& entry : table) {
    if (entry.file != write.file) continue;
    std::string value = write.value;
    if (value.starts_with("default ")) value.erase(0, std::string_view("default ").size());
    value = limit_value(value);
    // A value with more to it (io.weight of one device) has no such property.
    if (parse_number<std::uint64_t>(value)) out.push_back(unit_property(entry.property, "t", value));
  }
}

/// Microseconds of processor time in a second. systemd remembers whole percents, so that is what it is given.
void add_quota(std::optional<std::uint64_t> quota_us, std::uint64_t period_us, UnitProperties& out) {
  std::string value(kNoUnitLimit);
  if (quota_us && period_us != 0) {
    constexpr std::uint64_t kPercentUs = kSecondUs / 100;
    // In floating point: a quota may be so large that its product is beyond any integer.
    const double per_second =
        static_cast<double>(*quota_us) * static_cast<double>(kSecondUs) / static_cast<double>(period_us);
    constexpr double kTooMuch = 1e18;
    const double percents = std::ceil(std::min(per_second, kTooMuch) / static_cast<double>(kPercentUs));
    value = std::to_string(static_cast<std::uint64_t>(percents) * kPercentUs);
  }
  out.push_back(unit_property("CPUQuotaPerSecUSec", "t", value));
  out.push_back("?" + unit_property("CPUQuotaPeriodUSec", "t", std::to_string(period_us)));
}

/// "50000 100000", "max 100000", "max".
void add_cpu_max(const std::string& value, UnitProperties& out) {
  const auto words = split(trim(value), ' ');
  const auto period = words.size() > 1 ? parse_number<std::uint64_t>(words[1]) : std::optional(kDefaultPeriodUs);
  const auto quota = parse_number<std::uint64_t>(words[0]);
  if (period && (quota || words[0] == "max")) add_quota(quota, *period, out);
}

/// "0-1,4" as bytes, the lowest first.
Result<std::string> bit_mask(const std::string& list) {
  BERTH_ASSIGN(const auto words, parse_id_list(list), "list of numbers");
  std::string text;
  constexpr std::string_view kDigits = "0123456789abcdef";
  for (const std::uint64_t word : words) {
    for (unsigned shift = 0; shift < 64; shift += 8) {
      const auto byte = static_cast<unsigned>(word >> shift) & 0xffU;
      text.push_back(kDigits[byte >> 4U]);
      text.push_back(kDigits[byte & 0xfU]);
    }
  }
  while (text.size() > 2 && text.ends_with("00")) text.resize(text.size() - 2);
  return text;
}

Result<> add_v2(const CgroupWrite& write, UnitProperties& out) {
  add_direct(write, kDirectV2, out);
  if (write.file == "cpu.max") add_cpu_max(write.value, out);
  // Weight 0 is systemd's word for idle since 252.
  if (write.file == "cpu.idle" && trim(write.value) == "1") out.push_back("?" + unit_property("CPUWeight", "t", "0"));
  if (write.file == "memory.oom.group" && trim(write.value) == "1") out.push_back("?OOMPolicy:s=kill");
  const bool cpus = write.file == "cpuset.cpus";
  if (!cpus && write.file != "cpuset.mems") return {};
  BERTH_ASSIGN(const std::string mask, bit_mask(std::string(trim(write.value))), write.file);
  out.push_back("?" + unit_property(cpus ? "AllowedCPUs" : "AllowedMemoryNodes", "ay", mask));
  return {};
}

/// systemd has one property for two files of v1.
void add_quota_v1(const CgroupPlan& plan, UnitProperties& out) {
  std::optional<std::int64_t> quota;
  std::uint64_t period = kDefaultPeriodUs;
  for (const auto& write : plan) {
    if (write.file == "cpu.cfs_quota_us") quota = parse_number<std::int64_t>(write.value);
    if (write.file == "cpu.cfs_period_us") period = parse_number<std::uint64_t>(write.value).value_or(period);
  }
  if (!quota) return;
  add_quota(*quota > 0 ? std::optional(static_cast<std::uint64_t>(*quota)) : std::nullopt, period, out);
}

}  // namespace

bool is_unit_name(std::string_view name) {
  constexpr std::string_view kOthers = ":-_.\\@";
  return !name.empty() && name.size() <= kMaxName && std::ranges::all_of(name, [&](char c) {
    return (c >= '0' && c <= '9') || (c >= 'a' && c <= 'z') || (c >= 'A' && c <= 'Z') ||
           kOthers.find(c) != std::string_view::npos;
  });
}

std::string unit_property(std::string_view name, std::string_view type, std::string_view value) {
  return std::string(name).append(":").append(type).append("=").append(value);
}

Result<std::string> slice_path(const std::string& slice) {
  if (slice == "-.slice") return std::string();
  constexpr std::string_view kEnd = ".slice";
  const std::string_view stem = std::string_view(slice).substr(0, slice.size() - std::min(slice.size(), kEnd.size()));
  if (!slice.ends_with(kEnd) || !is_unit_name(slice) || stem.empty()) {
    return fail(Code::kInvalid, "\"" + slice + "\" is no name of a slice");
  }
  std::string path;
  std::string upto;
  for (const auto part : split(stem, '-')) {
    if (part.empty()) return fail(Code::kInvalid, "\"" + slice + "\" is no name of a slice");
    upto.append(upto.empty() ? "" : "-").append(part);
    path.append("/").append(upto).append(kEnd);
  }
  return path;
}

Result<UnitProperties> limit_properties(const CgroupPlan& plan, bool v2) {
  UnitProperties properties;
  for (const auto& write : plan) {
    if (v2) {
      BERTH_TRY(add_v2(write, properties), "systemd");
    } else {
      add_direct(write, kDirectV1, properties);
    }
  }
  if (!v2) add_quota_v1(plan, properties);
  return properties;
}

UnitProperties scope_properties(const SystemdUnit& unit, std::string_view description) {
  UnitProperties properties{unit_property("Description", "s", description), unit_property("Slice", "s", unit.slice),
                            "Delegate:b=true", "DefaultDependencies:b=false", "MemoryAccounting:b=true",
                            "CPUAccounting:b=true", "TasksAccounting:b=true", "?IOAccounting:b=true",
                            "?CollectMode:s=inactive-or-failed",
                            // What systemd has for units without a limit is none of the container's.
                            unit_property("TasksMax", "t", kNoUnitLimit),
                            // One process that is killed for lack of memory must not take the others along.
                            "?OOMPolicy:s=continue"};
  return properties;
}

}  // namespace berth::os
