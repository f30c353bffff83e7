#pragma once
#include <cstdint>
#include <map>
#include <string>
#include <vector>

#include "base/clock.h"
#include "base/thread_annotations.h"

namespace berth::image {

/// Which hosts did not answer lately, for all pulls of a store: they are tried after the others, so that a dead one
/// costs its connect timeout once. A host is due again after a minute, after each further failure twice as long, at
/// most ten minutes; then one request tries it first while all others still pass it by. Bounded. Thread-safe.
class EndpointHealth final {
 public:
  EndpointHealth() = default;
  EndpointHealth(const EndpointHealth&) = delete;
  EndpointHealth& operator=(const EndpointHealth&) = delete;
  EndpointHealth(EndpointHealth&&) = delete;
  EndpointHealth& operator=(EndpointHealth&&) = delete;
  ~EndpointHealth() = default;

  /// `host` made no connection or did not answer in time. True: that is news.
  bool failed(const std::string& host, SteadyTime now);
  /// `host` answered, whatever it said.
  void answered(const std::string& host);
  /// Whether `host` is one to try after the others. A host that is due again is promised to the caller: the next who
  /// asks is told true until the caller has said how it went, or for some time.
  [[nodiscard]] bool is_ill(const std::string& host, SteadyTime now);
  /// The same, promising nothing.
  [[nodiscard]] bool was_ill(const std::string& host) const;
  [[nodiscard]] std::size_t size() const;

 private:
  struct Entry {
    SteadyTime until;
    unsigned failures = 0;
  };
  mutable Mutex mutex_;
  std::map<std::string, Entry, std::less<>> entries_ BERTH_GUARDED_BY(mutex_);
};

}  // namespace berth::image
