#pragma once
#include <string>
#include <string_view>

#include "base/unique_fd.h"
#include "event/loop.h"

namespace berth::shim {

/// Tells containerd what happens to tasks: its service containerd.services.events.ttrpc.v1.Events at TTRPC_ADDRESS. One
/// way: answers are read and dropped, what cannot be delivered is logged and forgotten, for a containerd that was away
/// asks for the state of its tasks. The connection is made at the first event and kept.
class Publisher final {
 public:
  /// `address`: of the socket, with or without "unix://"; empty: nobody is told. `loop` outlives this.
  Publisher(event::Loop& loop, std::string address, std::string name_space);
  ~Publisher() { disconnect(); }
  Publisher(const Publisher&) = delete;
  Publisher& operator=(const Publisher&) = delete;
  Publisher(Publisher&&) = delete;
  Publisher& operator=(Publisher&&) = delete;

  /// `topic`: "/tasks/exit"; `event`: a message of containerd.events and its type's name. Blocks at most two seconds,
  /// and only on a containerd that stands still.
  template <class Event>
  void publish(std::string_view topic, const Event& event) {
    if (!address_.empty()) send(topic, std::string(event.GetTypeName()), event.SerializeAsString());
  }

 private:
  void send(std::string_view topic, const std::string& type, const std::string& bytes);
  Result<> deliver(const std::string& frame);
  Result<> connect();
  void disconnect();
  void drop_answers();

  event::Loop& loop_;
  std::string address_;
  std::string name_space_;
  UniqueFd socket_;
  event::WatchId watch_{};
  std::uint32_t next_stream_ = 1;
};

}  // namespace berth::shim
