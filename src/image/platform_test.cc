#include "image/platform.h"

#include <gmock/gmock.h>
#include <gtest/gtest.h>

namespace berth::image {
namespace {

spec::Descriptor entry(const std::string& digest, const std::string& os, const std::string& arch,
                       const std::string& variant = {}) {
  spec::Descriptor out;
  out.media_type = spec::kOciManifestType;
  out.digest = digest;
  out.platform.emplace();
  out.platform->os = os;
  out.platform->architecture = arch;
  out.platform->variant = variant;
  return out;
}

std::string choose(const std::vector<spec::Descriptor>& entries, const std::string& platform) {
  spec::Index index;
  index.manifests = entries;
  const auto got = choose_manifest(index, *target_platform(platform));
  return got ? got->digest : got.error().text();
}

TEST(Platform, ChoosesByArchitectureAndVariant) {
  const std::vector<spec::Descriptor> all = {entry("a", "linux", "amd64"),       entry("a3", "linux", "amd64", "v3"),
                                             entry("6", "linux", "arm", "v6"),   entry("7", "linux", "arm", "v7"),
                                             entry("8", "linux", "arm64", "v8"), entry("w", "windows", "amd64")};
  EXPECT_EQ(choose(all, "linux/amd64"), "a");
  EXPECT_EQ(choose(all, "linux/amd64/v3"), "a3");
  EXPECT_EQ(choose(all, "linux/amd64/v2"), "a");
  EXPECT_EQ(choose(all, "linux/arm/v7"), "7");
  EXPECT_EQ(choose(all, "linux/arm/v6"), "6");
  EXPECT_EQ(choose(all, "linux/arm64"), "8");
  EXPECT_EQ(choose(all, "windows/amd64"), "w");
  EXPECT_THAT(choose(all, "linux/s390x"),
              ::testing::HasSubstr("no image for linux/s390x in the index; it has linux/amd64"));
}

TEST(Platform, PassesOverAttestations) {
  auto attestation = entry("att", "unknown", "unknown");
  auto marked = entry("mark", "linux", "amd64");
  marked.annotations["vnd.docker.reference.type"] = "attestation-manifest";
  EXPECT_EQ(choose({attestation, marked, entry("a", "linux", "amd64")}, "linux/amd64"), "a");
  EXPECT_THAT(choose({attestation, marked}, "linux/amd64"), ::testing::HasSubstr("no image for linux/amd64"));
}

TEST(Platform, TakesASingleEntryWithoutPlatform) {
  spec::Descriptor plain;
  plain.media_type = spec::kOciManifestType;
  plain.digest = "p";
  EXPECT_EQ(choose({plain}, "linux/amd64"), "p");
}

TEST(Platform, ParsesText) {
  EXPECT_EQ(target_platform("linux/x86_64")->text(), "linux/amd64");
  EXPECT_EQ(target_platform("linux/aarch64/v8")->text(), "linux/arm64/v8");
  EXPECT_EQ(target_platform("")->os, "linux");
  for (const char* text : {"linux", "linux/", "/amd64", "a/b/c/d"}) EXPECT_FALSE(target_platform(text)) << text;
}

}  // namespace
}  // namespace berth::image
