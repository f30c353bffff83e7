#include "engine/process/scheduling.h"

#include <linux/mempolicy.h>
#include <linux/sched.h>
#include <sys/personality.h>

#include <algorithm>
#include <array>
#include <utility>

#include "base/strings.h"

namespace berth::engine::process {

namespace {

template <class V, std::size_t N>
Result<V> word(const std::array<std::pair<std::string_view, V>, N>& table, const std::string& name) {
  for (const auto& [known, value] : table) {
    if (known == name) return value;
  }
  return fail(Code::kInvalid, "unknown word \"" + name + "\"");
}

constexpr std::array<std::pair<std::string_view, unsigned>, 7> kPolicies{{
    {"SCHED_OTHER", SCHED_NORMAL},
    {"SCHED_FIFO", SCHED_FIFO},
    {"SCHED_RR", SCHED_RR},
    {"SCHED_BATCH", SCHED_BATCH},
    {"SCHED_ISO", 4},
    {"SCHED_IDLE", SCHED_IDLE},
    {"SCHED_DEADLINE", SCHED_DEADLINE},
}};
constexpr std::array<std::pair<std::string_view, std::uint64_t>, 7> kSchedFlags{{
    {"SCHED_FLAG_RESET_ON_FORK", SCHED_FLAG_RESET_ON_FORK},
    {"SCHED_FLAG_RECLAIM", SCHED_FLAG_RECLAIM},
    {"SCHED_FLAG_DL_OVERRUN", SCHED_FLAG_DL_OVERRUN},
    {"SCHED_FLAG_KEEP_POLICY", SCHED_FLAG_KEEP_POLICY},
    {"SCHED_FLAG_KEEP_PARAMS", SCHED_FLAG_KEEP_PARAMS},
    {"SCHED_FLAG_UTIL_CLAMP_MIN", SCHED_FLAG_UTIL_CLAMP_MIN},
    {"SCHED_FLAG_UTIL_CLAMP_MAX", SCHED_FLAG_UTIL_CLAMP_MAX},
}};
constexpr std::array<std::pair<std::string_view, int>, 3> kIoClasses{{
    {"IOPRIO_CLASS_RT", 1},
    {"IOPRIO_CLASS_BE", 2},
    {"IOPRIO_CLASS_IDLE", 3},
}};
constexpr std::array<std::pair<std::string_view, unsigned long>, 2> kDomains{{
    {"LINUX", PER_LINUX},
    {"LINUX32", PER_LINUX32},
}};
constexpr int kWeightedInterleave = 6;  // MPOL_WEIGHTED_INTERLEAVE, Linux 6.9; Debian's headers are older
constexpr std::array<std::pair<std::string_view, int>, 7> kMemoryModes{{
    {"MPOL_DEFAULT", MPOL_DEFAULT},
    {"MPOL_BIND", MPOL_BIND},
    {"MPOL_INTERLEAVE", MPOL_INTERLEAVE},
    {"MPOL_WEIGHTED_INTERLEAVE", kWeightedInterleave},
    {"MPOL_PREFERRED", MPOL_PREFERRED},
    {"MPOL_PREFERRED_MANY", MPOL_PREFERRED_MANY},
    {"MPOL_LOCAL", MPOL_LOCAL},
}};
constexpr std::array<std::pair<std::string_view, int>, 3> kMemoryFlags{{
    {"MPOL_F_NUMA_BALANCING", MPOL_F_NUMA_BALANCING},
    {"MPOL_F_RELATIVE_NODES", MPOL_F_RELATIVE_NODES},
    {"MPOL_F_STATIC_NODES", MPOL_F_STATIC_NODES},
}};

template <class V, std::size_t N>
std::vector<std::string_view> names_of(const std::array<std::pair<std::string_view, V>, N>& table) {
  std::vector<std::string_view> names;
  for (const auto& entry : table) names.push_back(entry.first);
  return names;
}

}  // namespace

Result<MemoryPolicy> memory_policy(const spec::MemoryPolicy& policy) {
  MemoryPolicy out;
  BERTH_ASSIGN(const int mode, word(kMemoryModes, policy.mode), "mode");
  BERTH_ASSIGN(out.nodes, parse_id_list(policy.nodes), "nodes");
  const bool takes_none = mode == MPOL_DEFAULT || mode == MPOL_LOCAL;
  if (takes_none && !out.nodes.empty()) return fail(Code::kInvalid, policy.mode + " takes no nodes");
  if (!takes_none && mode != MPOL_PREFERRED && out.nodes.empty()) {
    return fail(Code::kInvalid, policy.mode + " needs nodes");
  }
  out.mode = mode;
  for (const auto& flag : policy.flags) {
    BERTH_ASSIGN(const int bit, word(kMemoryFlags, flag), "flags");
    out.mode |= bit;
  }
  return out;
}

std::vector<std::string_view> memory_policy_modes() {
  return names_of(kMemoryModes);
}
std::vector<std::string_view> memory_policy_flags() {
  return names_of(kMemoryFlags);
}

Result<os::SchedAttributes> scheduler_attributes(const spec::Scheduler& scheduler) {
  os::SchedAttributes out;
  BERTH_ASSIGN(out.policy, word(kPolicies, scheduler.policy), "policy");
  for (const auto& flag : scheduler.flags) {
    BERTH_ASSIGN(const std::uint64_t bit, word(kSchedFlags, flag), "flags");
    out.flags |= bit;
  }
  out.nice = scheduler.nice;
  if (scheduler.priority < 0) return fail(Code::kInvalid, "priority is negative");
  out.priority = static_cast<unsigned>(scheduler.priority);
  out.runtime = scheduler.runtime;
  out.deadline = scheduler.deadline;
  out.period = scheduler.period;
  return out;
}

Result<int> io_class_number(const std::string& name) {
  return word(kIoClasses, name);
}

Result<unsigned long> personality_number(const spec::Personality& personality) {
  if (!personality.flags.empty()) return fail(Code::kInvalid, "flags are not supported, as the specification allows");
  return word(kDomains, personality.domain);
}

}  // namespace berth::engine::process
