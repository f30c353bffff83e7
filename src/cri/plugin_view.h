#pragma once
#include "cri/records.h"
#include "nri/v1alpha1/api.pb.h"
#include "spec/runtime.h"

/// Records as NRI plugins see them, and their limits back. Pure.
namespace berth::cri {

namespace nri_api = ::nri::pkg::api::v1alpha1;

[[nodiscard]] nri_api::PodSandbox plugin_view(const SandboxRecord& record);
/// `spec`: the container's specification; nullptr: what the record alone knows.
[[nodiscard]] nri_api::Container plugin_view(const ContainerRecord& record, const spec::Spec* spec);
/// What of `limits` is set.
[[nodiscard]] nri_api::LinuxResources plugin_view(const pb::LinuxContainerResources& limits);
/// Takes over what the CRI has a field for.
void merge_limits(const nri_api::LinuxResources& from, pb::LinuxContainerResources& into);

}  // namespace berth::cri
