#include "image/endpoint_health.h"

#include <algorithm>

namespace berth::image {
namespace {

constexpr std::size_t kMaxEntries = 256;
constexpr std::chrono::seconds kFirst{60};
constexpr std::chrono::seconds kLongest{600};
constexpr std::chrono::seconds kTrial{30};

}  // namespace

bool EndpointHealth::failed(const std::string& host, SteadyTime now) {
  const MutexLock lock(mutex_);
  if (entries_.size() >= kMaxEntries && !entries_.contains(host)) {
    entries_.erase(std::min_element(entries_.begin(), entries_.end(),
                                    [](const auto& a, const auto& b) { return a.second.until < b.second.until; }));
  }
  Entry& entry = entries_[host];
  // Requests under way at the same time are one failure.
  if (entry.failures != 0 && now < entry.until - kTrial) return false;
  entry.failures = std::min(entry.failures + 1, 16U);
  entry.until = now + std::min(kLongest, kFirst * (1U << (entry.failures - 1)));
  return entry.failures == 1;
}

void EndpointHealth::answered(const std::string& host) {
  const MutexLock lock(mutex_);
  entries_.erase(host);
}

bool EndpointHealth::is_ill(const std::string& host, SteadyTime now) {
  const MutexLock lock(mutex_);
  const auto it = entries_.find(host);
  if (it == entries_.end()) return false;
  if (now < it->second.until) return true;
  it->second.until = now + kTrial;
  return false;
}

bool EndpointHealth::was_ill(const std::string& host) const {
  const MutexLock lock(mutex_);
  return entries_.contains(host);
}

std::size_t EndpointHealth::size() const {
  const MutexLock lock(mutex_);
  return entries_.size();
}

}  // namespace berth::image
