#include "base/failpoint.h"

#if defined(BERTH_FAILPOINTS)
#include <fcntl.h>
#include <signal.h>
#include <time.h>
#include <unistd.h>

#include <array>
#include <atomic>
#include <cerrno>
#include <cstdio>
#include <cstdlib>
#include <map>
#include <optional>
#include <string>
#include <utility>

#include "base/strings.h"
#include "base/thread_annotations.h"
#include "base/unique_fd.h"

namespace berth {
namespace {

struct Action {
  std::string verb;
  std::string argument;
  int on_pass = 0;  // 0: every pass
};

Action parse_action(std::string_view body) {
  Action action;
  if (const auto star = body.find('*'); star != std::string_view::npos) {
    action.on_pass = parse_number<int>(body.substr(0, star)).value_or(0);
    body.remove_prefix(star + 1);
  }
  const auto paren = body.find('(');
  action.verb = body.substr(0, paren);
  if (paren != std::string_view::npos) action.argument = body.substr(paren + 1, body.size() - paren - 2);
  return action;
}

/// What the environment asks for.
struct Plan {
  std::string folder;
  std::map<std::string, Action, std::less<>> actions;
};

const char* variable(const char* name) {
  return std::getenv(name);  // NOLINT(concurrency-mt-unsafe): nobody sets it
}

Plan read_plan() {
  Plan plan;
  const char* text = variable("BERTH_FAILPOINTS");
  if (text == nullptr) return plan;
  if (*text == '@') {
    plan.folder = text + 1;
    return plan;
  }
  for (const auto item : split(text, ';')) {
    const auto equals = item.find('=');
    if (equals == std::string_view::npos) continue;
    plan.actions.emplace(item.substr(0, equals), parse_action(item.substr(equals + 1)));
  }
  return plan;
}

int errno_by_name(std::string_view name) {
  static const std::map<std::string_view, int> kNames = {{"EBUSY", EBUSY},   {"ENOSPC", ENOSPC}, {"EIO", EIO},
                                                         {"ENOSYS", ENOSYS}, {"EPERM", EPERM},   {"ENOENT", ENOENT}};
  const auto found = kNames.find(name);
  return found == kNames.end() ? EIO : found->second;
}

std::optional<Action> read_action(const std::string& path) {
  const UniqueFd file(::open(path.c_str(), O_RDONLY | O_CLOEXEC));
  if (!file) return std::nullopt;
  std::array<char, 256> text{};
  const auto size = ::read(file.get(), text.data(), text.size());
  if (size <= 0) return std::nullopt;
  return parse_action(trim(std::string_view(text.data(), static_cast<std::size_t>(size))));
}

/// The action that is due at this pass.
std::optional<Action> due(const char* name) {
  static const Plan kPlan = read_plan();
  std::optional<Action> action;
  const std::string file = kPlan.folder.empty() ? std::string() : kPlan.folder + "/" + name;
  if (!file.empty()) {
    action = read_action(file);
  } else if (const auto found = kPlan.actions.find(std::string_view(name)); found != kPlan.actions.end()) {
    action = found->second;
  }
  if (!action) return std::nullopt;
  if (action->on_pass != 0) {
    static Mutex mutex;
    static std::map<std::string, int, std::less<>> passes;
    const MutexLock lock(mutex);
    if (++passes[name] != action->on_pass) return std::nullopt;
  }
  // A process dies once: while one of its threads is at that, the points of the others stay for another life.
  static std::atomic<bool> dying = false;
  const bool kills = action->verb == "kill";
  if (kills && dying.exchange(true)) return std::nullopt;
  // Of several processes and threads that come by, it is for the one that can take the file away.
  if (!file.empty() && std::rename(file.c_str(), (file + ".done").c_str()) != 0) {
    if (kills) dying = false;
    return std::nullopt;
  }
  return action;
}

}  // namespace

Result<> failpoint(const char* name) {
  const auto action = due(name);
  if (!action) return {};
  if (action->verb == "kill") ::kill(::getpid(), SIGKILL);
  if (action->verb == "sleep") {
    const auto ms = parse_number<long>(action->argument).value_or(0);
    timespec time{ms / 1000, ms % 1000 * 1'000'000};
    while (::nanosleep(&time, &time) != 0 && errno == EINTR) {
    }
  }
  if (action->verb == "error") return fail_errno(errno_by_name(action->argument), std::string("failpoint ") + name);
  return {};
}

void crashpoint(const char* name) {
  ignore(failpoint(name), "the place has nobody to tell");
}

std::string failpoints_of_child() {
  const char* text = variable("BERTH_FAILPOINTS_SHIM");
  return text == nullptr ? std::string() : std::string("BERTH_FAILPOINTS=") + text;
}

}  // namespace berth
#endif
