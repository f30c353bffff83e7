#pragma once
#include <atomic>
#include <functional>
#include <map>
#include <memory>
#include <string>
#include <string_view>
#include <thread>
#include <vector>

#include "base/thread_annotations.h"
#include "base/unique_fd.h"
#include "image/testing/image_builder.h"

namespace berth::image::testing {

struct ServerRequest {
  std::string method;
  std::string target;                          ///< path and query
  std::map<std::string, std::string> headers;  ///< names lower case
  std::string body;
};

/// How one request is answered. send() puts bytes on the wire as they are; the connection closes afterwards.
class Reply final {
 public:
  Reply(int fd, const std::atomic<bool>& stopping) : fd_(fd), stopping_(stopping) {}
  /// A whole answer with Content-Length.
  void answer(int status, std::string_view body, const std::vector<std::string>& headers = {});
  void send(std::string_view bytes);
  /// Says nothing more, and keeps the connection open, until the client leaves or the server ends.
  void hang();
  /// Breaks the connection with a reset instead of an orderly end.
  void reset();

 private:
  int fd_;
  const std::atomic<bool>& stopping_;
};

/// A small HTTP server on 127.0.0.1 of the network namespace of the thread that makes it. Each connection gets a thread
/// and carries one request.
class HttpServer final {
 public:
  using Handler = std::function<void(const ServerRequest&, Reply&)>;
  explicit HttpServer(Handler handler);
  HttpServer(const HttpServer&) = delete;
  HttpServer& operator=(const HttpServer&) = delete;
  HttpServer(HttpServer&&) = delete;
  HttpServer& operator=(HttpServer&&) = delete;
  ~HttpServer();

  [[nodiscard]] unsigned port() const { return port_; }
  [[nodiscard]] std::string host() const { return "127.0.0.1:" + std::to_string(port_); }
  /// "METHOD target" of every request so far.
  [[nodiscard]] std::vector<std::string> log() const;

 private:
  void accept_loop();
  void serve(int fd);

  Handler handler_;
  UniqueFd listener_;
  unsigned port_ = 0;
  std::atomic<bool> stopping_{false};
  mutable Mutex mutex_;
  std::vector<std::string> log_ BERTH_GUARDED_BY(mutex_);
  std::vector<std::jthread> connections_ BERTH_GUARDED_BY(mutex_);
  std::jthread acceptor_;
};

/// Answers as a well-behaved registry does for `image` under /v2/<any>/; false when the request is for something else.
bool serve_image(const BuiltImage& image, const ServerRequest& request, Reply& reply);

/// Whether `request` asks for the blob `digest`.
[[nodiscard]] bool is_blob(const ServerRequest& request, const std::string& digest);

/// Bytes that do not compress, always the same.
[[nodiscard]] std::string noise(std::size_t size);

}  // namespace berth::image::testing
