#pragma once
#include <functional>
#include <string>
#include <string_view>

#include "base/result.h"
#include "nri/apply.h"

namespace berth::nri {

struct LinuxAdjustment {
  const api::LinuxContainerAdjustment& asked;
  const Owners& owners;
  const std::string& container;
  const Machine& machine;
};

/// What an error calls a field.
using FieldName = std::function<std::string(api::Field field, std::string_view key)>;
/// apply() of limits; errors call their fields as `name` does.
[[nodiscard]] Result<> apply_resources(const api::LinuxResources& asked, const Machine& machine, const FieldName& name,
                                       spec::Resources& into);

/// The part of apply() below `linux`, and what of `process` is Linux's.
[[nodiscard]] Result<> apply_linux(const LinuxAdjustment& adjust, spec::Spec& spec);

}  // namespace berth::nri
