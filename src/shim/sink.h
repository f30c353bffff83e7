#pragma once
#include <string_view>

namespace berth::shim {

/// Where a process's output goes. Must take everything, at once.
class Sink {
 public:
  Sink() = default;
  Sink(const Sink&) = delete;
  Sink& operator=(const Sink&) = delete;
  Sink(Sink&&) = delete;
  Sink& operator=(Sink&&) = delete;
  virtual ~Sink() = default;

  /// `bytes`: never empty; valid during the call only.
  virtual void write(std::string_view bytes) = 0;
  /// Nothing more comes for now: what was held back is let go. May be called more than once.
  virtual void flush() = 0;
};

}  // namespace berth::shim
