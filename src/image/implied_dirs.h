#pragma once
#include <string>
#include <vector>

#include "base/result.h"

namespace berth::image {

/// Gives the directories `implied` of layer tree `tree`, about which its archive says nothing, the owner, mode and time
/// that the lower layers have: overlayfs shows the topmost directory's, so that "tmp/x" alone would turn /tmp into
/// root's 0755. Trees are shared between images, so one that was settled over other layers stays as it is. `lower`: the
/// trees below, nearest first. `change` false: check only. kUnsupported: a lower layer has a symlink there, which the
/// directory would hide with all that it leads to.
Result<> adopt_lower_attributes(const std::string& tree, const std::vector<std::string>& implied,
                                const std::vector<std::string>& lower, bool change);

}  // namespace berth::image
