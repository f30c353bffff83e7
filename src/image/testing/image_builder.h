#pragma once
#include <map>
#include <string>
#include <string_view>
#include <vector>

namespace berth::image::testing {

/// One layer of an image under construction: the blob as served and the archive inside.
struct BuiltLayer {
  std::string blob;
  std::string media_type;
  std::string diff_id;
};
[[nodiscard]] BuiltLayer plain_layer(const std::string& tar);
[[nodiscard]] BuiltLayer gzip_layer(const std::string& tar);
[[nodiscard]] BuiltLayer zstd_layer(const std::string& tar);

/// An image as blobs by digest and manifests by digest.
struct BuiltImage {
  std::string manifest;
  std::string manifest_type;
  std::string config;
  std::vector<BuiltLayer> layers;
  [[nodiscard]] std::string manifest_digest() const;
  [[nodiscard]] std::string config_digest() const;
};

struct BuildOptions {
  bool docker = false;  ///< media types of Docker's schema 2
  std::string architecture = "amd64";
  std::string os = "linux";
  std::string label = {};  ///< makes configurations differ
};
[[nodiscard]] BuiltImage build_image(std::vector<BuiltLayer> layers, const BuildOptions& options = {});

/// "sha256:..." of `text`; tests only, so it does not fail.
[[nodiscard]] std::string digest_of(std::string_view text);

/// Writes an OCI layout of `images` (tag -> image) into the folder `dir`, which is made: what skopeo copies from.
void write_oci_layout(const std::string& dir, const std::map<std::string, BuiltImage>& images);

}  // namespace berth::image::testing
