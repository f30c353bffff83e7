#pragma once
#include <chrono>
#include <functional>
#include <map>
#include <memory>
#include <string>
#include <string_view>
#include <vector>

#include "base/result.h"
#include "base/unique_fd.h"
#include "stream/spdy_frame.h"
#include "stream/spdy_headers.h"

namespace berth::test {

/// A client of berth-stream that speaks SPDY/3.1 as Go's spdystream does. One thread; blocks.
class SpdyClient final : private stream::SpdyFrames {
 public:
  struct Stream {
    std::string data;
    bool accepted = false;
    bool ended = false;
    bool reset = false;
  };

  /// Connects to `url` ("http://ADDRESS:PORT/PATH") and asks for the upgrade. An answer other than 101 is kUnavailable
  /// with its status line and body.
  static Result<std::unique_ptr<SpdyClient>> connect(const std::string& url, const std::vector<std::string>& protocols);

  /// The protocol that the server chose.
  [[nodiscard]] const std::string& protocol() const { return protocol_; }
  std::uint32_t open(const stream::SpdyHeaders& headers);
  Result<> write(std::uint32_t id, std::string_view bytes, bool fin = false);
  Result<> reset(std::uint32_t id);
  Result<> ping();
  [[nodiscard]] unsigned pongs() const { return pongs_; }
  [[nodiscard]] Stream& at(std::uint32_t id) { return streams_[id]; }
  /// Reads frames until `done` holds (kTimeout after `timeout`) or the server has closed (kUnavailable).
  Result<> read_until(const std::function<bool()>& done, std::chrono::milliseconds timeout = std::chrono::seconds(20));
  /// Gets the data instead of Stream::data.
  std::function<void(std::uint32_t id, std::string_view bytes)> tap;
  /// Both directions at once for large amounts: sends what `next` gives ("" ends it with FIN) on `id` while it reads.
  Result<> exchange(std::uint32_t id, const std::function<std::string()>& next, const std::function<bool()>& done,
                    std::chrono::seconds timeout);
  [[nodiscard]] int fd() const { return socket_.get(); }

 private:
  Result<> on_control(stream::SpdyType type, std::uint8_t flags, std::string_view payload) override;
  Result<> on_data(std::uint32_t id, std::string_view bytes, bool fin) override;
  Result<bool> read_some(std::chrono::milliseconds timeout);
  Result<> send_all(std::string_view bytes);

  UniqueFd socket_;
  std::string protocol_;
  stream::SpdyReader reader_;
  stream::SpdyHeaderDecoder decoder_;
  stream::SpdyHeaderEncoder encoder_;
  std::map<std::uint32_t, Stream> streams_;
  std::uint32_t next_id_ = 1;
  std::string early_;
  unsigned pongs_ = 0;
};

/// A TCP connection to "http://ADDRESS:PORT/...", or https without TLS yet, and the path. Blocks, in each read and
/// write for a minute at most.
struct UrlConnection {
  UniqueFd socket;
  std::string host;
  std::string path;
};
Result<UrlConnection> connect_url(const std::string& url);

}  // namespace berth::test
