#pragma once
#include <cstdint>
#include <map>
#include <string>

#include "os/cgroup.h"

namespace berth::engine::process {

/// Out-of-memory kills of cgroups that are gone before anybody has looked: systemd removes a scope in the moment that
/// it is empty. Under v2 the kernel counts a kill in all cgroups above as well, so what a slice has counted beyond what
/// its other members are known for was in the one that is gone. Exact as long as nobody else has members in that slice,
/// and no two members are killed and gone at once: the first to be asked for is told both. One per process that makes
/// them. Not thread-safe. Source: cgroup-v2.rst, memory.events.
class OomLedger final {
 public:
  /// A new member at `path`, absolute; before anything runs in it.
  void add(const os::CgroupLayout& layout, const std::string& path);
  /// How many were killed in a member: counted while it is there, else concluded. 0 for what is no member.
  std::uint64_t kills(const os::CgroupLayout& layout, const std::string& path);
  /// It is over; what it is known for stays counted for the others.
  void forget(const os::CgroupLayout& layout, const std::string& path);

 private:
  struct Slice {
    std::uint64_t before = 0;     ///< counted before its first member
    std::uint64_t forgotten = 0;  ///< in members that are forgotten
    std::map<std::string, std::uint64_t> members;
  };
  Slice* slice_of(const std::string& path);

  std::map<std::string, Slice> slices_;
};

}  // namespace berth::engine::process
