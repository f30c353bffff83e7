#pragma once
#include <cstdint>
#include <optional>
#include <string>
#include <string_view>
#include <vector>

#include "base/result.h"
#include "spec/runtime.h"

/// Files of the Container Device Interface: what a vendor wants done to a container that gets one of its devices.
/// Source: CDI specification 1.1.0 (versions 0.3.0 to 1.1.0), SPEC.md and schema of
/// cncf-tags/container-device-interface.
namespace berth::cri::cdi {

struct DeviceNode {
  std::string path;       ///< in the container, absolute
  std::string host_path;  ///< empty: the same as `path`
  std::string type;       ///< "b", "c", "p"; empty: what the host has there
  std::int64_t major = 0;
  std::int64_t minor = 0;
  std::optional<std::uint32_t> file_mode{};
  std::string access = "rwm";  ///< of "rwm"; empty: none
  std::optional<std::uint32_t> uid{};
  std::optional<std::uint32_t> gid{};
};

enum class HookName : std::uint8_t {
  kPrestart,
  kCreateRuntime,
  kCreateContainer,
  kStartContainer,
  kPoststart,
  kPoststop
};
struct HookEdit {
  HookName name = HookName::kPrestart;
  spec::Hook hook;
};

/// containerEdits.
struct Edits {
  std::vector<std::string> env;  ///< "NAME=value"
  std::vector<DeviceNode> device_nodes;
  std::vector<spec::Mount> mounts;
  std::vector<HookEdit> hooks;
  std::vector<std::uint32_t> additional_gids;
  std::optional<spec::IntelRdt> intel_rdt;
};

struct Device {
  std::string name;
  Edits edits;
};

struct File {
  std::string kind;             ///< "vendor.com/class"
  Edits edits;                  ///< for each container that gets one of the devices
  std::vector<Device> devices;  ///< names are unique; at least one
};

enum class Format : std::uint8_t { kJson, kYaml };

/// What a file may cost before it is refused.
inline constexpr std::size_t kMaxFileBytes = 4U << 20;

/// Reads and checks one file. Unknown members are refused, as the specification has it, and so are members that are
/// younger than the version that the file names. Errors: kInvalid, naming the member ("devices[0].name: ..."), of YAML
/// the line; kUnsupported netDevices: in a pod, the network is the pod's; kExhausted a file too large or deep.
[[nodiscard]] Result<File> parse_file(std::string_view text, Format format);

/// "vendor.com/class=name": a device by its full name. Errors: kInvalid, saying what of it is wrong.
struct Name {
  std::string kind;
  std::string device;
};
[[nodiscard]] Result<Name> parse_name(std::string_view name);

}  // namespace berth::cri::cdi
