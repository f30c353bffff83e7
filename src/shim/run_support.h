#pragma once
#include <gtest/gtest.h>
#include <sys/types.h>

#include <memory>
#include <string>
#include <vector>

#include "berth/shim/v1/shim.pb.h"
#include "containerd/runtime/task/v2/shim.pb.h"
#include "os/spawn.h"
#include "shim/test_support.h"
#include "spec/runtime.h"
#include "ttrpc/client.h"
#include "ttrpc/typed.h"

// Runs the real program against the real kernel: for this library's tests labelled root.
namespace berth::shim::test {

namespace task = ::containerd::task::v2;
namespace own = ::berth::shim::v1;
using Empty = ::berth::wkt::Empty;

/// A pod: the shim's process, its folder and a client. Each test has its own; TearDown ends the shim and looks whether
/// anything was left of it: processes, mounts, cgroups.
class RunTest : public testing::Test {
 protected:
  void SetUp() override;
  void TearDown() override;

  /// Starts the shim with sandbox.json as given (empty: without, as containerd does).
  void start_shim(const std::string& sandbox_json);
  [[nodiscard]] std::string default_sandbox() const;
  /// SIGKILL, and waits until it is gone.
  void kill_shim();

  /// A container's configuration: busybox's shell runs `script`.
  [[nodiscard]] spec::Spec make_spec(const std::string& id, const std::string& script) const;
  /// Writes the bundle and calls Create: root is an overlay of two layers, output goes to log(id).
  Result<task::CreateTaskResponse> create(const std::string& id, const spec::Spec& spec);
  [[nodiscard]] task::CreateTaskRequest create_request(const std::string& id) const;
  void write_bundle(const std::string& id, const spec::Spec& spec) const;
  /// Create and Start; fails the test when that fails.
  void run(const std::string& id, const std::string& script);
  /// Waits for the end; the exit code.
  std::uint32_t wait(const std::string& id, const std::string& exec_id = "");
  Result<task::StartResponse> start(const std::string& id, const std::string& exec_id = "");
  Result<task::DeleteResponse> remove(const std::string& id, const std::string& exec_id = "");
  Result<task::StateResponse> state(const std::string& id, const std::string& exec_id = "");
  Result<Empty> kill(const std::string& id, int signal, const std::string& exec_id = "", bool all = false);
  Result<own::ExecSyncResponse> exec_sync(const std::string& id, const std::string& script,
                                          std::uint64_t timeout_ms = 0, std::uint64_t limit = 0);
  own::PodInfoResponse info();

  template <class Reply, class Request>
  Result<Reply> call(const char* method, const Request& request, const char* service = "containerd.task.v2.Task") {
    return ttrpc::call<Reply>(*client_, service, method, request, ttrpc::CallOptions::within(std::chrono::seconds(20)));
  }
  template <class Reply, class Request>
  Result<Reply> own_call(const char* method, const Request& request) {
    return call<Reply>(method, request, "berth.shim.v1.Shim");
  }

  [[nodiscard]] std::string bundle(const std::string& id) const { return folder() + "/" + id; }
  [[nodiscard]] std::string log(const std::string& id) const { return folder() + "/" + id + ".log"; }
  [[nodiscard]] const std::string& folder() const { return folder_->path(); }
  /// Until `condition` holds, at most 20 s. Polls: for things that give no event.
  static bool eventually(const std::function<bool()>& condition);
  [[nodiscard]] std::string cgroup(const std::string& id) const { return "/" + cgroup_ + "/" + id; }

  std::unique_ptr<TempFolder> folder_;
  std::string cgroup_;
  std::string program_;
  os::Child shim_;
  std::string address_;
  std::unique_ptr<ttrpc::Reactor> reactor_;
  std::unique_ptr<ttrpc::Client> client_;

 private:
  void make_layers() const;
  [[nodiscard]] std::vector<std::string> left_cgroups() const;

  std::string mounts_before_;
  std::string children_before_;
};

/// The text of `path`, or what went wrong.
std::string slurp(const std::string& path);
/// Whether the process has ended. Whose orphan it was may take its time to reap it.
bool gone(std::uint32_t pid);

}  // namespace berth::shim::test
