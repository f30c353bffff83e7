// A containerd shim that lies, for tests: its name says how. "pid": it tells pid 1 of every process; "noise": it
// answers with bytes that are no ttrpc; "deaf": it takes connections and answers nothing; "leaver": it ends when it is
// asked.
#include <signal.h>
#include <unistd.h>

#include <array>
#include <cerrno>
#include <chrono>
#include <climits>
#include <cstdio>
#include <string>
#include <utility>
#include <vector>

#include "base/result.h"
#include "containerd/runtime/task/v2/shim.pb.h"
#include "event/loop.h"
#include "os/file.h"
#include "os/pidfd.h"
#include "os/socket.h"
#include "os/spawn.h"
#include "ttrpc/server.h"

namespace {

using berth::Result;

constexpr const char* kSocket = "false.sock";
constexpr const char* kService = "containerd.task.v2.Task";

Result<> start(const std::string& name) {
  std::array<char, PATH_MAX> folder{};
  if (::getcwd(folder.data(), folder.size()) == nullptr) return berth::fail_errno(errno, "getcwd");
  BERTH_ASSIGN(berth::os::Pipe ready, berth::os::make_pipe(), "start");
  berth::os::SpawnOptions spawn;
  spawn.program = "/proc/self/exe";
  spawn.argv = {name, folder.data(), "serve"};
  spawn.fds = {{ready.write.get(), 1}};
  spawn.new_process_group = true;
  BERTH_ASSIGN(const berth::os::Child child, berth::os::spawn(spawn), "start");
  ready.write.reset();
  BERTH_TRY(berth::os::read_all(ready.read.get(), 16), "start");
  return berth::os::write_all(STDOUT_FILENO, std::string("unix://") + folder.data() + "/" + kSocket);
}

Result<> make_noise(int listener) {
  while (true) {
    BERTH_ASSIGN(const bool waits, berth::os::wait_readable(listener, std::chrono::hours(1)), "noise");
    BERTH_ASSIGN(const auto connection, berth::os::accept_connection(listener), "noise");
    if (!waits || !connection) continue;
    berth::ignore(berth::os::write_all(connection->get(), std::string(64, '\xff')), "it may hang up");
    ::usleep(1'000'000);
  }
}

Result<> serve(const std::string& kind) {
  ::signal(SIGPIPE, SIG_IGN);
  BERTH_ASSIGN(berth::UniqueFd listener, berth::os::unix_listen(kSocket), "serve");
  BERTH_TRY(berth::os::write_all(STDOUT_FILENO, "1"), "serve");
  ::close(STDOUT_FILENO);
  if (kind == "noise") return make_noise(listener.get());
  BERTH_ASSIGN(const auto loop, berth::event::Loop::create(), "serve");
  berth::ttrpc::Server server(*loop);
  std::vector<berth::ttrpc::Responder> unanswered;
  server.handle(kService, "Create", [&](std::string_view, berth::ttrpc::Responder responder) {
    if (kind == "leaver") ::_exit(0);
    if (kind == "deaf") return unanswered.push_back(std::move(responder));
    containerd::task::v2::CreateTaskResponse reply;
    reply.set_pid(1);
    responder.ok(reply.SerializeAsString());
  });
  BERTH_TRY(server.listen(std::move(listener)), "serve");
  return loop->run();
}

}  // namespace

int main(int argc, char** argv) {
  const std::string path = argv[0];
  const std::string kind = path.substr(path.rfind('-') + 1);
  const std::string action = argc > 1 ? argv[argc - 1] : "";
  Result<> done;
  if (action == "start") done = start(path);
  if (action == "serve") done = serve(kind);
  if (done) return 0;
  ::dprintf(STDERR_FILENO, "%s\n", done.error().text().c_str());
  return 1;
}
