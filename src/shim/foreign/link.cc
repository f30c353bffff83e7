#include "shim/foreign/link.h"

#include <sys/epoll.h>
#include <sys/uio.h>

#include <algorithm>
#include <array>
#include <utility>

#include "os/pidfd.h"
#include "os/socket.h"
#include "ttrpc/status.h"
#include "ttrpc/wire.h"

namespace berth::shim::foreign {
namespace {

using std::chrono::milliseconds;

constexpr milliseconds kSendLimit{2'000};
constexpr milliseconds kHungLimit{1'000};
constexpr std::size_t kMaxPending = 8192;
constexpr std::size_t kReadBuffer = 16U << 10;

Result<std::string> result_of(const ttrpc::Frame& frame) {
  if (frame.oversized) return fail(Code::kCorrupt, "the answer is too long");
  const auto response = ttrpc::decode_response(frame.data);
  if (!response) return fail(Error(response.error()).as(Code::kCorrupt));
  if (response->code != 0) return fail(ttrpc::code_of(response->code), std::string(response->message));
  return std::string(response->payload);
}

}  // namespace

Link::Link(event::Loop& loop, UniqueFd socket, std::string name, std::string service, OnEnd on_end)
    : loop_(loop),
      socket_(std::move(socket)),
      name_(std::move(name)),
      service_(std::move(service)),
      on_end_(std::move(on_end)) {}

Link::~Link() {
  loop_.remove(watch_);
}

Result<std::shared_ptr<Link>> Link::start(event::Loop& loop, UniqueFd socket, std::string name, std::string service,
                                          OnEnd on_end) {
  std::shared_ptr<Link> link(new Link(loop, std::move(socket), std::move(name), std::move(service), std::move(on_end)));
  BERTH_TRY(os::limit_send_time(link->socket_.get(), kSendLimit), link->name_);
  BERTH_ASSIGN(link->watch_,
               loop.add_fd(link->socket_.get(), EPOLLIN, [raw = link.get()](std::uint32_t) { raw->read_ready(); }),
               link->name_);
  return link;
}

std::string Link::step(std::string_view method) const {
  return name_ + " " + std::string(method);
}

Result<std::uint32_t> Link::send(std::string_view method, std::string_view payload, Callback callback,
                                 std::chrono::nanoseconds limit) {
  if (ended_) return fail(*ended_);
  if (pending_.size() >= kMaxPending) return fail(Code::kExhausted, "too many calls are unanswered");
  ttrpc::RequestView view;
  view.service = service_;
  view.method = method;
  view.payload = payload;
  view.timeout_nano = limit.count();
  const std::uint32_t id = std::exchange(next_id_, next_id_ + 2);
  BERTH_ASSIGN(const std::string frame, ttrpc::encode_request_frame(id, view), "request");
  std::string_view rest = frame;
  while (!rest.empty()) {
    const std::array<iovec, 1> part{iovec{const_cast<char*>(rest.data()), rest.size()}};
    auto sent = os::send_some(socket_.get(), part);
    if (sent && !*sent) sent = fail(Code::kTimeout, "it takes no requests");
    if (!sent) {
      // Half a frame cannot be taken back.
      end(sent.error());
      return fail(std::move(sent).error());
    }
    rest.remove_prefix(**sent);
  }
  pending_[id].callback = std::move(callback);
  return id;
}

Result<std::string> Link::call(std::string_view method, std::string_view payload, milliseconds limit) {
  if (hung_) limit = std::min(limit, kHungLimit);
  const auto self = shared_from_this();
  const SteadyTime deadline = std::chrono::steady_clock::now() + limit;
  BERTH_ASSIGN(const std::uint32_t id, send(method, payload, nullptr, limit), step(method));
  while (true) {
    const auto found = pending_.find(id);
    if (found == pending_.end()) return fail(Code::kInternal, step(method) + ": the call is lost");
    if (found->second.answer) {
      Result<std::string> answer = std::move(*found->second.answer);
      pending_.erase(found);
      if (!answer) return fail(std::move(answer).error().in(step(method)));
      return answer;
    }
    const auto left = std::chrono::ceil<milliseconds>(deadline - std::chrono::steady_clock::now());
    const auto readable = left.count() > 0 ? os::wait_readable(socket_.get(), left) : Result<bool>(false);
    if (readable && *readable) {
      read_ready();
      continue;
    }
    pending_.erase(id);
    if (!readable) return fail(Error(readable.error()).in(step(method)));
    hung_ = true;
    return fail(Code::kTimeout, step(method) + ": no answer within " + std::to_string(limit.count()) + " ms");
  }
}

void Link::call_later(std::string_view method, std::string_view payload, Callback callback) {
  auto sent = send(method, payload, callback, std::chrono::nanoseconds(0));
  if (sent) return;
  loop_.post(
      [self = shared_from_this(), callback = std::move(callback), error = std::move(sent).error().in(step(method))] {
        if (!self->closed_) callback(fail(error));
      });
}

void Link::read_ready() {
  if (ended_) return;
  // The socket blocks, and a call that waited in the meantime may have read what the loop was woken for.
  const auto readable = os::wait_readable(socket_.get(), milliseconds(0));
  if (readable && !*readable) return;
  std::array<char, kReadBuffer> buffer;
  const auto got = os::receive_some(socket_.get(), buffer);
  if (!got) return end(got.error());
  if (!*got) return;
  if (**got == 0) return end(Error(Code::kUnavailable, "it has closed the connection"));
  std::string_view input(buffer.data(), **got);
  while (!ended_) {
    const auto next = decoder_.next(input);
    if (!next) return end(Error(next.error()).as(Code::kCorrupt));
    if (!*next) return;
    answer(**next);
  }
}

void Link::answer(const ttrpc::Frame& frame) {
  if (frame.header.type != ttrpc::FrameType::kResponse) return;
  hung_ = false;
  const auto found = pending_.find(frame.header.stream_id);
  if (found == pending_.end()) return;  // of a call that was given up, or of none
  if (!found->second.callback) {
    if (!found->second.answer) found->second.answer = result_of(frame);
    return;
  }
  loop_.post([self = shared_from_this(), callback = std::move(found->second.callback), result = result_of(frame)] {
    if (!self->closed_) callback(result);
  });
  pending_.erase(found);
}

void Link::end(const Error& reason) {
  if (ended_) return;
  ended_ = Error(reason).as(reason.code() == Code::kCorrupt ? Code::kCorrupt : Code::kUnavailable);
  loop_.remove(std::exchange(watch_, event::WatchId{}));
  os::shutdown_socket(socket_.get());
  decoder_ = ttrpc::FrameDecoder();
  for (auto& [id, call] : pending_) {
    if (!call.callback && !call.answer) call.answer = fail(*ended_);
    if (!call.callback) continue;
    loop_.post([self = shared_from_this(), callback = std::move(call.callback)] {
      if (!self->closed_) callback(fail(*self->ended_));
    });
  }
  std::erase_if(pending_, [](const auto& call) { return !call.second.answer; });
  loop_.post([self = shared_from_this()] {
    if (!self->closed_ && self->on_end_) self->on_end_(*self->ended_);
  });
}

void Link::close() {
  closed_ = true;
  end(Error(Code::kCancelled, "the connection was closed"));
}

}  // namespace berth::shim::foreign
