#pragma once
#include <cstddef>
#include <memory>
#include <span>
#include <string>
#include <string_view>

#include "base/result.h"

namespace berth::image {

using Bytes = std::span<const std::byte>;
[[nodiscard]] inline Bytes as_bytes(std::string_view text) {
  return std::as_bytes(std::span(text.data(), text.size()));
}

/// `count` lower-case hex digits and nothing else.
[[nodiscard]] bool is_hex(std::string_view text, std::size_t count);
/// "sha256:" and 64 lower-case hex digits: the one algorithm that registries use.
[[nodiscard]] bool valid_digest(std::string_view text);
/// The hex part of a valid digest.
[[nodiscard]] inline std::string_view digest_hex(std::string_view digest) {
  return digest.substr(7);
}

/// SHA-256 of a stream. Move-only; not thread-safe.
class Sha256 final {
 public:
  /// kExhausted or kUnsupported when OpenSSL cannot start a digest.
  static Result<Sha256> start();
  Sha256(Sha256&& other) noexcept;
  Sha256& operator=(Sha256&& other) noexcept;
  Sha256(const Sha256&) = delete;
  Sha256& operator=(const Sha256&) = delete;
  ~Sha256();

  void update(Bytes bytes);
  /// "sha256:<hex>" of all that was given; the object is used up.
  [[nodiscard]] std::string finish();

 private:
  struct State;
  explicit Sha256(std::unique_ptr<State> state);
  std::unique_ptr<State> state_;
};

/// "sha256:<hex>" of `text`.
[[nodiscard]] Result<std::string> sha256_of(std::string_view text);

}  // namespace berth::image
