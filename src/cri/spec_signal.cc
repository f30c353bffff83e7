#include <array>
#include <csignal>

#include "base/strings.h"
#include "cri/spec_builder.h"

namespace berth::cri {

namespace {

struct Named {
  std::string_view name;
  int number;
};

constexpr std::array kSignals = std::to_array<Named>({
    {"ABRT", SIGABRT},     {"ALRM", SIGALRM},   {"BUS", SIGBUS},   {"CHLD", SIGCHLD}, {"CLD", SIGCHLD},
    {"CONT", SIGCONT},     {"FPE", SIGFPE},     {"HUP", SIGHUP},   {"ILL", SIGILL},   {"INT", SIGINT},
    {"IO", SIGIO},         {"IOT", SIGABRT},    {"KILL", SIGKILL}, {"PIPE", SIGPIPE}, {"POLL", SIGPOLL},
    {"PROF", SIGPROF},     {"PWR", SIGPWR},     {"QUIT", SIGQUIT}, {"SEGV", SIGSEGV}, {"STKFLT", 16},
    {"STOP", SIGSTOP},     {"SYS", SIGSYS},     {"TERM", SIGTERM}, {"TRAP", SIGTRAP}, {"TSTP", SIGTSTP},
    {"TTIN", SIGTTIN},     {"TTOU", SIGTTOU},   {"URG", SIGURG},   {"USR1", SIGUSR1}, {"USR2", SIGUSR2},
    {"VTALRM", SIGVTALRM}, {"WINCH", SIGWINCH}, {"XCPU", SIGXCPU}, {"XFSZ", SIGXFSZ},
});

// What the kernel calls real-time signals 32 and 33 belongs to libc; images count from 34.
constexpr int kRealTimeMin = 34;
constexpr int kRealTimeMax = 64;

}  // namespace

std::optional<int> signal_number(std::string_view name) {
  if (const auto number = parse_number<int>(name)) {
    return *number >= 1 && *number <= kRealTimeMax ? number : std::nullopt;
  }
  std::string word(name);
  for (char& c : word) c = c >= 'a' && c <= 'z' ? static_cast<char>(c - 32) : c;
  if (word.starts_with("SIG")) word.erase(0, 3);
  for (const auto& entry : kSignals) {
    if (entry.name == word) return entry.number;
  }
  const bool from_min = word.starts_with("RTMIN");
  if (!from_min && !word.starts_with("RTMAX")) return std::nullopt;
  // "RTMIN+3", "RTMAX-2", and as the CRI's names have it "RTMINPLUS3", "RTMAXMINUS2".
  std::string_view rest = std::string_view(word).substr(5);
  for (const std::string_view sign : {"+", "-", "PLUS", "MINUS"}) {
    if (rest.starts_with(sign)) {
      rest.remove_prefix(sign.size());
      break;
    }
  }
  const auto offset = rest.empty() ? std::optional(0) : parse_number<int>(rest);
  if (!offset || *offset < 0 || *offset > kRealTimeMax - kRealTimeMin) return std::nullopt;
  return from_min ? kRealTimeMin + *offset : kRealTimeMax - *offset;
}

std::optional<int> signal_number(pb::Signal signal) {
  if (signal == pb::SIGNAL_RUNTIME_DEFAULT || !pb::Signal_IsValid(signal)) return std::nullopt;
  // The enumerator's name is "SIGNAL_SIGTERM": by name, because the numbers differ.
  return signal_number(std::string_view(pb::Signal_Name(signal)).substr(7));
}

pb::Signal cri_signal(int number) {
  for (int value = pb::Signal_MIN + 1; value <= pb::Signal_MAX; ++value) {
    if (pb::Signal_IsValid(value) && signal_number(static_cast<pb::Signal>(value)) == number) {
      return static_cast<pb::Signal>(value);
    }
  }
  return pb::SIGNAL_RUNTIME_DEFAULT;
}

}  // namespace berth::cri
