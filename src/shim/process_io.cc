#include "shim/process_io.h"

#include <fcntl.h>
#include <sys/stat.h>
#include <unistd.h>

#include <cerrno>

#include "os/file.h"
#include "os/process_attr.h"
#include "os/socket.h"

namespace berth::shim {
namespace {

// What an ended process can have left: a full pipe, or some more while other holders still write.
constexpr std::size_t kFinishLimit = 2 * Pump::kWidePipe;

constexpr std::array<const char*, 3> kNames = {"stdin", "stdout", "stderr"};

constexpr std::size_t kMaxWatchers = 64;

// Output that nobody keeps: a terminal must be read all the same, or its processes block.
class NullSink final : public Sink {
 public:
  void write(std::string_view /*bytes*/) override {}
  void flush() override {}
};

// Terminal output that goes to a file as it is. A full disk must not block the terminal's processes.
class FileSink final : public Sink {
 public:
  explicit FileSink(UniqueFd file) : file_(std::move(file)) {}
  void write(std::string_view bytes) override {
    ignore(os::write_all(file_.get(), bytes), "a raw log that cannot be written is cut");
  }
  void flush() override {}

 private:
  UniqueFd file_;
};

Result<mode_t> file_type(int fd, const std::string& path) {
  struct stat info{};
  if (::fstat(fd, &info) != 0) return fail_errno(errno, "fstat " + path);
  return info.st_mode & S_IFMT;
}

}  // namespace

Result<> give_stream(const std::optional<PodRoot>& root, int fd) {
  struct stat info{};
  if (!root || fd < 0 || ::fstat(fd, &info) != 0 || !S_ISFIFO(info.st_mode)) return {};
  if (::fchown(fd, root->uid, root->gid) != 0) return fail_errno(errno, "give a stream to the pod's root");
  return {};
}

Result<std::unique_ptr<ProcessIo>> ProcessIo::open(IoContext& context, const StdioPaths& paths) {
  std::unique_ptr<ProcessIo> io(new ProcessIo(context));
  io->terminal_ = paths.terminal;
  BERTH_ASSIGN(const StdioUri in, parse_stdio_uri(paths.in), "stdin");
  BERTH_ASSIGN(const StdioUri out, parse_stdio_uri(paths.out), "stdout");
  BERTH_ASSIGN(const StdioUri err, parse_stdio_uri(paths.err), "stderr");
  BERTH_TRY(io->open_input(in), "open stdin");
  BERTH_TRY(io->open_output(kOut, out), "open stdout");
  // A terminal has one stream of output.
  if (!paths.terminal) BERTH_TRY(io->open_output(kErr, err), "open stderr");
  for (const UniqueFd& fd : io->child_) {
    if (!paths.terminal) BERTH_TRY(give_stream(context.root, fd.get()), "standard streams");
  }
  return io;
}

Result<> ProcessIo::open_input(const StdioUri& uri) {
  if (uri.kind == StdioUri::Kind::kNull) return {};
  if (uri.kind == StdioUri::Kind::kCriLog || uri.kind == StdioUri::Kind::kWatched) {
    return fail(Code::kInvalid, "stdin cannot be a log");
  }
  BERTH_ASSIGN(child_[kIn], os::open_file(uri.path, O_RDONLY | O_NONBLOCK | O_NOCTTY), "read end");
  BERTH_ASSIGN(const mode_t type, file_type(child_[kIn].get(), uri.path), "read end");
  if (type == S_IFREG) return {};
  if (type != S_IFIFO) return fail(Code::kInvalid, uri.path + " is neither a FIFO nor a file");
  // Our own writer: no end of file before CloseIO, whoever comes and goes at the other end.
  BERTH_ASSIGN(fifo_end_[kIn], os::open_file(uri.path, O_WRONLY | O_NONBLOCK), "write end");
  return os::set_nonblocking(child_[kIn].get(), false);
}

Result<> ProcessIo::open_output(Stream stream, const StdioUri& uri) {
  switch (uri.kind) {
    case StdioUri::Kind::kNull:
      if (terminal_) sinks_[0] = std::make_unique<FanOut>(std::make_unique<NullSink>());
      return {};
    case StdioUri::Kind::kWatched:
      sinks_[stream - 1U] = std::make_unique<FanOut>(std::make_unique<NullSink>());
      return take_output(stream);
    case StdioUri::Kind::kCriLog:
      return open_log(stream, uri.path);
    case StdioUri::Kind::kPath:
    case StdioUri::Kind::kFile:
      return open_output_path(stream, uri);
  }
  return {};
}

Result<> ProcessIo::open_output_path(Stream stream, const StdioUri& uri) {
  const bool make = uri.kind == StdioUri::Kind::kFile;
  // Read and write: opening a FIFO this way never waits for a peer.
  BERTH_ASSIGN(UniqueFd held,
               os::open_file(uri.path, O_RDWR | O_APPEND | O_NONBLOCK | O_NOCTTY | (make ? O_CREAT : 0), 0640),
               kNames[stream]);
  BERTH_ASSIGN(const mode_t type, file_type(held.get(), uri.path), kNames[stream]);
  if (type == S_IFREG) {
    if (terminal_) {
      sinks_[0] = std::make_unique<FanOut>(std::make_unique<FileSink>(std::move(held)));
    } else {
      BERTH_TRY(os::set_nonblocking(held.get(), false), kNames[stream]);
      child_[stream] = std::move(held);
    }
    return {};
  }
  if (type != S_IFIFO) return fail(Code::kInvalid, uri.path + " is neither a FIFO nor a file");
  BERTH_ASSIGN(child_[stream], os::open_file(uri.path, O_WRONLY | O_NONBLOCK), "write end");
  // Our own reader: a client that goes away and comes back must not cost the container a SIGPIPE. It must not write,
  // or the client would never see the end.
  BERTH_ASSIGN(fifo_end_[stream], os::open_file(uri.path, O_RDONLY | O_NONBLOCK), "read end");
  return os::set_nonblocking(child_[stream].get(), false);
}

Result<> ProcessIo::open_log(Stream stream, const std::string& path) {
  const std::size_t index = stream - 1U;
  LogFile* file = nullptr;
  if (index == 1 && logs_[0] != nullptr && logs_[0]->path() == path) {
    file = logs_[0].get();
  } else {
    BERTH_ASSIGN(logs_[index], LogFile::open(path), kNames[stream]);
    file = logs_[index].get();
  }
  sinks_[index] = std::make_unique<FanOut>(std::make_unique<LogStream>(
      *file, index == 0 ? StreamName::kStdout : StreamName::kStderr, context_.max_line_bytes, context_.scratch));
  return take_output(stream);
}

// What the process writes comes to us, by a pipe unless it has a terminal.
Result<> ProcessIo::take_output(Stream stream) {
  if (terminal_) return {};
  const std::size_t index = stream - 1U;
  BERTH_ASSIGN(os::Pipe pipe, os::make_pipe(), kNames[stream]);
  child_[stream] = std::move(pipe.write);
  BERTH_ASSIGN(pumps_[index], Pump::start(context_.loop, context_.scratch, std::move(pipe.read), *sinks_[index]),
               kNames[stream]);
  return {};
}

engine::Stdio ProcessIo::child_ends() const {
  if (terminal_) return {};
  return {child_[kIn].get(), child_[kOut].get(), child_[kErr].get()};
}

Result<> ProcessIo::started(UniqueFd console) {
  if (!terminal_) {
    for (UniqueFd& fd : child_) fd.reset();
    return {};
  }
  if (!console.valid()) return fail(Code::kInternal, "the engine gave no terminal");
  console_ = std::move(console);
  BERTH_ASSIGN(UniqueFd reader, os::dup_fd(console_.get()), "terminal");
  return copy_terminal(std::move(reader));
}

Result<> ProcessIo::started_apart(UniqueFd reader, UniqueFd writer) {
  if (!terminal_) return started({});
  if (!reader.valid() || !writer.valid()) return fail(Code::kInternal, "the engine gave no terminal");
  // Held beside what copies the input: where that ends, the terminal goes on.
  console_ = std::move(writer);
  return copy_terminal(std::move(reader));
}

// From `reader`, and to console_.
Result<> ProcessIo::copy_terminal(UniqueFd reader) {
  if (child_[kOut].valid()) {
    BERTH_ASSIGN(console_out_,
                 Relay::start(context_.loop, context_.scratch, std::move(reader), std::move(child_[kOut])), "terminal");
  } else {
    BERTH_ASSIGN(pumps_[0], Pump::start(context_.loop, context_.scratch, std::move(reader), *sinks_[0]), "terminal");
  }
  if (child_[kIn].valid()) {
    BERTH_ASSIGN(UniqueFd writer, os::dup_fd(console_.get()), "terminal");
    BERTH_ASSIGN(console_in_, Relay::start(context_.loop, context_.scratch, std::move(child_[kIn]), std::move(writer)),
                 "terminal");
  }
  return {};
}

Result<> ProcessIo::resize(unsigned short columns, unsigned short rows) {
  if (!console_.valid()) return fail(Code::kPrecondition, "the process has no terminal");
  return os::set_window_size(console_.get(), rows, columns);
}

void ProcessIo::close_stdin() {
  fifo_end_[kIn].reset();
}

Result<> ProcessIo::reopen_log() {
  if (logs_[0] == nullptr && logs_[1] == nullptr) return fail(Code::kPrecondition, "the container writes no CRI log");
  for (const auto& log : logs_) {
    if (log != nullptr) BERTH_TRY(log->reopen(), "log of the container");
  }
  return {};
}

Result<> ProcessIo::watch(const std::string& out, const std::string& err) {
  const std::array<const std::string*, 2> paths = {&out, &err};
  std::array<UniqueFd, 2> fifos;
  for (std::size_t index = 0; index < paths.size(); ++index) {
    if (paths[index]->empty() || (terminal_ && index == 1)) continue;
    const std::string name = kNames[index + 1];
    if (sinks_[index] == nullptr) return fail(Code::kPrecondition, name + " does not go through the shim");
    if (sinks_[index]->watchers() >= kMaxWatchers) return fail(Code::kExhausted, "too many watch " + name);
    // ENXIO without a reader.
    auto fifo = os::open_file(*paths[index], O_WRONLY | O_NONBLOCK);
    if (!fifo && fifo.error().errno_value() == ENXIO) return fail(std::move(fifo).error().as(Code::kUnavailable));
    if (!fifo) return fail(std::move(fifo).error().in(name));
    BERTH_ASSIGN(const mode_t type, file_type(fifo->get(), *paths[index]), name);
    if (type != S_IFIFO) return fail(Code::kInvalid, *paths[index] + " is no FIFO");
    fifos[index] = std::move(*fifo);
  }
  for (std::size_t index = 0; index < fifos.size(); ++index) {
    if (fifos[index].valid()) sinks_[index]->add(std::move(fifos[index]));
  }
  return {};
}

void ProcessIo::finish() {
  for (const auto& pump : pumps_) {
    if (pump != nullptr) pump->drain(kFinishLimit);
  }
  if (console_out_ != nullptr) console_out_->drain(kFinishLimit);
  for (const auto& sink : sinks_) {
    if (sink != nullptr) sink->release();
  }
  console_in_.reset();
  close_stdin();
}

Result<std::vector<std::string>> ProcessIo::streams() const {
  std::vector<std::string> all(3, "/dev/null");
  if (fifo_end_[kIn].valid()) return fail(Code::kUnsupported, "its stdin is a FIFO outside of it");
  for (const Stream stream : {kOut, kErr}) {
    if (terminal_) continue;
    if (fifo_end_[stream].valid()) {
      return fail(Code::kUnsupported, std::string("its ") + kNames[stream] + " is a FIFO outside of it");
    }
    const auto& pump = pumps_[stream - 1U];
    if (pump == nullptr || pump->ended()) continue;
    // Both ends of a pipe have one name.
    std::array<char, 64> name{};
    const std::string link = "/proc/self/fd/" + std::to_string(pump->source());
    const ssize_t n = ::readlink(link.c_str(), name.data(), name.size() - 1);
    if (n < 0) return fail_errno(errno, "readlink " + link);
    all[stream] = name.data();
  }
  return all;
}

std::uint64_t ProcessIo::log_bytes_dropped() const {
  std::uint64_t total = 0;
  for (const auto& log : logs_) {
    if (log != nullptr) total += log->bytes_dropped();
  }
  return total;
}

}  // namespace berth::shim
