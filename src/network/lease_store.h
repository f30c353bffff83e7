#pragma once
#include <map>
#include <optional>
#include <string>
#include <string_view>
#include <vector>

#include "base/result.h"
#include "base/thread_annotations.h"
#include "base/unique_fd.h"
#include "network/network.h"
#include "os/inet.h"

namespace berth::network {

/// What one pod holds of the built-in network. On disk before anything is made, gone after everything is.
struct Lease {
  std::string sandbox_id;
  os::Ipv4 address;
  std::vector<PortMapping> ports;
};

/// Addresses of one subnet and who holds them: a folder with one file for each address, named by the address. The
/// folder is the truth and survives a restart; it is read once, at open(). Thread-safe. Nothing is fsynced: pods do not
/// survive a power failure, so a lease that got lost with it is one that nobody holds.
class LeaseStore final {
 public:
  /// `dir` is made if absent and locked against a second daemon for as long as the store lives (kPrecondition). The
  /// network address, the gateway (the first address) and the broadcast address are never leased. `subnet`: /8 to /30.
  static Result<std::unique_ptr<LeaseStore>> open(std::string dir, os::Ipv4Subnet subnet);

  /// The gateway: the subnet's first address.
  [[nodiscard]] os::Ipv4 gateway() const { return {subnet_.base.value + 1}; }

  /// Leases the next free address after the one leased last, and records the ports with it.
  /// Errors: kExists the sandbox has a lease, or a port is held by another (the text names it); kExhausted no address
  /// free.
  Result<Lease> reserve(const std::string& sandbox_id, std::vector<PortMapping> ports);
  /// Forgets the sandbox's lease; unknown is success.
  Result<> release(const std::string& sandbox_id);

  [[nodiscard]] std::optional<Lease> find(const std::string& sandbox_id) const;
  /// Sorted by sandbox id.
  [[nodiscard]] std::vector<Lease> all() const;

 private:
  LeaseStore(std::string dir, os::Ipv4Subnet subnet, UniqueFd lock)
      : dir_(std::move(dir)), subnet_(subnet), lock_(std::move(lock)), last_{subnet.base.value + 1} {}
  Result<> load() BERTH_REQUIRES(mutex_);
  Result<> load_one(const std::string& name, os::Ipv4 address) BERTH_REQUIRES(mutex_);
  Result<os::Ipv4> next_free() const BERTH_REQUIRES(mutex_);
  Result<> check_ports(const std::vector<PortMapping>& ports) const BERTH_REQUIRES(mutex_);
  Result<> write(const Lease& lease) const;
  void remember_last(os::Ipv4 address) BERTH_REQUIRES(mutex_);
  [[nodiscard]] std::string path_of(os::Ipv4 address) const;

  const std::string dir_;
  const os::Ipv4Subnet subnet_;
  const UniqueFd lock_;
  UniqueFd last_file_;
  mutable Mutex mutex_;
  os::Ipv4 last_ BERTH_GUARDED_BY(mutex_);
  std::map<std::string, Lease, std::less<>> by_sandbox_ BERTH_GUARDED_BY(mutex_);
  std::map<os::Ipv4, std::string> by_address_ BERTH_GUARDED_BY(mutex_);
};

/// A lease file's text and back. Source of the form: this file's comment in lease_store.cc.
[[nodiscard]] std::string format_lease(const Lease& lease);
/// kCorrupt for anything that format_lease() did not write; kUnsupported for a later version.
[[nodiscard]] Result<Lease> parse_lease(std::string_view text, os::Ipv4 address);

/// Whether both claim the same port: same protocol and port, and the same or any address on one side.
[[nodiscard]] bool ports_collide(const PortMapping& a, const PortMapping& b);

}  // namespace berth::network
