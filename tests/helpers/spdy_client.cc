#include "spdy_client.h"

#include <arpa/inet.h>
#include <netinet/in.h>
#include <netinet/tcp.h>
#include <poll.h>
#include <sys/socket.h>
#include <sys/time.h>
#include <unistd.h>

#include <array>
#include <cerrno>

#include "base/strings.h"
#include "os/file.h"

namespace berth::test {

using stream::SpdyType;

Result<UrlConnection> connect_url(const std::string& url) {
  std::string_view rest = url;
  const auto scheme = rest.find("://");
  if (!rest.starts_with("http") || scheme == std::string_view::npos) return fail(Code::kInvalid, "no http URL: " + url);
  rest.remove_prefix(scheme + 3);
  UrlConnection connection;
  connection.host = rest.substr(0, rest.find('/'));
  connection.path = rest.substr(rest.find('/'));
  const auto colon = connection.host.rfind(':');
  sockaddr_in name{};
  name.sin_family = AF_INET;
  name.sin_port = htons(parse_number<std::uint16_t>(connection.host.substr(colon + 1)).value_or(0));
  ::inet_pton(AF_INET, connection.host.substr(0, colon).c_str(), &name.sin_addr);
  connection.socket.reset(::socket(AF_INET, SOCK_STREAM | SOCK_CLOEXEC, 0));
  // A server that does not answer is no reason for a test to hang.
  const timeval patience{.tv_sec = 60, .tv_usec = 0};
  ::setsockopt(connection.socket.get(), SOL_SOCKET, SO_RCVTIMEO, &patience, sizeof patience);
  ::setsockopt(connection.socket.get(), SOL_SOCKET, SO_SNDTIMEO, &patience, sizeof patience);
  if (::connect(connection.socket.get(), reinterpret_cast<const sockaddr*>(&name), sizeof name) != 0) {
    return fail_errno(errno, "connect to " + connection.host);
  }
  const int one = 1;
  ::setsockopt(connection.socket.get(), IPPROTO_TCP, TCP_NODELAY, &one, sizeof one);
  return connection;
}

Result<std::unique_ptr<SpdyClient>> SpdyClient::connect(const std::string& url,
                                                        const std::vector<std::string>& protocols) {
  BERTH_ASSIGN(UrlConnection connection, connect_url(url), "connect");
  std::string request = "POST " + connection.path + " HTTP/1.1\r\nHost: " + connection.host +
                        "\r\nConnection: Upgrade\r\nUpgrade: SPDY/3.1\r\nContent-Length: 0\r\n";
  for (const auto& protocol : protocols) request += "X-Stream-Protocol-Version: " + protocol + "\r\n";
  request += "\r\n";
  std::unique_ptr<SpdyClient> client(new SpdyClient());
  client->socket_ = std::move(connection.socket);
  BERTH_TRY(client->send_all(request), "upgrade");
  std::string head;
  std::array<char, 4096> buffer{};
  while (head.find("\r\n\r\n") == std::string::npos) {
    const ssize_t count = ::recv(client->socket_.get(), buffer.data(), buffer.size(), 0);
    if (count <= 0) return fail(Code::kUnavailable, "no answer: " + head);
    head.append(buffer.data(), static_cast<std::size_t>(count));
  }
  if (!head.starts_with("HTTP/1.1 101")) return fail(Code::kUnavailable, head);
  const auto end = head.find("\r\n\r\n");
  client->early_ = head.substr(end + 4);
  for (const auto line : split(std::string_view(head).substr(0, end), '\n')) {
    if (line.starts_with("X-Stream-Protocol-Version: ")) client->protocol_ = trim(line.substr(27));
  }
  return client;
}

Result<> SpdyClient::send_all(std::string_view bytes) {
  while (!bytes.empty()) {
    const ssize_t count = ::send(socket_.get(), bytes.data(), bytes.size(), MSG_NOSIGNAL);
    if (count < 0 && errno == EINTR) continue;
    if (count < 0) return fail_errno(errno, "send");
    bytes.remove_prefix(static_cast<std::size_t>(count));
  }
  return {};
}

std::uint32_t SpdyClient::open(const stream::SpdyHeaders& headers) {
  const std::uint32_t id = next_id_;
  next_id_ += 2;
  std::string payload;
  stream::append_spdy_word(payload, id);
  stream::append_spdy_word(payload, 0);
  payload.append(2, '\0');
  payload.append(encoder_.encode(headers));
  ignore(send_all(stream::spdy_control(SpdyType::kSynStream, 0, payload)), "the reader tells");
  streams_[id];
  return id;
}

Result<> SpdyClient::write(std::uint32_t id, std::string_view bytes, bool fin) {
  std::string frame = stream::spdy_data_head(id, fin ? stream::kSpdyFin : 0, bytes.size());
  frame.append(bytes);
  return send_all(frame);
}

Result<> SpdyClient::reset(std::uint32_t id) {
  std::string payload;
  stream::append_spdy_word(payload, id);
  stream::append_spdy_word(payload, 5);
  return send_all(stream::spdy_control(SpdyType::kRstStream, 0, payload));
}

Result<> SpdyClient::ping() {
  std::string payload;
  stream::append_spdy_word(payload, 1);
  return send_all(stream::spdy_control(SpdyType::kPing, 0, payload));
}

Result<bool> SpdyClient::read_some(std::chrono::milliseconds timeout) {
  if (!early_.empty()) {
    const std::string bytes = std::exchange(early_, {});
    BERTH_TRY(reader_.feed(bytes, *this), "frames");
    return true;
  }
  pollfd poll{socket_.get(), POLLIN, 0};
  if (::poll(&poll, 1, static_cast<int>(timeout.count())) <= 0) return false;
  std::array<char, 65536> buffer;
  const ssize_t count = ::recv(socket_.get(), buffer.data(), buffer.size(), 0);
  if (count <= 0) return fail(Code::kUnavailable, "the server has closed the connection");
  BERTH_TRY(reader_.feed(std::string_view(buffer.data(), static_cast<std::size_t>(count)), *this), "frames");
  return true;
}

Result<> SpdyClient::read_until(const std::function<bool()>& done, std::chrono::milliseconds timeout) {
  const auto end = std::chrono::steady_clock::now() + timeout;
  while (!done()) {
    const auto left = std::chrono::duration_cast<std::chrono::milliseconds>(end - std::chrono::steady_clock::now());
    if (left.count() <= 0) return fail(Code::kTimeout, "what was waited for did not come");
    auto some = read_some(left);
    if (!some) return fail(std::move(some).error());
  }
  return {};
}

Result<> SpdyClient::exchange(std::uint32_t id, const std::function<std::string()>& next,
                              const std::function<bool()>& done, std::chrono::seconds timeout) {
  const auto end = std::chrono::steady_clock::now() + timeout;
  std::string pending;
  bool sent_fin = false;
  while (!done()) {
    if (std::chrono::steady_clock::now() >= end) return fail(Code::kTimeout, "exchange");
    if (pending.empty() && !sent_fin) {
      const std::string bytes = next();
      sent_fin = bytes.empty();
      pending = stream::spdy_data_head(id, sent_fin ? stream::kSpdyFin : 0, bytes.size()) + bytes;
    }
    pollfd poll{socket_.get(), static_cast<short>(POLLIN | (pending.empty() ? 0 : POLLOUT)), 0};
    ::poll(&poll, 1, 1000);
    if ((poll.revents & POLLIN) != 0) {
      auto some = read_some(std::chrono::milliseconds(0));
      if (!some) return fail(std::move(some).error());
    }
    if ((poll.revents & POLLOUT) != 0 && !pending.empty()) {
      const ssize_t count = ::send(socket_.get(), pending.data(), pending.size(), MSG_NOSIGNAL | MSG_DONTWAIT);
      if (count < 0 && errno != EAGAIN) return fail_errno(errno, "send");
      if (count > 0) pending.erase(0, static_cast<std::size_t>(count));
    }
  }
  return {};
}

Result<> SpdyClient::on_control(SpdyType type, std::uint8_t flags, std::string_view payload) {
  const std::uint32_t id = payload.size() >= 4 ? stream::spdy_word(payload, 0) : 0;
  switch (type) {
    case SpdyType::kSynReply: {
      BERTH_TRY(decoder_.decode(payload.substr(4)), "reply");
      streams_[id].accepted = true;
      if ((flags & stream::kSpdyFin) != 0) streams_[id].ended = true;
      return {};
    }
    case SpdyType::kRstStream:
      streams_[id].reset = true;
      return {};
    case SpdyType::kPing:
      ++pongs_;
      return {};
    default:
      return {};
  }
}

Result<> SpdyClient::on_data(std::uint32_t id, std::string_view bytes, bool fin) {
  if (tap) {
    tap(id, bytes);
  } else {
    streams_[id].data.append(bytes);
  }
  if (fin) streams_[id].ended = true;
  return {};
}

}  // namespace berth::test
