#include "engine/process/net_devices.h"

#include <linux/if_addr.h>
#include <linux/rtnetlink.h>
#include <sched.h>

#include <algorithm>
#include <cstdlib>

#include "base/log.h"
#include "os/link.h"
#include "os/namespace.h"
#include "os/netns.h"

namespace berth::engine::process {

namespace {

/// A socket belongs to the namespace that it was opened in, so the caller need be there for no more than that.
Result<os::NetlinkSocket> socket_in(int netns_fd, int own_netns_fd) {
  BERTH_TRY(os::join_namespaces(netns_fd, CLONE_NEWNET), "network namespace of the container");
  auto socket = os::NetlinkSocket::open(NETLINK_ROUTE);
  if (auto back = os::join_namespaces(own_netns_fd, CLONE_NEWNET); !back) {
    // Everything this process would do from now on would be done in the container's network.
    log_error("cannot come back to the own network namespace, giving up", {{"err", back.error().text()}});
    std::abort();
  }
  return socket;
}

struct Move {
  os::Link link;
  std::string to;
  [[nodiscard]] bool numbered() const { return to.find("%d") != std::string::npos; }
};

Result<> check_target(os::NetlinkSocket& inside, const Move& move) {
  if (move.numbered()) return {};
  BERTH_ASSIGN(const auto taken, os::find_link(inside, move.to), "look into the container");
  if (taken) return fail(Code::kExists, "the container has a device " + move.to);
  return {};
}

/// The link that was not there before: a numbered name is known to the kernel alone, and the index may change.
Result<int> find_moved(os::NetlinkSocket& inside, const Move& move, const std::vector<os::Link>& before) {
  BERTH_ASSIGN(const auto links, os::list_links(inside), "look for the moved device");
  for (const auto& link : links) {
    const bool was_there = std::ranges::any_of(before, [&link](const auto& old) { return old.index == link.index; });
    if (move.numbered() ? !was_there : link.name == move.to) return link.index;
  }
  return fail(Code::kNotFound, "the moved device is not in the container");
}

Result<> move_one(os::NetlinkSocket& outside, os::NetlinkSocket& inside, int netns_fd, const Move& move) {
  // Before the move, at which the kernel drops them. Others than these mean something on the old network only.
  BERTH_ASSIGN(const auto addresses, os::list_addresses(outside, move.link.index), "addresses");
  BERTH_ASSIGN(const auto before, os::list_links(inside), "look into the container");
  os::NetlinkBatch away;
  os::put_move_link(away, move.link.index, move.to, netns_fd);
  BERTH_TRY(outside.transact(away), "move");
  BERTH_ASSIGN(const int index, find_moved(inside, move, before), "move");
  os::NetlinkBatch set_up;
  for (const auto& address : addresses) {
    if ((address.flags & IFA_F_PERMANENT) == 0 || address.scope != RT_SCOPE_UNIVERSE) continue;
    os::put_same_address(set_up, index, address);
  }
  os::put_link_up(set_up, index);
  return inside.transact(set_up);
}

}  // namespace

Result<> move_net_devices(const spec::Linux& config, int netns_fd) {
  BERTH_ASSIGN(const UniqueFd own, os::current_netns(), "linux.netDevices");
  if (os::same_namespace(own.get(), netns_fd)) {
    return fail(Code::kInvalid, "linux.netDevices: the container's network namespace is the runtime's own");
  }
  BERTH_ASSIGN(auto outside, os::NetlinkSocket::open(NETLINK_ROUTE), "linux.netDevices");
  BERTH_ASSIGN(auto inside, socket_in(netns_fd, own.get()), "linux.netDevices");
  std::vector<Move> moves;
  for (const auto& [name, device] : config.net_devices) {
    BERTH_ASSIGN(auto link, os::find_link(outside, name), "linux.netDevices " + name);
    if (!link) return fail(Code::kNotFound, "linux.netDevices " + name + ": there is no such device", ENODEV);
    moves.push_back({std::move(*link), device.name.empty() ? name : device.name});
    BERTH_TRY(check_target(inside, moves.back()), "linux.netDevices " + name);
  }
  for (const auto& move : moves) {
    BERTH_TRY(move_one(outside, inside, netns_fd, move), "linux.netDevices " + move.link.name);
  }
  return {};
}

}  // namespace berth::engine::process
