#pragma once
#include <string>
#include <string_view>

#include "base/result.h"
#include "nri/apply.h"

namespace berth::nri {

/// "NRI plugin 10-net: mount /data": who is to blame, and for what.
[[nodiscard]] std::string plugin_field(const Owners& owners, const std::string& container, api::Field field,
                                       std::string_view key = {});

struct LinuxAdjustment {
  const api::LinuxContainerAdjustment& asked;
  const Owners& owners;
  const std::string& container;
  const Machine& machine;
};

/// The part of apply() below `linux`, and what of `process` is Linux's.
[[nodiscard]] Result<> apply_linux(const LinuxAdjustment& adjust, spec::Spec& spec);

}  // namespace berth::nri
