#include "spec/image.h"

#include <gtest/gtest.h>

#include <fstream>
#include <nlohmann/json.hpp>
#include <sstream>

namespace berth::spec {
namespace {

const std::string kDigest = "sha256:" + std::string(64, 'a');

std::string read_data(const std::string& name) {
  std::ifstream file("tests/data/spec/" + name);
  EXPECT_TRUE(file.is_open()) << name;
  std::ostringstream text;
  text << file.rdbuf();
  return text.str();
}

std::string descriptor(const std::string& digest = kDigest) {
  return R"({"mediaType":"m","digest":")" + digest + R"(","size":1})";
}

std::string manifest_with(const std::string& members) {
  return R"({"schemaVersion":2,"config":)" + descriptor() + R"(,"layers":[)" + descriptor() + "]" + members + "}";
}

template <class T>
std::string error_of(const Result<T>& result) {
  return result ? "" : result.error().text();
}

TEST(Manifest, RoundTrips) {
  for (const char* name : {"docker_manifest.json", "oci_manifest_untyped.json"}) {
    const std::string text = read_data(name);
    const auto manifest = parse_manifest(text);
    ASSERT_TRUE(manifest) << name << ": " << manifest.error().text();
    EXPECT_EQ(nlohmann::json::parse(write_manifest(*manifest)), nlohmann::json::parse(text)) << name;
  }
  const auto manifest = parse_manifest(read_data("oci_manifest_untyped.json"));
  EXPECT_EQ(manifest->media_type, "");
  EXPECT_EQ(manifest->layers.at(0).size, 9223372036854775807U);
  EXPECT_EQ(manifest->config.data, "e30=");
  EXPECT_EQ(manifest->subject->size, 1U);
}

TEST(Index, RoundTrips) {
  const std::string text = read_data("oci_index.json");
  const auto index = parse_index(text);
  ASSERT_TRUE(index) << index.error().text();
  EXPECT_EQ(nlohmann::json::parse(write_index(*index)), nlohmann::json::parse(text));
  EXPECT_EQ(index->manifests.at(0).platform->variant, "v8");
  EXPECT_EQ(index->manifests.at(1).platform->os_version, "10.0.17763.6532");
}

TEST(ImageConfig, RoundTrips) {
  const std::string text = read_data("image_config.json");
  const auto config = parse_image_config(text);
  ASSERT_TRUE(config) << config.error().text();
  EXPECT_EQ(nlohmann::json::parse(write_image_config(*config)), nlohmann::json::parse(text));
  EXPECT_EQ(config->config.user, "1000:users");
  EXPECT_EQ(config->config.exposed_ports, (std::set<std::string>{"53/udp", "80/tcp"}));
  EXPECT_EQ(config->config.labels.at("multi"), "a\nb");
  EXPECT_EQ(config->rootfs.diff_ids.size(), 3U);
  EXPECT_TRUE(config->extra.contains("history"));
}

TEST(ImageConfig, TakesSparseOnes) {
  const auto config = parse_image_config(R"({"architecture":"amd64","os":"linux","config":null,
    "rootfs":{"type":"layers","diff_ids":null}})");
  ASSERT_TRUE(config) << config.error().text();
  EXPECT_TRUE(config->rootfs.diff_ids.empty());
}

TEST(ImageConfig, RefusesBrokenOnes) {
  EXPECT_EQ(error_of(parse_image_config(R"({"rootfs":{"type":"layers","diff_ids":["sha256:00"]}})")),
            "image config: rootfs.diff_ids[0]: \"sha256:00\" is no digest: expected 64 hexadecimal digits");
  EXPECT_EQ(error_of(parse_image_config(R"({"rootfs":{"type":"blocks","diff_ids":[]}})")),
            "image config: rootfs.type: \"blocks\", expected layers");
  EXPECT_EQ(error_of(parse_image_config(R"({"config":{"Env":["A=\u0000"]}})")),
            "image config: config.Env[0]: must not hold a NUL byte");
  const ImageLimits one{.max_layers = 1};
  EXPECT_EQ(parse_image_config(read_data("image_config.json"), one).error().code(), Code::kExhausted);
}

TEST(Digest, OnlyTheTwoKnownForms) {
  EXPECT_TRUE(check_digest(kDigest));
  EXPECT_TRUE(check_digest("sha512:" + std::string(128, '0')));
  for (const std::string& bad :
       {std::string(), std::string("sha256"), std::string("sha256:"), "sha256:" + std::string(63, 'a'),
        "sha256:" + std::string(65, 'a'), "sha256:" + std::string(64, 'A'), "sha256:" + std::string(61, 'a') + "/..",
        "SHA256:" + std::string(64, 'a'), "../:" + std::string(64, 'a'), ":" + std::string(64, 'a')}) {
    const auto checked = check_digest(bad);
    ASSERT_FALSE(checked) << bad;
    EXPECT_EQ(checked.error().code(), Code::kInvalid) << bad;
  }
  EXPECT_EQ(check_digest("blake3:" + std::string(64, 'a')).error().code(), Code::kUnsupported);
}

TEST(Manifest, RefusesBrokenOnes) {
  EXPECT_EQ(error_of(parse_manifest(manifest_with(""))), "");
  EXPECT_EQ(error_of(parse_manifest(R"({"schemaVersion":2,"config":)" + descriptor() + R"(,"layers":[)" + descriptor() +
                                    "," + descriptor("md5") + "]}")),
            "manifest: layers[1].digest: \"md5\" is no digest");
  EXPECT_EQ(error_of(parse_manifest(R"({"schemaVersion":2,"layers":[]})")),
            "manifest: config.digest: \"\" is no digest");
  EXPECT_EQ(parse_manifest(R"({"schemaVersion":1,"fsLayers":[]})").error().code(), Code::kUnsupported);
  EXPECT_EQ(error_of(parse_manifest("{}")), "manifest: schemaVersion: is 0, expected 2");
  EXPECT_EQ(error_of(parse_manifest(manifest_with(R"(,"mediaType":"application/vnd.oci.image.index.v1+json")"))),
            "manifest: mediaType: \"application/vnd.oci.image.index.v1+json\" is no type of an image manifest");
  const ImageLimits none{.max_layers = 0};
  EXPECT_EQ(error_of(parse_manifest(manifest_with(""), none)), "manifest: layers: 1 entries, at most 0 are read");
  EXPECT_EQ(parse_manifest(std::string((4U << 20) + 1, ' ')).error().code(), Code::kExhausted);
}

TEST(Index, KeepsItsLimit) {
  const ImageLimits one{.max_manifests = 1};
  EXPECT_EQ(error_of(parse_index(read_data("oci_index.json"), one)), "index: manifests: 2 entries, at most 1 are read");
}

TEST(ManifestOrIndex, FollowsTypeHeaderAndMembers) {
  const auto kind = [](const std::string& text, std::string_view header) -> std::string {
    const auto document = parse_manifest_or_index(text, header);
    if (!document) return document.error().text();
    return std::holds_alternative<Index>(*document) ? "index" : "manifest";
  };
  const std::string untyped_index = R"({"schemaVersion":2,"manifests":[)" + descriptor() + "]}";
  EXPECT_EQ(kind(read_data("oci_index.json"), ""), "index");
  EXPECT_EQ(kind(read_data("docker_manifest.json"), ""), "manifest");
  EXPECT_EQ(
      kind(read_data("docker_manifest.json"), "Application/vnd.docker.distribution.manifest.v2+json; charset=utf-8"),
      "manifest");
  EXPECT_EQ(kind(untyped_index, "application/json"), "index");
  EXPECT_EQ(kind(untyped_index, kOciIndexType), "index");
  EXPECT_EQ(kind(manifest_with(""), ""), "manifest");
  EXPECT_EQ(kind(untyped_index, kOciManifestType), "manifest: the document is an index");
  EXPECT_EQ(kind(manifest_with(""), kOciIndexType), "index: the document is a manifest");
  EXPECT_EQ(kind(manifest_with(R"(,"manifests":[])"), ""),
            "manifest: the document has the members of a manifest and those of an index");
  EXPECT_NE(kind(read_data("docker_manifest.json"), kOciManifestType).find("contradicts the content type"),
            std::string::npos);
  EXPECT_EQ(kind(manifest_with(R"(,"mediaType":"a","mediaType":"b")"), ""), "manifest: mediaType: is there twice");
}

TEST(LayerPacking, KnowsTheMediaTypes) {
  EXPECT_EQ(layer_packing("application/vnd.oci.image.layer.v1.tar"), LayerPacking::kTar);
  EXPECT_EQ(layer_packing("application/vnd.docker.image.rootfs.diff.tar.gzip"), LayerPacking::kGzip);
  EXPECT_EQ(layer_packing("application/vnd.oci.image.layer.nondistributable.v1.tar+zstd"), LayerPacking::kZstd);
  EXPECT_EQ(layer_packing("application/vnd.oci.image.layer.v1.tar+gzip+encrypted"), std::nullopt);
  EXPECT_EQ(layer_packing("application/vnd.cncf.helm.chart.content.v1.tar+gzip"), std::nullopt);
}

}  // namespace
}  // namespace berth::spec
