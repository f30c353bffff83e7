#pragma once
#include <map>
#include <string>
#include <vector>

#include "berth/v1/operator.pb.h"

namespace berth::cli {

/// Shows a pull on stderr: one bar a layer, redrawn in place, when that is a terminal; else one plain line a layer and
/// change of state, which logs and scripts can read.
class PullDisplay {
 public:
  PullDisplay(bool terminal, bool quiet) : terminal_(terminal), quiet_(quiet) {}
  void show(const ::berth::v1::PullImageProgress& progress);

 private:
  void redraw();

  bool terminal_;
  bool quiet_;
  std::vector<std::string> order_;
  std::map<std::string, ::berth::v1::PullImageProgress> layers_;
  std::size_t drawn_lines_ = 0;
};

}  // namespace berth::cli
