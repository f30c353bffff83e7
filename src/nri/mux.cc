#include "nri/mux.h"

#include <sys/epoll.h>

#include <utility>

#include "os/socket.h"

namespace berth::nri {
namespace {

constexpr std::size_t kReadBuffer = 16U << 10;
// Reads of one socket before the others of the loop get their turn.
constexpr int kReadsPerRound = 8;
// With more than this unsent, what would add to it is not read.
constexpr std::size_t kHighWater = 1U << 20;

}  // namespace

Result<std::shared_ptr<Mux>> Mux::start(event::Loop& loop, UniqueFd trunk, Ends& ends, OnEnd on_end) {
  auto mux = std::make_shared<Mux>(loop);
  BERTH_TRY(os::set_nonblocking(trunk.get(), true), "NRI connection");
  mux->trunk_.fd = std::move(trunk);
  mux->on_end_ = std::move(on_end);
  const std::array<std::pair<std::uint32_t, UniqueFd*>, 2> wanted = {
      {{kPluginConnection, &ends.plugin}, {kRuntimeConnection, &ends.runtime}}};
  for (std::size_t i = 0; i < wanted.size(); ++i) {
    auto pair = os::unix_socketpair(true);
    if (!pair) return fail(std::move(pair).error().in("NRI connection"));
    mux->lanes_[i].connection = wanted[i].first;
    mux->lanes_[i].near.fd = std::move(pair->first);
    *wanted[i].second = std::move(pair->second);
  }
  mux->open_ = true;
  Mux* self = mux.get();
  BERTH_TRY(mux->watch(mux->trunk_, [self](std::uint32_t events) { self->trunk_ready(events); }), "NRI connection");
  for (Lane& lane : mux->lanes_) {
    Lane* at = &lane;
    BERTH_TRY(mux->watch(lane.near, [self, at](std::uint32_t events) { self->lane_ready(*at, events); }),
              "NRI connection");
  }
  return mux;
}

Mux::~Mux() {
  close();
}

Result<> Mux::watch(Side& side, std::function<void(std::uint32_t)> ready) {
  side.interest = EPOLLIN;
  BERTH_ASSIGN(side.watch, loop_.add_fd(side.fd.get(), side.interest, std::move(ready)), "watch");
  return {};
}

void Mux::close() {
  if (!std::exchange(open_, false)) return;
  on_end_ = nullptr;
  loop_.remove(trunk_.watch);
  trunk_.fd.reset();
  trunk_.queue.clear();
  for (Lane& lane : lanes_) {
    loop_.remove(lane.near.watch);
    lane.near.fd.reset();
    lane.near.queue.clear();
    lane.decoder = ttrpc::FrameDecoder();
  }
}

void Mux::end(const Error& reason) {
  const auto self = shared_from_this();
  const OnEnd on_end = std::move(on_end_);
  close();
  if (on_end) on_end(reason);
}

void Mux::trunk_ready(std::uint32_t events) {
  const auto self = shared_from_this();
  Result<> done;
  if ((events & EPOLLOUT) != 0) done = trunk_.queue.flush(trunk_.fd.get());
  // A plugin that is gone is seen by reading, also while nothing is to be read.
  if (done && (events & (EPOLLIN | EPOLLHUP | EPOLLERR)) != 0) done = read_trunk();
  settle(std::move(done));
}

void Mux::lane_ready(Lane& lane, std::uint32_t events) {
  const auto self = shared_from_this();
  Result<> done;
  if ((events & EPOLLOUT) != 0) done = lane.near.queue.flush(lane.near.fd.get());
  if (done && (events & (EPOLLIN | EPOLLHUP | EPOLLERR)) != 0) done = read_lane(lane);
  settle(std::move(done));
}

void Mux::settle(Result<> result) {
  if (!open_) return;
  if (!result) return end(result.error());
  update_interest();
}

Result<> Mux::read_trunk() {
  std::array<char, kReadBuffer> buffer;
  for (int i = 0; i < kReadsPerRound; ++i) {
    BERTH_ASSIGN(const auto got, os::receive_some(trunk_.fd.get(), buffer), "NRI connection");
    if (!got) return {};
    if (*got == 0) return fail(Code::kUnavailable, "the plugin closed its connection");
    std::string_view input(buffer.data(), *got);
    while (true) {
      BERTH_ASSIGN(const auto piece, decoder_.next(input), "NRI connection");
      if (!piece) break;
      BERTH_TRY(to_lane(*piece), "NRI connection");
    }
    if (lanes_[0].near.queue.size() > kHighWater || lanes_[1].near.queue.size() > kHighWater) return {};
  }
  return {};
}

Result<> Mux::to_lane(const MuxPiece& piece) {
  for (Lane& lane : lanes_) {
    if (lane.connection == piece.connection) return lane.near.queue.send(lane.near.fd.get(), piece.bytes);
  }
  return {};  // other ids are left to the future, as plugins do with ours
}

Result<> Mux::read_lane(Lane& lane) {
  std::array<char, kReadBuffer> buffer;
  std::string frames;
  for (int i = 0; i < kReadsPerRound; ++i) {
    BERTH_ASSIGN(const auto got, os::receive_some(lane.near.fd.get(), buffer), "NRI connection");
    if (!got) break;
    if (*got == 0) return fail(Code::kUnavailable, "the plugin speaks no ttrpc");
    std::string_view input(buffer.data(), *got);
    while (true) {
      BERTH_ASSIGN(const auto frame, lane.decoder.next(input), "NRI connection");
      if (!frame) break;
      const auto header = ttrpc::encode_header(frame->header);
      std::string message(header.data(), header.size());
      message.append(frame->data);
      append_mux_frames(frames, lane.connection, message);
    }
    if (trunk_.queue.size() + frames.size() > kHighWater) break;
  }
  if (frames.empty()) return {};
  return trunk_.queue.send(trunk_.fd.get(), frames);
}

void Mux::update_interest() {
  const bool to_plugin = trunk_.queue.size() <= kHighWater;
  Result<> done;
  bool to_us = true;
  for (Lane& lane : lanes_) {
    to_us = to_us && lane.near.queue.size() <= kHighWater;
    if (done) done = set_interest(lane.near, to_plugin);
  }
  if (done) done = set_interest(trunk_, to_us);
  if (!done) end(done.error());
}

Result<> Mux::set_interest(Side& side, bool read) {
  const std::uint32_t wanted = (read ? EPOLLIN : 0U) | (side.queue.empty() ? 0U : EPOLLOUT);
  if (wanted == side.interest) return {};
  BERTH_TRY(loop_.modify_fd(side.watch, wanted), "NRI connection");
  side.interest = wanted;
  return {};
}

}  // namespace berth::nri
