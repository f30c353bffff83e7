#include "image/sink_thread.h"

#include <algorithm>
#include <exception>
#include <system_error>

namespace berth::image {

Result<std::unique_ptr<SinkThread>> SinkThread::start(ByteSink sink) {
  std::unique_ptr<SinkThread> out(new SinkThread(std::move(sink)));
  try {
    out->thread_ = std::jthread([raw = out.get()] { raw->run(); });
  } catch (const std::system_error& error) {
    return fail(Code::kExhausted, std::string("start a thread: ") + error.what());
  }
  return out;
}

SinkThread::~SinkThread() {
  {
    const MutexLock lock(mutex_);
    over_ = true;
  }
  changed_.notify_all();
}

Result<> SinkThread::push(Bytes bytes) {
  while (!bytes.empty()) {
    std::size_t slot = 0;
    {
      MutexLock lock(mutex_);
      changed_.wait(lock, [this]() BERTH_REQUIRES(mutex_) { return failure_ || filled_ - emptied_ < kPieces; });
      if (failure_) return fail(*failure_);
      slot = filled_ % kPieces;
    }
    const Bytes piece = bytes.first(std::min(bytes.size(), kPieceBytes));
    pieces_[slot].assign(piece.begin(), piece.end());
    bytes = bytes.subspan(piece.size());
    {
      const MutexLock lock(mutex_);
      ++filled_;
    }
    changed_.notify_all();
  }
  return {};
}

Result<> SinkThread::finish() {
  MutexLock lock(mutex_);
  changed_.wait(lock, [this]() BERTH_REQUIRES(mutex_) { return failure_ || filled_ == emptied_; });
  if (failure_) return fail(*failure_);
  return {};
}

void SinkThread::run() {
  for (;;) {
    std::size_t slot = 0;
    {
      MutexLock lock(mutex_);
      changed_.wait(lock, [this]() BERTH_REQUIRES(mutex_) { return over_ || filled_ != emptied_; });
      if (over_) return;
      slot = emptied_ % kPieces;
    }
    Result<> done;
    try {
      done = sink_(pieces_[slot]);
    } catch (const std::exception& error) {
      done = fail(Code::kExhausted, error.what());
    }
    {
      const MutexLock lock(mutex_);
      ++emptied_;
      if (!done) failure_ = std::move(done).error();
      if (failure_) emptied_ = filled_;
    }
    changed_.notify_all();
    if (!done) return;
  }
}

}  // namespace berth::image
