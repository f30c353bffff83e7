#include "os/link_reaper.h"

#include <linux/netlink.h>
#include <linux/rtnetlink.h>

#include <algorithm>
#include <cerrno>
#include <system_error>

#include "os/link.h"

namespace berth::os {
namespace {

// The group that links to be deleted together are put in first: "br" and a number that nobody else uses.
constexpr std::uint32_t kGroup = 0x62720001;
// The kernel announces a deletion within milliseconds; this only bounds a wait whose message got lost.
constexpr std::chrono::milliseconds kLook{200};

ifinfomsg any_link() {
  return {};
}

std::string name_of(std::span<const std::byte> payload) {
  std::string name;
  for_each_attribute(payload.subspan(std::min(sizeof(ifinfomsg), payload.size())),
                     [&name](std::uint16_t type, std::span<const std::byte> value) {
                       if (type == IFLA_IFNAME) name = attribute_string(value);
                     });
  return name;
}

void put_deletions(NetlinkBatch& batch, const std::vector<std::string>& names) {
  if (names.size() == 1) return put_delete_link(batch, names.front());
  for (const auto& name : names) {
    batch.begin(RTM_NEWLINK, 0, any_link(), "mark link " + name + " for deletion");
    batch.put_string(IFLA_IFNAME, name);
    batch.put_value(IFLA_GROUP, kGroup);
    batch.end();
  }
  batch.begin(RTM_DELLINK, 0, any_link(), "delete marked links");
  batch.put_value(IFLA_GROUP, kGroup);
  batch.end();
}

}  // namespace

LinkReaper::~LinkReaper() {
  const MutexLock hold(mutex_);
  for (const auto& call : calls_) {
    if (call->thread.joinable()) call->thread.join();
  }
}

// One thread per call, as the call must not be waited for; ended ones are collected at the next.
void LinkReaper::start(const std::shared_ptr<Call>& call) {
  const MutexLock hold(mutex_);
  std::erase_if(calls_, [](const auto& old) {
    if (!old->finished) return false;
    if (old->thread.joinable()) old->thread.join();
    return true;
  });
  const auto send = [call] {
    ignore(call->socket.send(call->batch), "the watcher sees that no answer came");
    call->finished = true;
  };
  try {
    call->thread = std::thread(send);
  } catch (const std::system_error&) {
    send();  // no thread to be had: then it takes its time
  }
  calls_.push_back(call);
}

// Reads until every name in `left` is announced as deleted or answered for. `last`: index of the deleting message.
void LinkReaper::watch(Call& call, std::size_t last, std::vector<std::string>& left, Result<>& result) {
  const std::vector<std::string> names = left;
  bool over = false;
  while (!left.empty() && !over) {
    const bool sent = call.finished;
    auto got = call.socket.read(kLook, [&](std::uint16_t type, std::size_t index, int errno_value, auto payload) {
      if (type == RTM_DELLINK) std::erase(left, name_of(payload));
      if (errno_value < 0) return;
      if (index == last) over = true;
      // Marking a link that is gone already.
      if (errno_value == ENODEV && index < names.size()) std::erase(left, names[index]);
      if (errno_value != 0 && errno_value != ENODEV && result) result = fail_errno(errno_value, "delete links");
    });
    // Lost messages, or all is sent and nothing more comes: the caller looks for itself.
    if (!got || (!*got && sent)) return;
  }
}

Result<> LinkReaper::run(const std::vector<Ticket*>& tickets) {
  std::vector<std::string> left;
  for (const auto* ticket : tickets) left.push_back(ticket->name);
  BERTH_ASSIGN(auto socket, NetlinkSocket::open(NETLINK_ROUTE), "delete links");
  BERTH_TRY(socket.join_group(RTNLGRP_LINK), "delete links");
  auto call = std::make_shared<Call>(std::move(socket));
  put_deletions(call->batch, left);
  const std::size_t last = left.size() == 1 ? 0 : left.size();
  start(call);
  Result<> result;
  watch(*call, last, left, result);
  if (left.empty()) return {};
  // No announcement: ask, in the order behind the deletion.
  BERTH_ASSIGN(auto fresh, NetlinkSocket::open(NETLINK_ROUTE), "delete links");
  for (const auto& name : left) {
    BERTH_ASSIGN(const auto link, find_link(fresh, name), "look whether a link is gone");
    if (!link) continue;
    if (!result) return result;
    NetlinkBatch again;
    put_delete_link(again, name);
    BERTH_TRY(fresh.transact(again), "once more");
  }
  return {};
}

Result<> LinkReaper::remove(const std::string& name) {
  Ticket own{name, false, {}};
  MutexLock hold(mutex_);
  queue_.push_back(&own);
  while (!own.done) {
    if (led_) {
      changed_.wait(hold);
      continue;
    }
    led_ = true;
    const auto tickets = std::exchange(queue_, {});
    hold.unlock();
    const auto result = run(tickets);
    hold.lock();
    for (auto* ticket : tickets) {
      ticket->result = result;
      ticket->done = true;
    }
    led_ = false;
    changed_.notify_all();
  }
  return own.result;
}

}  // namespace berth::os
