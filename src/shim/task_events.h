#pragma once
#include <string>

#include "shim/container.h"
#include "shim/pod.h"
#include "shim/publisher.h"

namespace containerd::task::v2 {
class CreateTaskRequest;
}

namespace berth::shim {

/// The events of containerd.events that a shim owes containerd, by name. `exec_id` "" is a container's first process.
class TaskEvents final {
 public:
  explicit TaskEvents(Publisher& publisher) : publisher_(publisher) {}

  void created(const ::containerd::task::v2::CreateTaskRequest& request, pid_t pid);
  void started(const std::string& id, const std::string& exec_id, pid_t pid);
  void exec_added(const std::string& id, const std::string& exec_id);
  void exited(const std::string& id, const std::string& exec_id, const TaskProcess& process);
  void out_of_memory(const std::string& id);
  void removed(const std::string& id, const Pod::Removed& removed);
  void paused(const std::string& id);
  void resumed(const std::string& id);

 private:
  Publisher& publisher_;
};

}  // namespace berth::shim
