#include <cstddef>
#include <cstdint>
#include <cstdlib>
#include <string_view>

#include "image/hosts_config.h"
#include "image/url.h"

extern "C" int LLVMFuzzerTestOneInput(const std::uint8_t* data, std::size_t size);

// What is taken can be put into an address and a header.
extern "C" int LLVMFuzzerTestOneInput(const std::uint8_t* data, std::size_t size) {
  using namespace berth::image;
  const std::string_view text(reinterpret_cast<const char*>(data), size);
  const auto hosts = parse_hosts(text, "/c/h/hosts.toml");
  if (!hosts) {
    if (!hosts.error().text().starts_with("/c/h/hosts.toml:")) std::abort();
  } else {
    if (hosts->mirrors.size() > 64) std::abort();
    for (const HostConfig& host : hosts->mirrors) {
      if (!parse_url(host.scheme + "://" + host.authority + host.path + "/a/manifests/b")) std::abort();
      for (const std::string& line : host.headers) {
        if (line.find('\n') != std::string::npos || line.find('\r') != std::string::npos) std::abort();
      }
    }
  }
  if (const auto time = parse_go_duration(text); time && time->count() < 0) std::abort();
  return 0;
}
