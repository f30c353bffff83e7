#include "rpc/events_call.h"

#include <deque>
#include <functional>
#include <optional>
#include <utility>

#include "base/thread_annotations.h"

namespace berth::rpc {
namespace {

using Message = cri::pb::ContainerEventResponse;

// Events that a client has not taken yet, beside the state that it begins with.
constexpr std::size_t kMaxWaiting = 8192;

class EventsCall final : public grpc::ServerWriteReactor<Message> {
 public:
  explicit EventsCall(cri::Service& service) : service_(service) {}

  void run(std::stop_token ending) {
    // Under the registry's lock: only queued here, and written when gRPC asks for it.
    follower_ = service_.follow_events([this](const cri::Event& event) { take(event); });
    {
      const MutexLock lock(mutex_);
      followed_ = true;
      write_next();
    }
    // May call at once.
    ending_.emplace(std::move(ending), [this] { stop({grpc::StatusCode::UNAVAILABLE, "the daemon ends"}); });
  }

 private:
  void stop(grpc::Status status) {
    const MutexLock lock(mutex_);
    if (!end_) end_ = std::move(status);
    queue_.clear();
    write_next();
  }

  void take(const cri::Event& event) {
    const MutexLock lock(mutex_);
    if (end_) return;
    if (event.number != 0 && queue_.size() >= kMaxWaiting) {
      end_.emplace(grpc::StatusCode::RESOURCE_EXHAUSTED, "the events are read too slowly: connect anew");
      queue_.clear();
    } else {
      queue_.push_back(event);
    }
    write_next();
  }

  void write_next() BERTH_REQUIRES(mutex_) {
    if (!followed_ || writing_ || finished_) return;
    if (end_) {
      finished_ = true;
      Finish(*end_);
    } else if (!queue_.empty()) {
      current_ = cri::event_message(queue_.front());
      queue_.pop_front();
      writing_ = true;
      StartWrite(&current_);
    }
  }

  void OnWriteDone(bool ok) override {
    const MutexLock lock(mutex_);
    writing_ = false;
    if (!ok && !end_) end_ = grpc::Status::CANCELLED;
    write_next();
  }
  void OnCancel() override { stop(grpc::Status::CANCELLED); }
  void OnDone() override {
    service_.unfollow_events(follower_);
    ending_.reset();  // waits for a call of it that is under way
    delete this;
  }

  cri::Service& service_;
  std::uint64_t follower_ = 0;
  std::optional<std::stop_callback<std::function<void()>>> ending_;
  Mutex mutex_;
  std::deque<cri::Event> queue_ BERTH_GUARDED_BY(mutex_);
  std::optional<grpc::Status> end_ BERTH_GUARDED_BY(mutex_);
  Message current_ BERTH_GUARDED_BY(mutex_);
  bool followed_ BERTH_GUARDED_BY(mutex_) = false;
  bool writing_ BERTH_GUARDED_BY(mutex_) = false;
  bool finished_ BERTH_GUARDED_BY(mutex_) = false;
};

}  // namespace

grpc::ServerWriteReactor<Message>* follow_events(cri::Service& service, std::stop_token ending) {
  auto* call = new EventsCall(service);
  call->run(std::move(ending));
  return call;
}

}  // namespace berth::rpc
