#pragma once
#include <sys/types.h>

#include <array>
#include <cstdint>
#include <memory>
#include <optional>
#include <string>
#include <vector>

#include "base/result.h"
#include "base/unique_fd.h"
#include "engine/engine.h"
#include "event/loop.h"
#include "shim/fan_out.h"
#include "shim/log_file.h"
#include "shim/log_stream.h"
#include "shim/pump.h"
#include "shim/relay.h"
#include "shim/scratch.h"
#include "shim/stdio_uri.h"

namespace berth::shim {

/// The stdio members of a Create or Exec request.
struct StdioPaths {
  bool terminal = false;
  std::string in;
  std::string out;
  std::string err;
};

/// Whom the host sees as the root of a pod with a user namespace.
struct PodRoot {
  uid_t uid = 0;
  gid_t gid = 0;
};

/// What one shim's processes share for their output.
struct IoContext {
  event::Loop& loop;
  Scratch& scratch;
  std::size_t max_line_bytes;
  std::optional<PodRoot> root{};
};

/// Gives a pipe or FIFO that a process is to get to its root, who may then open it again (/dev/stdout) and hand it to
/// its user. Nothing without `root`.
[[nodiscard]] Result<> give_stream(const std::optional<PodRoot>& root, int fd);

/// The three streams of one container process: what the process gets, and what happens to the other ends. FIFOs and
/// files are handed to the process itself, so that no byte passes through the shim; only CRI logs and terminals are
/// copied.
class ProcessIo final {
 public:
  /// Opens everything. `context` and what it names outlive this. Does not block: a FIFO without a peer is held open at
  /// both ends. Errors: kInvalid a path of the wrong kind; kUnsupported a scheme; else by errno, naming stream and
  /// path.
  [[nodiscard]] static Result<std::unique_ptr<ProcessIo>> open(IoContext& context, const StdioPaths& paths);

  /// For the engine; valid until started(). All -1 with a terminal.
  [[nodiscard]] engine::Stdio child_ends() const;
  /// The process exists: closes its ends here and, with a terminal, begins to copy. Takes the master side.
  [[nodiscard]] Result<> started(UniqueFd console);
  /// The same with a terminal that another process holds.
  [[nodiscard]] Result<> started_apart(UniqueFd reader, UniqueFd writer);

  /// Sets the terminal's size. kPrecondition without a terminal.
  [[nodiscard]] Result<> resize(unsigned short columns, unsigned short rows);
  /// The process sees the end of its input once the client has closed its end too. Idempotent.
  void close_stdin();
  /// Opens the log anew (see LogFile::reopen). kPrecondition when the output goes elsewhere.
  [[nodiscard]] Result<> reopen_log();
  /// Copies what comes from now on to two FIFOs as well, until finish() or until their reader falls behind. `out` and
  /// `err`: absolute paths whose readers are there already; empty: not wanted, and with a terminal `err` gets nothing.
  /// kPrecondition when the output goes past us; kExhausted too many watch; kUnavailable nobody reads a FIFO.
  [[nodiscard]] Result<> watch(const std::string& out, const std::string& err);
  /// The process has ended: takes what it left in the pipes, lets unfinished lines go. Never waits for other holders of
  /// the pipes, whose output is still taken as long as this object lives.
  void finish();
  [[nodiscard]] std::uint64_t log_bytes_dropped() const;
  /// What the process's streams lead to, as /proc shows them: "pipe:[123]", "/dev/null". kUnsupported where that is
  /// something outside of the container which a restored process could not be given again.
  [[nodiscard]] Result<std::vector<std::string>> streams() const;

 private:
  enum Stream : std::uint8_t { kIn, kOut, kErr };

  explicit ProcessIo(IoContext& context) : context_(context) {}
  Result<> copy_terminal(UniqueFd reader);
  Result<> open_input(const StdioUri& uri);
  Result<> open_output(Stream stream, const StdioUri& uri);
  Result<> open_output_path(Stream stream, const StdioUri& uri);
  Result<> open_log(Stream stream, const std::string& path);
  Result<> take_output(Stream stream);

  IoContext& context_;
  bool terminal_ = false;
  std::array<UniqueFd, 3> child_;                 // what the process gets
  std::array<UniqueFd, 3> fifo_end_;              // our own hold on the far end of a FIFO
  std::array<std::unique_ptr<LogFile>, 2> logs_;  // second one only when the paths differ
  std::array<std::unique_ptr<FanOut>, 2> sinks_;  // for stdout, stderr
  std::array<std::unique_ptr<Pump>, 2> pumps_;
  UniqueFd console_;
  std::unique_ptr<Relay> console_in_;
  std::unique_ptr<Relay> console_out_;
};

}  // namespace berth::shim
