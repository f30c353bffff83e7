#include <malloc.h>
#include <sys/prctl.h>
#include <unistd.h>

#include <climits>
#include <cstdio>
#include <cstdlib>
#include <memory>
#include <string>

#include "base/log.h"
#include "engine/process/process_engine.h"
#include "os/file.h"
#include "shim/command_line.h"
#include "shim/server.h"
#include "shim/start.h"

// containerd-shim-berth-v2: the supervisor of one pod. docs/shim.md is the contract.
namespace {

using berth::Result;
using berth::shim::Action;
using berth::shim::CommandLine;

Result<std::string> working_folder() {
  std::string path(PATH_MAX, '\0');
  if (::getcwd(path.data(), path.size()) == nullptr) return berth::fail_errno(errno, "getcwd");
  path.resize(path.find('\0'));
  return path;
}

Result<> start(const CommandLine& line, const std::string& folder) {
  std::vector<std::string> argv = {"/proc/self/exe", "-namespace", line.name_space, "-id", line.id};
  if (!line.address.empty()) argv.insert(argv.end(), {"-address", line.address});
  if (!line.publish_binary.empty()) argv.insert(argv.end(), {"-publish-binary", line.publish_binary});
  if (line.debug) argv.emplace_back("-debug");
  argv.emplace_back("serve");
  BERTH_ASSIGN(const std::string address, berth::shim::start_server(std::move(argv), folder), "start");
  return berth::os::write_all(STDOUT_FILENO, address);
}

Result<> run(const CommandLine& line, char** argv) {
  BERTH_ASSIGN(const std::string folder, working_folder(), "working folder");
  if (line.action == Action::kStart) return start(line, folder);
  if (line.action == Action::kServe) {
    // Containers can reach the file that their supervisor runs from; it must not be one that they can write.
    BERTH_TRY(berth::engine::process::protect_own_executable(argv, environ), "protect the shim");
    ::prctl(PR_SET_NAME, "berth-shim");  // the name of a program that was executed by descriptor is a number
  }
  berth::engine::process::Options engine_options;
  // NOLINTNEXTLINE(concurrency-mt-unsafe): one thread
  if (const char* cache = std::getenv("BERTH_FILTER_CACHE"); cache != nullptr) engine_options.filter_cache = cache;
  const auto engine = berth::engine::process::make_process_engine(engine_options);
  if (line.action == Action::kDelete) {
    BERTH_ASSIGN(const std::string reply, berth::shim::clear_dead_shim(*engine, folder), "delete");
    return berth::os::write_all(STDOUT_FILENO, reply);
  }
  berth::shim::ServeOptions options;
  options.id = line.id;
  options.folder = folder;
  return berth::shim::serve(*engine, options);
}

}  // namespace

int main(int argc, char** argv) {
  // One thread, small objects: one arena that gives its top back early.
  // NOLINTBEGIN(concurrency-mt-unsafe)
  ::mallopt(M_ARENA_MAX, 1);
  ::mallopt(M_TRIM_THRESHOLD, 16 << 10);
  ::mallopt(M_TOP_PAD, 4 << 10);
  ::mallopt(M_MMAP_THRESHOLD, 64 << 10);
  // NOLINTEND(concurrency-mt-unsafe)
  const auto line = berth::shim::parse_command_line({argv + 1, argv + argc});
  if (!line) {
    ::dprintf(STDERR_FILENO, "containerd-shim-berth-v2: %s\n", line.error().text().c_str());
    return 1;
  }
  if (line->action == Action::kVersion) {
    ::dprintf(STDOUT_FILENO, "containerd-shim-berth-v2 %s\n", BERTH_VERSION);
    return 0;
  }
  if (line->debug) berth::set_log_level(berth::LogLevel::kDebug);
  if (auto done = run(*line, argv); !done) {
    ::dprintf(STDERR_FILENO, "containerd-shim-berth-v2: %s\n", done.error().text().c_str());
    return 1;
  }
  return 0;
}
