#include <algorithm>
#include <charconv>
#include <chrono>
#include <cmath>

#include "commands.h"
#include "os/pidfd.h"
#include "output.h"
#include "spec/json_text.h"

namespace berth::oci {

namespace {

using std::chrono::milliseconds;

constexpr milliseconds kDefaultInterval{5000};
// How late an "oom" may be told at most: no kernel interface tells it for v1 and v2 alike.
constexpr milliseconds kOomPoll{250};

/// "5s", "500ms", "1.5m": one number and one unit, as runc's --interval is mostly given.
Result<milliseconds> interval_of(const std::string& text) {
  const std::size_t digits = text.find_first_not_of("0123456789.");
  const std::string unit = digits == std::string::npos ? "" : text.substr(digits);
  const double factor = unit == "ms" ? 1.0 : unit == "s" ? 1e3 : unit == "m" ? 60e3 : unit == "h" ? 3600e3 : 0.0;
  double number = 0;
  const char* const end = text.data() + (digits == std::string::npos ? text.size() : digits);
  const bool read = std::from_chars(text.data(), end, number).ptr == end && end != text.data();
  if (!read || factor == 0.0) return fail(Code::kInvalid, "--interval \"" + text + "\" is no duration, such as 5s");
  const double value = number * factor;
  constexpr double kLongest = 24 * 3600e3;
  if (value < 1.0) return fail(Code::kInvalid, "duration interval must be greater than 0");
  if (value > kLongest) return fail(Code::kInvalid, "--interval must be at most 24h");
  return milliseconds(std::llround(value));
}

void write_memory(spec::JsonWriter& json, const engine::Stats& stats) {
  const std::uint64_t inactive = stats.memory_usage_bytes - stats.memory_working_set_bytes;
  json.key("memory").begin_object();
  json.key("usage").begin_object();
  json.key("usage").unsigned_number(stats.memory_usage_bytes);
  if (stats.memory_limit_bytes > 0) json.key("limit").unsigned_number(stats.memory_limit_bytes);
  json.end_object();
  json.key("swap").begin_object().key("usage").unsigned_number(stats.swap_usage_bytes).end_object();
  json.key("raw").begin_object();
  json.key("rss").unsigned_number(stats.memory_rss_bytes);
  json.key("inactive_file").unsigned_number(inactive);
  json.key("pgfault").unsigned_number(stats.memory_page_faults);
  json.key("pgmajfault").unsigned_number(stats.memory_major_page_faults);
  json.key("oom_kill").unsigned_number(stats.oom_kills);
  json.end_object().end_object();
}

/// runc's form, with what there is to tell.
std::string stats_event(const std::string& id, const engine::Stats& stats) {
  spec::JsonWriter json;
  json.begin_object().key("type").string("stats").key("id").string(id).key("data").begin_object();
  json.key("cpu").begin_object().key("usage").begin_object();
  json.key("total").unsigned_number(stats.cpu_usage_ns);
  json.key("kernel").unsigned_number(stats.cpu_system_ns).key("user").unsigned_number(stats.cpu_user_ns);
  json.end_object().key("throttling").begin_object();
  json.key("throttledPeriods").unsigned_number(stats.cpu_throttled_periods);
  json.key("throttledTime").unsigned_number(stats.cpu_throttled_ns);
  json.end_object().end_object();
  write_memory(json, stats);
  json.key("pids").begin_object().key("current").unsigned_number(stats.pids);
  if (stats.pids_limit > 0) json.key("limit").unsigned_number(stats.pids_limit);
  json.end_object().end_object().end_object();
  return json.take() + "\n";
}

std::string oom_event(const std::string& id) {
  spec::JsonWriter json;
  json.begin_object().key("type").string("oom").key("id").string(id).end_object();
  return json.take() + "\n";
}

/// Until init has ended: statistics at the interval, and each time the kernel killed for lack of memory, also if that
/// was init.
Result<> follow(const Found& found, milliseconds interval) {
  const std::string& id = found.record.id;
  auto next = std::chrono::steady_clock::now();
  std::uint64_t told = 0;
  bool ended = false;
  for (bool first = true;; first = false) {
    auto stats = found.container->stats();
    if (!stats && !found.container->alive()) return {};
    if (!stats) return fail(std::move(stats).error());
    if (first) told = stats->oom_kills;
    for (; told < stats->oom_kills; ++told) print(oom_event(id));
    if (ended) return {};
    const auto now = std::chrono::steady_clock::now();
    if (now >= next) {
      print(stats_event(id, *stats));
      next = now + interval;
    }
    const auto wait = std::min(kOomPoll, std::chrono::ceil<milliseconds>(next - now));
    BERTH_ASSIGN(ended, os::wait_readable(found.container->init().pidfd.get(), wait), "events");
  }
}

}  // namespace

Result<int> run_events(Context& context) {
  const std::string id = context.args.rest()[0];
  auto interval = kDefaultInterval;
  if (const auto text = context.args.value("interval")) {
    BERTH_ASSIGN(interval, interval_of(*text), "events");
  }
  auto found = find_container(context.store, context.engine, id, false);
  if (!found) return fail(std::move(found).error());
  if (status_of(*found) == spec::Status::kStopped) {
    return fail(Code::kPrecondition, "container with id " + id + " is not running");
  }
  if (!context.args.on("stats")) {
    BERTH_TRY(follow(*found, interval), "events");
    return 0;
  }
  auto stats = found->container->stats();
  if (!stats) return fail(std::move(stats).error());
  print(stats_event(id, *stats));
  return 0;
}

}  // namespace berth::oci
