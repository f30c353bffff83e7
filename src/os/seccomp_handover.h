#pragma once
#include <atomic>
#include <optional>

#include "base/result.h"
#include "base/unique_fd.h"

namespace berth::os {

/// A page that a process shares with the one that watches over it, to pass a seccomp listener's number without a system
/// call: under the fresh filter any call may be refused or wait for the listener's reader. The page cannot shrink, so
/// that nobody who gets at the descriptor can hurt who maps it. Move-only.
class SeccompHandover final {
 public:
  /// For the process that will load the filter.
  static Result<SeccompHandover> create();
  /// The same page in the other process; `page` as it came. kCorrupt when it is something else.
  static Result<SeccompHandover> map(UniqueFd page);

  SeccompHandover(SeccompHandover&& other) noexcept;
  SeccompHandover& operator=(SeccompHandover&&) = delete;
  SeccompHandover(const SeccompHandover&) = delete;
  SeccompHandover& operator=(const SeccompHandover&) = delete;
  ~SeccompHandover();

  [[nodiscard]] int fd() const { return fd_.get(); }

  /// Makes no system call: says that `listener` is there and waits, burning its CPU, until it was taken. When nobody
  /// takes it for a minute or so, ends the process by a trap.
  void offer_and_wait(int listener) const;
  /// Leaves page and descriptor to exec, again without a call.
  void forget();

  [[nodiscard]] std::optional<int> offered() const;
  void take() const;

 private:
  struct Shared {
    std::atomic<int> listener;  ///< number + 1
    std::atomic<int> taken;
  };
  static_assert(std::atomic<int>::is_always_lock_free);
  SeccompHandover(UniqueFd fd, Shared* shared) : fd_(std::move(fd)), shared_(shared) {}
  static Result<SeccompHandover> map_sealed(UniqueFd fd);

  UniqueFd fd_;
  Shared* shared_;
};

}  // namespace berth::os
