#include "os/netns.h"

#include <sched.h>

#include <cerrno>
#include <exception>
#include <thread>

#include "os/file.h"

namespace berth::os {
namespace {

// A network namespace belongs to a thread. A thread that ends with its work needs no way back, so no failure can leave
// a thread of the daemon in a pod's namespace (docs/adr/0006).
Result<> on_own_thread(const std::function<Result<>()>& work) {
  Result<> result;
  try {
    std::thread thread([&result, &work] {
      try {
        result = work();
      } catch (const std::exception& e) {
        result = fail(Code::kInternal, e.what());
      }
    });
    thread.join();
  } catch (const std::exception& e) {
    return fail(Code::kExhausted, std::string("start a thread: ") + e.what());
  }
  return result;
}

}  // namespace

Result<UniqueFd> current_netns() {
  return open_file("/proc/thread-self/ns/net", O_RDONLY);
}

Result<UniqueFd> create_netns() {
  UniqueFd fd;
  auto made = on_own_thread([&fd]() -> Result<> {
    if (::unshare(CLONE_NEWNET) != 0) return fail_errno(errno, "unshare CLONE_NEWNET");
    BERTH_ASSIGN(fd, current_netns(), "keep the namespace");
    return {};
  });
  if (!made) return fail(std::move(made).error().in("make a network namespace"));
  return fd;
}

Result<> run_in_netns(int netns_fd, const std::function<Result<>()>& work) {
  return on_own_thread([netns_fd, &work]() -> Result<> {
    if (::setns(netns_fd, CLONE_NEWNET) != 0) return fail_errno(errno, "setns CLONE_NEWNET");
    return work();
  });
}

}  // namespace berth::os
