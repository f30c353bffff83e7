#pragma once
#include <sys/types.h>

#include <cstdint>
#include <functional>
#include <map>
#include <memory>
#include <optional>
#include <string>
#include <vector>

#include "base/result.h"
#include "base/unique_fd.h"
#include "engine/engine.h"
#include "engine/process/cgroup.h"
#include "event/loop.h"
#include "shim/foreign/link.h"
#include "shim/remote.h"

namespace berth::shim::foreign {

/// A process of a foreign shim, for Processes.
struct Watched {
  std::string id;
  std::string exec_id;  ///< empty: the container's first
  pid_t pid = 0;
  UniqueFd pidfd;                 ///< invalid: it had ended when we looked
  std::vector<UniqueFd> outputs;  ///< from watch_outputs()
  std::shared_ptr<Link> link;
};

/// Read ends of our own on the pipes of `stdio`, never read from: they tell when the shim, which copies the output, has
/// written all of it and closed them.
[[nodiscard]] std::vector<UniqueFd> watch_outputs(const engine::Stdio& stdio);

/// Waits for the ends of processes: one Wait is under way for each, whose answer is passed on once the output is
/// written to its end, or half a second later (a grandchild can hold it for ever). A pidfd tells that a process is gone
/// although no answer comes: then the shim hangs. Loop thread only.
class Processes final {
 public:
  /// `on_hung`: the shim behind this link has not told an end for five seconds.
  Processes(event::Loop& loop, RemoteEngine::Ended ended, std::function<void(const Link*)> on_hung)
      : loop_(loop), ended_(std::move(ended)), on_hung_(std::move(on_hung)) {}
  Processes(const Processes&) = delete;
  Processes& operator=(const Processes&) = delete;
  Processes(Processes&&) = delete;
  Processes& operator=(Processes&&) = delete;
  ~Processes();

  /// Where the processes of a container are that the shim behind `link` makes: they are killed when it has died.
  void hold(const std::string& id, const Link* link, engine::process::Cgroup cgroup);
  /// Errors: kCorrupt the shim tells a pid of another process.
  [[nodiscard]] Result<> add(Watched process);
  /// How the shim calls a process of container `id`: "" the first, nothing for one that has ended.
  [[nodiscard]] std::optional<std::string> exec_id(const std::string& id, pid_t pid) const;
  /// The container is gone, or its creation has failed.
  void forget(const std::string& id);
  /// The shim behind `link` is dead: its containers are killed, and each process counts as killed once it is gone.
  void abandon(const Link* link);

 private:
  struct Entry {
    Watched process;
    event::WatchId gone{};  // its pidfd's
    std::vector<event::WatchId> writing;
    event::TimerId timer{};
    bool answered = false;
    bool abandoned = false;
    int code = 0;
  };

  void answered(std::uint64_t number, Result<std::string> answer);
  void gone(std::uint64_t number);
  void output_closed(std::uint64_t number, std::size_t index);
  void tell(std::uint64_t number, int code);
  void drop(Entry& entry);

  event::Loop& loop_;
  RemoteEngine::Ended ended_;
  std::function<void(const Link*)> on_hung_;
  std::map<std::uint64_t, Entry> entries_;
  struct Held {
    const Link* link = nullptr;
    engine::process::Cgroup cgroup;
  };
  std::map<std::string, Held> held_;
  std::uint64_t last_ = 0;
};

}  // namespace berth::shim::foreign
