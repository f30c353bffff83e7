#pragma once
#include <array>
#include <cstdint>
#include <functional>
#include <memory>
#include <string>
#include <string_view>

#include "base/result.h"
#include "base/unique_fd.h"
#include "event/loop.h"
#include "nri/mux_frame.h"
#include "ttrpc/frame.h"
#include "ttrpc/send_queue.h"

namespace berth::nri {

/// Joins the one socket of a plugin, the trunk, with two sockets that carry one ttrpc connection each: the library's
/// Client and Server sit at their far ends and know nothing of it. Loop thread only. Bounded: a side that does not read
/// stops the other from being read.
class Mux final : public std::enable_shared_from_this<Mux> {
 public:
  /// The far ends of the two connections, non-blocking.
  struct Ends {
    UniqueFd plugin;   ///< of kPluginConnection, for a ttrpc client
    UniqueFd runtime;  ///< of kRuntimeConnection, for a ttrpc server
  };
  /// Once, when the connection has ended by itself: kUnavailable the plugin closed it; kInvalid it speaks no NRI; else
  /// by errno. Not after close().
  using OnEnd = std::function<void(const Error& reason)>;

  /// Takes `trunk`, a connected stream socket. Errors: by errno.
  [[nodiscard]] static Result<std::shared_ptr<Mux>> start(event::Loop& loop, UniqueFd trunk, Ends& ends, OnEnd on_end);
  explicit Mux(event::Loop& loop) : loop_(loop) {}
  ~Mux();
  Mux(const Mux&) = delete;
  Mux& operator=(const Mux&) = delete;
  Mux(Mux&&) = delete;
  Mux& operator=(Mux&&) = delete;

  /// Ends all three connections. Idempotent.
  void close();

 private:
  /// One watched socket with what it has not taken yet.
  struct Side {
    UniqueFd fd;
    event::WatchId watch{};
    std::uint32_t interest = 0;
    ttrpc::SendQueue queue;
  };
  struct Lane {
    std::uint32_t connection = 0;
    Side near;
    ttrpc::FrameDecoder decoder;  // of what goes to the plugin: its messages are cut as append_mux_frames() says
  };

  Result<> watch(Side& side, std::function<void(std::uint32_t)> ready);
  void trunk_ready(std::uint32_t events);
  void lane_ready(Lane& lane, std::uint32_t events);
  Result<> read_trunk();
  Result<> read_lane(Lane& lane);
  Result<> to_lane(const MuxPiece& piece);
  void settle(Result<> result);
  void update_interest();
  Result<> set_interest(Side& side, bool read);
  void end(const Error& reason);

  event::Loop& loop_;
  OnEnd on_end_;
  Side trunk_;
  MuxDecoder decoder_;
  std::array<Lane, 2> lanes_;
  bool open_ = false;
};

}  // namespace berth::nri
