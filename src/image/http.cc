#include "image/http.h"

#include <curl/curl.h>

#include <algorithm>
#include <array>
#include <mutex>
#include <optional>

#include "base/strings.h"
#include "image/printable.h"
#include "image/reference.h"

namespace berth::image {
namespace {

using Clock = std::chrono::steady_clock;
constexpr std::size_t kMaxHeaderBytes = 64U << 10;
constexpr long kReceiveBuffer = 128L << 10;
constexpr int kPollMs = 1000;

struct EasyDeleter {
  void operator()(CURL* easy) const { curl_easy_cleanup(easy); }
};
struct MultiDeleter {
  void operator()(CURLM* multi) const { curl_multi_cleanup(multi); }
};
struct ListDeleter {
  void operator()(curl_slist* list) const { curl_slist_free_all(list); }
};

/// libcurl is started with the first session and stays: stopping it is not thread-safe.
bool start_curl() {
  static std::once_flag once;
  static CURLcode code = CURLE_OK;
  std::call_once(once, [] { code = curl_global_init(CURL_GLOBAL_DEFAULT); });
  return code == CURLE_OK;
}

/// One request under way: what libcurl's callbacks work on.
struct Exchange {
  const HttpRequest* request = nullptr;
  HttpResponse response;
  std::size_t header_bytes = 0;
  bool head_done = false;
  std::optional<Error> refusal;
  Clock::time_point last_byte = Clock::now();

  [[nodiscard]] bool good_status() const { return response.status == 200 || response.status == 206; }
  bool refuse(Error error) {
    refusal = std::move(error);
    return false;
  }
  bool take_header(std::string_view line);
  bool finish_head();
  bool take_body(Bytes bytes);
};

bool Exchange::take_header(std::string_view line) {
  last_byte = Clock::now();
  header_bytes += line.size();
  if (header_bytes > kMaxHeaderBytes)
    return refuse(Error(Code::kExhausted, "the answer has more than 64 KiB of headers"));
  if (line.starts_with("HTTP/")) {  // a status line; after 1xx answers another one follows
    response.headers.clear();
    const std::size_t space = line.find(' ');
    const auto status = space == std::string_view::npos ? std::nullopt : parse_number<int>(line.substr(space + 1, 3));
    response.status = status.value_or(0);
    return true;
  }
  const std::size_t colon = line.find(':');
  if (colon != std::string_view::npos) {
    response.headers.emplace_back(to_lower(trim(line.substr(0, colon))), std::string(trim(line.substr(colon + 1))));
  }
  return true;
}

bool Exchange::finish_head() {
  if (head_done) return true;
  head_done = true;
  if (!good_status() || !request->on_head) return true;
  auto checked = request->on_head(response);
  return checked ? true : refuse(std::move(checked).error());
}

bool Exchange::take_body(Bytes bytes) {
  if (!finish_head()) return false;
  if (good_status() && request->sink) {
    auto taken = request->sink(bytes);
    last_byte = Clock::now();  // after the sink, so that a slow disk is no stall of the network
    return taken ? true : refuse(std::move(taken).error());
  }
  last_byte = Clock::now();
  const std::size_t room = request->max_body - std::min(request->max_body, response.body.size());
  if (bytes.size() > room && good_status()) {
    return refuse(Error(Code::kExhausted, "the answer exceeds " + std::to_string(request->max_body) + " bytes"));
  }
  response.body.append(reinterpret_cast<const char*>(bytes.data()), std::min(room, bytes.size()));
  return true;
}

std::size_t on_header(char* data, std::size_t size, std::size_t count, void* user) {
  const std::size_t total = size * count;
  return static_cast<Exchange*>(user)->take_header({data, total}) ? total : 0;
}

std::size_t on_body(char* data, std::size_t size, std::size_t count, void* user) {
  const std::size_t total = size * count;
  return static_cast<Exchange*>(user)->take_body(as_bytes({data, total})) ? total : CURL_WRITEFUNC_ERROR;
}

/// What `request` may use in its handshake: its own files and those of the host's folder.
TlsFiles tls_of(const HttpRequest& request, const std::string& hosts_dir) {
  TlsFiles files = tls_files_for(hosts_dir, request.url);
  for (const std::string& file : request.tls.authorities) {
    if (std::find(files.authorities.begin(), files.authorities.end(), file) == files.authorities.end()) {
      files.authorities.push_back(file);
    }
  }
  if (!request.tls.clients.empty()) files.clients = request.tls.clients;
  files.skip_verify = request.tls.skip_verify;
  return files;
}

using Kind = HttpFailure::Kind;

HttpFailure failure_of(CURLcode code, const std::string& where, const char* detail) {
  const std::string why = *detail != '\0' ? printable(detail, 300) : curl_easy_strerror(code);
  switch (code) {
    case CURLE_COULDNT_RESOLVE_HOST:
    case CURLE_COULDNT_RESOLVE_PROXY:
    case CURLE_COULDNT_CONNECT:
      return {Kind::kConnect, Error(Code::kUnavailable, "connect to " + where + ": " + why)};
    case CURLE_OPERATION_TIMEDOUT:
      return {Kind::kConnect, Error(Code::kTimeout, "connect to " + where + ": " + why)};
    case CURLE_PEER_FAILED_VERIFICATION:
    case CURLE_SSL_CACERT_BADFILE:
    case CURLE_SSL_ISSUER_ERROR:
    case CURLE_SSL_CERTPROBLEM:
      return {Kind::kCertificate, Error(Code::kUnavailable, "certificate of " + where + " is not trusted: " + why)};
    case CURLE_SSL_CONNECT_ERROR:
      return {Kind::kTls, Error(Code::kUnavailable, "TLS with " + where + ": " + why)};
    case CURLE_WEIRD_SERVER_REPLY:
    case CURLE_UNSUPPORTED_PROTOCOL:
    case CURLE_BAD_CONTENT_ENCODING:
      return {Kind::kProtocol, Error(Code::kUnavailable, where + " does not speak HTTP as it should: " + why)};
    case CURLE_OUT_OF_MEMORY:
      return {Kind::kRefused, Error(Code::kExhausted, "request to " + where + ": no memory")};
    case CURLE_GOT_NOTHING:
    case CURLE_PARTIAL_FILE:
    case CURLE_RECV_ERROR:
    case CURLE_SEND_ERROR:
      return {Kind::kBroken, Error(Code::kUnavailable, "connection to " + where + " broke: " + why)};
    default:
      return {Kind::kBroken, Error(Code::kUnavailable, "request to " + where + ": " + why)};
  }
}

}  // namespace

struct HttpSession::State {
  HttpOptions options;
  TlsSetup tls;  // before the connections, which point into it
  std::unique_ptr<CURLM, MultiDeleter> multi;
  std::unique_ptr<CURL, EasyDeleter> easy;  // after multi: goes first
  std::array<char, CURL_ERROR_SIZE> detail{};

