#pragma once
#include <sys/types.h>

#include <memory>
#include <string>
#include <vector>

#include "base/result.h"
#include "property.h"

struct sd_bus;

namespace berth::scope {

/// A connection to a service manager: the machine's, or with `user` that of the user who owns the caller (also below a
/// user namespace). One thread. Every call blocks for half a minute at most.
/// Source: org.freedesktop.systemd1(5), sd-bus(3).
class Manager final {
 public:
  /// Its private socket, or the bus. kUnavailable, naming what was tried, where there is none.
  static Result<Manager> connect(bool user);

  /// Makes the scope `unit` with the process `member` in it and waits until it is there; its control group's path. One
  /// of that name that has failed is cleared away first. kExists one that is active.
  Result<std::string> start(const std::string& unit, const std::vector<Property>& properties, pid_t member);
  /// Until the next boot alone.
  Result<> set(const std::string& unit, const std::vector<Property>& properties);
  /// Ends it and forgets that it failed. What is left in a scope is killed first. Idempotent.
  Result<> stop(const std::string& unit);

 private:
  struct Close {
    void operator()(sd_bus* bus) const;
  };
  explicit Manager(sd_bus* bus) : bus_(bus) {}
  /// `unit`'s job of StartTransientUnit or StopUnit, whose reply has its path.
  Result<> wait_for(const std::string& job);
  Result<std::string> start_once(const std::string& unit, const std::vector<Property>& properties, bool all,
                                 pid_t member);

  struct Jobs;
  std::unique_ptr<sd_bus, Close> bus_;
  std::shared_ptr<Jobs> jobs_;
};

}  // namespace berth::scope
