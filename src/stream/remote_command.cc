#include "stream/remote_command.h"

#include <csignal>
#include <nlohmann/json.hpp>
#include <utility>

#include "base/ids.h"
#include "base/log.h"
#include "berth/shim/v1/shim.pb.h"
#include "berth/wkt/wkt.pb.h"
#include "containerd/runtime/task/v2/shim.pb.h"
#include "stream/leftover.h"

namespace berth::stream {
namespace {

namespace task = ::containerd::task::v2;
namespace own = ::berth::shim::v1;
using Empty = ::berth::wkt::Empty;
using std::chrono::milliseconds;

constexpr std::string_view kTask = "containerd.task.v2.Task";
constexpr std::string_view kShim = "berth.shim.v1.Shim";
constexpr const char* kProcessType = "types.containerd.io/opencontainers/runtime-spec/1/Process";

constexpr milliseconds kCreation{30'000};  // as the kubelet's own streams have it
constexpr milliseconds kShort{10'000};
constexpr milliseconds kStart{120'000};
constexpr milliseconds kHangUpGrace{10'000};
constexpr std::size_t kMaxSizeText = 4096;

Error closed_early() {
  return {Code::kUnavailable, "the client has gone"};
}

}  // namespace

RemoteCommand::RemoteCommand(SessionContext context, SessionSpec spec, std::shared_ptr<Channels> channels)
    : context_(std::move(context)),
      spec_(std::move(spec)),
      channels_(std::move(channels)),
      id_("stream-" + random_hex(8)),
      timer_(context_.io) {}

RemoteCommand::~RemoteCommand() = default;

void RemoteCommand::start() {
  timer_.expires_after(kCreation);
  timer_.async_wait([weak = weak_from_this()](const boost::system::error_code& error) {
    const auto self = weak.lock();
    if (error || !self || self->state_ != State::kOpening) return;
    self->finish({.exit_code = 0, .failure = "the client did not open its streams within 30 s"});
  });
  channels_->start(shared_from_this());
}

void RemoteCommand::on_open() {
  state_ = State::kStarting;
  timer_.cancel();
  if (auto ready = prepare(); !ready) return fail_with(ready.error());
  is_exec() ? exec() : watch();
}

Result<> RemoteCommand::prepare() {
  const auto& set = spec_.channels;
  BERTH_ASSIGN(auto fifos,
               Fifos::make(context_.folder + "/" + id_, set.in && is_exec(), set.out, set.err && !set.terminal),
               "streams");
  fifos_.emplace(std::move(fifos));
  BERTH_ASSIGN(shim_,
               ShimClient::connect(context_.reactor, context_.io, spec_.shim_socket,
                                   [weak = weak_from_this()](const Error& /*why*/) {
                                     const auto self = weak.lock();
                                     if (!self || self->state_ == State::kOver) return;
                                     self->added_ = false;
                                     self->fail_with(Error(Code::kUnavailable, "the pod's shim has ended"));
                                   }),
               "shim");
  return {};
}

void RemoteCommand::exec() {
  // Whoever starts after us removes what we leave, should we be killed.
  auto noted = note_leftover(context_.folder + "/" + id_, {spec_.shim_socket, spec_.container_id, id_});
  if (!noted) return fail_with(noted.error());
  task::ExecProcessRequest request;
  request.set_id(spec_.container_id);
  request.set_exec_id(id_);
  request.set_terminal(spec_.channels.terminal);
  request.set_stdin(fifos_->in_path());
  request.set_stdout(fifos_->out_path());
  request.set_stderr(fifos_->err_path());
  request.mutable_spec()->set_type_url(kProcessType);
  request.mutable_spec()->set_value(spec_.process_json);
  added_ = true;
  shim_->call<Empty>(kTask, "Exec", request, kShort, [self = shared_from_this()](const Result<Empty>& reply) {
    if (self->state_ == State::kOver) return;
    if (!reply) return self->fail_with(reply.error());
    self->start_exec();
  });
}

void RemoteCommand::start_exec() {
  // The client may have gone meanwhile.
  if (!channels_) return fail_with(closed_early());
  task::StartRequest request;
  request.set_id(spec_.container_id);
  request.set_exec_id(id_);
  shim_->call<task::StartResponse>(kTask, "Start", request, kStart,
                                   [self = shared_from_this()](const Result<task::StartResponse>& reply) {
                                     if (self->state_ == State::kOver) return;
                                     if (!reply) return self->fail_with(reply.error());
                                     self->running();
                                   });
}

void RemoteCommand::watch() {
  own::WatchRequest request;
  request.set_container_id(spec_.container_id);
  request.set_stdout(fifos_->out_path());
  request.set_stderr(fifos_->err_path());
  shim_->call<Empty>(kShim, "Watch", request, kShort, [self = shared_from_this()](const Result<Empty>& reply) {
    if (self->state_ == State::kOver) return;
    if (!reply) return self->fail_with(reply.error());
    self->running();
  });
}

void RemoteCommand::running() {
  state_ = State::kRunning;
  wait_for_exit();
  if (!channels_) return on_gone(closed_early());
  if (auto opened = open_stdin(); !opened) return fail_with(opened.error());
  if (auto fifo = fifos_->take_out(); fifo.valid()) start_output(Channel::kStdout, std::move(fifo));
  if (auto fifo = fifos_->take_err(); fifo.valid()) start_output(Channel::kStderr, std::move(fifo));
  // What came while the process was being made.
  if (!sizes_.empty()) resize({});
  const std::string early = std::exchange(early_input_, {});
  if (!early.empty()) on_bytes(Channel::kStdin, early);
  channels_->pause(false);
  if (stdin_ended_) on_end(Channel::kStdin);
}

Result<> RemoteCommand::open_stdin() {
  const std::string path = is_exec() ? fifos_->in_path() : spec_.stdin_path;
  if (!spec_.channels.in || path.empty()) return {};
  auto writer = open_writer(path);
  // It has closed its stdin or ended already: what is written is for nobody.
  if (!writer && writer.error().code() == Code::kUnavailable) return {};
  if (!writer) return fail(std::move(writer).error().in("stdin"));
  input_ = std::make_shared<InputPump>(context_.io, std::move(*writer),
                                       InputPump::Hooks{.pause =
                                                            [weak = weak_from_this()](bool paused) {
                                                              const auto self = weak.lock();
                                                              if (self && self->channels_)
                                                                self->channels_->pause(paused);
                                                            },
                                                        .ended =
                                                            [weak = weak_from_this()] {
                                                              if (const auto self = weak.lock(); self)
                                                                self->end_stdin();
                                                            }});
  return {};
}

void RemoteCommand::start_output(Channel channel, UniqueFd fifo) {
  OutputPump::Hooks hooks;
  hooks.bytes = [weak = weak_from_this(), channel](std::string_view bytes) {
    const auto self = weak.lock();
    if (self && self->channels_) self->channels_->send(channel, bytes);
  };
  hooks.has_room = [weak = weak_from_this()] {
    const auto self = weak.lock();
    return self && self->channels_ && self->channels_->unsent() < Wire::kHighWater;
  };
  hooks.ended = [weak = weak_from_this()] {
    if (const auto self = weak.lock(); self) self->output_ended();
  };
  auto& pump = outputs_[channel == Channel::kStdout ? 0 : 1];
  pump = std::make_shared<OutputPump>(context_.io, std::move(fifo), std::move(hooks));
  pump->start();
}

// The shim lets an attached client go when the process has ended, or when it has fallen behind.
void RemoteCommand::output_ended() {
  if (is_exec() || state_ != State::kRunning) return;
  task::StateRequest request;
  request.set_id(spec_.container_id);
  shim_->call<task::StateResponse>(
      kTask, "State", request, kShort, [self = shared_from_this()](const Result<task::StateResponse>& reply) {
        const bool ended = !reply || reply->status() == ::containerd::v1::types::STOPPED;
        if (self->state_ != State::kRunning || ended) return;
        self->finish(
            {.exit_code = 0,
             .failure = "the client read too slowly and was cut off; the container's log has all of its output"});
      });
}

void RemoteCommand::wait_for_exit() {
  task::WaitRequest request;
  request.set_id(spec_.container_id);
  if (is_exec()) request.set_exec_id(id_);
  // An exec is there until its process has ended. Who is attached may leave before.
  const auto holds = is_exec() ? shared_from_this() : nullptr;
  shim_->call<task::WaitResponse>(kTask, "Wait", request, std::nullopt,
                                  [weak = weak_from_this(), holds](const Result<task::WaitResponse>& reply) {
                                    const auto self = weak.lock();
                                    if (!self || self->state_ == State::kOver) return;
                                    if (!reply) return self->fail_with(reply.error());
                                    self->exited(static_cast<int>(reply->exit_status()));
                                  });
}

void RemoteCommand::on_bytes(Channel channel, std::string_view bytes) {
  if (state_ == State::kOver) return;
  if (channel == Channel::kResize) return resize(bytes);
  if (state_ != State::kRunning) {
    early_input_.append(bytes);
    if (early_input_.size() > Wire::kHighWater) channels_->pause(true);
    return;
  }
  if (input_) input_->write(bytes);
}

void RemoteCommand::on_end(Channel /*channel*/) {
  stdin_ended_ = true;
  if (state_ != State::kRunning) return;
  if (input_) {
    input_->end();
  } else {
    end_stdin();
  }
}

// The client's input has ended and is written: the process's ends when nobody else holds it open.
void RemoteCommand::end_stdin() {
  input_.reset();
  const bool ours = is_exec() || (spec_.close_stdin && spec_.channels.in);
  if (!ours || !stdin_ended_ || state_ == State::kOver) return;
  task::CloseIORequest request;
  request.set_id(spec_.container_id);
  if (is_exec()) request.set_exec_id(id_);
  request.set_stdin(true);
  shim_->call<Empty>(kTask, "CloseIO", request, kShort,
                     // The connection stays until it is answered.
                     [self = shared_from_this()](const Result<Empty>& reply) {
                       ignore(reply, "it is closed by its end at the latest");
                     });
}

// A stream of {"Width":80,"Height":24}; the newest counts.
void RemoteCommand::resize(std::string_view bytes) {
  sizes_.append(bytes);
  if (sizes_.size() > kMaxSizeText) sizes_.clear();
  if (state_ != State::kRunning) return;
  const std::size_t end = sizes_.rfind('}');
  if (end == std::string::npos) return;
  const std::size_t before = end == 0 ? std::string::npos : sizes_.rfind('}', end - 1);
  const std::size_t begin = before == std::string::npos ? 0 : before + 1;
  const auto size = nlohmann::json::parse(sizes_.substr(begin, end + 1 - begin), nullptr, false);
  sizes_.erase(0, end + 1);
  const auto number = [&size](const char* name) -> std::uint32_t {
    const auto found = size.is_object() ? size.find(name) : size.end();
    return found != size.end() && found->is_number_unsigned() ? found->get<std::uint32_t>() : 0;
  };
  task::ResizePtyRequest request;
  request.set_id(spec_.container_id);
  if (is_exec()) request.set_exec_id(id_);
  request.set_width(number("Width"));
  request.set_height(number("Height"));
  if (request.width() == 0 || request.height() == 0) return;
  shim_->call<Empty>(kTask, "ResizePty", request, kShort,
                     [](const Result<Empty>& reply) { ignore(reply, "a size is no reason to end a session"); });
}

void RemoteCommand::on_writable() {
  for (const auto& output : outputs_) {
    if (output) output->resume();
  }
}

void RemoteCommand::on_gone(const Error& /*why*/) {
  channels_.reset();
  stdin_ended_ = true;
  if (state_ == State::kOpening || (!is_exec() && state_ == State::kStarting)) return finish({});
  if (state_ != State::kRunning) return;  // start_exec() or running() look
  if (input_) input_->stop();
  end_stdin();
  for (auto& output : outputs_) {
    if (output) std::exchange(output, nullptr)->stop();
  }
  if (!is_exec()) return finish({});
  if (!spec_.channels.terminal) return kill(SIGKILL);
  kill(SIGHUP);
  timer_.expires_after(kHangUpGrace);
  timer_.async_wait([weak = weak_from_this()](const boost::system::error_code& error) {
    const auto self = weak.lock();
    if (!error && self && self->state_ == State::kRunning) self->kill(SIGKILL);
  });
}

void RemoteCommand::kill(int signal) {
  task::KillRequest request;
  request.set_id(spec_.container_id);
  request.set_exec_id(id_);
  request.set_signal(static_cast<std::uint32_t>(signal));
  shim_->call<Empty>(kTask, "Kill", request, kShort, [](const Result<Empty>& reply) {
    ignore(reply, "it may have ended; its end is waited for all the same");
  });
}

void RemoteCommand::exited(int code) {
  exited_ = true;
  // What it has written is in the FIFOs; what it has started may go on writing, and is not waited for.
  for (const auto& output : outputs_) {
    if (output) output->drain();
  }
  finish({.exit_code = is_exec() ? code : 0, .failure = {}});
}

void RemoteCommand::fail_with(const Error& why) {
  finish({.exit_code = 0, .failure = why.text()});
}

void RemoteCommand::finish(const Outcome& outcome) {
  if (state_ == State::kOver) return;
  // The client's channels hold us, and let go below.
  const auto self = shared_from_this();
  state_ = State::kOver;
  timer_.cancel();
  if (!outcome.failure.empty()) {
    log_info("session ended", {{"session", id_}, {"container", spec_.container_id}, {"err", outcome.failure}});
  }
  for (auto& output : outputs_) {
    if (output) std::exchange(output, nullptr)->stop();
  }
  if (input_) std::exchange(input_, nullptr)->stop();
  if (const auto channels = std::exchange(channels_, nullptr); channels) channels->finish(outcome);
  clean_up();
}

// An exec that runs yet is killed with its removal: only what failed midway comes here with one.
void RemoteCommand::clean_up() {
  if (!added_ || !shim_) return;
  if (!exited_) kill(SIGKILL);
  task::DeleteRequest request;
  request.set_id(spec_.container_id);
  request.set_exec_id(id_);
  shim_->call<task::DeleteResponse>(kTask, "Delete", request, kShort,
                                    [self = shared_from_this()](const Result<task::DeleteResponse>& reply) {
                                      if (reply) return;
                                      const Code code = reply.error().code();
                                      if (code != Code::kPrecondition && code != Code::kTimeout) return;
                                      // The kernel has not ended it yet, or the shim is slow.
                                      self->timer_.expires_after(milliseconds(20));
                                      self->timer_.async_wait([self](const boost::system::error_code& error) {
                                        if (!error) self->clean_up();
                                      });
                                    });
}

}  // namespace berth::stream
