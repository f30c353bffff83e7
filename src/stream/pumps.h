#pragma once
#include <boost/asio/posix/stream_descriptor.hpp>
#include <cstddef>
#include <functional>
#include <memory>
#include <string>
#include <string_view>

#include "base/unique_fd.h"

namespace berth::stream {

/// Reads a FIFO into a function, as long as that has room.
class OutputPump final : public std::enable_shared_from_this<OutputPump> {
 public:
  struct Hooks {
    std::function<void(std::string_view)> bytes;
    std::function<bool()> has_room;
    std::function<void()> ended;  ///< nobody writes any more; once
  };
  /// `fifo`: non-blocking.
  OutputPump(boost::asio::io_context& io, UniqueFd fifo, Hooks hooks);

  void start() { wait(); }
  /// There is room again.
  void resume();
  /// Takes what is there now, whether there is room or not: at most about 2 MiB, which is more than a FIFO holds.
  void drain();
  /// No hook is called any more.
  void stop();
  [[nodiscard]] bool ended() const { return ended_; }

 private:
  void wait();
  void read_some();
  /// Whether something came.
  bool read_once();
  void end();

  boost::asio::posix::stream_descriptor fifo_;
  Hooks hooks_;
  bool waiting_ = false;
  bool ended_ = false;
};

/// Writes what it is given into a FIFO.
class InputPump final : public std::enable_shared_from_this<InputPump> {
 public:
  struct Hooks {
    std::function<void(bool)> pause;  ///< the sender should pause, or go on
    std::function<void()> ended;      ///< all was written after end(), or nobody reads; once
  };
  InputPump(boost::asio::io_context& io, UniqueFd fifo, Hooks hooks);

  void write(std::string_view bytes);
  /// Nothing more comes.
  void end();
  void stop();

 private:
  void write_more();
  void finish();

  boost::asio::posix::stream_descriptor fifo_;
  Hooks hooks_;
  std::string pending_;  // not yet handed over
  std::string writing_;
  std::size_t written_ = 0;  // of writing_
  bool busy_ = false;
  bool ending_ = false;
  bool over_ = false;
  bool paused_ = false;
};

}  // namespace berth::stream
