#pragma once
#include <functional>
#include <string>

#include "base/result.h"
#include "base/unique_fd.h"
#include "engine/process/criu_wire.h"
#include "os/spawn.h"

/// The program criu, one run for one request, spoken to by its RPC (docs/adr/0013-criu-over-its-rpc.md).
namespace berth::engine::process {

/// Something that criu tells while it works, and that it waits for.
struct CriuNotice {
  std::string script;  ///< "setup-namespaces", "post-restore", "orphan-pts-master", ...
  pid_t pid = 0;       ///< of init, where criu says it
  UniqueFd fd;         ///< of "orphan-pts-master": the terminal's master side
};

struct CriuRun {
  CriuRequest request;
  std::string log_path;  ///< where criu writes its log; empty: nowhere
  /// Starts criu as the caller's child, with `socket_fd` (borrowed) as its descriptor 3.
  std::function<Result<os::Child>(int socket_fd)> start;
  /// Completes the request once criu's process is there; may be empty.
  std::function<Result<>(pid_t pid, CriuSettings& settings)> complete;
  /// Answers a notification; an error makes criu give up, and is the run's. May be empty.
  std::function<Result<>(CriuNotice& notice)> on_notice;
};

/// `name` with a '/' is used as it is, else looked for in PATH. kUnsupported: there is none.
Result<std::string> find_criu(const std::string& name);

/// How criu is started where nothing about its process matters: /dev/null as stdio, our environment.
[[nodiscard]] std::function<Result<os::Child>(int)> plain_criu(std::string program);

/// Runs it to its end and reaps it. Blocks as long as criu works. Errors: what criu says, with the last errors of its
/// log: kNotFound, kExists, kDenied and so on by criu's errno, else kInternal; kCorrupt an answer that is none;
/// kUnavailable criu ended without one. An interrupted criu does not continue what it has stopped: see
/// Cgroup::freeze().
Result<CriuResponse> run_criu(CriuRun run);

/// criu's version, like 31701.
Result<int> criu_version(const std::string& program);
/// Which of `wanted` this criu and this kernel have.
Result<CriuFeatures> criu_features(const std::string& program, const CriuFeatures& wanted);

}  // namespace berth::engine::process
