#pragma once
#include <cstddef>
#include <span>

#include "event/loop.h"

namespace berth::shim {

/// Working memory for moving output: one buffer to read into, one to format into, shared by all streams of the shim.
/// Pages exist only from the first use to a second after the last large one, so an idle shim keeps none of them.
/// What the spans hold is valid until the next callback of the loop.
class Scratch final {
 public:
  static constexpr std::size_t kReadBytes = 64U << 10;  ///< what a pipe holds by default
  static constexpr std::size_t kKeepBytes = 8U << 10;   ///< use up to this is not worth giving back

  /// `loop` outlives this. `out_bytes`: size of the formatting buffer.
  Scratch(event::Loop& loop, std::size_t out_bytes);
  ~Scratch();
  Scratch(const Scratch&) = delete;
  Scratch& operator=(const Scratch&) = delete;
  Scratch(Scratch&&) = delete;
  Scratch& operator=(Scratch&&) = delete;

  /// Empty when the kernel has no memory.
  [[nodiscard]] std::span<char> read_buffer();
  [[nodiscard]] std::span<char> out_buffer();
  /// Tells how much of either buffer was touched, so that the pages are given back once it is quiet.
  void used(std::size_t bytes);

 private:
  bool map();
  void give_back();

  event::Loop& loop_;
  std::size_t out_bytes_;
  char* memory_ = nullptr;
  event::TimerId timer_ = event::kNoTimer;
  bool busy_ = false;
};

}  // namespace berth::shim
