#include "os/process_signals.h"

#include <cerrno>
#include <csignal>
#include <cstdint>
#include <string>

#include "base/strings.h"
#include "os/file.h"

namespace berth::os {
namespace {

constexpr std::size_t kMaxStatus = 64U << 10;

// What follows "NAME:" on its line; empty when there is no such line.
std::string_view field(std::string_view status, std::string_view name) {
  for (const auto line : split(status, '\n')) {
    if (line.starts_with(name) && line.size() > name.size() && line[name.size()] == ':') {
      return trim(line.substr(name.size() + 1));
    }
  }
  return {};
}

bool has_signal(std::string_view status, std::string_view name, int signal) {
  const auto set = parse_number<std::uint64_t>(field(status, name), 16).value_or(0);
  return ((set >> static_cast<unsigned>(signal - 1)) & 1U) != 0;
}

}  // namespace

bool status_drops_signal(std::string_view status, int signal) {
  if (signal < 1 || signal > 64 || signal == SIGKILL || signal == SIGSTOP) return false;
  // Its numbers from our namespace inwards; 1 alone would be the machine's own init.
  const auto numbers = split(field(status, "NSpid"), '\t');
  if (numbers.back() != "1") return false;
  return !has_signal(status, "SigCgt", signal) && !has_signal(status, "SigBlk", signal);
}

Result<bool> drops_signal(pid_t pid, int signal) {
  auto status = read_file("/proc/" + std::to_string(pid) + "/status", kMaxStatus);
  if (status) return status_drops_signal(*status, signal);
  if (status.error().errno_value() == ESRCH) return fail(std::move(status).error().as(Code::kNotFound));
  return fail(std::move(status).error());
}

}  // namespace berth::os
