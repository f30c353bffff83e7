#pragma once
#include <sys/types.h>

#include <functional>

#include "base/result.h"
#include "base/unique_fd.h"
#include "engine/engine.h"
#include "event/loop.h"

namespace berth::shim {

/// A terminal whose master side another supervisor holds: pipes to it and from it. Input that ends ends the terminal.
struct RemoteTerminal {
  UniqueFd output;  ///< to read from
  UniqueFd input;   ///< to write to
};

/// What containers of a RemoteEngine have beside engine::Container. The processes of their take_console() and of
/// exec() have no console.
class RemoteTerminals {
 public:
  RemoteTerminals() = default;
  RemoteTerminals(const RemoteTerminals&) = delete;
  RemoteTerminals& operator=(const RemoteTerminals&) = delete;
  RemoteTerminals(RemoteTerminals&&) = delete;
  RemoteTerminals& operator=(RemoteTerminals&&) = delete;
  virtual ~RemoteTerminals() = default;

  /// Hands over the terminal of the process (once); invalid ends without one.
  [[nodiscard]] virtual RemoteTerminal take_terminal(pid_t pid) = 0;
  [[nodiscard]] virtual Result<> resize(pid_t pid, unsigned short columns, unsigned short rows) = 0;
  /// The other supervisor, too, holds a writer of its stdin: after this it does not. Success when the process has
  /// ended.
  [[nodiscard]] virtual Result<> close_input(pid_t pid) = 0;
};

/// An engine whose processes are the children of another supervisor: their ends are told by it and not by waitid(2).
class RemoteEngine : public engine::Engine {
 public:
  /// A process that create() or exec() gave has ended with `code` (128 + signal). From the loop, once each; the real
  /// code of one that became our child meanwhile counts before it.
  using Ended = std::function<void(pid_t pid, int code)>;

  /// Once, before anything else; `loop` must live until shut_down().
  [[nodiscard]] virtual Result<> attach(event::Loop& loop, Ended ended) = 0;
  /// After the last container: ends the supervisor and everything that is in the loop.
  virtual void shut_down() = 0;
};

}  // namespace berth::shim
