#pragma once
#include <memory>
#include <string>
#include <vector>

#include "base/result.h"
#include "base/thread_annotations.h"
#include "network/host_rules.h"
#include "network/lease_store.h"
#include "network/network.h"
#include "os/link_reaper.h"
#include "os/netlink.h"

namespace berth::network {

/// The network that works without any configuration: a bridge, an address for each pod out of one IPv4 subnet,
/// masquerade, host ports. Everything by netlink on kept sockets, which belong to the namespace of the thread that
/// called open(). Thread-safe for different sandboxes; calls for one sandbox must not overlap (Network sees to that).
class BuiltinNetwork final {
 public:
  /// Reads the leases; makes nothing yet: bridge and rules come with the first pod. Call from a thread in the node's
  /// network namespace; so must add() be. Errors: kInvalid subnet or bridge name; kPrecondition state folder in use.
  static Result<std::unique_ptr<BuiltinNetwork>> open(const NetworkOptions& options);

  Result<Attachment> add(const PodNetwork& pod);
  Result<> remove(const std::string& sandbox_id);
  [[nodiscard]] bool holds(const std::string& sandbox_id) const { return leases_->find(sandbox_id).has_value(); }
  [[nodiscard]] std::vector<std::string> holders() const;
  /// As Network.
  [[nodiscard]] Result<std::vector<std::string>> strays();
  Result<> remove_stray(const std::string& link);
  /// kPrecondition while a pod holds a lease.
  Result<> teardown();
  /// The last failure to set up what the pods share; empty when all is well.
  [[nodiscard]] std::string fault() const;

 private:
  BuiltinNetwork(NetworkOptions options, os::Ipv4Subnet subnet, std::unique_ptr<LeaseStore> leases,
                 os::NetlinkSocket route, os::NetlinkSocket netfilter);

  Result<std::vector<PortMapping>> published(const std::vector<PortMapping>& ports) const;
  Result<> prepare_host() BERTH_REQUIRES(mutex_);
  Result<> prepare_shared() BERTH_REQUIRES(mutex_);
  Result<> prepare_bridge() BERTH_REQUIRES(mutex_);
  Result<> prepare_rules() BERTH_REQUIRES(mutex_);
  Result<> allow_loopback_ports() BERTH_REQUIRES(mutex_);
  Result<> make_veth(const PodNetwork& pod, const Lease& lease) BERTH_REQUIRES(mutex_);
  Result<> link_pod(const PodNetwork& pod, const Lease& lease) BERTH_REQUIRES(mutex_);
  Result<> attach_host(const PodNetwork& pod, const Lease& lease, bool fresh) BERTH_EXCLUDES(mutex_);
  Result<> attach(const PodNetwork& pod, const Lease& lease, bool fresh) BERTH_EXCLUDES(mutex_);
  Result<> settle(const Lease& lease) BERTH_EXCLUDES(mutex_);
  Result<> detach(const Lease& lease) BERTH_EXCLUDES(mutex_);
  Result<> configure_pod(int netns_fd, const Lease& lease) const;

  const NetworkOptions options_;
  const os::Ipv4Subnet subnet_;
  const std::unique_ptr<LeaseStore> leases_;
  os::LinkReaper reaper_;
  /// Held over netlink calls, which the kernel runs one after another anyhow (the RTNL and nfnetlink mutexes).
  mutable Mutex mutex_;
  os::NetlinkSocket route_ BERTH_GUARDED_BY(mutex_);
  HostRules rules_ BERTH_GUARDED_BY(mutex_);
  int bridge_index_ BERTH_GUARDED_BY(mutex_) = 0;  ///< 0: not made or not looked at yet
  bool loopback_ports_ BERTH_GUARDED_BY(mutex_) = false;
  std::string fault_ BERTH_GUARDED_BY(mutex_);
};

/// The host end's name: "veth" and eleven digits that depend on the sandbox id alone.
[[nodiscard]] std::string host_link_name(std::string_view sandbox_id);
/// 0a:58 and the four bytes of the address, as the reference bridge plugin makes them: the same address has the same
/// MAC, so that no neighbour keeps a stale entry.
[[nodiscard]] os::Mac mac_for(os::Ipv4 address);

}  // namespace berth::network
