#include "rpc/list_calls.h"

#include <grpcpp/support/slice.h>

#include <chrono>
#include <exception>
#include <memory>
#include <optional>
#include <stop_token>
#include <string>
#include <utility>
#include <vector>

#include "base/proto_wire.h"
#include "base/thread_annotations.h"
#include "rpc/unary.h"

namespace berth::rpc {
namespace {

using Clock = std::chrono::steady_clock;

// Far below what a client takes at most (4 MiB), large enough that the messages themselves cost nothing.
constexpr std::size_t kMessageBytes = 256U << 10;

// A list is kept in pieces of this size: one string that grows would be copied again and again, and a large block of
// memory comes from the kernel anew for each call.
constexpr std::size_t kPieceBytes = 64U << 10;

/// Hands the bytes over to gRPC without a copy.
grpc::Slice slice_of(std::string bytes) {
  auto owned = std::make_unique<std::string>(std::move(bytes));
  auto* const data = owned->data();
  const auto size = owned->size();
  return {data, size, [](void* string) { delete static_cast<std::string*>(string); }, owned.release()};
}

Error unexpected(const std::exception& e) {
  return {Code::kInternal, std::string("unexpected: ") + e.what()};
}

class ListCall final : public grpc::ServerUnaryReactor {
 public:
  ListCall(ListForm form, grpc::ByteBuffer& response) : form_(std::move(form)), response_(response) {}

  void run(Lanes& lanes) {
    if (!lanes.reads.submit([this] { work(); })) {
      Finish({grpc::StatusCode::RESOURCE_EXHAUSTED, "too many calls are waiting: try again"});
    }
  }

 private:
  void work() {
    const auto begun = Clock::now();
    std::optional<Error> error;
    try {
      error = list();
    } catch (const std::exception& e) {
      error = unexpected(e);
    }
    log_call(form_.rpc, Lane::kReads, Clock::now() - begun, error ? &*error : nullptr);
    Finish(error ? to_status(*error) : grpc::Status::OK);
  }

  std::optional<Error> list() {
    if (stop_.stop_requested()) return Error(Code::kCancelled, "the client went away before the call began");
    const auto next = form_.source();
    std::vector<grpc::Slice> pieces;
    std::string piece;
    std::string item;
    for (; next(item); item.clear()) {
      if (piece.capacity() < kPieceBytes) piece.reserve(kPieceBytes + kPieceBytes / 8);
      proto::put_bytes(piece, form_.field, item);
      if (piece.size() >= kPieceBytes) pieces.push_back(slice_of(std::exchange(piece, {})));
    }
    pieces.push_back(slice_of(std::move(piece)));
    response_ = grpc::ByteBuffer(pieces.data(), pieces.size());
    return std::nullopt;
  }

  void OnCancel() override { stop_.request_stop(); }
  void OnDone() override { delete this; }

  ListForm form_;
  grpc::ByteBuffer& response_;
  std::stop_source stop_;
};

class ListStream final : public grpc::ServerWriteReactor<grpc::ByteBuffer> {
 public:
  explicit ListStream(ListForm form) : form_(std::move(form)) {}

  void run(Lanes& lanes) {
    if (!lanes.reads.submit([this] { work(); })) {
      Finish({grpc::StatusCode::RESOURCE_EXHAUSTED, "too many calls are waiting: try again"});
    }
  }

 private:
  void work() {
    begun_ = Clock::now();
    try {
      next_ = form_.source();
    } catch (const std::exception& e) {
      return end(unexpected(e));
    }
    prepare();
    pump();
  }

  /// Makes the next message; none: there are no more items.
  void prepare() {
    std::string message;
    try {
      message.reserve(kMessageBytes + kMessageBytes / 16);
      bool more = true;
      while (more && message.size() < kMessageBytes) {
        item_.clear();
        more = next_(item_);
        if (more) proto::put_bytes(message, form_.field, item_);
      }
    } catch (const std::exception& e) {
      failure_ = unexpected(e);
    }
    prepared_ = std::move(message);
  }

  /// Sends what is prepared and prepares more meanwhile. Run by one thread at a time, while nothing is on its way: a
  /// write that is done sooner than the next message is ready leaves the going on to who prepares it.
  void pump() {
    bool written = true;
    while (written) {
      if (stop_.stop_requested()) return end(Error(Code::kCancelled, "the client went away"));
      if (failure_) return end(failure_);
      if (prepared_.empty()) return end(std::nullopt);
      const auto slice = slice_of(std::exchange(prepared_, {}));
      message_ = grpc::ByteBuffer(&slice, 1);
      {
        const MutexLock lock(mutex_);
        in_flight_ = true;
        preparing_ = true;
      }
      StartWrite(&message_);
      prepare();
      const MutexLock lock(mutex_);
      preparing_ = false;
      written = !in_flight_;
    }
  }

  void end(const std::optional<Error>& error) {
    log_call(form_.rpc, Lane::kReads, Clock::now() - begun_, error ? &*error : nullptr);
    Finish(error ? to_status(*error) : grpc::Status::OK);
  }

  void OnWriteDone(bool ok) override {
    if (!ok) stop_.request_stop();
    {
      const MutexLock lock(mutex_);
      in_flight_ = false;
      if (preparing_) return;
    }
    pump();
  }
  void OnCancel() override { stop_.request_stop(); }
  void OnDone() override { delete this; }

  ListForm form_;
  cri::Items next_;
  std::string item_;
  std::string prepared_;
  std::optional<Error> failure_;
  grpc::ByteBuffer message_;  // on its way
  Mutex mutex_;
  bool in_flight_ BERTH_GUARDED_BY(mutex_) = false;
  bool preparing_ BERTH_GUARDED_BY(mutex_) = false;
  Clock::time_point begun_;
  std::stop_source stop_;
};

class RefusedStream final : public grpc::ServerWriteReactor<grpc::ByteBuffer> {
 public:
  RefusedStream() { Finish({grpc::StatusCode::INVALID_ARGUMENT, "the request does not parse"}); }

 private:
  void OnDone() override { delete this; }
};

}  // namespace

grpc::ServerUnaryReactor* start_list(Lanes& lanes, ListForm form, grpc::ByteBuffer& response) {
  auto* call = new ListCall(std::move(form), response);
  call->run(lanes);
  return call;
}

grpc::ServerWriteReactor<grpc::ByteBuffer>* start_stream(Lanes& lanes, ListForm form) {
  auto* call = new ListStream(std::move(form));
  call->run(lanes);
  return call;
}

grpc::ServerUnaryReactor* refuse_list(grpc::CallbackServerContext& context) {
  auto* reactor = context.DefaultReactor();
  reactor->Finish({grpc::StatusCode::INVALID_ARGUMENT, "the request does not parse"});
  return reactor;
}

grpc::ServerWriteReactor<grpc::ByteBuffer>* refuse_stream() {
  return new RefusedStream();
}

}  // namespace berth::rpc
