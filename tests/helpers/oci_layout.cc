#include "oci_layout.h"

#include <openssl/evp.h>
#include <zlib.h>

#include <algorithm>
#include <array>
#include <cstdio>
#include <cstring>

#include "os/file.h"

namespace berth::test {
namespace {

constexpr std::size_t kBlock = 512;
#if defined(__aarch64__)
constexpr const char* kArchitecture = "arm64";
#else
constexpr const char* kArchitecture = "amd64";
#endif
using nlohmann::json;

void put_octal(char* field, std::size_t width, std::uint64_t value) {
  std::array<char, 24> text{};
  std::snprintf(text.data(), text.size(), "%0*llo", static_cast<int>(width - 1),
                static_cast<unsigned long long>(value));
  std::memcpy(field, text.data(), width - 1);
}

json descriptor(const Blob& blob) {
  return {{"mediaType", blob.media_type}, {"digest", blob.digest}, {"size", blob.bytes.size()}};
}

Blob blob_of(std::string media_type, std::string bytes) {
  auto digest = sha256(bytes);
  return {std::move(digest), std::move(media_type), std::move(bytes)};
}

}  // namespace

void TarBuilder::entry(std::string_view name, char type, std::string_view target, std::string_view content,
                       std::uint64_t size, unsigned mode, unsigned uid, unsigned gid) {
  std::array<char, kBlock> header{};
  std::memcpy(header.data(), name.data(), std::min<std::size_t>(name.size(), 100));
  put_octal(&header[100], 8, mode);
  put_octal(&header[108], 8, uid);
  put_octal(&header[116], 8, gid);
  put_octal(&header[124], 12, size);
  put_octal(&header[136], 12, 1'700'000'000);
  std::memset(&header[148], ' ', 8);
  header[156] = type;
  std::memcpy(&header[157], target.data(), std::min<std::size_t>(target.size(), 100));
  std::memcpy(&header[257], "ustar\00000", 8);
  unsigned sum = 0;
  for (const char c : header) sum += static_cast<unsigned char>(c);
  std::snprintf(&header[148], 8, "%06o", sum);
  bytes_.append(header.data(), header.size());
  bytes_.append(content);
  bytes_.resize((bytes_.size() + kBlock - 1) / kBlock * kBlock, '\0');
}

TarBuilder& TarBuilder::dir(std::string_view name, unsigned mode) {
  entry(std::string(name) + "/", '5', {}, {}, 0, mode, 0, 0);
  return *this;
}
TarBuilder& TarBuilder::file(std::string_view name, std::string_view content, unsigned mode, unsigned uid,
                             unsigned gid) {
  entry(name, '0', {}, content, content.size(), mode, uid, gid);
  return *this;
}
TarBuilder& TarBuilder::symlink(std::string_view name, std::string_view target) {
  entry(name, '2', target, {}, 0, 0777, 0, 0);
  return *this;
}
TarBuilder& TarBuilder::hard_link(std::string_view name, std::string_view target) {
  entry(name, '1', target, {}, 0, 0644, 0, 0);
  return *this;
}
TarBuilder& TarBuilder::whiteout(std::string_view name) {
  const auto slash = name.rfind('/');
  const auto base = slash == std::string_view::npos ? 0 : slash + 1;
  return file(std::string(name.substr(0, base)) + ".wh." + std::string(name.substr(base)), "");
}
TarBuilder& TarBuilder::opaque(std::string_view name) {
  return file(std::string(name) + "/.wh..wh..opq", "");
}
TarBuilder& TarBuilder::lying_file(std::string_view name, std::uint64_t size, std::string_view content) {
  entry(name, '0', {}, content, size, 0644, 0, 0);
  return *this;
}
std::string TarBuilder::finish() const {
  return bytes_ + std::string(2 * kBlock, '\0');
}

std::string gzip(std::string_view data) {
  z_stream stream{};
  constexpr int kGzipWindow = 15 + 16;
  if (::deflateInit2(&stream, Z_BEST_SPEED, Z_DEFLATED, kGzipWindow, 8, Z_DEFAULT_STRATEGY) != Z_OK) return {};
  std::string out(::deflateBound(&stream, data.size()), '\0');
  stream.next_in = reinterpret_cast<Bytef*>(const_cast<char*>(data.data()));  // NOLINT: zlib reads only
  stream.avail_in = static_cast<uInt>(data.size());
  stream.next_out = reinterpret_cast<Bytef*>(out.data());
  stream.avail_out = static_cast<uInt>(out.size());
  const int result = ::deflate(&stream, Z_FINISH);
  out.resize(result == Z_STREAM_END ? stream.total_out : 0);
  ::deflateEnd(&stream);
  return out;
}

std::string sha256(std::string_view data) {
  std::array<unsigned char, EVP_MAX_MD_SIZE> digest{};
  unsigned size = 0;
  ::EVP_Digest(data.data(), data.size(), digest.data(), &size, ::EVP_sha256(), nullptr);
  std::string text = "sha256:";
  for (unsigned i = 0; i < size; ++i) {
    static constexpr const char* kDigits = "0123456789abcdef";
    text += kDigits[digest[i] >> 4U];
    text += kDigits[digest[i] & 15U];
  }
  return text;
}

std::vector<Blob> make_blobs(const Image& image) {
  std::vector<Blob> blobs;
  json diff_ids = json::array();
  json layers = json::array();
  for (const auto& layer : image.layers) {
    diff_ids.push_back(sha256(layer));
    blobs.push_back(blob_of("application/vnd.oci.image.layer.v1.tar+gzip", gzip(layer)));
    layers.push_back(descriptor(blobs.back()));
  }
  const json config = {{"architecture", kArchitecture},
                       {"os", "linux"},
                       {"config", image.config},
                       {"rootfs", {{"type", "layers"}, {"diff_ids", diff_ids}}}};
  blobs.push_back(blob_of("application/vnd.oci.image.config.v1+json", config.dump()));
  const json manifest = {{"schemaVersion", 2},
                         {"mediaType", "application/vnd.oci.image.manifest.v1+json"},
                         {"config", descriptor(blobs.back())},
                         {"layers", layers}};
  blobs.push_back(blob_of("application/vnd.oci.image.manifest.v1+json", manifest.dump()));
  return blobs;
}

Result<std::string> write_layout(const Image& image, const std::string& dir) {
  const auto blobs = make_blobs(image);
  BERTH_TRY(os::make_dirs(dir + "/blobs/sha256"), "layout");
  for (const auto& blob : blobs) {
    BERTH_TRY(os::write_file_atomic(dir + "/blobs/sha256/" + blob.digest.substr(7), blob.bytes), "layout");
  }
  auto entry = descriptor(blobs.back());
  entry["annotations"] = {{"org.opencontainers.image.ref.name", "latest"}};
  const json index = {{"schemaVersion", 2}, {"manifests", json::array({entry})}};
  BERTH_TRY(os::write_file_atomic(dir + "/index.json", index.dump()), "layout");
  BERTH_TRY(os::write_file_atomic(dir + "/oci-layout", R"({"imageLayoutVersion":"1.0.0"})"), "layout");
  return blobs[blobs.size() - 2].digest;
}

}  // namespace berth::test
