#pragma once
#include <string>
#include <vector>

#include "base/result.h"

namespace berth::test {

struct Failpoint {
  std::string name;
  bool in_shim = false;
  bool needs_criu = false;  ///< on the way of a checkpoint or restore, which not every kernel can
};

/// Every failpoint of src/, as the sources have it (BERTH_SOURCE_DIR), sorted by name: none can be left out of a test
/// that goes through these. Errors: two of the same name, or none at all.
Result<std::vector<Failpoint>> all_failpoints();

}  // namespace berth::test
