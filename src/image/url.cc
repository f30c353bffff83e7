#include "image/url.h"

#include <curl/curl.h>

#include <memory>

#include "base/strings.h"
#include "image/printable.h"

namespace berth::image {
namespace {

constexpr std::size_t kMaxUrl = 8192;

struct UrlDeleter {
  void operator()(CURLU* url) const { curl_url_cleanup(url); }
};

std::string part(CURLU* url, CURLUPart which, unsigned flags = 0) {
  char* raw = nullptr;
  if (curl_url_get(url, which, &raw, flags) != CURLUE_OK || raw == nullptr) return {};
  std::string out(raw);
  curl_free(raw);
  return out;
}

}  // namespace

std::string Url::authority() const {
  std::string out = host.find(':') == std::string::npos ? host : "[" + host + "]";
  if (port != (scheme == "https" ? 443U : 80U)) out += ":" + std::to_string(port);
  return out;
}

Result<Url> parse_url(std::string_view text, const Url* base) {
  const auto bad = [text](std::string_view what) {
    return fail(Code::kInvalid, "address \"" + printable(text, 300) + "\": " + std::string(what));
  };
  if (text.size() > kMaxUrl) return bad("longer than 8 KiB");
  if (text.find('\0') != std::string_view::npos) return bad("holds a NUL");
  const std::unique_ptr<CURLU, UrlDeleter> url(curl_url());
  if (!url) return fail(Code::kExhausted, "no memory for an address");
  if (base != nullptr && curl_url_set(url.get(), CURLUPART_URL, base->text.c_str(), 0) != CURLUE_OK) {
    return bad("unusable base");
  }
  // Redirects of some object stores hold blanks.
  if (curl_url_set(url.get(), CURLUPART_URL, std::string(text).c_str(), CURLU_URLENCODE) != CURLUE_OK) {
    return bad("no http or https address");
  }
  Url out;
  out.scheme = part(url.get(), CURLUPART_SCHEME);
  if (out.scheme != "http" && out.scheme != "https") return bad("no http or https address");
  if (!part(url.get(), CURLUPART_USER).empty() || !part(url.get(), CURLUPART_PASSWORD).empty()) {
    return bad("a user name or password in an address is refused");
  }
  curl_url_set(url.get(), CURLUPART_FRAGMENT, nullptr, 0);
  out.host = to_lower(part(url.get(), CURLUPART_HOST));
  curl_url_set(url.get(), CURLUPART_HOST, out.host.c_str(), 0);
  if (out.host.starts_with('[') && out.host.ends_with(']')) out.host = out.host.substr(1, out.host.size() - 2);
  out.port = parse_number<unsigned>(part(url.get(), CURLUPART_PORT, CURLU_DEFAULT_PORT)).value_or(0);
  out.text = part(url.get(), CURLUPART_URL);
  if (out.host.empty() || out.port == 0 || out.text.empty()) return bad("no host");
  return out;
}

std::string url_escape(std::string_view text) {
  static constexpr char kHex[] = "0123456789ABCDEF";
  std::string out;
  for (const char c : text) {
    const auto byte = static_cast<unsigned char>(c);
    const bool plain = (c >= 'a' && c <= 'z') || (c >= 'A' && c <= 'Z') || (c >= '0' && c <= '9') || c == '-' ||
                       c == '.' || c == '_' || c == '~';
    if (plain) {
      out += c;
    } else {
      out += '%';
      out += kHex[byte >> 4];
      out += kHex[byte & 15];
    }
  }
  return out;
}

}  // namespace berth::image
