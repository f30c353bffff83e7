#include "engine/process/scheduling.h"

#include <linux/sched.h>
#include <sys/personality.h>

#include <array>
#include <utility>

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

}  // namespace

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
