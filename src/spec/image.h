#pragma once
#include <cstdint>
#include <optional>
#include <set>
#include <string>
#include <string_view>
#include <variant>
#include <vector>

#include "base/result.h"
#include "spec/runtime.h"

/// The OCI image-spec 1.1 documents and their Docker "schema 2" twins, which differ in media types alone. They come
/// from registries, so every parse is bounded and every digest is checked. Source: opencontainers/image-spec
/// manifest.md, image-index.md, config.md, descriptor.md; Docker image manifest version 2 schema 2.
namespace berth::spec {

inline constexpr std::string_view kOciManifestType = "application/vnd.oci.image.manifest.v1+json";
inline constexpr std::string_view kOciIndexType = "application/vnd.oci.image.index.v1+json";
inline constexpr std::string_view kOciConfigType = "application/vnd.oci.image.config.v1+json";
inline constexpr std::string_view kDockerManifestType = "application/vnd.docker.distribution.manifest.v2+json";
inline constexpr std::string_view kDockerListType = "application/vnd.docker.distribution.manifest.list.v2+json";
inline constexpr std::string_view kDockerConfigType = "application/vnd.docker.container.image.v1+json";

[[nodiscard]] bool is_manifest_type(std::string_view media_type);
[[nodiscard]] bool is_index_type(std::string_view media_type);
[[nodiscard]] bool is_config_type(std::string_view media_type);

/// How a layer's blob is packed.
enum class LayerPacking : std::uint8_t { kTar, kGzip, kZstd };
/// The packing that a layer's media type names; nothing for a type that is no file system layer (encrypted layers, Helm
/// charts, signatures). Non-distributable ("foreign") layers count as layers.
[[nodiscard]] std::optional<LayerPacking> layer_packing(std::string_view media_type);

/// "sha256:" and 64, or "sha512:" and 128 lower-case hexadecimal digits, and nothing else, so that a digest is safe as
/// a file name. Errors: kUnsupported another well-formed algorithm; else kInvalid. Source: image-spec descriptor.md
/// "Digests".
[[nodiscard]] Result<> check_digest(std::string_view digest);

struct Platform {
  std::string architecture{};  ///< GOARCH: "amd64"
  std::string os{};            ///< GOOS: "linux"
  std::string os_version{};
  std::vector<std::string> os_features{};
  std::string variant{};  ///< "v8"
  Extra extra{};
  bool operator==(const Platform&) const = default;
};

struct Descriptor {
  std::string media_type{};
  std::string digest{};  ///< checked by every parse function below
  std::uint64_t size = 0;
  std::vector<std::string> urls{};
  StringMap annotations{};
  std::string data{};  ///< the blob itself in base64, when embedded; not verified
  std::optional<Platform> platform{};
  std::string artifact_type{};
  Extra extra{};
  bool operator==(const Descriptor&) const = default;
};

/// An OCI image index or a Docker manifest list.
struct Index {
  std::uint32_t schema_version = 2;
  std::string media_type{};  ///< may be empty in an OCI document
  std::string artifact_type{};
  std::vector<Descriptor> manifests{};
  std::optional<Descriptor> subject{};
  StringMap annotations{};
  Extra extra{};
  bool operator==(const Index&) const = default;
};

struct Manifest {
  std::uint32_t schema_version = 2;
  std::string media_type{};  ///< may be empty in an OCI document
  std::string artifact_type{};
  Descriptor config{};
  std::vector<Descriptor> layers{};  ///< base layer first
  std::optional<Descriptor> subject{};
  StringMap annotations{};
  Extra extra{};
  bool operator==(const Manifest&) const = default;
};

/// The `config` member of an image configuration: the defaults of a container. JSON names begin with a capital.
struct ContainerDefaults {
  std::string user{};                     ///< "uid", "name", each with ":group" or not
  std::set<std::string> exposed_ports{};  ///< "80/tcp"
  std::vector<std::string> env{};
  std::vector<std::string> entrypoint{};
  std::vector<std::string> cmd{};
  std::set<std::string> volumes{};
  std::string working_dir{};
  StringMap labels{};
  std::string stop_signal{};  ///< "SIGTERM" or a number
  Extra extra{};
  bool operator==(const ContainerDefaults&) const = default;
};

struct RootFs {
  std::string type{};                   ///< "layers"
  std::vector<std::string> diff_ids{};  ///< digests of the unpacked layers, base layer first
  Extra extra{};
  bool operator==(const RootFs&) const = default;
};

/// An image configuration. `history` stays as JSON text in `extra`: nothing that runs a container needs it.
struct ImageConfig {
  std::string created{};  ///< RFC 3339
  std::string author{};
  std::string architecture{};
  std::string os{};
  std::string os_version{};
  std::vector<std::string> os_features{};
  std::string variant{};
  ContainerDefaults config{};
  RootFs rootfs{};
  Extra extra{};
  bool operator==(const ImageConfig&) const = default;
};

struct ImageLimits {
  Limits json = {.max_bytes = 4U << 20, .max_depth = 32};  ///< 4 MiB: what registries accept for a manifest
  std::size_t max_layers = 512;
  std::size_t max_manifests = 2048;  ///< in one index
};

/// Reads a manifest; a document without mediaType passes, one with the type of something else does not.
/// Errors: kInvalid with the JSON path; kUnsupported Docker schema 1 and unknown digest algorithms; kExhausted a limit.
[[nodiscard]] Result<Manifest> parse_manifest(std::string_view json, const ImageLimits& limits = {});
/// Reads an index or manifest list. Errors as parse_manifest.
[[nodiscard]] Result<Index> parse_index(std::string_view json, const ImageLimits& limits = {});
/// Reads what a registry answers to "manifests/REF". `content_type`: of the answer, parameters and all, may be empty.
/// Which of the two it is follows from the mediaType, else from `content_type`, else from the members; a document that
/// has the members of both, or whose mediaType contradicts `content_type`, is refused (CVE-2021-41190).
[[nodiscard]] Result<std::variant<Manifest, Index>> parse_manifest_or_index(std::string_view json,
                                                                            std::string_view content_type,
                                                                            const ImageLimits& limits = {});
/// Reads an image configuration. Errors as parse_manifest.
[[nodiscard]] Result<ImageConfig> parse_image_config(std::string_view json, const ImageLimits& limits = {});

[[nodiscard]] std::string write_manifest(const Manifest& manifest);
[[nodiscard]] std::string write_index(const Index& index);
[[nodiscard]] std::string write_image_config(const ImageConfig& config);

}  // namespace berth::spec
