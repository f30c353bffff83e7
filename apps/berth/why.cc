#include <array>
#include <cstdio>

#include "base/clock.h"
#include "client.h"
#include "commands.h"
#include "table.h"

namespace berth::cli {
namespace {

// "05:24:01.123456" of the day, UTC.
std::string time_text(std::int64_t at_ns) {
  constexpr std::size_t kFrom = 11;  // after "2026-11-24T"
  constexpr std::size_t kLength = 15;
  return format_rfc3339(WallTime(std::chrono::nanoseconds(at_ns))).substr(kFrom, kLength);
}

std::string duration_text(std::int64_t us) {
  std::array<char, 32> text{};
  if (us < 1'000'000) {
    std::snprintf(text.data(), text.size(), "%.3f ms", static_cast<double>(us) / 1e3);
  } else {
    std::snprintf(text.data(), text.size(), "%.3f s", static_cast<double>(us) / 1e6);
  }
  return text.data();
}

void print_pod(const ::berth::v1::PodTimeline& pod) {
  std::printf("pod %s/%s  %s%s\n", pod.pod_namespace().c_str(), pod.pod_name().c_str(), pod.sandbox_id().c_str(),
              pod.removed() ? "  (removed)" : "");
  if (pod.entries_size() > 0) {
    const auto day = format_rfc3339(WallTime(std::chrono::nanoseconds(pod.entries(0).at_ns()))).substr(0, 10);
    std::printf("%s (UTC)\n", day.c_str());
  }
  for (const auto& entry : pod.entries()) {
    const bool step = !entry.step().empty();
    const std::string what = step ? "  " + entry.step() : entry.operation();
    const std::string took = entry.took_us() > 0 ? duration_text(entry.took_us()) : "";
    std::printf("%s  %12s  %s%s\n", time_text(entry.at_ns()).c_str(), took.c_str(), what.c_str(),
                step || !entry.error().empty() || entry.took_us() == 0 ? "" : ": ok");
    if (!entry.error().empty()) std::printf("%31s%s\n", "", entry.error().c_str());
  }
  if (pod.left_out() > 0) {
    std::printf("(%llu entries of the time between were left out)\n", static_cast<unsigned long long>(pod.left_out()));
  }
}

}  // namespace

Result<int> why(Client& client, const WhyCommand& command) {
  ::berth::v1::WhyRequest request;
  request.set_object(command.object);
  BERTH_ASSIGN(const auto reply, client.call(client.operators(), &::berth::v1::Operator::Stub::Why, request), "why");
  if (command.json) {
    BERTH_TRY(print_json(reply), "why");
    return 0;
  }
  for (int i = 0; i < reply.pods_size(); ++i) {
    if (i > 0) std::puts("");
    print_pod(reply.pods(i));
  }
  return 0;
}

}  // namespace berth::cli
