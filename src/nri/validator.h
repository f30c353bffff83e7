#pragma once
#include "base/result.h"
#include "nri/options.h"
#include "nri/owners.h"

namespace berth::nri {

/// Errors: kDenied what was refused, with the plugin; kUnavailable a plugin that must be there is not; kInvalid an
/// annotation that says neither true nor false. Pure. Source: docs/validation-plugins.md of containerd/nri.
[[nodiscard]] Result<> validate_adjustment(const ValidatorOptions& options,
                                           const api::ValidateContainerAdjustmentRequest& request,
                                           const Owners& owners);

}  // namespace berth::nri
