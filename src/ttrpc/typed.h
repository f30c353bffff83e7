#pragma once
#include <concepts>
#include <string>
#include <string_view>
#include <utility>

#include "base/result.h"
#include "ttrpc/client.h"
#include "ttrpc/server.h"

// Calls and handlers in terms of protobuf messages, without a protobuf header: the caller's message types bring it.
namespace berth::ttrpc {

template <class M>
concept Message =
    std::default_initializable<M> && requires(const M& from, M& to, std::string* out, const void* in, int size) {
      { from.SerializeToString(out) } -> std::convertible_to<bool>;
      { to.ParseFromArray(in, size) } -> std::convertible_to<bool>;
    };

/// Errors: kInvalid the message lacks a required field or is over 2 GiB.
template <Message M>
[[nodiscard]] Result<std::string> to_bytes(const M& message) {
  std::string bytes;
  if (!message.SerializeToString(&bytes)) return fail(Code::kInvalid, "message cannot be serialized");
  return bytes;
}

/// Errors: `code` the bytes are no such message.
template <Message M>
[[nodiscard]] Result<M> from_bytes(std::string_view bytes, Code code) {
  M message;
  // Frames are bounded by kMaxData, so the length fits.
  if (!message.ParseFromArray(bytes.data(), static_cast<int>(bytes.size()))) return fail(code, "malformed message");
  return message;
}

/// Client::call with messages. Further errors: kCorrupt the answer is no Reply.
template <Message Reply, Message Request>
[[nodiscard]] Result<Reply> call(Client& client, std::string_view service, std::string_view method,
                                 const Request& request, const CallOptions& options = {}) {
  BERTH_ASSIGN(const std::string bytes, to_bytes(request), "ttrpc request");
  auto answer = client.call(service, method, bytes, options);
  if (!answer) return fail(std::move(answer).error());
  return from_bytes<Reply>(*answer, Code::kCorrupt);
}

/// Client::call_async with messages; `callback` takes a Result<Reply>.
template <Message Reply, Message Request, class Callback>
CallId call_async(Client& client, std::string_view service, std::string_view method, const Request& request,
                  Callback callback, const CallOptions& options = {}) {
  // A request that cannot be serialized is sent as far as it goes: the peer says what is missing, through the callback.
  std::string bytes;
  request.SerializeToString(&bytes);
  return client.call_async(
      service, method, bytes,
      [callback = std::move(callback)](Result<std::string> answer) mutable {
        if (!answer) return callback(Result<Reply>(fail(std::move(answer).error())));
        callback(from_bytes<Reply>(*answer, Code::kCorrupt));
      },
      options);
}

/// A Responder for messages of type Reply.
template <Message Reply>
class TypedResponder final {
 public:
  explicit TypedResponder(Responder raw) : raw_(std::move(raw)) {}
  void ok(const Reply& reply) { raw_.respond(to_bytes(reply)); }
  void error(const Error& error) { raw_.error(error); }
  void respond(const Result<Reply>& result) {
    if (result) return ok(*result);
    error(result.error());
  }
  [[nodiscard]] bool wanted() const { return raw_.wanted(); }
  [[nodiscard]] std::optional<SteadyTime> deadline() const { return raw_.deadline(); }

 private:
  Responder raw_;
};

/// Registers `handler(const Request&, TypedResponder<Reply>)`, which may keep the responder. A request that does not
/// parse is answered with kInvalid.
template <Message Request, Message Reply, class Handler>
void handle_later(Server& server, std::string service, std::string method, Handler handler) {
  server.handle(std::move(service), std::move(method),
                [handler = std::move(handler)](std::string_view payload, Responder responder) mutable {
                  const auto request = from_bytes<Request>(payload, Code::kInvalid);
                  if (!request) return responder.error(request.error());
                  handler(*request, TypedResponder<Reply>(std::move(responder)));
                });
}

/// Registers `handler(const Request&) -> Result<Reply>`, which answers at once.
template <Message Request, Message Reply, class Handler>
void handle_now(Server& server, std::string service, std::string method, Handler handler) {
  handle_later<Request, Reply>(
      server, std::move(service), std::move(method),
      [handler = std::move(handler)](const Request& request, TypedResponder<Reply> responder) mutable {
        responder.respond(handler(request));
      });
}

}  // namespace berth::ttrpc
