#include "image/credentials.h"

#include "base/base64.h"
#include "base/strings.h"
#include "image/printable.h"
#include "image/reference.h"
#include "spec/json_text.h"

namespace berth::image {
namespace {

constexpr std::size_t kMaxTokenAnswer = 1U << 20;
constexpr std::size_t kMaxToken = 64U << 10;  // larger than any header a registry takes
constexpr std::chrono::seconds kTokenTimeout{60};

/// Whether `text` can stand in a header or a form as it is.
bool printable_token(std::string_view text) {
  for (const char c : text) {
    if (c <= 0x20 || c >= 0x7f) return false;
  }
  return !text.empty() && text.size() <= kMaxToken;
}

std::string basic(const Credentials& credentials) {
  return "Basic " + base64_encode(credentials.username + ":" + credentials.password);
}

Result<std::string> read_token(const HttpResponse& response, const std::string& where) {
  const std::string what = "token service " + where;
  if (response.status == 401 || response.status == 403) {
    return fail(Code::kDenied, what + " refuses the credentials (status " + std::to_string(response.status) + ")");
  }
  if (response.status != 200) {
    const bool temporary = response.status >= 500 || response.status == 429;
    return fail(temporary ? Code::kUnavailable : Code::kDenied,
                what + " answers status " + std::to_string(response.status));
  }
  auto json = spec::parse_json(response.body, {.max_bytes = kMaxTokenAnswer, .max_depth = 16});
  if (!json) return fail(Code::kCorrupt, what + ": its answer is no JSON");
  std::string token(json->string_or("token"));
  if (token.empty()) token = json->string_or("access_token");
  if (!printable_token(token)) return fail(Code::kCorrupt, what + ": its answer holds no token");
  return token;
}

Result<std::string> fetch_token(HttpSession& session, const Challenge& challenge, const TokenRequest& request) {
  BERTH_ASSIGN(Url realm, parse_url(challenge.param("realm")), "token service");
  const Credentials& credentials = *request.credentials;
  if (realm.scheme == "http") {
    if (request.registry_is_https)
      return fail(Code::kDenied, "the registry speaks https but names a token service over http");
    if (!credentials.empty() && !request.plain_allowed(realm)) {
      return fail(Code::kDenied, "credentials are not sent to " + realm.authority() + " over http");
    }
  }
  std::string scope(challenge.param("scope"));
  if (scope.empty()) scope = "repository:" + request.repository + ":pull";
  const std::string service(challenge.param("service"));
  HttpRequest http;
  http.max_body = kMaxTokenAnswer;
  http.total_timeout = kTokenTimeout;
  http.tls = request.tls;
  if (realm.host != request.own_host) http.tls.clients.clear();
  http.connect_timeout = request.connect_timeout;
  http.stop = request.stop;
  std::string form;
  if (!credentials.identity_token.empty()) {
    form = "grant_type=refresh_token&client_id=berth&service=" + url_escape(service) + "&scope=" + url_escape(scope) +
           "&refresh_token=" + url_escape(credentials.identity_token);
    http.post_form = &form;
  } else {
    std::string query = "scope=" + url_escape(scope) + "&client_id=berth";
    if (!service.empty()) query += "&service=" + url_escape(service);
    const bool has_query = realm.text.find('?') != std::string::npos;
    BERTH_ASSIGN(realm, parse_url(realm.text + (has_query ? "&" : "?") + query), "token service");
    if (credentials.has_password()) http.headers.push_back("Authorization: " + basic(credentials));
  }
  http.url = realm;
  auto response = session.perform(http);
  if (!response) return fail(std::move(response).error().error.in("token service"));
  BERTH_ASSIGN(const std::string token, read_token(*response, realm.authority()), "log in");
  return "Bearer " + token;
}

}  // namespace

std::string server_host(std::string_view address) {
  for (const std::string_view scheme : {"https://", "http://"}) {
    if (address.starts_with(scheme)) address.remove_prefix(scheme.size());
  }
  std::string host = to_lower(address.substr(0, address.find('/')));
  if (host == "index.docker.io" || host == "registry-1.docker.io" || host == "registry.docker.io") host = "docker.io";
  return host;
}

Result<Credentials> credentials_for(const Auth& auth, std::string_view registry) {
  if (!auth.server_address.empty() && server_host(auth.server_address) != server_host(registry)) return Credentials{};
  Credentials out{auth.username, auth.password, auth.identity_token, auth.registry_token};
  if (out.username.empty() && !auth.auth.empty()) {
    const auto decoded = auth.auth.size() > kMaxToken ? std::nullopt : base64_decode(auth.auth);
    const std::size_t colon = decoded ? decoded->find(':') : std::string::npos;
    if (colon == std::string::npos) return fail(Code::kInvalid, "the auth field is no base64 of user:password");
    out.username = decoded->substr(0, colon);
    out.password = decoded->substr(colon + 1);
    while (!out.password.empty() && out.password.back() == '\0') out.password.pop_back();
  }
  if (!out.registry_token.empty() && !printable_token(out.registry_token)) {
    return fail(Code::kInvalid, "the registry token holds blanks or control characters");
  }
  return out;
}

Result<std::string> answer_challenges(HttpSession& session, const std::vector<Challenge>& challenges,
                                      const TokenRequest& request) {
  for (const Challenge& challenge : challenges) {
    if (challenge.scheme == "bearer") return fetch_token(session, challenge, request);
  }
  for (const Challenge& challenge : challenges) {
    if (challenge.scheme != "basic") continue;
    if (!request.credentials->has_password())
      return fail(Code::kDenied, "the registry asks for a user name and password");
    return basic(*request.credentials);
  }
  const std::string scheme = challenges.empty() ? std::string("nothing") : printable(challenges.front().scheme, 40);
  return fail(Code::kDenied, "the registry asks for an authentication that is not supported: " + scheme);
}

}  // namespace berth::image
