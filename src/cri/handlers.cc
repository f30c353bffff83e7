#include "cri/handlers.h"

#include <unistd.h>

#include <cerrno>
#include <utility>

namespace berth::cri {

Result<> check_ready(const Handler& handler) {
  if (!handler.shim.empty() && ::access(handler.shim.c_str(), X_OK) != 0) {
    return fail(errno_error(errno, "shim " + handler.shim).as(Code::kUnavailable));
  }
  if (handler.binary.empty() || ::access(handler.binary.c_str(), X_OK) == 0) return {};
  return fail(errno_error(errno, "runtime " + handler.binary).as(Code::kUnavailable));
}

void Handlers::replace(HandlerTable table) {
  MutexLock lock(mutex_);
  table_ = std::move(table);
}

HandlerTable Handlers::table() const {
  MutexLock lock(mutex_);
  return table_;
}

Result<Handler> Handlers::find(std::string_view name) const {
  MutexLock lock(mutex_);
  const auto found = table_.handlers.find(name.empty() ? std::string_view(table_.default_handler) : name);
  if (found != table_.handlers.end()) return found->second;
  std::string known;
  for (const auto& [other, handler] : table_.handlers) {
    known.append(known.empty() ? "\"" : ", \"").append(other).append("\"");
  }
  return fail(Code::kNotFound, "runtime handler \"" + std::string(name) + "\" is not configured; known: " + known);
}

}  // namespace berth::cri
