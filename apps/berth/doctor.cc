#include <algorithm>
#include <cstdio>

#include "client.h"
#include "commands.h"
#include "table.h"

namespace berth::cli {
namespace {

const char* word(::berth::v1::Health health) {
  switch (health) {
    case ::berth::v1::HEALTH_GOOD:
      return "ok";
    case ::berth::v1::HEALTH_LIMITED:
      return "limited";
    default:
      return "BAD";
  }
}

void print(const ::berth::v1::DoctorResponse& reply) {
  std::size_t widest = 0;
  for (const auto& probe : reply.probes()) widest = std::max(widest, probe.name().size());
  for (const auto& probe : reply.probes()) {
    std::printf("%-7s  %-*s %9.3f ms  %s\n", word(probe.health()), static_cast<int>(widest),
                printable(probe.name()).c_str(), static_cast<double>(probe.took_us()) / 1e3,
                printable(probe.found()).c_str());
    if (!probe.remedy().empty()) std::printf("%9s-> %s\n", "", printable(probe.remedy()).c_str());
  }
}

}  // namespace

Result<int> doctor(Client& client, const DoctorCommand& command) {
  constexpr std::chrono::minutes kPatience{2};  // for a CNI plugin or a disk that hangs
  BERTH_ASSIGN(
      const auto reply,
      client.call(client.operators(), &::berth::v1::Operator::Stub::Doctor, ::berth::v1::DoctorRequest(), kPatience),
      "doctor");
  int bad = 0;
  int limited = 0;
  for (const auto& probe : reply.probes()) {
    if (probe.health() == ::berth::v1::HEALTH_LIMITED) {
      ++limited;
    } else if (probe.health() != ::berth::v1::HEALTH_GOOD) {
      ++bad;
    }
  }
  if (command.output == "json") {
    BERTH_TRY(print_json(reply), "doctor");
    return bad > 0 ? 1 : 0;
  }
  print(reply);
  if (bad > 0) {
    std::printf("this node is not well: %d of %d probes are bad, %d limited\n", bad, reply.probes_size(), limited);
  } else if (limited > 0) {
    std::printf("pods run here; %d of %d probes are limited\n", limited, reply.probes_size());
  } else {
    std::puts("this node is well");
  }
  return bad > 0 ? 1 : 0;
}

}  // namespace berth::cli
