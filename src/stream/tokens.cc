#include "stream/tokens.h"

#include "base/ids.h"

namespace berth::stream {
namespace {

constexpr std::size_t kTokenBytes = 16;

}  // namespace

std::string_view kind_name(SessionSpec::Kind kind) {
  switch (kind) {
    case SessionSpec::Kind::kExec:
      return "exec";
    case SessionSpec::Kind::kAttach:
      return "attach";
    case SessionSpec::Kind::kPortForward:
      return "portforward";
  }
  return "";
}

void Tokens::drop_old() {
  const auto now = std::chrono::steady_clock::now();
  std::erase_if(entries_, [now](const auto& entry) { return entry.second.until <= now; });
}

Result<std::string> Tokens::add(SessionSpec spec) {
  const MutexLock lock(mutex_);
  drop_old();
  if (entries_.size() >= kMax) return fail(Code::kExhausted, "too many sessions wait for their client");
  std::string token = random_hex(kTokenBytes);
  entries_.emplace(token, Entry{std::move(spec), std::chrono::steady_clock::now() + life_});
  return token;
}

std::optional<SessionSpec> Tokens::take(std::string_view kind, std::string_view token) {
  const MutexLock lock(mutex_);
  drop_old();
  const auto found = entries_.find(token);
  if (found == entries_.end() || kind_name(found->second.spec.kind) != kind) return std::nullopt;
  SessionSpec spec = std::move(found->second.spec);
  entries_.erase(found);
  return spec;
}

std::size_t Tokens::waiting() {
  const MutexLock lock(mutex_);
  drop_old();
  return entries_.size();
}

}  // namespace berth::stream
