#include "os/seccomp_handover.h"

#include <fcntl.h>
#include <sys/mman.h>
#include <unistd.h>

#include <utility>

namespace berth::os {

namespace {

constexpr std::size_t kPageBytes = 4096;
constexpr int kSeals = F_SEAL_SHRINK | F_SEAL_GROW | F_SEAL_SEAL;

/// Tells the CPU that this is a loop of waiting.
inline void relax() {
#if defined(__x86_64__) || defined(__i386__)
  __builtin_ia32_pause();
#elif defined(__aarch64__)
  asm volatile("isb" ::: "memory");
#else
  asm volatile("" ::: "memory");
#endif
}
// A turn takes 10 to 40 ns; the other side gives up after ten seconds.
constexpr long long kTurns = 2'000'000'000;

}  // namespace

Result<SeccompHandover> SeccompHandover::map_sealed(UniqueFd fd) {
  void* const page = ::mmap(nullptr, kPageBytes, PROT_READ | PROT_WRITE, MAP_SHARED, fd.get(), 0);
  if (page == MAP_FAILED) return fail_errno(errno, "map the shared page");
  return SeccompHandover(std::move(fd), static_cast<Shared*>(page));
}

Result<SeccompHandover> SeccompHandover::create() {
  UniqueFd fd(::memfd_create("seccomp-listener", MFD_CLOEXEC | MFD_ALLOW_SEALING));
  if (!fd) return fail_errno(errno, "memfd_create");
  if (::ftruncate(fd.get(), kPageBytes) != 0) return fail_errno(errno, "make the shared page");
  if (::fcntl(fd.get(), F_ADD_SEALS, kSeals) != 0) return fail_errno(errno, "seal the shared page");
  return map_sealed(std::move(fd));
}

Result<SeccompHandover> SeccompHandover::map(UniqueFd page) {
  if (::fcntl(page.get(), F_GET_SEALS) != kSeals) return fail(Code::kCorrupt, "the shared page is not a sealed one");
  if (::lseek(page.get(), 0, SEEK_END) != static_cast<off_t>(kPageBytes)) {
    return fail(Code::kCorrupt, "the shared page has another size");
  }
  return map_sealed(std::move(page));
}

SeccompHandover::SeccompHandover(SeccompHandover&& other) noexcept
    : fd_(std::move(other.fd_)), shared_(std::exchange(other.shared_, nullptr)) {}

SeccompHandover::~SeccompHandover() {
  if (shared_ != nullptr) ::munmap(shared_, kPageBytes);
}

void SeccompHandover::offer_and_wait(int listener) const {
  shared_->listener.store(listener + 1, std::memory_order_release);
  for (long long turn = 0; shared_->taken.load(std::memory_order_acquire) == 0; ++turn) {
    if (turn == kTurns) __builtin_trap();
    relax();
  }
}

void SeccompHandover::forget() {
  [[maybe_unused]] const int left = fd_.release();
  shared_ = nullptr;
}

std::optional<int> SeccompHandover::offered() const {
  const int value = shared_->listener.load(std::memory_order_acquire);
  return value > 0 ? std::optional<int>(value - 1) : std::nullopt;
}

void SeccompHandover::take() const {
  shared_->taken.store(1, std::memory_order_release);
}

}  // namespace berth::os
