#pragma once
#include <nlohmann/json.hpp>
#include <string>
#include <string_view>
#include <vector>

#include "base/result.h"

namespace berth::test {

/// Writes a tar archive (ustar) entry by entry, hostile ones too: names are taken as they are, at most 100 bytes.
class TarBuilder final {
 public:
  TarBuilder& dir(std::string_view name, unsigned mode = 0755);
  TarBuilder& file(std::string_view name, std::string_view content, unsigned mode = 0644, unsigned uid = 0,
                   unsigned gid = 0);
  TarBuilder& symlink(std::string_view name, std::string_view target);
  TarBuilder& hard_link(std::string_view name, std::string_view target);
  /// Hides `name` of the layers below.
  TarBuilder& whiteout(std::string_view name);
  /// Hides everything in the folder `name` of the layers below.
  TarBuilder& opaque(std::string_view name);
  /// A header that promises `size` bytes of which only `content` follow: the rest of the archive is garbage.
  TarBuilder& lying_file(std::string_view name, std::uint64_t size, std::string_view content);
  /// The archive with its end marker.
  [[nodiscard]] std::string finish() const;

 private:
  void entry(std::string_view name, char type, std::string_view target, std::string_view content, std::uint64_t size,
             unsigned mode, unsigned uid, unsigned gid);
  std::string bytes_;
};

[[nodiscard]] std::string gzip(std::string_view data);
/// "sha256:<hex>".
[[nodiscard]] std::string sha256(std::string_view data);

struct Image {
  std::vector<std::string> layers;                   ///< tar archives, base first
  nlohmann::json config = nlohmann::json::object();  ///< the "config" object: Cmd, Env, User, ...
};

struct Blob {
  std::string digest;
  std::string media_type;
  std::string bytes;
};
/// An image as its registry has it: compressed layers, then the configuration, then the manifest, which is last.
[[nodiscard]] std::vector<Blob> make_blobs(const Image& image);

/// Writes `image` as an OCI layout into the new folder `dir` under the reference "latest"; answers the image's id.
Result<std::string> write_layout(const Image& image, const std::string& dir);

}  // namespace berth::test
