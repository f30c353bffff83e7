#include "image/testing/image_builder.h"

#include "image/digest.h"
#include "image/testing/tar_builder.h"
#include "os/file.h"
#include "spec/image.h"

namespace berth::image::testing {

std::string digest_of(std::string_view text) {
  return sha256_of(text).value_or("no digest");
}

BuiltLayer plain_layer(const std::string& tar) {
  return {tar, "application/vnd.oci.image.layer.v1.tar", digest_of(tar)};
}
BuiltLayer gzip_layer(const std::string& tar) {
  return {gzip(tar), "application/vnd.oci.image.layer.v1.tar+gzip", digest_of(tar)};
}
BuiltLayer zstd_layer(const std::string& tar) {
  return {zstd(tar), "application/vnd.oci.image.layer.v1.tar+zstd", digest_of(tar)};
}

std::string BuiltImage::manifest_digest() const {
  return digest_of(manifest);
}
std::string BuiltImage::config_digest() const {
  return digest_of(config);
}

BuiltImage build_image(std::vector<BuiltLayer> layers, const BuildOptions& options) {
  BuiltImage out;
  spec::ImageConfig config;
  config.architecture = options.architecture;
  config.os = options.os;
  config.config.cmd = {"/bin/sh"};
  if (!options.label.empty()) config.config.labels["label"] = options.label;
  config.rootfs.type = "layers";
  spec::Manifest manifest;
  for (const BuiltLayer& layer : layers) {
    config.rootfs.diff_ids.push_back(layer.diff_id);
    spec::Descriptor descriptor;
    descriptor.media_type = options.docker ? "application/vnd.docker.image.rootfs.diff.tar.gzip" : layer.media_type;
    descriptor.digest = digest_of(layer.blob);
    descriptor.size = layer.blob.size();
    manifest.layers.push_back(descriptor);
  }
  out.config = spec::write_image_config(config);
  manifest.config.media_type = options.docker ? spec::kDockerConfigType : spec::kOciConfigType;
  manifest.config.digest = digest_of(out.config);
  manifest.config.size = out.config.size();
  manifest.media_type = options.docker ? spec::kDockerManifestType : spec::kOciManifestType;
  out.manifest_type = manifest.media_type;
  out.manifest = spec::write_manifest(manifest);
  out.layers = std::move(layers);
  return out;
}

void write_oci_layout(const std::string& dir, const std::map<std::string, BuiltImage>& images) {
  const auto must = [](const Result<>& result) {
    if (!result) std::abort();
  };
  must(os::make_dirs(dir + "/blobs/sha256"));
  must(os::write_file_atomic(dir + "/oci-layout", R"({"imageLayoutVersion":"1.0.0"})"));
  const auto put = [&](const std::string& body) {
    must(os::write_file_atomic(dir + "/blobs/sha256/" + digest_of(body).substr(7), body));
  };
  spec::Index index;
  index.media_type = spec::kOciIndexType;
  for (const auto& [tag, image] : images) {
    for (const BuiltLayer& layer : image.layers) put(layer.blob);
    put(image.config);
    put(image.manifest);
    spec::Descriptor entry;
    entry.media_type = image.manifest_type;
    entry.digest = image.manifest_digest();
    entry.size = image.manifest.size();
    entry.annotations["org.opencontainers.image.ref.name"] = tag;
    index.manifests.push_back(entry);
  }
  must(os::write_file_atomic(dir + "/index.json", spec::write_index(index)));
}

}  // namespace berth::image::testing
