#pragma once
#include <cstddef>
#include <functional>
#include <string>
#include <vector>

#include "base/result.h"
#include "cri/cdi_file.h"
#include "cri/records.h"

namespace berth::cri::cdi {

/// Of one container.
inline constexpr std::size_t kMaxRequested = 4096;

/// Edits that a request has chosen, and what errors say of them: the file that they are from and, where somebody else
/// than the request asks, who.
struct Chosen {
  std::string from;
  Edits edits;
};

/// What errors call a device, by its full name.
using DeviceWords = std::function<std::string(const std::string& name)>;

/// The devices of a request by their full names, each once: those of CDI_devices, then those of the annotations
/// "cdi.k8s.io/...", which hold lists with commas. Errors: kInvalid, naming the field.
[[nodiscard]] Result<std::vector<std::string>> requested_devices(const pb::ContainerConfig& config);

/// Looks the devices up in the *.json and *.yaml files of `dirs`, of which a later one goes before an earlier one.
/// Answers, in the order of the names, the edits of each file that is used for the first time and those of the device.
/// A file with faults counts as absent, and is named where a device is not found. Nothing is kept: files may change
/// between two calls. Blocks on disk. `before`: devices of an earlier call for the same container, whose files are used
/// already. `words`: none for those of a request. Errors: kNotFound no such device; kPrecondition a device that two
/// files of one folder have; kUnsupported no `dirs`; kExhausted too many files.
[[nodiscard]] Result<std::vector<Chosen>> find_devices(const std::vector<std::string>& dirs,
                                                       const std::vector<std::string>& names,
                                                       const std::vector<std::string>& before = {},
                                                       const DeviceWords& words = {});

/// Makes the edits in `spec`: variables, device nodes and mounts take the place of those of the same name or path;
/// hooks and groups are added; of intelRdt the last counts. Bind mounts see the host as those of a request do
/// (`shared_mounts` as in HostFacts). Looks at device nodes of the host. Errors: kNotFound,
/// kInvalid a device node that is not there or is none, naming file and path.
[[nodiscard]] Result<> apply_edits(const std::vector<Chosen>& chosen, bool shared_mounts, spec::Spec& spec);

}  // namespace berth::cri::cdi
