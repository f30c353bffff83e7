#pragma once
#include <array>
#include <condition_variable>
#include <cstddef>
#include <memory>
#include <optional>
#include <thread>
#include <vector>

#include "base/thread_annotations.h"
#include "image/decompress.h"

namespace berth::image {

/// Runs a sink on a thread of its own, so that whoever makes the bytes goes on meanwhile; at most 1 MiB behind. For one
/// producer. The sink is called in order, never two calls at a time, and not again after it has failed.
class SinkThread final {
 public:
  /// kExhausted: no thread to be had.
  static Result<std::unique_ptr<SinkThread>> start(ByteSink sink);
  SinkThread(const SinkThread&) = delete;
  SinkThread& operator=(const SinkThread&) = delete;
  SinkThread(SinkThread&&) = delete;
  SinkThread& operator=(SinkThread&&) = delete;
  /// Waits for the call under way; what is queued behind it is dropped.
  ~SinkThread();

  /// Copies `bytes`; waits while the queue is full. Gives back what the sink failed with, then or earlier.
  Result<> push(Bytes bytes);
  /// Waits until the sink has had everything.
  Result<> finish();

 private:
  static constexpr std::size_t kPieces = 4;
  static constexpr std::size_t kPieceBytes = 256U << 10;

  explicit SinkThread(ByteSink sink) : sink_(std::move(sink)) {}
  void run();

  ByteSink sink_;
  Mutex mutex_;
  std::condition_variable_any changed_;
  std::array<std::vector<std::byte>, kPieces> pieces_;  ///< a slot belongs to whom the two counters say
  std::size_t filled_ BERTH_GUARDED_BY(mutex_) = 0;     ///< pieces ever handed over
  std::size_t emptied_ BERTH_GUARDED_BY(mutex_) = 0;    ///< pieces ever consumed
  bool over_ BERTH_GUARDED_BY(mutex_) = false;
  std::optional<Error> failure_ BERTH_GUARDED_BY(mutex_);
  std::jthread thread_;  // last: it uses the members above
};

}  // namespace berth::image
