#include "image/testing/http_server.h"

#include <poll.h>
#include <sys/socket.h>

#include "base/strings.h"
#include "os/socket.h"
#include "os/tcp.h"

namespace berth::image::testing {
namespace {

constexpr int kPollMs = 50;

bool readable(int fd) {
  pollfd p{fd, POLLIN, 0};
  return ::poll(&p, 1, kPollMs) > 0;
}

ServerRequest parse(const std::string& head) {
  ServerRequest out;
  const auto lines = split(head, '\n');
  const auto words = split(trim(lines.front()), ' ');
  out.method = words.front();
  if (words.size() > 1) out.target = words[1];
  for (std::size_t i = 1; i < lines.size(); ++i) {
    const std::size_t colon = lines[i].find(':');
    if (colon == std::string_view::npos) continue;
    out.headers[to_lower(trim(lines[i].substr(0, colon)))] = trim(lines[i].substr(colon + 1));
  }
  return out;
}

}  // namespace

void Reply::send(std::string_view bytes) {
  while (!bytes.empty() && !stopping_) {
    const ssize_t n = ::send(fd_, bytes.data(), bytes.size(), MSG_NOSIGNAL);
    if (n < 0 && errno == EAGAIN) {
      pollfd p{fd_, POLLOUT, 0};
      ::poll(&p, 1, kPollMs);
      continue;
    }
    if (n <= 0) return;
    bytes.remove_prefix(static_cast<std::size_t>(n));
  }
}

void Reply::answer(int status, std::string_view body, const std::vector<std::string>& headers) {
  std::string head = "HTTP/1.1 " + std::to_string(status) +
                     " X\r\nConnection: close\r\nContent-Length: " + std::to_string(body.size()) + "\r\n";
  for (const std::string& line : headers) head += line + "\r\n";
  send(head + "\r\n");
  send(body);
}

void Reply::hang() {
  char byte = 0;
  while (!stopping_) {
    if (readable(fd_) && ::recv(fd_, &byte, 1, 0) <= 0) return;
  }
}

void Reply::reset() {
  const linger hard{1, 0};
  ::setsockopt(fd_, SOL_SOCKET, SO_LINGER, &hard, sizeof hard);
}

HttpServer::HttpServer(Handler handler) : handler_(std::move(handler)) {
  auto listener = os::tcp_listen("127.0.0.1", 0);
  if (!listener) std::abort();
  listener_ = std::move(*listener);
  port_ = os::local_port(listener_.get()).value_or(0);
  acceptor_ = std::jthread([this] { accept_loop(); });
}

HttpServer::~HttpServer() {
  stopping_ = true;
  acceptor_.join();
  std::vector<std::jthread> connections;
  {
    const MutexLock lock(mutex_);
    connections = std::move(connections_);
  }
}

std::vector<std::string> HttpServer::log() const {
  const MutexLock lock(mutex_);
  return log_;
}

void HttpServer::accept_loop() {
  while (!stopping_) {
    if (!readable(listener_.get())) continue;
    auto connection = os::accept_connection(listener_.get());
    if (!connection || !*connection) continue;
    const int fd = (*connection)->release();
    const MutexLock lock(mutex_);
    connections_.emplace_back([this, fd] { serve(fd); });
  }
}

void HttpServer::serve(int fd) {
  const UniqueFd owner(fd);
  std::string head;
  std::size_t end = std::string::npos;
  while (!stopping_ && (end = head.find("\r\n\r\n")) == std::string::npos) {
    if (!readable(fd)) continue;
    char buffer[4096];
    const ssize_t n = ::recv(fd, buffer, sizeof buffer, 0);
    if (n <= 0 || head.size() > 65536) return;
    head.append(buffer, static_cast<std::size_t>(n));
  }
  if (end == std::string::npos) return;
  ServerRequest request = parse(head.substr(0, end));
  request.body = head.substr(end + 4);
  {
    const MutexLock lock(mutex_);
    log_.push_back(request.method + " " + request.target);
  }
  Reply reply(fd, stopping_);
  handler_(request, reply);
}

bool serve_image(const BuiltImage& image, const ServerRequest& request, Reply& reply) {
  const std::string& target = request.target;
  if (target.find("/manifests/") != std::string::npos) {
    reply.answer(200, image.manifest, {"Content-Type: " + image.manifest_type});
    return true;
  }
  const std::size_t at = target.find("/blobs/");
  if (at == std::string::npos) return false;
  const std::string digest = target.substr(at + 7, target.find('?', at) - at - 7);
  const std::string* body = digest == image.config_digest() ? &image.config : nullptr;
  for (const BuiltLayer& layer : image.layers) {
    if (digest == digest_of(layer.blob)) body = &layer.blob;
  }
  if (body == nullptr) return false;
  std::size_t from = 0;
  if (const auto range = request.headers.find("range");
      range != request.headers.end() && range->second.starts_with("bytes=")) {
    from = parse_number<std::size_t>(std::string_view(range->second).substr(6, range->second.size() - 7)).value_or(0);
    reply.answer(206, std::string_view(*body).substr(from),
                 {"Content-Range: bytes " + std::to_string(from) + "-" + std::to_string(body->size() - 1) + "/" +
                  std::to_string(body->size())});
    return true;
  }
  reply.answer(200, *body);
  return true;
}

std::string noise(std::size_t size) {
  std::string out(size, '\0');
  std::uint32_t state = 1;
  for (char& c : out) {
    state = state * 1664525 + 1013904223;
    c = static_cast<char>(state >> 24);
  }
  return out;
}

bool is_blob(const ServerRequest& request, const std::string& digest) {
  return request.target.substr(0, request.target.find('?')).ends_with("/blobs/" + digest);
}

}  // namespace berth::image::testing
