#pragma once
#include <memory>
#include <string_view>
#include <utility>
#include <vector>

#include "base/unique_fd.h"
#include "shim/sink.h"

namespace berth::shim {

/// One output stream and those who watch it: what is written goes to the stream's own sink and to each watcher's FIFO.
/// A watcher that does not read fast enough to leave room in its FIFO is cut off: its end is closed, and neither the
/// process nor the log waits for it.
class FanOut final : public Sink {
 public:
  explicit FanOut(std::unique_ptr<Sink> own) : own_(std::move(own)) {}

  void write(std::string_view bytes) override;
  void flush() override { own_->flush(); }

  /// Takes the write end of a FIFO, non-blocking.
  void add(UniqueFd watcher) { watchers_.push_back(std::move(watcher)); }
  /// How many there are; those who have gone are let go first.
  [[nodiscard]] std::size_t watchers();
  /// Lets all go: they read what is in their FIFO and then its end.
  void release() { std::vector<UniqueFd>().swap(watchers_); }

 private:
  std::unique_ptr<Sink> own_;
  std::vector<UniqueFd> watchers_;
};

}  // namespace berth::shim
