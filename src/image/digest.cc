#include "image/digest.h"

#include <openssl/evp.h>

namespace berth::image {

struct Sha256::State {
  EVP_MD_CTX* context = nullptr;
  State() = default;
  State(const State&) = delete;
  State& operator=(const State&) = delete;
  State(State&&) = delete;
  State& operator=(State&&) = delete;
  ~State() { EVP_MD_CTX_free(context); }
};

bool is_hex(std::string_view text, std::size_t count) {
  if (text.size() != count) return false;
  for (const char c : text) {
    if (!((c >= '0' && c <= '9') || (c >= 'a' && c <= 'f'))) return false;
  }
  return true;
}

bool valid_digest(std::string_view text) {
  return text.starts_with("sha256:") && is_hex(text.substr(7), 64);
}

Sha256::Sha256(std::unique_ptr<State> state) : state_(std::move(state)) {}
Sha256::Sha256(Sha256&& other) noexcept = default;
Sha256& Sha256::operator=(Sha256&& other) noexcept = default;
Sha256::~Sha256() = default;

Result<Sha256> Sha256::start() {
  auto state = std::make_unique<State>();
  state->context = EVP_MD_CTX_new();
  if (state->context == nullptr) return fail(Code::kExhausted, "no memory for a SHA-256 context");
  if (EVP_DigestInit_ex(state->context, EVP_sha256(), nullptr) != 1) {
    return fail(Code::kUnsupported, "this OpenSSL offers no SHA-256");
  }
  return Sha256(std::move(state));
}

void Sha256::update(Bytes bytes) {
  EVP_DigestUpdate(state_->context, bytes.data(), bytes.size());
}

std::string Sha256::finish() {
  static constexpr char kHex[] = "0123456789abcdef";
  unsigned char raw[EVP_MAX_MD_SIZE];
  unsigned int size = 0;
  EVP_DigestFinal_ex(state_->context, raw, &size);
  std::string out = "sha256:";
  for (unsigned int i = 0; i < size; ++i) {
    out += kHex[raw[i] >> 4];
    out += kHex[raw[i] & 15];
  }
  return out;
}

Result<std::string> sha256_of(std::string_view text) {
  BERTH_ASSIGN(Sha256 hash, Sha256::start(), "hash");
  hash.update(as_bytes(text));
  return hash.finish();
}

}  // namespace berth::image
