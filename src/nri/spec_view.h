#pragma once
#include "nri/v1alpha1/api.pb.h"
#include "spec/runtime.h"

namespace berth::nri {

namespace api = ::nri::pkg::api::v1alpha1;

/// Fills `container` with what its specification says: arguments, environment, mounts, hooks, limits, namespaces and
/// the rest. Pure.
void describe(const spec::Spec& spec, api::Container& container);

/// OCI limits as NRI has them. Pure.
[[nodiscard]] api::LinuxResources describe(const spec::Resources& resources);

}  // namespace berth::nri
