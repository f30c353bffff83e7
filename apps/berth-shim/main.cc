#include <malloc.h>
#include <sys/prctl.h>
#include <unistd.h>

#include <chrono>
#include <climits>
#include <cstdio>
#include <cstdlib>
#include <memory>
#include <optional>
#include <string>

#include "base/log.h"
#include "base/strings.h"
#include "engine/external/external_engine.h"
#include "engine/process/process_engine.h"
#include "os/file.h"
#include "shim/command_line.h"
#include "shim/containerd.h"
#include "shim/features.h"
#include "shim/foreign/foreign_engine.h"
#include "shim/sandbox.h"
#include "shim/sandbox_config.h"
#include "shim/server.h"
#include "shim/start.h"

// containerd-shim-berth-v2: the supervisor of one pod. docs/shim.md is the contract.
namespace {

using berth::Result;
using berth::engine::external::ExternalEngine;
using berth::shim::Action;
using berth::shim::CommandLine;
using berth::shim::foreign::ForeignEngine;

Result<std::string> working_folder() {
  std::string path(PATH_MAX, '\0');
  if (::getcwd(path.data(), path.size()) == nullptr) return berth::fail_errno(errno, "getcwd");
  path.resize(path.find('\0'));
  return path;
}

Result<> start(const CommandLine& line, const std::string& folder) {
  if (!line.address.empty()) {
    BERTH_ASSIGN(const std::string answer, berth::shim::start_for_containerd(line, folder), "containerd");
    return berth::os::write_all(STDOUT_FILENO, answer);
  }
  std::vector<std::string> argv = {"/proc/self/exe", "-namespace", line.name_space, "-id", line.id};
  if (line.debug) argv.emplace_back("-debug");
  argv.emplace_back("serve");
  BERTH_ASSIGN(const std::string address, berth::shim::start_server(std::move(argv), folder), "start");
  return berth::os::write_all(STDOUT_FILENO, address);
}

std::string environment(const char* name) {
  const char* const value = std::getenv(name);  // NOLINT(concurrency-mt-unsafe): one thread
  return value == nullptr ? std::string() : value;
}

// The pod's engine when its handler has an OCI runtime of its own; nullptr: ours.
std::unique_ptr<ExternalEngine> external_engine(const std::optional<berth::shim::SandboxConfig>& sandbox,
                                                const std::string& folder) {
  if (!sandbox || sandbox->runtime_binary.empty() || !sandbox->shim.empty()) return nullptr;
  berth::engine::external::Options options;
  options.binary = sandbox->runtime_binary;
  options.root = sandbox->runtime_root.empty() ? folder + "/runtime" : sandbox->runtime_root;
  options.private_mounts = true;  // who has a sandbox.json is in a mount namespace of its own
  if (sandbox->systemd) options.scope_program = sandbox->systemd->program;
  return berth::engine::external::make_external_engine(std::move(options));
}

// The same when it has a shim of another maker.
std::unique_ptr<ForeignEngine> foreign_engine(const std::optional<berth::shim::SandboxConfig>& sandbox,
                                              const std::string& folder) {
  if (!sandbox || sandbox->shim.empty()) return nullptr;
  return berth::shim::foreign::make_foreign_engine(
      {.binary = sandbox->shim,
       .folder = folder,
       .sandbox_id = sandbox->sandbox_id,
       .runtime_binary = sandbox->runtime_binary,
       .runtime_root = sandbox->runtime_root,
       .scope_program = sandbox->systemd ? sandbox->systemd->program : std::string()});
}

berth::shim::ClearContainer clear_by(ExternalEngine* external, ForeignEngine* foreign) {
  if (foreign != nullptr) {
    return [foreign](const std::string& id, const std::string& bundle, const std::string& cgroup_path) {
      return foreign->clear(id, bundle, cgroup_path);
    };
  }
  if (external == nullptr) return nullptr;
  return [external](const std::string& id, const std::string& bundle, const std::string& cgroup_path) {
    return external->clear(id, bundle, cgroup_path);
  };
}

Result<> run(const CommandLine& line, char** argv) {
  BERTH_ASSIGN(const std::string folder, working_folder(), "working folder");
  if (line.action == Action::kStart) return start(line, folder);
  if (line.action == Action::kFeatures) {
    BERTH_TRY(berth::shim::enter_private_mounts(), "features");
    return berth::os::write_all(STDOUT_FILENO, features_json(berth::shim::probe_features(folder)) + "\n");
  }
  if (line.action == Action::kServe) {
    // Containers can reach the file that their supervisor runs from; it must not be one that they can write.
    BERTH_TRY(berth::engine::process::protect_own_executable(argv, environ), "protect the shim");
    ::prctl(PR_SET_NAME, "berth-shim");  // the name of a program that was executed by descriptor is a number
  }
  berth::engine::process::Options engine_options;
  engine_options.filter_cache = environment("BERTH_FILTER_CACHE");
  BERTH_ASSIGN(const auto sandbox, berth::shim::read_sandbox_config(folder), "pod");
  if (sandbox && sandbox->systemd) {
    engine_options.cgroup_driver = berth::engine::process::CgroupDriver::kSystemd;
    engine_options.scope_program = [program = sandbox->systemd->program] { return program; };
  }
  const auto engine = berth::engine::process::make_process_engine(engine_options);
  const auto external = external_engine(sandbox, folder);
  const auto foreign = foreign_engine(sandbox, folder);
  if (line.action == Action::kDelete) {
    const bool own_pod = sandbox || line.address.empty();
    // As in serve(): what is covered for a runtime concerns nobody else.
    if (external != nullptr || foreign != nullptr) BERTH_TRY(berth::shim::enter_private_mounts(), "delete");
    if (foreign != nullptr) BERTH_TRY(foreign->clear_program(), "delete");
    BERTH_ASSIGN(const std::string reply,
                 berth::shim::clear_dead_shim(*engine, clear_by(external.get(), foreign.get()), folder,
                                              own_pod ? std::string() : line.id),
                 "delete");
    berth::shim::forget_socket(folder);
    return berth::os::write_all(STDOUT_FILENO, reply);
  }
  berth::shim::ServeOptions options;
  options.id = line.id;
  options.folder = folder;
  options.socket_path = line.socket;
  if (!line.address.empty()) options.events_address = environment("TTRPC_ADDRESS");
  options.name_space = line.name_space;
  const auto interval = berth::parse_number<unsigned>(environment("BERTH_RECORD_INTERVAL"));
  if (interval && *interval > 0) options.record_interval = std::chrono::seconds(*interval);
  if (foreign != nullptr) return berth::shim::serve(*foreign, options);
  if (external != nullptr) return berth::shim::serve(*external, options);
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
  if (line->action == Action::kInfo) {
    const auto written = berth::os::write_all(STDOUT_FILENO, berth::shim::runtime_info());
    return written ? 0 : 1;
  }
  if (line->debug) berth::set_log_level(berth::LogLevel::kDebug);
  if (auto done = run(*line, argv); !done) {
    ::dprintf(STDERR_FILENO, "containerd-shim-berth-v2: %s\n", done.error().text().c_str());
    return 1;
  }
  return 0;
}
