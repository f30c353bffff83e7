#include "stream/leftover.h"

#include <cerrno>
#include <chrono>
#include <csignal>
#include <thread>

#include "base/log.h"
#include "base/strings.h"
#include "berth/wkt/wkt.pb.h"
#include "containerd/runtime/task/v2/shim.pb.h"
#include "os/file.h"
#include "stream/fifos.h"
#include "ttrpc/typed.h"

namespace berth::stream {
namespace {

namespace task = ::containerd::task::v2;
using Empty = ::berth::wkt::Empty;
using std::chrono::milliseconds;

constexpr std::string_view kTask = "containerd.task.v2.Task";
constexpr milliseconds kConnect{500};
constexpr milliseconds kCall{2'000};
constexpr milliseconds kPause{20};
constexpr int kTries = 50;
constexpr std::size_t kMaxNote = 16U << 10;

Result<> remove_exec(ttrpc::Reactor& reactor, const Leftover& leftover) {
  auto client = ttrpc::Client::connect(reactor, leftover.shim_socket, kConnect);
  if (!client) {
    // No shim, no exec.
    const bool gone = client.error().errno_value() == ENOENT || client.error().errno_value() == ECONNREFUSED;
    return gone ? Result<>() : fail(std::move(client).error());
  }
  task::KillRequest kill;
  kill.set_id(leftover.container_id);
  kill.set_exec_id(leftover.exec_id);
  kill.set_signal(SIGKILL);
  auto killed = ttrpc::call<Empty>(**client, kTask, "Kill", kill, ttrpc::CallOptions::within(kCall));
  ignore(killed, "the removal says whether something is left");
  task::DeleteRequest remove;
  remove.set_id(leftover.container_id);
  remove.set_exec_id(leftover.exec_id);
  for (int tries = 1;; ++tries) {
    auto removed =
        ttrpc::call<task::DeleteResponse>(**client, kTask, "Delete", remove, ttrpc::CallOptions::within(kCall));
    if (removed || removed.error().code() == Code::kNotFound) return {};
    if (removed.error().code() != Code::kPrecondition || tries == kTries) return fail(std::move(removed).error());
    std::this_thread::sleep_for(kPause);
  }
}

Result<> remove_session(ttrpc::Reactor& reactor, const std::string& folder) {
  const auto lock = lock_session(folder);
  // The server that we follow has not ended yet: this session goes on there.
  if (!lock && lock.error().code() == Code::kExists) return {};
  const auto note = os::read_file(folder + "/exec", kMaxNote);
  if (note) {
    const auto lines = split(*note, '\n');
    if (lines.size() >= 3) {
      BERTH_TRY(remove_exec(reactor, {std::string(lines[0]), std::string(lines[1]), std::string(lines[2])}), "exec");
    }
  }
  return os::remove_tree(folder);
}

}  // namespace

Result<> note_leftover(const std::string& session_folder, const Leftover& leftover) {
  return os::write_file_atomic(session_folder + "/exec",
                               leftover.shim_socket + "\n" + leftover.container_id + "\n" + leftover.exec_id + "\n",
                               0600);
}

void remove_leftovers(ttrpc::Reactor& reactor, const std::vector<std::string>& session_folders) {
  for (const auto& folder : session_folders) {
    auto removed = remove_session(reactor, folder);
    if (!removed) log_warn("a session's rest stays", {{"folder", folder}, {"err", removed.error().text()}});
  }
}

}  // namespace berth::stream
