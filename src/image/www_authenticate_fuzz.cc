#include <cstdint>
#include <cstdlib>
#include <string_view>

#include "base/base64.h"
#include "image/credentials.h"
#include "image/url.h"
#include "image/www_authenticate.h"

extern "C" int LLVMFuzzerTestOneInput(const std::uint8_t* data, std::size_t size);

extern "C" int LLVMFuzzerTestOneInput(const std::uint8_t* data, std::size_t size) {
  using namespace berth::image;
  const std::string_view text(reinterpret_cast<const char*>(data), size);
  if (const auto challenges = parse_www_authenticate(text)) {
    if (challenges->empty()) std::abort();
    for (const Challenge& challenge : *challenges) {
      if (challenge.scheme.empty()) std::abort();
      berth::ignore(parse_url(challenge.param("realm")), "any answer is right");
    }
  }
  if (const auto decoded = berth::base64_decode(text)) {
    if (berth::base64_decode(berth::base64_encode(*decoded)) != decoded) std::abort();
  }
  return 0;
}
