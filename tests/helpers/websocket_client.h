#pragma once
#include <memory>
#include <string>
#include <string_view>
#include <vector>

#include "base/result.h"

namespace berth::test {

/// A WebSocket client of berth-stream, as kubectl from 1.30 on is one. Blocks, 20 s at the most.
class WebSocketClient final {
 public:
  /// `ca`: PEM file that an https URL's certificate must go back to. An answer other than 101 is kUnavailable.
  static Result<std::unique_ptr<WebSocketClient>> connect(const std::string& url,
                                                          const std::vector<std::string>& protocols,
                                                          const std::string& ca = {});
  ~WebSocketClient();
  WebSocketClient(const WebSocketClient&) = delete;
  WebSocketClient& operator=(const WebSocketClient&) = delete;
  WebSocketClient(WebSocketClient&&) = delete;
  WebSocketClient& operator=(WebSocketClient&&) = delete;

  /// The protocol that the server chose.
  [[nodiscard]] std::string protocol() const;
  Result<> send(std::string_view message, bool text = false);
  /// The next message, whole. kUnavailable: the server has closed; its reason is in the text.
  Result<std::string> read();
  Result<> close();

  struct Impl;

 private:
  explicit WebSocketClient(std::unique_ptr<Impl> impl);
  std::unique_ptr<Impl> impl_;
};

}  // namespace berth::test
