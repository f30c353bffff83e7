#include "engine/process/criu.h"

#include <fcntl.h>
#include <unistd.h>

#include <csignal>
#include <cstdlib>

#include "base/strings.h"
#include "os/file.h"
#include "os/packet.h"
#include "os/pidfd.h"

namespace berth::engine::process {

namespace {

constexpr int kSocket = 3;  // in criu's process
// A dump or restore has a dozen notifications, and one for each terminal.
constexpr int kMaxNotices = 4096;
// Of the end of the log: criu writes a line for each page that it copies.
constexpr off_t kLogTail = 256L << 10;

std::string log_reason(const std::string& path) {
  if (path.empty()) return {};
  const auto log = os::open_file(path, O_RDONLY | O_NOFOLLOW);
  if (!log) return {};
  const off_t size = ::lseek(log->get(), 0, SEEK_END);
  ::lseek(log->get(), size > kLogTail ? size - kLogTail : 0, SEEK_SET);
  // One byte more than the tail, should it grow meanwhile: criu has ended.
  const auto text = os::read_all(log->get(), static_cast<std::size_t>(kLogTail) + 1);
  return text ? criu_log_errors(*text) : std::string();
}

/// One run, from the start of the process to its end.
class Session {
 public:
  explicit Session(CriuRun run) : run_(std::move(run)) {}
  Session(const Session&) = delete;
  Session& operator=(const Session&) = delete;
  Session(Session&&) = delete;
  Session& operator=(Session&&) = delete;
  ~Session() {
    if (!child_.pidfd.valid()) return;
    ignore(os::pidfd_signal(child_.pidfd.get(), SIGKILL), "it may have ended");
    ignore(os::wait_exit(child_), "nothing more can be done");
  }

  Result<CriuResponse> run();

 private:
  Result<> start();
  Result<CriuResponse> talk();
  Result<> answer(CriuResponse& response, UniqueFd fd);
  Result<int> end();
  Error refusal(const CriuResponse& response) const;
  Error with_reason(Code code, std::string text, int errno_value) const;

  CriuRun run_;
  UniqueFd socket_;
  os::Child child_;
  Result<> noticed_;  ///< what a notification failed on
};

Error Session::with_reason(Code code, std::string text, int errno_value) const {
  if (const std::string reason = log_reason(run_.log_path); !reason.empty()) {
    text += ": " + reason + " (see " + run_.log_path + ")";
  }
  return Error(code, std::move(text), errno_value);
}

Error Session::refusal(const CriuResponse& response) const {
  const bool known = response.criu_errno != 0;
  const Code code = known ? errno_error(response.criu_errno, "").code() : Code::kInternal;
  Error error = with_reason(code, "criu failed", response.criu_errno);
  if (error.text() == "criu failed" && !response.error_text.empty()) {
    return Error(code, "criu failed: " + response.error_text, response.criu_errno);
  }
  return error;
}

Result<> Session::start() {
  BERTH_ASSIGN(auto pair, os::packet_socketpair(), "criu");
  BERTH_ASSIGN(child_, run_.start(pair.second.get()), "criu");
  socket_ = std::move(pair.first);
  // With our copy of its end gone, criu's own end is the end of what we read.
  pair.second.reset();
  if (run_.complete) BERTH_TRY(run_.complete(child_.pid, *run_.request.settings), "criu");
  return os::send_packet(socket_.get(), encode_criu_request(run_.request));
}

Result<> Session::answer(CriuResponse& response, UniqueFd fd) {
  if (noticed_ && run_.on_notice) {
    CriuNotice notice{response.script, response.notify_pid, std::move(fd)};
    noticed_ = run_.on_notice(notice);
  }
  CriuRequest reply;
  reply.type = CriuRequestType::kNotify;
  reply.notify_success = noticed_.has_value();
  return os::send_packet(socket_.get(), encode_criu_request(reply));
}

Result<CriuResponse> Session::talk() {
  for (int i = 0; i < kMaxNotices; ++i) {
    BERTH_ASSIGN(os::Packet packet, os::receive_packet(socket_.get(), kMaxCriuResponse), "criu");
    BERTH_ASSIGN(CriuResponse response, decode_criu_response(packet.bytes), "criu");
    if (response.type == static_cast<std::uint64_t>(CriuRequestType::kNotify) && response.success) {
      BERTH_TRY(answer(response, std::move(packet.fd)), "criu");
      continue;
    }
    if (response.success && response.type != static_cast<std::uint64_t>(run_.request.type)) {
      return fail(Code::kCorrupt, "criu answered another question: " + std::to_string(response.type));
    }
    return response;
  }
  return fail(Code::kExhausted, "criu has no end of notifications");
}

Result<int> Session::end() {
  socket_.reset();
  const auto code = os::wait_exit(child_);
  child_.pidfd.reset();
  return code;
}

Result<CriuResponse> Session::run() {
  auto started = start();
  auto response = started ? talk() : Result<CriuResponse>(fail(started.error()));
  if (!response) {
    if (response.error().code() != Code::kUnavailable || !child_.pidfd.valid()) return response;
    const auto code = end();
    return fail(
        with_reason(Code::kUnavailable, "criu ended without an answer (" + std::to_string(code.value_or(-1)) + ")", 0));
  }
  const auto code = end();
  // Whoever failed first has the reason; criu only says that it was told so.
  if (!noticed_) return fail(noticed_.error());
  if (!response->success) return fail(refusal(*response));
  if (!code) return fail(code.error().in("criu"));
  // After a pre-dump criu waits for the next request, and takes our going away for a failure.
  if (*code != 0 && run_.request.type != CriuRequestType::kPreDump) {
    return fail(with_reason(Code::kInternal, "criu ended with " + std::to_string(*code), 0));
  }
  return response;
}

std::vector<std::string> environment() {
  std::vector<std::string> env;
  for (char** entry = ::environ; entry != nullptr && *entry != nullptr; ++entry) env.emplace_back(*entry);
  return env;
}

}  // namespace

Result<std::string> find_criu(const std::string& name) {
  auto found = os::find_program(name, "/usr/local/sbin:/usr/sbin:/sbin:/usr/bin:/bin");
  if (found) return std::move(*found);
  const bool path = name.find('/') != std::string::npos;
  return fail(Code::kUnsupported, "checkpoint and restore need the program " + name + ", which " +
                                      (path ? "is not there or no program" : "is not in PATH"));
}

std::function<Result<os::Child>(int)> plain_criu(std::string program) {
  return [program = std::move(program)](int socket_fd) {
    os::SpawnOptions options;
    options.argv = {program, "swrk", std::to_string(kSocket)};
    options.env = environment();
    options.fds = {{socket_fd, kSocket}};
    return os::spawn(options);
  };
}

Result<CriuResponse> run_criu(CriuRun run) {
  return Session(std::move(run)).run();
}

Result<int> criu_version(const std::string& program) {
  CriuRun run;
  run.request.type = CriuRequestType::kVersion;
  run.start = plain_criu(program);
  BERTH_ASSIGN(const CriuResponse response, run_criu(std::move(run)), "version of " + program);
  return response.version;
}

Result<CriuFeatures> criu_features(const std::string& program, const CriuFeatures& wanted) {
  CriuRun run;
  run.request.type = CriuRequestType::kFeatureCheck;
  run.request.features = wanted;
  run.start = plain_criu(program);
  BERTH_ASSIGN(const CriuResponse response, run_criu(std::move(run)), "features of " + program);
  return response.features;
}

}  // namespace berth::engine::process