  void prepare(Exchange& exchange, curl_slist* headers);
  std::expected<HttpResponse, HttpFailure> run(Exchange& exchange);
};

std::string_view HttpResponse::header(std::string_view name) const {
  for (const auto& [key, value] : headers) {
    if (key == name) return value;
  }
  return {};
}

HttpSession::HttpSession(std::unique_ptr<State> state) : state_(std::move(state)) {}
HttpSession::~HttpSession() = default;

Result<std::unique_ptr<HttpSession>> HttpSession::open(HttpOptions options) {
  if (!start_curl()) return fail(Code::kInternal, "libcurl does not start");
  auto state = std::make_unique<State>();
  state->options = std::move(options);
  state->multi.reset(curl_multi_init());
  state->easy.reset(curl_easy_init());
  if (!state->multi || !state->easy) return fail(Code::kExhausted, "no memory for a connection");
  return std::unique_ptr<HttpSession>(new HttpSession(std::move(state)));
}

void HttpSession::State::prepare(Exchange& exchange, curl_slist* headers) {
  CURL* h = easy.get();
  const HttpRequest& request = *exchange.request;
  curl_easy_reset(h);  // options only: connections and sessions stay
  detail[0] = '\0';
  curl_easy_setopt(h, CURLOPT_ERRORBUFFER, detail.data());
  curl_easy_setopt(h, CURLOPT_URL, request.url.text.c_str());
  curl_easy_setopt(h, CURLOPT_PROTOCOLS_STR, "http,https");
  curl_easy_setopt(h, CURLOPT_HTTP_VERSION, static_cast<long>(CURL_HTTP_VERSION_1_1));
  curl_easy_setopt(h, CURLOPT_SSLVERSION, static_cast<long>(CURL_SSLVERSION_TLSv1_2));
  curl_easy_setopt(h, CURLOPT_NOSIGNAL, 1L);
  curl_easy_setopt(h, CURLOPT_FOLLOWLOCATION, 0L);
  const std::chrono::milliseconds connect =
      request.connect_timeout.count() != 0 ? request.connect_timeout : options.connect_timeout;
  curl_easy_setopt(h, CURLOPT_CONNECTTIMEOUT_MS, static_cast<long>(connect.count()));
  curl_easy_setopt(h, CURLOPT_BUFFERSIZE, kReceiveBuffer);
  curl_easy_setopt(h, CURLOPT_USERAGENT, "berth/" BERTH_VERSION);
  curl_easy_setopt(h, CURLOPT_SUPPRESS_CONNECT_HEADERS, 1L);
  curl_easy_setopt(h, CURLOPT_HTTPHEADER, headers);
  if (is_loopback_host(request.url.host)) curl_easy_setopt(h, CURLOPT_NOPROXY, "*");
  if (request.post_form != nullptr) {
    curl_easy_setopt(h, CURLOPT_POSTFIELDS, request.post_form->c_str());
    curl_easy_setopt(h, CURLOPT_POSTFIELDSIZE, static_cast<long>(request.post_form->size()));
  }
  curl_easy_setopt(h, CURLOPT_HEADERFUNCTION, on_header);
  curl_easy_setopt(h, CURLOPT_HEADERDATA, &exchange);
  curl_easy_setopt(h, CURLOPT_WRITEFUNCTION, on_body);
  curl_easy_setopt(h, CURLOPT_WRITEDATA, &exchange);
  tls.apply(h, tls_of(request, options.hosts_dir));
}

std::expected<HttpResponse, HttpFailure> HttpSession::State::run(Exchange& exchange) {
  const HttpRequest& request = *exchange.request;
  const std::string where = request.url.authority();
  const Clock::time_point begin = Clock::now();
  exchange.last_byte = begin;
  const std::stop_callback wake(request.stop, [this] { curl_multi_wakeup(multi.get()); });
  for (;;) {
    int running = 0;
    if (const CURLMcode code = curl_multi_perform(multi.get(), &running); code != CURLM_OK) {
      return std::unexpected(
          HttpFailure{Kind::kBroken, Error(Code::kInternal, std::string("libcurl: ") + curl_multi_strerror(code))});
    }
    if (exchange.refusal) return std::unexpected(HttpFailure{Kind::kRefused, std::move(*exchange.refusal)});
    int left = 0;
    while (const CURLMsg* message = curl_multi_info_read(multi.get(), &left)) {
      if (message->msg != CURLMSG_DONE) continue;
      if (const CURLcode code = message->data.result; code != CURLE_OK) {
        if (const std::string problem = tls.problem(); !problem.empty()) {
          return std::unexpected(
              HttpFailure{Kind::kCertificate, Error(Code::kUnavailable, "TLS with " + where + ": " + problem)});
        }
        return std::unexpected(failure_of(code, where, detail.data()));
      }
      if (!exchange.finish_head()) return std::unexpected(HttpFailure{Kind::kRefused, std::move(*exchange.refusal)});
      return std::move(exchange.response);
    }
    if (request.stop.stop_requested()) {
      return std::unexpected(HttpFailure{Kind::kStopped, Error(Code::kCancelled, "the pull was cancelled")});
    }
    const Clock::time_point now = Clock::now();
    if (now - exchange.last_byte >= options.stall_timeout) {
      return std::unexpected(HttpFailure{
          Kind::kStalled,
          Error(Code::kTimeout, where + " sent nothing for " + std::to_string(options.stall_timeout.count()) + " s")});
    }
    if (request.total_timeout.count() != 0 && now - begin >= request.total_timeout) {
      return std::unexpected(
          HttpFailure{Kind::kTimeout, Error(Code::kTimeout, where + " did not finish within " +
                                                                std::to_string(request.total_timeout.count()) + " s")});
    }
    if (running != 0) curl_multi_poll(multi.get(), nullptr, 0, kPollMs, nullptr);
  }
}

std::expected<HttpResponse, HttpFailure> HttpSession::perform(const HttpRequest& request) {
  Exchange exchange;
  exchange.request = &request;
  std::unique_ptr<curl_slist, ListDeleter> headers;
  for (const std::string& line : request.headers) {
    curl_slist* longer = curl_slist_append(headers.get(), line.c_str());
    if (longer == nullptr) return std::unexpected(HttpFailure{Kind::kRefused, Error(Code::kExhausted, "no memory")});
    [[maybe_unused]] const curl_slist* same = headers.release();
    headers.reset(longer);
  }
  state_->prepare(exchange, headers.get());
  curl_multi_add_handle(state_->multi.get(), state_->easy.get());
  auto result = state_->run(exchange);
  curl_multi_remove_handle(state_->multi.get(), state_->easy.get());
  return result;
}

}  // namespace berth::image
