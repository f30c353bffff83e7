#include "base/rollback.h"

#include "base/log.h"

namespace berth {

void Rollback::add(std::string name, std::function<Result<>()> undo) {
  steps_.push_back({std::move(name), std::move(undo)});
}

std::size_t Rollback::run() {
  std::size_t failed = 0;
  while (!steps_.empty()) {
    Step step = std::move(steps_.back());
    steps_.pop_back();
    if (auto result = step.undo(); !result) {
      ++failed;
      log_warn("undo step failed, going on with the others", {{"step", step.name}, {"err", result.error().text()}});
    }
  }
  return failed;
}

Rollback::~Rollback() {
  run();
}

}  // namespace berth
