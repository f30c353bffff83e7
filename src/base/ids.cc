#include "base/ids.h"

#include <sys/random.h>

#include <array>
#include <cstdlib>
#include <span>

namespace berth {

std::string random_hex(std::size_t bytes) {
  std::array<unsigned char, 64> raw{};
  if (bytes > raw.size()) bytes = raw.size();
  // getrandom of up to 256 bytes is never partial once the pool is initialised (getrandom(2)).
  if (::getrandom(raw.data(), bytes, 0) != static_cast<ssize_t>(bytes)) std::abort();
  static constexpr std::string_view kHex = "0123456789abcdef";
  std::string text;
  text.reserve(bytes * 2);
  for (const unsigned char byte : std::span(raw).first(bytes)) {
    text.push_back(kHex[byte >> 4]);
    text.push_back(kHex[byte & 15]);
  }
  return text;
}

std::string new_id() {
  return random_hex(32);
}

bool valid_id(std::string_view id) {
  if (id.empty() || id.size() > 255 || id == "." || id == "..") return false;
  const auto alnum = [](char c) { return (c >= '0' && c <= '9') || (c >= 'a' && c <= 'z') || (c >= 'A' && c <= 'Z'); };
  if (!alnum(id.front()) && id.front() != '_') return false;
  for (const char c : id) {
    if (!alnum(c) && c != '_' && c != '.' && c != '+' && c != '-') return false;
  }
  return true;
}

}  // namespace berth
