#pragma once
#include <grpcpp/support/server_callback.h>

#include <chrono>
#include <exception>
#include <functional>
#include <optional>
#include <stop_token>
#include <string>
#include <utility>

#include "rpc/unary.h"

namespace berth::rpc {

/// Answers a Stream* RPC: the list of what there is at one moment, every item once, in messages of about a quarter of a
/// mebibyte, then the end. Each message is made when the one before it has gone: the client works on one while the next
/// is made, and a slow reader holds the records and one message. Deletes itself.
template <class StreamResponse, class Item>
class ListStream final : public grpc::ServerWriteReactor<StreamResponse> {
 public:
  using Source = std::function<cri::Items<Item>()>;
  using Part = google::protobuf::RepeatedPtrField<Item>* (StreamResponse::*)();

  ListStream(const char* rpc, Source source, Part part) : rpc_(rpc), source_(std::move(source)), part_(part) {}

  void run(Lanes& lanes) {
    if (!lanes.reads.submit([this] { work(); })) {
      this->Finish({grpc::StatusCode::RESOURCE_EXHAUSTED, "too many calls are waiting: try again"});
    }
  }

 private:
  // Far below what a client takes at most (4 MiB), large enough that the messages themselves cost nothing.
  static constexpr std::size_t kMessageBytes = 256U << 10;

  void work() {
    begun_ = std::chrono::steady_clock::now();
    try {
      next_ = source_();
    } catch (const std::exception& e) {
      return end(Error(Code::kInternal, std::string("unexpected: ") + e.what()));
    }
    write_next();
  }

  /// One writer at a time: the worker first, then each OnWriteDone.
  void write_next() {
    if (stop_.stop_requested()) return end(Error(Code::kCancelled, "the client went away"));
    try {
      fill();
    } catch (const std::exception& e) {
      return end(Error(Code::kInternal, std::string("unexpected: ") + e.what()));
    }
    if ((message_.*part_)()->empty()) return end({});
    this->StartWrite(&message_);
  }

  void fill() {
    // Clear() keeps the items' memory for the next ones.
    message_.Clear();
    auto& part = *(message_.*part_)();
    for (std::size_t bytes = 0; bytes < kMessageBytes;) {
      Item& item = *part.Add();
      if (!next_(item)) {
        part.RemoveLast();
        return;
      }
      bytes += item.ByteSizeLong();
    }
  }

  void end(const std::optional<Error>& error) {
    log_call(rpc_, Lane::kReads, std::chrono::steady_clock::now() - begun_, error ? &*error : nullptr);
    this->Finish(error ? to_status(*error) : grpc::Status::OK);
  }

  void OnWriteDone(bool ok) override {
    if (!ok) stop_.request_stop();
    write_next();
  }
  void OnCancel() override { stop_.request_stop(); }
  void OnDone() override { delete this; }

  const char* rpc_;
  Source source_;
  Part part_;
  cri::Items<Item> next_;
  StreamResponse message_;
  std::chrono::steady_clock::time_point begun_;
  std::stop_source stop_;
};

/// Starts a ListStream and answers with the reactor that gRPC wants. `source` is called on the reads lane.
template <class StreamResponse, class Item>
grpc::ServerWriteReactor<StreamResponse>* stream_list(
    Lanes& lanes, const char* rpc, std::function<cri::Items<Item>()> source,
    google::protobuf::RepeatedPtrField<Item>* (StreamResponse::*part)()) {
  auto* reactor = new ListStream<StreamResponse, Item>(rpc, std::move(source), part);
  reactor->run(lanes);
  return reactor;
}

}  // namespace berth::rpc
