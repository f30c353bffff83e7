#include "shim/scratch.h"

#include <sys/mman.h>

#include <chrono>

namespace berth::shim {
namespace {

constexpr std::chrono::seconds kQuiet{1};

}  // namespace

Scratch::Scratch(event::Loop& loop, std::size_t out_bytes) : loop_(loop), out_bytes_(out_bytes) {}

Scratch::~Scratch() {
  loop_.cancel(timer_);
  if (memory_ != nullptr) ::munmap(memory_, kReadBytes + out_bytes_);
}

bool Scratch::map() {
  if (memory_ != nullptr) return true;
  void* memory = ::mmap(nullptr, kReadBytes + out_bytes_, PROT_READ | PROT_WRITE,
                        MAP_PRIVATE | MAP_ANONYMOUS | MAP_NORESERVE, -1, 0);
  if (memory == MAP_FAILED) return false;
  // A huge page would make one line of output cost two megabytes.
  ::madvise(memory, kReadBytes + out_bytes_, MADV_NOHUGEPAGE);
  memory_ = static_cast<char*>(memory);
  return true;
}

std::span<char> Scratch::read_buffer() {
  return map() ? std::span<char>(memory_, kReadBytes) : std::span<char>();
}

std::span<char> Scratch::out_buffer() {
  return map() ? std::span<char>(memory_ + kReadBytes, out_bytes_) : std::span<char>();
}

void Scratch::used(std::size_t bytes) {
  if (bytes <= kKeepBytes) return;
  busy_ = true;
  if (timer_ == event::kNoTimer) timer_ = loop_.add_timer(kQuiet, [this] { give_back(); });
}

void Scratch::give_back() {
  timer_ = event::kNoTimer;
  if (busy_) {
    // Used again within the second: look once more, rather than fault the pages in anew all the time.
    busy_ = false;
    timer_ = loop_.add_timer(kQuiet, [this] { give_back(); });
    return;
  }
  ::madvise(memory_, kReadBytes + out_bytes_, MADV_DONTNEED);
}

}  // namespace berth::shim
