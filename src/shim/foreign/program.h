#pragma once
#include <sys/types.h>

#include <memory>
#include <string>
#include <vector>

#include "base/result.h"
#include "base/unique_fd.h"
#include "event/loop.h"
#include "shim/foreign/link.h"
#include "shim/foreign/log_drain.h"
#include "ttrpc/server.h"

namespace berth::shim::foreign {

struct ProgramOptions {
  std::string binary;      ///< the shim, absolute
  std::string folder;      ///< the pod's
  std::string sandbox_id;  ///< its id for the shim, and the value by which runc's shim groups containers
};

/// The short name of a program: "containerd-shim-runc-v2".
[[nodiscard]] std::string program_name(const std::string& path);

/// One shim process of another maker, which holds the pod's containers: its start by containerd's convention, the
/// connection, its log, the events that it insists on telling, its end. What is needed to find it again after our own
/// end is in the file `shim` of `<pod>/foreign`.
class Program final {
 public:
  /// Starts it; blocks until it can be spoken to, 20 s at most. The caller must be the subreaper. `on_end`: see Link.
  /// Errors: kUnavailable the program is not there or does not start, with its words; what parse_bootstrap() says.
  [[nodiscard]] static Result<std::unique_ptr<Program>> start(event::Loop& loop, const ProgramOptions& options,
                                                              Link::OnEnd on_end);
  Program(const Program&) = delete;
  Program& operator=(const Program&) = delete;
  Program(Program&&) = delete;
  Program& operator=(Program&&) = delete;
  ~Program() {
    if (link_ != nullptr) link_->close();
  }

  [[nodiscard]] const std::shared_ptr<Link>& link() const { return link_; }
  /// Kills it and waits two seconds for its end, so that its children have become ours; removes its socket.
  void kill();
  /// Asks it to end, as its last container is gone; kills it when it does not.
  void shut_down();

  /// Runs the program's `delete` for a container that a dead one has left.
  [[nodiscard]] static Result<> run_delete(const ProgramOptions& options, const std::string& id,
                                           const std::string& bundle);
  /// Kills one that outlived us. Idempotent.
  [[nodiscard]] static Result<> clear(const ProgramOptions& options);

 private:
  [[nodiscard]] static Result<> clear_unnoted(const ProgramOptions& options);
  Program() = default;
  Result<> adopt(const ProgramOptions& options, const std::vector<pid_t>& before, const std::string& socket);

  ProgramOptions options_;
  std::unique_ptr<LogDrain> log_;
  std::unique_ptr<ttrpc::Server> events_;
  std::shared_ptr<Link> link_;
  UniqueFd pidfd_;
  std::string socket_;
};

}  // namespace berth::shim::foreign
