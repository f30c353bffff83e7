#pragma once
#include <array>
#include <boost/asio/io_context.hpp>
#include <boost/asio/steady_timer.hpp>
#include <memory>
#include <optional>
#include <string>

#include "stream/channels.h"
#include "stream/fifos.h"
#include "stream/pumps.h"
#include "stream/session_spec.h"
#include "stream/shim_client.h"

namespace berth::stream {

/// What all sessions of a server share.
struct SessionContext {
  boost::asio::io_context& io;
  ttrpc::Reactor& reactor;
  std::string folder;  ///< sessions make theirs in it
};

/// An exec or attach session: the client's channels on one side, FIFOs to a process below a shim on the other.
///
///   kOpening --all channels--> kStarting --the shim's answers--> kRunning --its end--> kOver
///
/// A client that goes away ends an exec (SIGHUP to a terminal's process, ten seconds later and without one SIGKILL) and
/// merely leaves an attach. The object lives until everything that it made on the shim is removed again.
class RemoteCommand final : public ChannelsHandler, public std::enable_shared_from_this<RemoteCommand> {
 public:
  RemoteCommand(SessionContext context, SessionSpec spec, std::shared_ptr<Channels> channels);
  ~RemoteCommand() override;
  RemoteCommand(const RemoteCommand&) = delete;
  RemoteCommand& operator=(const RemoteCommand&) = delete;
  RemoteCommand(RemoteCommand&&) = delete;
  RemoteCommand& operator=(RemoteCommand&&) = delete;

  void start();

  void on_open() override;
  void on_bytes(Channel channel, std::string_view bytes) override;
  void on_end(Channel channel) override;
  void on_writable() override;
  void on_gone(const Error& why) override;

 private:
  enum class State : std::uint8_t { kOpening, kStarting, kRunning, kOver };

  Result<> prepare();
  void exec();
  void start_exec();
  void watch();
  void running();
  Result<> open_stdin();
  void start_output(Channel channel, UniqueFd fifo);
  void output_ended();
  void wait_for_exit();
  void resize(std::string_view bytes);
  void end_stdin();
  void kill(int signal);
  void exited(int code);
  void fail_with(const Error& why);
  void finish(const Outcome& outcome);
  void clean_up();
  [[nodiscard]] bool is_exec() const { return spec_.kind == SessionSpec::Kind::kExec; }

  SessionContext context_;
  SessionSpec spec_;
  std::shared_ptr<Channels> channels_;  // until the client is gone or has its answer
  std::string id_;                      // of the session, and of the exec on the shim
  State state_ = State::kOpening;
  bool added_ = false;        // the shim has the exec
  bool exited_ = false;       // its process has ended
  bool stdin_ended_ = false;  // the client sends no more, perhaps before the process is there
  boost::asio::steady_timer timer_;
  std::optional<Fifos> fifos_;
  std::unique_ptr<ShimClient> shim_;
  std::array<std::shared_ptr<OutputPump>, 2> outputs_;
  std::shared_ptr<InputPump> input_;
  std::string early_input_;  // before the process is there
  std::string sizes_;        // of the terminal, not yet whole
};

}  // namespace berth::stream
