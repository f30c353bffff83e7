#include "shim/publisher.h"

#include <sys/epoll.h>
#include <sys/uio.h>

#include <array>
#include <chrono>
#include <utility>

#include "base/clock.h"
#include "base/log.h"
#include "containerd/services/ttrpc/events/v1/events.pb.h"
#include "os/socket.h"
#include "ttrpc/wire.h"

namespace berth::shim {
namespace {

constexpr const char* kService = "containerd.services.events.ttrpc.v1.Events";
constexpr std::chrono::milliseconds kPatience{1000};
constexpr std::int64_t kNsPerSecond = 1'000'000'000;

}  // namespace

Publisher::Publisher(event::Loop& loop, std::string address, std::string name_space)
    : loop_(loop), address_(std::move(address)), name_space_(std::move(name_space)) {
  constexpr std::string_view kScheme = "unix://";
  if (address_.starts_with(kScheme)) address_.erase(0, kScheme.size());
}

Result<> Publisher::connect() {
  BERTH_ASSIGN(socket_, os::unix_connect(address_, kPatience), "containerd's events");
  BERTH_TRY(os::limit_send_time(socket_.get(), kPatience), "containerd's events");
  BERTH_ASSIGN(watch_, loop_.add_fd(socket_.get(), EPOLLIN | EPOLLRDHUP, [this](std::uint32_t) { drop_answers(); }),
               "containerd's events");
  next_stream_ = 1;
  return {};
}

void Publisher::disconnect() {
  loop_.remove(watch_);
  watch_ = {};
  socket_.reset();
}

void Publisher::drop_answers() {
  std::array<char, 512> buffer{};
  const auto count = os::receive_some(socket_.get(), buffer);
  if (!count || !count->has_value() || **count == 0) disconnect();
}

Result<> Publisher::deliver(const std::string& frame) {
  if (!socket_.valid()) BERTH_TRY(connect(), "connect");
  std::string_view rest = frame;
  while (!rest.empty()) {
    const std::array<iovec, 1> part{iovec{const_cast<char*>(rest.data()), rest.size()}};
    BERTH_ASSIGN(const std::optional<std::size_t> sent, os::send_some(socket_.get(), part), "send");
    if (!sent) return fail(Code::kTimeout, "containerd takes no events");
    rest.remove_prefix(*sent);
  }
  return {};
}

void Publisher::send(std::string_view topic, const std::string& type, const std::string& bytes) {
  ::containerd::services::events::ttrpc::v1::ForwardRequest request;
  auto* envelope = request.mutable_envelope();
  const std::int64_t now = wall_now_ns();
  envelope->mutable_timestamp()->set_seconds(now / kNsPerSecond);
  envelope->mutable_timestamp()->set_nanos(static_cast<std::int32_t>(now % kNsPerSecond));
  envelope->set_namespace_(name_space_);
  envelope->set_topic(std::string(topic));
  envelope->mutable_event()->set_type_url(type);
  envelope->mutable_event()->set_value(bytes);
  const std::string payload = request.SerializeAsString();
  // A connection that broke while it was idle shows at the first try.
  for (int attempt = 0; attempt < 2; ++attempt) {
    if (!socket_.valid()) next_stream_ = 1;
    ttrpc::RequestView view;
    view.service = kService;
    view.method = "Forward";
    view.payload = payload;
    // A new connection counts from 1 again; odd numbers are the client's.
    auto frame = ttrpc::encode_request_frame(next_stream_, view);
    auto done = frame ? deliver(*frame) : Result<>(fail(frame.error()));
    if (done) {
      next_stream_ += 2;
      return;
    }
    const bool known = socket_.valid();
    disconnect();
    if (known && done.error().code() == Code::kUnavailable) continue;
    log_warn("an event is lost", {{"topic", topic}, {"err", done.error().text()}});
    return;
  }
}

}  // namespace berth::shim
