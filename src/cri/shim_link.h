#pragma once
#include <sys/types.h>

#include <chrono>
#include <functional>
#include <memory>
#include <string>
#include <vector>

#include "base/clock.h"
#include "base/result.h"
#include "berth/shim/v1/shim.pb.h"
#include "image/store.h"
#include "ttrpc/client.h"

namespace berth::cri {

/// The container's first three descriptors, in the forms of docs/shim.md.
struct ShimStdio {
  std::string in;
  std::string out;
  std::string err;
  bool terminal = false;
};

struct ShimExit {
  std::uint32_t code = 0;
  std::int64_t at_ns = 0;
};

/// The connection to one pod's shim, in the daemon's terms. Thread-safe. Calls block at most for their time limit;
/// kTimeout then means that the shim may still do it. Errors of a gone shim: kUnavailable.
class ShimLink final {
 public:
  /// Create mounts, runs hooks and may wait for a slow disk.
  static constexpr std::chrono::milliseconds kLong{120'000};
  using Events = std::function<void(Result<::berth::shim::v1::WaitEventResponse>)>;
  using Stats = std::function<void(Result<::berth::shim::v1::ContainerStatsResponse>)>;

  /// `socket_path`: of any length.
  static Result<std::shared_ptr<ShimLink>> connect(ttrpc::Reactor& reactor, const std::string& socket_path,
                                                   std::chrono::milliseconds timeout);

  Result<::berth::shim::v1::PodInfoResponse> pod_info(std::chrono::milliseconds timeout);
  /// Answers the pid of init, which waits for start().
  /// `checkpoint`: the folder of the images that it is restored from, at most for `timeout`; empty: it begins anew.
  Result<pid_t> create(const std::string& id, const std::string& bundle, const image::RootfsMount& rootfs,
                       const ShimStdio& stdio, const std::string& checkpoint = {},
                       std::chrono::milliseconds timeout = kLong);
  Result<pid_t> start(const std::string& id);
  /// kNotFound when nothing of it runs.
  Result<> kill(const std::string& id, int signal, bool all);
  /// Ends what the shim holds of a stopped container. kNotFound when it holds nothing.
  Result<ShimExit> remove(const std::string& id);
  /// Kills what runs of it and removes it, at most for some seconds. Success when the shim holds nothing of it.
  Result<> purge(const std::string& id);
  Result<> update(const std::string& id, const std::string& resources_json);
  Result<::berth::shim::v1::ExecSyncResponse> exec_sync(const ::berth::shim::v1::ExecSyncRequest& request,
                                                        SteadyTime deadline, std::stop_token stop);
  /// All that the shim holds of one stream of an exec, in pieces.
  Result<std::string> read_exec_output(std::uint64_t token, bool stderr_stream, std::uint64_t size, bool release,
                                       SteadyTime deadline);
  Result<> reopen_log(const std::string& id);
  /// Until all containers go on; the request's time limit ends it. See shim.proto.
  Result<> checkpoint(const ::berth::shim::v1::CheckpointRequest& request);
  Result<::berth::shim::v1::ContainerStatsResponse> stats(const std::string& id, std::chrono::milliseconds timeout);
  /// Ends the shim. `now`: whatever it holds.
  Result<> shutdown(bool now);

  /// Asks for what changed after `seq`; `events` runs once on the reactor's thread and must not block. A gone
  /// connection is an answer: kUnavailable.
  void wait_event(std::uint64_t seq, Events events);
  /// stats() without waiting; `stats` as above.
  void stats_async(const std::string& id, std::chrono::milliseconds timeout, Stats stats);

  /// Ends the connection; calls under way fail with kCancelled.
  void close() { client_->close(); }
  [[nodiscard]] bool alive() const { return client_->alive(); }

 private:
  explicit ShimLink(std::unique_ptr<ttrpc::Client> client) : client_(std::move(client)) {}
  std::unique_ptr<ttrpc::Client> client_;
};

}  // namespace berth::cri
