#include "base/failpoint.h"

#if defined(BERTH_FAILPOINTS)
#include <signal.h>
#include <time.h>
#include <unistd.h>

#include <cerrno>
#include <cstdlib>
#include <map>
#include <string>
#include <utility>

#include "base/strings.h"
#include "base/thread_annotations.h"

namespace berth {
namespace {

struct Action {
  std::string verb;
  std::string argument;
  int on_pass = 0;  // 0: every pass
  int passes = 0;
};

std::map<std::string, Action, std::less<>> parse_environment() {
  std::map<std::string, Action, std::less<>> actions;
  const char* text = std::getenv("BERTH_FAILPOINTS");  // NOLINT(concurrency-mt-unsafe): read once, before threads
  if (text == nullptr) return actions;
  for (const auto item : split(text, ';')) {
    const auto equals = item.find('=');
    if (equals == std::string_view::npos) continue;
    Action action;
    auto body = item.substr(equals + 1);
    if (const auto star = body.find('*'); star != std::string_view::npos) {
      action.on_pass = parse_number<int>(body.substr(0, star)).value_or(0);
      body.remove_prefix(star + 1);
    }
    const auto paren = body.find('(');
    action.verb = body.substr(0, paren);
    if (paren != std::string_view::npos) action.argument = body.substr(paren + 1, body.size() - paren - 2);
    actions.emplace(item.substr(0, equals), std::move(action));
  }
  return actions;
}

int errno_by_name(std::string_view name) {
  static const std::map<std::string_view, int> kNames = {{"EBUSY", EBUSY},   {"ENOSPC", ENOSPC}, {"EIO", EIO},
                                                         {"ENOSYS", ENOSYS}, {"EPERM", EPERM},   {"ENOENT", ENOENT}};
  const auto found = kNames.find(name);
  return found == kNames.end() ? EIO : found->second;
}

}  // namespace

Result<> failpoint(const char* name) {
  static Mutex mutex;
  static auto actions = parse_environment();
  if (actions.empty()) return {};
  Action action;
  {
    const MutexLock lock(mutex);
    const auto found = actions.find(std::string_view(name));
    if (found == actions.end()) return {};
    ++found->second.passes;
    action = found->second;
  }
  if (action.on_pass != 0 && action.passes != action.on_pass) return {};
  if (action.verb == "kill") ::kill(::getpid(), SIGKILL);
  if (action.verb == "sleep") {
    const auto ms = parse_number<long>(action.argument).value_or(0);
    const timespec time{ms / 1000, ms % 1000 * 1'000'000};
    ::nanosleep(&time, nullptr);
    return {};
  }
  if (action.verb == "error") return fail_errno(errno_by_name(action.argument), std::string("failpoint ") + name);
  return {};
}

}  // namespace berth
#endif
