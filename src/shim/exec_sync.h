#pragma once
#include <cstdint>
#include <deque>
#include <functional>
#include <map>
#include <memory>
#include <string>
#include <string_view>

#include "base/result.h"
#include "event/loop.h"
#include "shim/pod.h"
#include "shim/pump.h"
#include "shim/sink.h"

namespace berth::shim {

/// Keeps the first `limit` bytes of a stream and counts the rest.
class Capture final : public Sink {
 public:
  explicit Capture(std::size_t limit) : limit_(limit) {}
  void write(std::string_view bytes) override;
  void flush() override {}
  [[nodiscard]] bool truncated() const { return truncated_; }
  [[nodiscard]] std::string take() { return std::move(kept_); }

 private:
  std::size_t limit_;
  std::string kept_;
  bool truncated_ = false;
};

struct ExecSyncParams {
  std::string container_id;
  std::string_view process_json;         ///< OCI process object without terminal
  std::uint64_t timeout_ms = 0;          ///< 0: none
  std::uint64_t output_limit_bytes = 0;  ///< of each stream; 0: the default; at most the default
};

struct ExecSyncResult {
  std::string out;  ///< the beginning, when token is set
  std::string err;
  int exit_code = 0;
  bool timed_out = false;
  bool out_truncated = false;
  bool err_truncated = false;
  std::uint64_t token = 0;
  std::uint64_t out_size = 0;
  std::uint64_t err_size = 0;
};

/// Runs processes in containers and collects what they say. The answer comes when the process itself has ended and what
/// was in its pipes then has been read: its background children are not waited for. At the timeout everything that the
/// process has started goes with it.
class ExecSync final {
 public:
  static constexpr std::uint64_t kOutputLimit = 16U << 20;
  /// What an answer carries at most of both streams together; more is kept for read().
  static constexpr std::size_t kInlineBytes = 3U << 20;
  static constexpr std::size_t kMaxJobs = 256;

  using Done = std::function<void(Result<ExecSyncResult>)>;

  /// `pod` outlives this.
  explicit ExecSync(Pod& pod);
  ~ExecSync();
  ExecSync(const ExecSync&) = delete;
  ExecSync& operator=(const ExecSync&) = delete;
  ExecSync(ExecSync&&) = delete;
  ExecSync& operator=(ExecSync&&) = delete;

  /// Calls `done` once, now or later. Errors: kNotFound no such container; kPrecondition it does not run; kInvalid a
  /// bad process object or a program that cannot be executed; kExhausted too many at once.
  void run(const ExecSyncParams& params, Done done);

  /// A part of a long output: from `offset`, at most `length` and kInlineBytes; empty beyond the end. `release` forgets
  /// the output afterwards; so does a minute in which nobody asks for it, or another long output. kNotFound: forgotten.
  [[nodiscard]] Result<std::string> read(std::uint64_t token, bool err, std::uint64_t offset, std::uint64_t length,
                                         bool release);

 private:
  struct Job;
  struct Kept {
    std::string out;
    std::string err;
    event::TimerId timer = event::kNoTimer;
  };

  /// The cgroup of a command that has ended while what it had started lives on.
  struct Lingering {
    std::weak_ptr<Container> owner;
    std::string sub_cgroup;
    bool kill_rest = false;
  };

  Result<> begin(const ExecSyncParams& params, Job& job);
  void timed_out(std::uint64_t number);
  void ended(std::uint64_t number, int code);
  void finish(std::uint64_t number, int code);
  void keep(ExecSyncResult& result);
  void clear_cgroup(std::weak_ptr<Container> owner, std::string sub_cgroup, bool kill_rest, int tries);
  /// Removes some of the lingering cgroups that have become empty. Nothing tells when one does; each command's end
  /// looks, so that their number follows that of the processes that live.
  void sweep();

  Pod& pod_;
  std::uint64_t last_number_ = 0;
  std::map<std::uint64_t, std::unique_ptr<Job>> jobs_;
  std::map<std::uint64_t, Kept> kept_;
  std::deque<Lingering> lingering_;
};

}  // namespace berth::shim
