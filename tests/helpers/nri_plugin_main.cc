// A pre-installed NRI plugin for tests: it speaks over the descriptor that NRI_PLUGIN_SOCKET names. One with "hang" in
// its name never registers, one with "die" ends at once, one with "update" asks for an update as it joins. The
// configuration of the others is a folder, in which they leave "NAME.up" and, when they are told to shut down, what
// they were told: "NAME.calls".
#include <fcntl.h>
#include <signal.h>
#include <unistd.h>

#include <cstdlib>
#include <string>

#include "base/strings.h"
#include "nri_plugin.h"
#include "os/file.h"

namespace {

std::string variable(const char* name) {
  const char* value = std::getenv(name);  // NOLINT(concurrency-mt-unsafe): no other thread yet
  return value == nullptr ? std::string() : std::string(value);
}

}  // namespace

int main() {
  ::signal(SIGPIPE, SIG_IGN);
  const auto fd = berth::parse_number<int>(variable("NRI_PLUGIN_SOCKET"));
  const std::string name = variable("NRI_PLUGIN_IDX") + "-" + variable("NRI_PLUGIN_NAME");
  if (!fd || name.find("die") != std::string::npos) return 3;
  if (name.find("hang") != std::string::npos) {
    ::pause();
    return 0;
  }
  ::fcntl(*fd, F_SETFD, FD_CLOEXEC);
  berth::test::NriPlugin plugin;
  if (name.find("update") != std::string::npos) {
    using berth::test::nri_api::SynchronizeRequest;
    using berth::test::nri_api::SynchronizeResponse;
    plugin.on<SynchronizeRequest, SynchronizeResponse>(
        "Synchronize", [](const SynchronizeRequest&) -> berth::Result<SynchronizeResponse> {
          SynchronizeResponse reply;
          reply.add_update()->set_container_id("any");
          return reply;
        });
  }
  if (!plugin.start(berth::UniqueFd(*fd))) return 4;
  const std::string folder = plugin.configuration().config();
  berth::ignore(berth::os::write_file_atomic(folder + "/" + name + ".up", std::to_string(::getpid())), "a test sees");
  while (plugin.connected() && !plugin.wait_for("Shutdown", std::chrono::milliseconds(100))) continue;
  berth::ignore(berth::os::write_file_atomic(folder + "/" + name + ".calls", berth::join(plugin.calls(), "\n")), "too");
  return 0;
}
