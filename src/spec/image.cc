#include "spec/image.h"

#include <array>

#include "base/strings.h"
#include "spec/struct_json.h"

namespace berth::spec {

// Port and volume sets are objects whose values say nothing.
bool read_value(JsonReader& reader, std::set<std::string>& out) {
  return reader.object([&](std::string_view name) {
    if (!out.emplace(name).second) return reader.fail_here("is there twice");
    return reader.skip(nullptr);
  });
}

void write_value(JsonWriter& writer, const std::set<std::string>& value) {
  writer.begin_object();
  for (const auto& name : value) writer.key(name).raw("{}");
  writer.end_object();
}

template <class V, Is<Platform> S>
void fields(V& v, S& s) {
  v.always("architecture", s.architecture);
  v.always("os", s.os);
  v.member("os.version", s.os_version);
  v.member("os.features", s.os_features);
  v.member("variant", s.variant);
}

template <class V, Is<Descriptor> S>
void fields(V& v, S& s) {
  v.always("mediaType", s.media_type);
  v.always("digest", s.digest);
  v.always("size", s.size);
  v.member("urls", s.urls);
  v.member("annotations", s.annotations);
  v.member("data", s.data);
  v.member("platform", s.platform);
  v.member("artifactType", s.artifact_type);
}

template <class V, Is<Index> S>
void fields(V& v, S& s) {
  v.always("schemaVersion", s.schema_version);
  v.member("mediaType", s.media_type);
  v.member("artifactType", s.artifact_type);
  v.always("manifests", s.manifests);
  v.member("subject", s.subject);
  v.member("annotations", s.annotations);
}

template <class V, Is<Manifest> S>
void fields(V& v, S& s) {
  v.always("schemaVersion", s.schema_version);
  v.member("mediaType", s.media_type);
  v.member("artifactType", s.artifact_type);
  v.always("config", s.config);
  v.always("layers", s.layers);
  v.member("subject", s.subject);
  v.member("annotations", s.annotations);
}

template <class V, Is<ContainerDefaults> S>
void fields(V& v, S& s) {
  v.member("User", s.user);
  v.member("ExposedPorts", s.exposed_ports);
  v.member("Env", s.env);
  v.member("Entrypoint", s.entrypoint);
  v.member("Cmd", s.cmd);
  v.member("Volumes", s.volumes);
  v.member("WorkingDir", s.working_dir);
  v.member("Labels", s.labels);
  v.member("StopSignal", s.stop_signal);
}

template <class V, Is<RootFs> S>
void fields(V& v, S& s) {
  v.always("type", s.type);
  v.always("diff_ids", s.diff_ids);
}

template <class V, Is<ImageConfig> S>
void fields(V& v, S& s) {
  v.member("created", s.created);
  v.member("author", s.author);
  v.always("architecture", s.architecture);
  v.always("os", s.os);
  v.member("os.version", s.os_version);
  v.member("os.features", s.os_features);
  v.member("variant", s.variant);
  v.always("config", s.config);
  v.always("rootfs", s.rootfs);
}

bool is_manifest_type(std::string_view media_type) {
  return media_type == kOciManifestType || media_type == kDockerManifestType;
}

bool is_index_type(std::string_view media_type) {
  return media_type == kOciIndexType || media_type == kDockerListType;
}

bool is_config_type(std::string_view media_type) {
  return media_type == kOciConfigType || media_type == kDockerConfigType;
}

std::optional<LayerPacking> layer_packing(std::string_view media_type) {
  struct Entry {
    std::string_view type;
    LayerPacking packing;
  };
  static constexpr std::array<Entry, 10> kLayers = {{
      {"application/vnd.oci.image.layer.v1.tar", LayerPacking::kTar},
      {"application/vnd.oci.image.layer.v1.tar+gzip", LayerPacking::kGzip},
      {"application/vnd.oci.image.layer.v1.tar+zstd", LayerPacking::kZstd},
      {"application/vnd.oci.image.layer.nondistributable.v1.tar", LayerPacking::kTar},
      {"application/vnd.oci.image.layer.nondistributable.v1.tar+gzip", LayerPacking::kGzip},
      {"application/vnd.oci.image.layer.nondistributable.v1.tar+zstd", LayerPacking::kZstd},
      {"application/vnd.docker.image.rootfs.diff.tar", LayerPacking::kTar},
      {"application/vnd.docker.image.rootfs.diff.tar.gzip", LayerPacking::kGzip},
      {"application/vnd.docker.image.rootfs.diff.tar.zstd", LayerPacking::kZstd},
      {"application/vnd.docker.image.rootfs.foreign.diff.tar.gzip", LayerPacking::kGzip},
  }};
  for (const auto& entry : kLayers) {
    if (entry.type == media_type) return entry.packing;
  }
  return std::nullopt;
}

Result<> check_digest(std::string_view digest) {
  const std::string shown = quote(digest.substr(0, 160));
  const auto colon = digest.find(':');
  if (colon == std::string_view::npos) return fail(Code::kInvalid, shown + " is no digest");
  const std::string_view algorithm = digest.substr(0, colon);
  const std::string_view hex = digest.substr(colon + 1);
  const std::size_t wanted = algorithm == "sha256" ? 64 : algorithm == "sha512" ? 128 : 0;
  if (wanted == 0) {
    const bool named = !algorithm.empty() && algorithm.find_first_not_of("abcdefghijklmnopqrstuvwxyz0123456789+._-") ==
                                                 std::string_view::npos;
    if (!named) return fail(Code::kInvalid, shown + " is no digest");
    return fail(Code::kUnsupported, "digest algorithm " + quote(algorithm.substr(0, 64)) + " is not supported");
  }
  if (hex.size() != wanted || hex.find_first_not_of("0123456789abcdef") != std::string_view::npos) {
    return fail(Code::kInvalid, shown + " is no digest: expected " + std::to_string(wanted) + " hexadecimal digits");
  }
  return {};
}

namespace {

Result<> check_descriptor(const Descriptor& descriptor, const std::string& path) {
  BERTH_TRY(check_digest(descriptor.digest), path + ".digest");
  if (descriptor.size > INT64_MAX) return fail(Code::kInvalid, path + ".size: above " + std::to_string(INT64_MAX));
  return {};
}

Result<> check_descriptors(const std::vector<Descriptor>& list, std::string_view name, std::size_t most) {
  if (list.size() > most) {
    return fail(Code::kExhausted, std::string(name) + ": " + std::to_string(list.size()) + " entries, at most " +
                                      std::to_string(most) + " are read");
  }
  for (std::size_t i = 0; i < list.size(); ++i) {
    auto checked = check_descriptor(list[i], std::string(name) + "[" + std::to_string(i) + "]");
    if (!checked) return checked;
  }
  return {};
}

Result<> check_schema(std::uint32_t version) {
  if (version == 2) return {};
  if (version == 1)
    return fail(Code::kUnsupported, "schemaVersion: Docker image manifests of schema 1 are not supported");
  return fail(Code::kInvalid, "schemaVersion: is " + std::to_string(version) + ", expected 2");
}

/// The two shapes side by side, as far as one needs to tell them apart.
struct Shape {
  std::uint32_t schema_version = 0;
  std::string media_type;
  bool manifest_members = false;
  bool index_members = false;
};

Result<Shape> read_shape(std::string_view json, const Limits& limits) {
  JsonReader reader(json, limits);
  Shape shape;
  bool again = false;
  const bool good = reader.object([&](std::string_view name) {
    const bool null = reader.peek() == JsonReader::Kind::kNull;
    if (name == "schemaVersion" && !null) return read_value(reader, shape.schema_version);
    if (name == "mediaType" && !null) {
      if (std::exchange(again, true)) return reader.fail_here("is there twice");
      return reader.string(shape.media_type);
    }
    shape.manifest_members |= name == "layers" || name == "config" || name == "fsLayers";
    shape.index_members |= name == "manifests";
    return reader.skip(nullptr);
  });
  if (!good || !reader.finish()) return fail(reader.error());
  return shape;
}

Result<Shape> checked_shape(std::string_view json, const Limits& limits) {
  auto shape = read_shape(json, limits);
  if (!shape) return shape;
  if (auto checked = check_schema(shape->schema_version); !checked) return fail(checked.error());
  if (shape->manifest_members && shape->index_members) {
    return fail(Code::kInvalid, "the document has the members of a manifest and those of an index");
  }
  return shape;
}

std::unexpected<Error> wrong_type(std::string_view media_type, std::string_view expected) {
  return fail(Code::kInvalid,
              "mediaType: " + quote(media_type.substr(0, 160)) + " is no type of " + std::string(expected));
}

Result<Manifest> read_manifest(std::string_view json, const ImageLimits& limits) {
  auto manifest = parse_document<Manifest>(json, limits.json);
  if (!manifest) return manifest;
  if (auto checked = check_descriptor(manifest->config, "config"); !checked) return fail(checked.error());
  auto checked = check_descriptors(manifest->layers, "layers", limits.max_layers);
  if (checked && manifest->subject) checked = check_descriptor(*manifest->subject, "subject");
  if (!checked) return fail(checked.error());
  return manifest;
}

Result<Index> read_index(std::string_view json, const ImageLimits& limits) {
  auto index = parse_document<Index>(json, limits.json);
  if (!index) return index;
  auto checked = check_descriptors(index->manifests, "manifests", limits.max_manifests);
  if (checked && index->subject) checked = check_descriptor(*index->subject, "subject");
  if (!checked) return fail(checked.error());
  return index;
}

}  // namespace

Result<Manifest> parse_manifest(std::string_view json, const ImageLimits& limits) {
  BERTH_ASSIGN(const Shape shape, checked_shape(json, limits.json), "manifest");
  if (!shape.media_type.empty() && !is_manifest_type(shape.media_type)) {
    return fail(wrong_type(shape.media_type, "an image manifest").error().in("manifest"));
  }
  if (shape.index_members) return fail(Code::kInvalid, "manifest: the document is an index");
  BERTH_ASSIGN(auto manifest, read_manifest(json, limits), "manifest");
  return manifest;
}

Result<Index> parse_index(std::string_view json, const ImageLimits& limits) {
  BERTH_ASSIGN(const Shape shape, checked_shape(json, limits.json), "index");
  if (!shape.media_type.empty() && !is_index_type(shape.media_type)) {
    return fail(wrong_type(shape.media_type, "an image index").error().in("index"));
  }
  if (shape.manifest_members) return fail(Code::kInvalid, "index: the document is a manifest");
  BERTH_ASSIGN(auto index, read_index(json, limits), "index");
  return index;
}

Result<std::variant<Manifest, Index>> parse_manifest_or_index(std::string_view json, std::string_view content_type,
                                                              const ImageLimits& limits) {
  using Either = std::variant<Manifest, Index>;
  const std::string header = to_lower(trim(content_type.substr(0, content_type.find(';'))));
  BERTH_ASSIGN(const Shape shape, checked_shape(json, limits.json), "manifest");
  const bool header_known = is_manifest_type(header) || is_index_type(header);
  if (!shape.media_type.empty() && header_known && header != shape.media_type) {
    return fail(Code::kInvalid, "manifest: mediaType " + quote(shape.media_type.substr(0, 160)) +
                                    " contradicts the content type " + quote(header));
  }
  std::string_view type = shape.media_type;
  if (type.empty() && header_known) type = header;
  if (is_index_type(type) || (type.empty() && shape.index_members)) {
    auto index = parse_index(json, limits);
    if (!index) return fail(std::move(index).error());
    return Either(std::move(*index));
  }
  auto manifest = parse_manifest(json, limits);
  if (!manifest) return fail(std::move(manifest).error());
  return Either(std::move(*manifest));
}

Result<ImageConfig> parse_image_config(std::string_view json, const ImageLimits& limits) {
  BERTH_ASSIGN(auto config, parse_document<ImageConfig>(json, limits.json), "image config");
  const auto& diff_ids = config.rootfs.diff_ids;
  if (diff_ids.size() > limits.max_layers) {
    return fail(Code::kExhausted, "image config: rootfs.diff_ids: " + std::to_string(diff_ids.size()) +
                                      " entries, at most " + std::to_string(limits.max_layers) + " are read");
  }
  for (std::size_t i = 0; i < diff_ids.size(); ++i) {
    BERTH_TRY(check_digest(diff_ids[i]), "image config: rootfs.diff_ids[" + std::to_string(i) + "]");
  }
  if (!config.rootfs.type.empty() && config.rootfs.type != "layers") {
    return fail(Code::kInvalid,
                "image config: rootfs.type: " + quote(config.rootfs.type.substr(0, 64)) + ", expected layers");
  }
  return config;
}

std::string write_manifest(const Manifest& manifest) {
  return write_document(manifest);
}
std::string write_index(const Index& index) {
  return write_document(index);
}
std::string write_image_config(const ImageConfig& config) {
  return write_document(config);
}

}  // namespace berth::spec
