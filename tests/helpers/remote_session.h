#pragma once
#include <gmock/gmock.h>

#include <memory>
#include <string>
#include <vector>

#include "fixture.h"
#include "spdy_client.h"

namespace berth::test {

/// The streams of an exec or attach session over SPDY, as kubectl opens them.
struct RemoteSession {
  std::unique_ptr<SpdyClient> client;
  std::uint32_t error = 0;
  std::uint32_t in = 0;
  std::uint32_t out = 0;
  std::uint32_t err = 0;
  std::uint32_t resize = 0;

  [[nodiscard]] const std::string& out_text() const { return client->at(out).data; }
  [[nodiscard]] const std::string& err_text() const { return client->at(err).data; }
  /// What the session ended with.
  [[nodiscard]] const std::string& status() const { return client->at(error).data; }
  /// Reads until the server has said how it ended.
  Result<> finish(std::chrono::milliseconds timeout = std::chrono::seconds(20)) {
    return client->read_until([this] { return client->at(error).ended; }, timeout);
  }
  Result<> wait_for(const std::string& text, std::chrono::milliseconds timeout = std::chrono::seconds(20)) {
    return client->read_until([&] { return out_text().find(text) != std::string::npos; }, timeout);
  }
};

/// Bytes that tell a gap, a double and a swap, made and checked in pieces.
class Pattern final {
 public:
  explicit Pattern(std::size_t size) : size_(size) {}
  /// The next piece; "" at the end.
  std::string next(std::size_t most) {
    std::string bytes(std::min(size_ - at_, most), '\0');
    for (char& c : bytes) c = byte();
    return bytes;
  }
  void check(std::string_view bytes) {
    for (const char c : bytes) same_ = at_ < size_ && c == byte() && same_;
  }
  /// All of it came, and nothing else.
  [[nodiscard]] bool whole() const { return same_ && at_ == size_; }

 private:
  char byte() { return static_cast<char>(at_++ * 2654435761U >> 13); }
  std::size_t size_;
  std::size_t at_ = 0;
  bool same_ = true;
};

struct StreamSet {
  bool in = false;
  bool out = true;
  bool err = true;
  bool tty = false;
};

/// Opens the streams of a URL that Exec or Attach gave.
inline RemoteSession open_session(const std::string& url, const StreamSet& set,
                                  const std::string& protocol = "v4.channel.k8s.io") {
  RemoteSession session;
  session.client = must(SpdyClient::connect(url, {protocol}));
  EXPECT_EQ(session.client->protocol(), protocol);
  const auto open = [&](const char* type) { return session.client->open({{"streamtype", type}}); };
  session.error = open("error");
  if (set.in) session.in = open("stdin");
  if (set.out) session.out = open("stdout");
  if (set.err && !set.tty) session.err = open("stderr");
  if (set.tty) session.resize = open("resize");
  return session;
}

inline std::string exec_url(CriClient& cri, const std::string& container, const std::vector<std::string>& command,
                            const StreamSet& set) {
  pb::ExecRequest request;
  request.set_container_id(container);
  for (const auto& word : command) request.add_cmd(word);
  request.set_tty(set.tty);
  request.set_stdin(set.in);
  request.set_stdout(set.out);
  request.set_stderr(set.err && !set.tty);
  return must(cri.call(&Runtime::Exec, request)).url();
}

inline std::string attach_url(CriClient& cri, const std::string& container, const StreamSet& set) {
  pb::AttachRequest request;
  request.set_container_id(container);
  request.set_tty(set.tty);
  request.set_stdin(set.in);
  request.set_stdout(set.out);
  request.set_stderr(set.err && !set.tty);
  return must(cri.call(&Runtime::Attach, request)).url();
}

/// How many sessions' folders the streaming server of `host` keeps.
inline std::size_t stream_sessions(const TestHost& host) {
  return must(os::list_dir(host.state() + "/stream/sessions")).size();
}

inline std::string forward_url(CriClient& cri, const std::string& pod, std::vector<std::int32_t> ports = {}) {
  pb::PortForwardRequest request;
  request.set_pod_sandbox_id(pod);
  for (const auto port : ports) request.add_port(port);
  return must(cri.call(&Runtime::PortForward, request)).url();
}

}  // namespace berth::test
