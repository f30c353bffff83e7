#pragma once
#include <memory>
#include <string>
#include <vector>

#include "base/result.h"
#include "base/thread_annotations.h"
#include "berth/stream/v1/stream.pb.h"
#include "os/spawn.h"
#include "ttrpc/client.h"

namespace berth::cri {

/// How berth-stream is started.
struct StreamOptions {
  std::string program = "berth-stream";
  std::string address = "127.0.0.1";  ///< numeric, to listen on
  unsigned port = 0;                  ///< 0: any
  std::string tls_cert{};             ///< PEM files; empty: no TLS
  std::string tls_key{};
};

/// berth-stream as the daemon sees it: a process beside it that serves exec, attach and port-forward sessions and
/// outlives it. It is started with the first session that is asked for; one that runs already, from before a restart,
/// is taken over if it was started as we would. Thread-safe.
class StreamServer final {
 public:
  /// `reactor` outlives this; `folder`: the server's, which it makes.
  StreamServer(ttrpc::Reactor& reactor, std::string folder, StreamOptions options);
  ~StreamServer();
  StreamServer(const StreamServer&) = delete;
  StreamServer& operator=(const StreamServer&) = delete;
  StreamServer(StreamServer&&) = delete;
  StreamServer& operator=(StreamServer&&) = delete;

  /// A URL for one session. Errors: as the server answers; kUnavailable it does not run, or does not answer: call
  /// ensure_running() and try again. Blocks five seconds at the most.
  [[nodiscard]] Result<std::string> prepare(const ::berth::stream::v1::PrepareRequest& request) BERTH_EXCLUDES(mutex_);
  /// Takes over what runs, or starts the server; one that was started otherwise is drained first, one that does not
  /// answer is killed. One call at a time. Blocks, half a minute at the most.
  [[nodiscard]] Result<> ensure_running() BERTH_EXCLUDES(mutex_);
  /// Holds on to a server that runs already, so that it stays; starts none. For the daemon's start.
  void take_over() BERTH_EXCLUDES(mutex_);
  /// Reaps servers of ours that have ended.
  void reap() BERTH_EXCLUDES(mutex_);

 private:
  std::shared_ptr<ttrpc::Client> client() BERTH_EXCLUDES(mutex_);
  void use(std::shared_ptr<ttrpc::Client> client) BERTH_EXCLUDES(mutex_);
  static Result<::berth::stream::v1::InfoResponse> ask(ttrpc::Client& server);
  void drain(ttrpc::Client& server);
  Result<> end_silent();
  Result<> start() BERTH_EXCLUDES(mutex_);
  [[nodiscard]] std::string settings() const;
  [[nodiscard]] std::string control_socket() const;

  ttrpc::Reactor& reactor_;
  const std::string folder_;
  const StreamOptions options_;
  Mutex mutex_;
  std::shared_ptr<ttrpc::Client> client_ BERTH_GUARDED_BY(mutex_);
  std::vector<os::Child> children_ BERTH_GUARDED_BY(mutex_);  // ours, not yet reaped
};

}  // namespace berth::cri
