#include "image/platform.h"

#include <sys/utsname.h>

#include <optional>
#include <set>

#include "base/strings.h"
#include "image/printable.h"

namespace berth::image {
namespace {

std::string go_architecture(std::string_view machine) {
  if (machine == "x86_64" || machine == "x86-64") return "amd64";
  if (machine == "aarch64") return "arm64";
  if (machine == "i386" || machine == "i686") return "386";
  if (machine.starts_with("armv") || machine == "armhf") return "arm";
  return std::string(machine);
}

/// "v8" and "8" are 8; nothing is the architecture's base.
unsigned variant_number(std::string_view architecture, std::string_view variant) {
  if (variant.starts_with('v')) variant.remove_prefix(1);
  const std::string_view major = variant.substr(0, variant.find('.'));
  if (const auto number = parse_number<unsigned>(major)) return *number;
  if (architecture == "arm64") return 8;
  if (architecture == "arm") return 7;
  return 1;
}

bool is_attestation(const spec::Descriptor& entry) {
  const auto it = entry.annotations.find("vnd.docker.reference.type");
  return (it != entry.annotations.end() && it->second == "attestation-manifest") || !entry.artifact_type.empty();
}

std::string platform_text(const spec::Platform& platform) {
  std::string out = printable(platform.os, 40) + "/" + printable(platform.architecture, 40);
  if (!platform.variant.empty()) out += "/" + printable(platform.variant, 40);
  return out;
}

}  // namespace

std::string TargetPlatform::text() const {
  return os + "/" + architecture + (variant.empty() ? std::string() : "/" + variant);
}

Result<TargetPlatform> target_platform(std::string_view text) {
  if (text.empty()) {
    utsname name{};
    if (::uname(&name) != 0) return fail_errno(errno, "uname");
    return TargetPlatform{"linux", go_architecture(name.machine), {}};
  }
  const auto parts = split(text, '/');
  if (parts.size() < 2 || parts.size() > 3 || parts[0].empty() || parts[1].empty()) {
    return fail(Code::kInvalid,
                "platform \"" + printable(text) + "\" is not os/architecture or os/architecture/variant");
  }
  return TargetPlatform{to_lower(parts[0]), go_architecture(to_lower(parts[1])),
                        parts.size() == 3 ? to_lower(parts[2]) : ""};
}

bool runs_on(const TargetPlatform& target, std::string_view os, std::string_view architecture,
             std::string_view variant) {
  if (!os.empty() && to_lower(os) != target.os) return false;
  if (architecture.empty()) return true;
  if (go_architecture(to_lower(architecture)) != target.architecture) return false;
  return variant_number(target.architecture, variant) <= variant_number(target.architecture, target.variant);
}

Result<spec::Descriptor> choose_manifest(const spec::Index& index, const TargetPlatform& target) {
  const spec::Descriptor* best = nullptr;
  unsigned best_variant = 0;
  std::set<std::string> offered;
  for (const spec::Descriptor& entry : index.manifests) {
    if (is_attestation(entry)) continue;
    if (!spec::is_manifest_type(entry.media_type) && !spec::is_index_type(entry.media_type) &&
        !entry.media_type.empty())
      continue;
    if (!entry.platform) {
      // Legal for an index of one image; the configuration says later whether it runs here.
      if (index.manifests.size() == 1) best = &entry;
      continue;
    }
    const spec::Platform& platform = *entry.platform;
    if (platform.architecture == "unknown") continue;
    if (offered.size() < 12) offered.insert(platform_text(platform));
    if (!runs_on(target, platform.os, platform.architecture, platform.variant)) continue;
    const unsigned variant = variant_number(target.architecture, platform.variant);
    if (best == nullptr || variant > best_variant) {
      best = &entry;
      best_variant = variant;
    }
  }
  if (best != nullptr) return *best;
  const std::string list = join(std::vector<std::string>(offered.begin(), offered.end()), ", ");
  return fail(Code::kNotFound,
              "no image for " + target.text() + " in the index" +
                  (list.empty() ? std::string(", which has none for any platform") : "; it has " + list));
}

}  // namespace berth::image
