#include "os/netlink.h"

#include <arpa/inet.h>
#include <linux/netlink.h>
#include <poll.h>
#include <sys/socket.h>

#include <algorithm>
#include <cerrno>
#include <cstring>

namespace berth::os {
namespace {

// The kernel fills at most 32 KiB of a dump at a time; acknowledgements are far smaller.
constexpr std::size_t kReceiveBytes = 32U << 10;
constexpr std::size_t kHeaderBytes = sizeof(nlmsghdr);

std::size_t align4(std::size_t n) {
  return (n + 3U) & ~std::size_t{3};
}

nlmsghdr header_at(std::span<const std::byte> bytes, std::size_t offset) {
  nlmsghdr header{};
  std::memcpy(&header, bytes.data() + offset, sizeof header);
  return header;
}

// Calls visit(header, payload) for each whole message in `bytes`.
template <class Visit>
void for_each_message(std::span<const std::byte> bytes, Visit visit) {
  std::size_t at = 0;
  while (bytes.size() - at >= kHeaderBytes) {
    const nlmsghdr header = header_at(bytes, at);
    if (header.nlmsg_len < kHeaderBytes || header.nlmsg_len > bytes.size() - at) return;
    visit(header, bytes.subspan(at + kHeaderBytes, header.nlmsg_len - kHeaderBytes));
    at += std::min(align4(header.nlmsg_len), bytes.size() - at);
  }
}

// What the kernel says about a failure beyond its errno (NETLINK_EXT_ACK).
std::string explanation(const nlmsghdr& header, std::span<const std::byte> payload) {
  if ((header.nlmsg_flags & NLM_F_ACK_TLVS) == 0) return {};
  std::size_t skip = sizeof(nlmsgerr);
  if ((header.nlmsg_flags & NLM_F_CAPPED) == 0) {
    const nlmsghdr inner = header_at(payload, sizeof(int));
    skip = sizeof(int) + align4(inner.nlmsg_len);
  }
  std::string text;
  if (skip >= payload.size()) return text;
  for_each_attribute(payload.subspan(skip), [&text](std::uint16_t type, std::span<const std::byte> value) {
    if (type == NLMSGERR_ATTR_MSG) text = attribute_string(value);
  });
  return text;
}

Error answer_error(int errno_value, const std::string& step, const std::string& why) {
  Error error = errno_error(errno_value, step);
  if (why.empty()) return error;
  return {error.code(), error.text() + " (" + why + ")", errno_value};
}

}  // namespace

void NetlinkBatch::begin(std::uint16_t type, std::uint16_t flags, std::span<const std::byte> family_header,
                         std::string step, bool no_ack) {
  const std::size_t offset = bytes_.size();
  nlmsghdr header{};
  header.nlmsg_type = type;
  header.nlmsg_flags = static_cast<std::uint16_t>(flags | NLM_F_REQUEST | (no_ack ? 0 : NLM_F_ACK));
  bytes_.resize(offset + kHeaderBytes);
  std::memcpy(bytes_.data() + offset, &header, sizeof header);
  messages_.push_back({offset, std::move(step), {}, !no_ack});
  put_raw(family_header);
}

void NetlinkBatch::tolerate(int errno_value) {
  messages_.back().tolerated.push_back(errno_value);
}

void NetlinkBatch::put_raw(std::span<const std::byte> bytes) {
  bytes_.insert(bytes_.end(), bytes.begin(), bytes.end());
  bytes_.resize(align4(bytes_.size()));
}

void NetlinkBatch::put(std::uint16_t attribute, std::span<const std::byte> value) {
  nlattr header{};
  header.nla_len = static_cast<std::uint16_t>(sizeof header + value.size());
  header.nla_type = attribute;
  put_raw(std::as_bytes(std::span(&header, 1)));
  put_raw(value);
}

void NetlinkBatch::put_be32(std::uint16_t attribute, std::uint32_t value) {
  put_value(attribute, htonl(value));
}

void NetlinkBatch::put_string(std::uint16_t attribute, std::string_view value) {
  const std::string text(value);
  put(attribute, std::as_bytes(std::span(text.c_str(), text.size() + 1)));
}

std::size_t NetlinkBatch::nest(std::uint16_t attribute, bool flagged) {
  const std::size_t mark = bytes_.size();
  put(static_cast<std::uint16_t>(attribute | (flagged ? NLA_F_NESTED : 0)), {});
  return mark;
}

void NetlinkBatch::end_nest(std::size_t mark) {
  const auto length = static_cast<std::uint16_t>(bytes_.size() - mark);
  std::memcpy(bytes_.data() + mark, &length, sizeof length);
}

void NetlinkBatch::end() {
  const std::size_t offset = messages_.back().offset;
  const auto length = static_cast<std::uint32_t>(bytes_.size() - offset);
  std::memcpy(bytes_.data() + offset, &length, sizeof length);
}

Result<NetlinkSocket> NetlinkSocket::open(int protocol) {
  UniqueFd fd(::socket(AF_NETLINK, SOCK_RAW | SOCK_CLOEXEC, protocol));
  if (!fd) return fail_errno(errno, "open a netlink socket of family " + std::to_string(protocol));
  const int on = 1;
  // Both only add information to answers; a kernel without them still answers.
  ::setsockopt(fd.get(), SOL_NETLINK, NETLINK_EXT_ACK, &on, sizeof on);
  ::setsockopt(fd.get(), SOL_NETLINK, NETLINK_CAP_ACK, &on, sizeof on);
  sockaddr_nl local{};
  local.nl_family = AF_NETLINK;
  if (::bind(fd.get(), reinterpret_cast<const sockaddr*>(&local), sizeof local) != 0) {
    return fail_errno(errno, "bind a netlink socket");
  }
  return NetlinkSocket(std::move(fd));
}

// Numbers the messages and sends them. Answers of a former, abandoned exchange are dropped first.
Result<> NetlinkSocket::send(NetlinkBatch& batch) {
  for (const auto& message : batch.messages_) {
    nlmsghdr header = header_at(batch.bytes_, message.offset);
    header.nlmsg_seq = ++sequence_;
    std::memcpy(batch.bytes_.data() + message.offset, &header, sizeof header);
  }
  sockaddr_nl kernel{};
  kernel.nl_family = AF_NETLINK;
  for (;;) {
    const ssize_t sent = ::sendto(fd_.get(), batch.bytes_.data(), batch.bytes_.size(), 0,
                                  reinterpret_cast<const sockaddr*>(&kernel), sizeof kernel);
    if (sent >= 0) return {};
    if (errno != EINTR) return fail_errno(errno, "send netlink messages");
  }
}

// One datagram into buffer_; 0 when none is there.
Result<std::size_t> NetlinkSocket::receive() {
  buffer_.resize(kReceiveBytes);
  for (;;) {
    const ssize_t got = ::recv(fd_.get(), buffer_.data(), buffer_.size(), MSG_DONTWAIT | MSG_TRUNC);
    if (got >= 0 && static_cast<std::size_t>(got) <= buffer_.size()) return static_cast<std::size_t>(got);
    if (got >= 0) return fail(Code::kInternal, "a netlink answer of " + std::to_string(got) + " bytes does not fit");
    if (errno == EAGAIN) return std::size_t{0};
    if (errno == ENOBUFS) return fail(Code::kExhausted, "netlink messages were lost", ENOBUFS);
    if (errno != EINTR) return fail_errno(errno, "receive netlink answers");
  }
}

Result<> NetlinkSocket::join_group(int group) {
  if (::setsockopt(fd_.get(), SOL_NETLINK, NETLINK_ADD_MEMBERSHIP, &group, sizeof group) != 0) {
    return fail_errno(errno, "join netlink group " + std::to_string(group));
  }
  return {};
}

Result<bool> NetlinkSocket::read(std::chrono::milliseconds timeout, const Visit& visit) {
  pollfd wait{fd_.get(), POLLIN, 0};
  const int polled = ::poll(&wait, 1, static_cast<int>(timeout.count()));
  if (polled < 0 && errno != EINTR) return fail_errno(errno, "wait for netlink answers");
  if (polled <= 0) return false;
  BERTH_ASSIGN(const std::size_t got, receive(), "read netlink answers");
  for_each_message(std::span(buffer_).first(got), [&](const nlmsghdr& header, std::span<const std::byte> payload) {
    const bool answer = header.nlmsg_type == NLMSG_ERROR;
    visit(header.nlmsg_type, header.nlmsg_seq - 1, answer ? -attribute_value<int>(payload) : -1, payload);
  });
  return true;
}

Result<> NetlinkSocket::transact(NetlinkBatch& batch, const NetlinkSink& sink) {
  const std::uint32_t first = sequence_ + 1;
  BERTH_TRY(send(batch), batch.messages_.empty() ? "netlink" : batch.messages_.front().step);
  const std::size_t count = batch.messages_.size();
  std::size_t waiting = 0;
  for (const auto& message : batch.messages_) waiting += message.ack ? 1U : 0U;
  std::size_t failed_index = count;
  Error failure(Code::kInternal, "");
  while (waiting > 0) {
    auto got = receive();
    if (!got) return fail(std::move(got).error());
    // An nfnetlink batch that fails as a whole answers some of its messages only.
    if (*got == 0) break;
    for_each_message(std::span(buffer_).first(*got), [&](const nlmsghdr& header, std::span<const std::byte> payload) {
      const std::uint32_t index = header.nlmsg_seq - first;
      if (index >= count) return;  // an answer to an exchange that was given up
      if (header.nlmsg_type != NLMSG_ERROR) {
        if (sink) sink(header.nlmsg_type, payload);
        return;
      }
      const auto& message = batch.messages_[index];
      if (message.ack && waiting > 0) --waiting;
      const int errno_value = -attribute_value<int>(payload);
      if (errno_value == 0 || std::ranges::find(message.tolerated, errno_value) != message.tolerated.end()) return;
      if (index < failed_index) {
        failed_index = index;
        failure = answer_error(errno_value, message.step, explanation(header, payload));
      }
    });
  }
  if (failed_index < count) return fail(std::move(failure));
  if (waiting > 0) return fail(Code::kInternal, batch.messages_.front().step + ": the kernel gave no answer");
  return {};
}

Result<> NetlinkSocket::dump(NetlinkBatch& request, const NetlinkSink& sink) {
  const std::string step = request.messages_.front().step;
  BERTH_TRY(send(request), step);
  const std::uint32_t sequence = sequence_;
  bool done = false;
  bool interrupted = false;
  int errno_value = 0;
  while (!done) {
    auto got = receive();
    if (!got) return fail(std::move(got).error().in(step));
    if (*got == 0) return fail(Code::kInternal, step + ": the kernel gave no answer");
    for_each_message(std::span(buffer_).first(*got), [&](const nlmsghdr& header, std::span<const std::byte> payload) {
      if (header.nlmsg_seq != sequence) return;
      interrupted = interrupted || (header.nlmsg_flags & NLM_F_DUMP_INTR) != 0;
      if (header.nlmsg_type == NLMSG_DONE || header.nlmsg_type == NLMSG_ERROR) {
        done = true;
        errno_value = -attribute_value<int>(payload);
      } else {
        sink(header.nlmsg_type, payload);
      }
    });
  }
  if (errno_value > 0) return fail_errno(errno_value, step);
  if (interrupted) return fail(Code::kUnavailable, step + ": the list changed while it was read", EINTR);
  return {};
}

void for_each_attribute(std::span<const std::byte> bytes,
                        const std::function<void(std::uint16_t, std::span<const std::byte>)>& visit) {
  std::size_t at = 0;
  while (bytes.size() - at >= sizeof(nlattr)) {
    nlattr header{};
    std::memcpy(&header, bytes.data() + at, sizeof header);
    if (header.nla_len < sizeof header || header.nla_len > bytes.size() - at) return;
    visit(static_cast<std::uint16_t>(header.nla_type & NLA_TYPE_MASK),
          bytes.subspan(at + sizeof header, header.nla_len - sizeof header));
    at += std::min(align4(header.nla_len), bytes.size() - at);
  }
}

std::string attribute_string(std::span<const std::byte> value) {
  const auto* text = reinterpret_cast<const char*>(value.data());
  return {text, ::strnlen(text, value.size())};
}

}  // namespace berth::os
