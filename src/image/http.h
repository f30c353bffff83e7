#pragma once
#include <chrono>
#include <expected>
#include <functional>
#include <memory>
#include <stop_token>
#include <string>
#include <string_view>
#include <utility>
#include <vector>

#include "base/result.h"
#include "image/decompress.h"
#include "image/host_tls.h"
#include "image/url.h"

namespace berth::image {

struct HttpResponse {
  int status = 0;
  std::vector<std::pair<std::string, std::string>> headers;  ///< names lower case, values trimmed, in order
  std::string body;                                          ///< empty when a sink took it

  /// The first header `name` (lower case), or empty.
  [[nodiscard]] std::string_view header(std::string_view name) const;
};

struct HttpRequest {
  Url url;
  std::vector<std::string> headers;        ///< "Name: value"
  const std::string* post_form = nullptr;  ///< makes it a POST of application/x-www-form-urlencoded
  /// Called once for 200 and 206, before the first byte of the body; a failure ends the request.
  std::function<Result<>(const HttpResponse&)> on_head;
  /// Takes the body of 200 and 206; without it the body is kept in the response.
  ByteSink sink;
  std::size_t max_body = 64U << 10;       ///< of a kept body: more is kExhausted for 200, cut off for other answers
  std::chrono::seconds total_timeout{0};  ///< 0: no limit but the stall time
  std::chrono::milliseconds connect_timeout{0};  ///< with the TLS handshake; 0: the session's
  TlsFiles tls{};                                ///< beside what the session's folder has for the host
  std::stop_token stop;
};

/// Why a request gave no response.
struct HttpFailure {
  enum class Kind : std::uint8_t {
    kConnect,      ///< no connection was made
    kTls,          ///< the handshake failed: the peer may speak no TLS
    kCertificate,  ///< the peer's certificate is not trusted
    kBroken,       ///< the connection ended or failed in the middle
    kStalled,      ///< no byte for the stall time
    kTimeout,      ///< total_timeout passed
    kProtocol,     ///< what came is no HTTP
    kStopped,      ///< stop was requested
    kRefused,      ///< on_head or sink refused, or a limit was passed: trying again cannot help
  };
  Kind kind;
  Error error;
};

struct HttpOptions {
  std::chrono::seconds connect_timeout{15};
  std::chrono::seconds stall_timeout{60};
  std::string hosts_dir;  ///< per host: DIR/HOST[:PORT]/{*.crt more CAs, NAME.cert, NAME.key}; empty: none
};

/// Requests over HTTP/1.1 and TLS 1.2 or later, one at a time, connections kept between them. Redirects are not
/// followed, cookies not kept, bodies not decompressed. Proxies come from the environment (https_proxy, no_proxy),
/// never for this machine. Not thread-safe: one session a thread. Source: RFC 9110, RFC 9112.
class HttpSession final {
 public:
  static Result<std::unique_ptr<HttpSession>> open(HttpOptions options);
  HttpSession(const HttpSession&) = delete;
  HttpSession& operator=(const HttpSession&) = delete;
  HttpSession(HttpSession&&) = delete;
  HttpSession& operator=(HttpSession&&) = delete;
  ~HttpSession();

  /// Blocks until the response is complete. At most 64 KiB of headers are taken.
  std::expected<HttpResponse, HttpFailure> perform(const HttpRequest& request);

 private:
  struct State;
  explicit HttpSession(std::unique_ptr<State> state);
  std::unique_ptr<State> state_;
};

}  // namespace berth::image
