#pragma once
#include <grpcpp/support/server_callback.h>

#include <algorithm>
#include <string>
#include <utility>

#include "rpc/unary.h"

namespace berth::rpc {

/// What one Stream* RPC adds to its List* twin.
template <class ListRequest, class ListResponse, class StreamResponse, class Item>
struct ListForm {
  Result<ListResponse> (cri::Service::*body)(const cri::Call&, const ListRequest&);
  google::protobuf::RepeatedPtrField<Item>* (ListResponse::*items)();
  google::protobuf::RepeatedPtrField<Item>* (StreamResponse::*part)();
};

/// Answers a Stream* RPC: the list as it is at one moment, every item once, in messages of about a quarter of a
/// mebibyte, then the end. The list is made like its List* twin, on the reads lane; a slow reader holds only its own
/// copy. Deletes itself.
template <class ListRequest, class ListResponse, class StreamResponse, class Item>
class ListStream final : public grpc::ServerWriteReactor<StreamResponse> {
 public:
  using Form = ListForm<ListRequest, ListResponse, StreamResponse, Item>;

  ListStream(const char* rpc, cri::Service& service, Form form, ListRequest request)
      : rpc_(rpc), service_(service), form_(form), request_(std::move(request)) {}

  void run(Lanes& lanes, grpc::CallbackServerContext& context) {
    call_ = {.stop = stop_.get_token(), .deadline = steady_deadline(context)};
    if (!lanes.reads.submit([this] { work(); })) {
      this->Finish({grpc::StatusCode::RESOURCE_EXHAUSTED, "too many calls are waiting: try again"});
    }
  }

 private:
  // Far below what a client takes at most (4 MiB), large enough that the messages themselves cost nothing.
  static constexpr std::size_t kMessageBytes = 256U << 10;

  void work() {
    auto list = run_body(rpc_, Lane::kReads, service_, form_.body, call_, request_);
    if (!list) return this->Finish(to_status(list.error()));
    list_ = std::move(*list);
    // Items are taken from the end, which moves none of the others.
    auto& items = *(list_.*form_.items)();
    std::reverse(items.pointer_begin(), items.pointer_end());
    write_next();
  }

  /// One writer at a time: the worker first, then each OnWriteDone.
  void write_next() {
    auto& left = *(list_.*form_.items)();
    if (left.empty() || stop_.stop_requested()) {
      return this->Finish(left.empty() ? grpc::Status::OK : grpc::Status::CANCELLED);
    }
    message_.Clear();
    auto& part = *(message_.*form_.part)();
    for (std::size_t bytes = 0; !left.empty() && bytes < kMessageBytes;) {
      Item* const item = left.ReleaseLast();
      bytes += item->ByteSizeLong();
      part.AddAllocated(item);
    }
    this->StartWrite(&message_);
  }

  void OnWriteDone(bool ok) override {
    if (!ok) return this->Finish(grpc::Status::CANCELLED);
    write_next();
  }
  void OnCancel() override { stop_.request_stop(); }
  void OnDone() override { delete this; }

  const char* rpc_;
  cri::Service& service_;
  Form form_;
  ListRequest request_;
  ListResponse list_;
  StreamResponse message_;
  std::stop_source stop_;
  cri::Call call_;
};

/// Starts a ListStream and answers with the reactor that gRPC wants.
template <class ListRequest, class ListResponse, class StreamResponse, class Item>
grpc::ServerWriteReactor<StreamResponse>* stream_list(Lanes& lanes, cri::Service& service,
                                                      grpc::CallbackServerContext& context, const char* rpc,
                                                      ListForm<ListRequest, ListResponse, StreamResponse, Item> form,
                                                      ListRequest request) {
  auto* reactor =
      new ListStream<ListRequest, ListResponse, StreamResponse, Item>(rpc, service, form, std::move(request));
  reactor->run(lanes, context);
  return reactor;
}

}  // namespace berth::rpc
