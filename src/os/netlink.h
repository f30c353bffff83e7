#pragma once
#include <chrono>
#include <cstddef>
#include <cstdint>
#include <functional>
#include <span>
#include <string>
#include <string_view>
#include <vector>

#include "base/result.h"
#include "base/unique_fd.h"

/// Netlink: messages as bytes, several of them in one system call, one answer for each.
namespace berth::os {

/// Builds one or more requests in one buffer. Used in the order begin(), put..., [nest(), put..., end_nest()]...,
/// end(). Not thread-safe.
class NetlinkBatch final {
 public:
  /// Starts a message of `type`. NLM_F_REQUEST and NLM_F_ACK are added to `flags` unless `no_ack`. `family_header` is
  /// the fixed part (ifinfomsg, nfgenmsg, ...). `step` says in errors what the message does ("create veth x").
  void begin(std::uint16_t type, std::uint16_t flags, std::span<const std::byte> family_header, std::string step,
             bool no_ack = false);
  template <class Header>
  void begin(std::uint16_t type, std::uint16_t flags, const Header& header, std::string step, bool no_ack = false) {
    begin(type, flags, std::as_bytes(std::span(&header, 1)), std::move(step), no_ack);
  }
  /// The current message may be answered with this errno: it counts as success.
  void tolerate(int errno_value);

  void put(std::uint16_t attribute, std::span<const std::byte> value);
  /// The value's bytes as they lie in memory (host byte order for numbers).
  template <class T>
  void put_value(std::uint16_t attribute, const T& value) {
    static_assert(std::is_trivially_copyable_v<T>);
    put(attribute, std::as_bytes(std::span(&value, 1)));
  }
  void put_be32(std::uint16_t attribute, std::uint32_t value);
  /// With the terminating NUL.
  void put_string(std::uint16_t attribute, std::string_view value);
  /// Raw bytes inside the current message (a fixed header in a nested attribute); padded to four bytes.
  void put_raw(std::span<const std::byte> bytes);
  /// Opens a nested attribute; hand the result to end_nest(). `flagged`: with NLA_F_NESTED.
  [[nodiscard]] std::size_t nest(std::uint16_t attribute, bool flagged = true);
  void end_nest(std::size_t mark);
  void end();

  [[nodiscard]] bool empty() const { return messages_.empty(); }
  [[nodiscard]] std::span<const std::byte> bytes() const { return bytes_; }

 private:
  friend class NetlinkSocket;
  struct Message {
    std::size_t offset = 0;
    std::string step;
    std::vector<int> tolerated;
    bool ack = true;
  };
  std::vector<std::byte> bytes_;
  std::vector<Message> messages_;
};

/// One answer of a dump or get: its type and what follows the nlmsghdr (family header, attributes).
using NetlinkSink = std::function<void(std::uint16_t type, std::span<const std::byte> payload)>;

/// A socket of one netlink family. It belongs to the network namespace of the thread that opened it, for ever, whoever
/// uses it later. Move-only; one caller at a time.
class NetlinkSocket final {
 public:
  /// `protocol`: NETLINK_ROUTE, NETLINK_NETFILTER. Errors: kUnsupported when the kernel has no such family.
  static Result<NetlinkSocket> open(int protocol);

  /// Sends all messages in one call and reads the answers. rtnetlink runs every message even when an earlier one
  /// failed; nfnetlink (a batch between BATCH_BEGIN and BATCH_END) applies all or none. Returns the first error in the
  /// order of the messages, with its step and the kernel's explanation. The kernel answers within the send, so this
  /// never waits. Data messages that come (NLM_F_ECHO, a get) go to `sink`. Source: netlink(7),
  /// Documentation/userspace-api/netlink.
  Result<> transact(NetlinkBatch& batch, const NetlinkSink& sink = {});
  /// For a request in which the kernel blocks long: send() on one thread while another one read()s what comes
  /// meanwhile.
  Result<> send(NetlinkBatch& batch);
  /// Also receive what the kernel tells everybody (RTNLGRP_LINK, ...).
  Result<> join_group(int group);
  /// Waits for one datagram and shows its messages: the type; for an answer to message `index` of the only batch sent
  /// so far its errno (0 success), else -1; the payload. False when none came in time. kExhausted when messages were
  /// lost.
  using Visit = std::function<void(std::uint16_t type, std::size_t index, int errno_value, std::span<const std::byte>)>;
  Result<bool> read(std::chrono::milliseconds timeout, const Visit& visit);
  /// One request with NLM_F_DUMP; each entry goes to `sink`. A dump that the kernel marks as interrupted is
  /// kUnavailable.
  Result<> dump(NetlinkBatch& request, const NetlinkSink& sink);

 private:
  explicit NetlinkSocket(UniqueFd fd) : fd_(std::move(fd)) {}
  Result<std::size_t> receive();

  UniqueFd fd_;
  std::uint32_t sequence_ = 0;
  std::vector<std::byte> buffer_;
};

/// Calls `visit(type, value)` for each attribute in `bytes`, flags removed from the type; stops at the first broken
/// one.
void for_each_attribute(std::span<const std::byte> bytes,
                        const std::function<void(std::uint16_t, std::span<const std::byte>)>& visit);
/// The first bytes of an attribute's value as a T, or T{} when it is too short.
template <class T>
[[nodiscard]] T attribute_value(std::span<const std::byte> value) {
  T out{};
  if (value.size() >= sizeof(T)) __builtin_memcpy(&out, value.data(), sizeof(T));
  return out;
}
/// The value as text up to its NUL.
[[nodiscard]] std::string attribute_string(std::span<const std::byte> value);

}  // namespace berth::os
