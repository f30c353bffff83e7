#pragma once
#include <chrono>
#include <map>
#include <optional>
#include <string>
#include <string_view>

#include "base/clock.h"
#include "base/result.h"
#include "base/thread_annotations.h"
#include "stream/session_spec.h"

namespace berth::stream {

/// The sessions that were prepared and that nobody has come for yet. Whoever has a token may come once, within its
/// life. Thread-safe.
class Tokens final {
 public:
  static constexpr std::size_t kMax = 4096;

  explicit Tokens(std::chrono::seconds life) : life_(life) {}

  /// A new token: 32 characters that a URL takes as they are. kExhausted: too many wait.
  [[nodiscard]] Result<std::string> add(SessionSpec spec) BERTH_EXCLUDES(mutex_);
  /// What `token` stands for; it is void then. Nothing for one that is unknown, used, of another kind or too old.
  [[nodiscard]] std::optional<SessionSpec> take(std::string_view kind, std::string_view token) BERTH_EXCLUDES(mutex_);
  /// How many can still be used.
  [[nodiscard]] std::size_t waiting() BERTH_EXCLUDES(mutex_);

 private:
  struct Entry {
    SessionSpec spec;
    SteadyTime until;
  };
  void drop_old() BERTH_REQUIRES(mutex_);

  const std::chrono::seconds life_;
  Mutex mutex_;
  std::map<std::string, Entry, std::less<>> entries_ BERTH_GUARDED_BY(mutex_);
};

}  // namespace berth::stream
