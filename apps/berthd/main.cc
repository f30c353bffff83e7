// The CRI daemon. This file reads flags and configuration, makes the parts and joins them: what is compiled in is seen
// here.
#include <malloc.h>
#include <sched.h>
#include <signal.h>
#include <sys/file.h>
#include <unistd.h>

#include <CLI/CLI.hpp>
#include <cerrno>
#include <chrono>
#include <cstdio>
#include <filesystem>
#include <memory>
#include <optional>
#include <thread>

#include "base/log.h"
#include "config/config.h"
#include "cri/service.h"
#include "image/store.h"
#include "network/network.h"
#include "notify.h"
#include "os/file.h"
#include "rpc/server.h"

namespace {

using berth::Code;
using berth::Result;
using berth::config::Config;

struct Flags {
  std::string config{berth::config::kDefaultPath};
  bool config_given = false;
  std::vector<berth::config::Flag> overrides;
};

Result<berth::config::Loaded> load_config(const Flags& flags) {
  berth::config::LoadOptions options;
  options.path = flags.config;
  options.path_is_explicit = flags.config_given;
  options.flags = flags.overrides;
  return berth::config::load(options);
}

berth::LogLevel to_level(const std::string& name) {
  if (name == "debug") return berth::LogLevel::kDebug;
  if (name == "warn") return berth::LogLevel::kWarn;
  if (name == "error") return berth::LogLevel::kError;
  return berth::LogLevel::kInfo;
}

// As configured; else beside this program when it is there, else where PATH has it now. Before other threads are there.
std::string program_path(const std::string& configured, const char* name) {
  if (!configured.empty()) return configured;
  std::error_code error;
  const auto self = std::filesystem::read_symlink("/proc/self/exe", error);
  if (!error && berth::os::exists(self.parent_path() / name)) return self.parent_path() / name;
  return berth::os::find_program(name).value_or(name);
}

// Only what is built may be named: the daemon does not start with a handler that it would have to refuse at each pod. A
// program that is not there may come.
Result<> check_handlers(const Config& config) {
  for (const auto& [name, handler] : config.handlers) {
    if (handler.shim.empty() && handler.engine != "process" && handler.engine != "external") {
      return berth::fail(
          Code::kUnsupported,
          "handler \"" + name + "\": only engine = \"process\" and \"external\", and shim, are built yet");
    }
  }
  return {};
}

berth::cri::HandlerTable handler_table(const Config& config) {
  berth::cri::HandlerTable table;
  table.default_handler = config.runtime.default_handler;
  for (const auto& [name, handler] : config.handlers) {
    const berth::cri::Handler built{.shim = handler.shim, .binary = handler.binary, .root = handler.root};
    if (const auto ready = berth::cri::check_ready(built); !ready) {
      berth::log_warn("a handler is not ready: pods that name it are refused until it is",
                      {{"handler", name}, {"err", ready.error().text()}});
    }
    table.handlers.emplace(name, built);
  }
  return table;
}

// One daemon a state folder: held as long as the descriptor. Of a daemon that was killed while it started a program,
// the child holds it until it executes that: a moment, which is waited for.
Result<berth::UniqueFd> lock_state(const std::string& state) {
  constexpr int kTries = 50;
  constexpr std::chrono::milliseconds kPause{10};
  BERTH_TRY(berth::os::make_dirs(state, 0711), "state folder");
  BERTH_ASSIGN(auto fd, berth::os::open_file(state + "/berthd.lock", O_RDWR | O_CREAT, 0600), "state folder");
  for (int tries = 1; ::flock(fd.get(), LOCK_EX | LOCK_NB) != 0; ++tries) {
    if (errno != EWOULDBLOCK) return berth::fail_errno(errno, "lock " + state);
    if (tries == kTries) return berth::fail(Code::kExists, "another berthd uses the state folder " + state);
    std::this_thread::sleep_for(kPause);
  }
  return fd;
}

// "auto" as what it is here. An explicit choice that cannot be is refused at the start and not at each pod.
Result<berth::cri::CgroupDriver> cgroup_driver(const Config& config, const std::string& scope_program) {
  constexpr const char* kSystemdRuns = "/run/systemd/system";  // sd_booted(3)
  const bool runs = berth::os::exists(kSystemdRuns);
  if (config.cgroup.driver == "cgroupfs" || (config.cgroup.driver == "auto" && !runs)) {
    return berth::cri::CgroupDriver::kCgroupfs;
  }
  if (!runs) {
    return berth::fail(Code::kUnavailable,
                       std::string("\"systemd\": there is no ") + kSystemdRuns + ": no systemd runs this machine");
  }
  if (!scope_program.starts_with('/')) {
    return berth::fail(Code::kUnsupported, "\"systemd\" needs the program berth-scope, which is not installed");
  }
  return berth::cri::CgroupDriver::kSystemd;
}

std::string cgroup_parent(const Config& config, berth::cri::CgroupDriver driver) {
  if (!config.cgroup.parent.empty()) return config.cgroup.parent;
  return driver == berth::cri::CgroupDriver::kSystemd ? "berth.slice" : "/berth";
}

berth::image::LayersAs form_of_layers(std::string_view word) {
  if (word == "erofs") return berth::image::LayersAs::kErofs;
  return word == "directory" ? berth::image::LayersAs::kDirectory : berth::image::LayersAs::kAuto;
}

Result<std::unique_ptr<berth::image::Store>> open_images(const Config& config) {
  return berth::image::Store::open({.root = config.root + "/images",
                                    .platform = config.image.platform,
                                    .default_registry = config.image.default_registry,
                                    .insecure_registries = config.image.insecure_registries,
                                    .layers = form_of_layers(config.image.layers),
                                    .max_parallel_layers = config.image.max_parallel_layers,
                                    .progress_timeout_s = config.image.pull_progress_timeout_s,
                                    .max_layer_bytes = config.image.max_layer_bytes,
                                    .hosts_dir = config.image.hosts_dir,
                                    .auth_file = config.image.auth_file});
}

Result<std::unique_ptr<berth::network::Network>> open_network(const Config& config) {
  return berth::network::Network::open({.state_dir = config.root + "/network",
                                        .conf_dir = config.network.conf_dir,
                                        .bin_dirs = config.network.bin_dirs,
                                        .bridge = config.network.bridge,
                                        .subnet = config.network.subnet,
                                        .mtu = config.network.mtu,
                                        .masquerade = config.network.masquerade,
                                        .host_ports = config.network.host_ports,
                                        .plugin_timeout_s = config.network.plugin_timeout_s});
}

std::optional<berth::nri::Options> nri_options(const Config& config) {
  const auto& nri = config.nri;
  if (!nri.enabled) return std::nullopt;
  berth::nri::Options options;
  options.socket = nri.socket;
  options.plugin_dir = nri.plugin_dir;
  options.config_dir = nri.config_dir;
  options.registration_timeout = std::chrono::milliseconds(nri.registration_timeout_ms);
  options.request_timeout = std::chrono::milliseconds(nri.request_timeout_ms);
  options.runtime_name = "berth";
  options.runtime_version = BERTH_VERSION;
  options.validator = {.enabled = nri.default_validator,
                       .reject_hooks = nri.reject_oci_hook_adjustment,
                       .reject_runtime_default_seccomp = nri.reject_runtime_default_seccomp_adjustment,
                       .reject_unconfined_seccomp = nri.reject_unconfined_seccomp_adjustment,
                       .reject_custom_seccomp = nri.reject_custom_seccomp_adjustment,
                       .reject_namespaces = nri.reject_namespace_adjustment,
                       .reject_sysctls = nri.reject_sysctl_adjustment,
                       .required_plugins = nri.required_plugins,
                       .tolerate_missing_annotation = nri.tolerate_missing_plugins_annotation};
  return options;
}

// SIGHUP: the handlers of the files as they are now, all or none. Everything else was read for good at the start.
void reload(const Flags& flags, Config& in_force, berth::cri::Service& service) {
  const auto loaded = load_config(flags);
  auto checked = loaded ? check_handlers(loaded->config) : Result<>(berth::fail(loaded.error()));
  if (!checked) {
    berth::log_error("SIGHUP: the configuration stays as it was", {{"err", checked.error().text()}});
    return;
  }
  Config rest = loaded->config;
  rest.handlers = in_force.handlers;
  rest.runtime.default_handler = in_force.runtime.default_handler;
  if (rest != in_force) berth::log_warn("SIGHUP: what was changed beside handlers waits for a restart of berthd");
  in_force.handlers = loaded->config.handlers;
  in_force.runtime.default_handler = loaded->config.runtime.default_handler;
  auto table = handler_table(in_force);
  const std::size_t count = table.handlers.size();
  service.set_handlers(std::move(table));
  berth::log_info("SIGHUP: handlers are read anew",
                  {{"handlers", count}, {"default", in_force.runtime.default_handler}});
}

// Blocks until somebody asks the daemon to end.
void wait_for_end(const sigset_t& signals, const Flags& flags, Config in_force, berth::cri::Service& service) {
  while (true) {
    int signal = 0;
    if (::sigwait(&signals, &signal) != 0) continue;
    if (signal != SIGHUP) {
      berth::log_info("ending", {{"signal", signal}});
      return;
    }
    reload(flags, in_force, service);
  }
}

Result<> serve(const Config& config, const Flags& flags) {
  sigset_t signals;
  ::sigemptyset(&signals);
  for (const int signal : {SIGTERM, SIGINT, SIGHUP}) ::sigaddset(&signals, signal);
  // Before the first thread, so that all inherit it and sigwait() alone takes them.
  ::pthread_sigmask(SIG_BLOCK, &signals, nullptr);
  ::signal(SIGPIPE, SIG_IGN);

  BERTH_TRY(check_handlers(config), "configuration");
  BERTH_TRY(berth::os::make_dirs(config.root, 0711), "root folder");
  BERTH_ASSIGN(const auto lock, lock_state(config.state), "start");
  const std::string shim = program_path(config.runtime.shim, "containerd-shim-berth-v2");
  const std::string stream = program_path(config.stream.program, "berth-stream");
  const std::string scope = program_path("", "berth-scope");
  BERTH_ASSIGN(const auto driver, cgroup_driver(config, scope), "cgroup.driver");
  BERTH_ASSIGN(const auto images, open_images(config), "open the image store");
  BERTH_ASSIGN(const auto network, open_network(config), "open the network");
  BERTH_ASSIGN(const auto service,
               berth::cri::Service::open({.root_dir = config.root,
                                          .state_dir = config.state,
                                          .shim_path = shim,
                                          .cgroup_driver = driver,
                                          .scope_program = scope,
                                          .cgroup_parent = cgroup_parent(config, driver),
                                          .handlers = handler_table(config),
                                          .exec_output_limit = config.runtime.exec_output_limit,
                                          .log_max_line_bytes = config.log.max_line_bytes,
                                          .stats_period_s = config.runtime.stats_period_s,
                                          .stream = {.program = stream,
                                                     .address = config.stream.address,
                                                     .port = config.stream.port,
                                                     .tls_cert = config.stream.tls_cert,
                                                     .tls_key = config.stream.tls_key},
                                          .cdi_dirs = config.runtime.cdi_dirs,
                                          .hooks_dirs = config.runtime.hooks_dirs,
                                          .nri = nri_options(config),
                                          .images = images.get(),
                                          .network = network.get()}),
               "open the pods' state");
  BERTH_TRY(berth::os::make_dirs(std::filesystem::path(config.listen).parent_path(), 0755), "socket folder");
  BERTH_ASSIGN(const auto server, berth::rpc::Server::start(config.listen, *service, *images), "start");
  berth::log_info(
      "ready", {{"version", BERTH_VERSION}, {"listen", config.listen}, {"root", config.root}, {"state", config.state}});
  berth::notify_ready();
  ::malloc_trim(0);
  wait_for_end(signals, flags, config, *service);
  return {};
}

int report(const berth::Error& error) {
  std::fprintf(stderr, "berthd: %s\n", error.text().c_str());
  return error.code() == Code::kInvalid ? 2 : 1;
}

void add_flags(CLI::App& app, Flags& flags) {
  app.add_option_function<std::string>(
         "-c,--config",
         [&flags](const std::string& path) {
           flags.config = path;
           flags.config_given = true;
         },
         "configuration file; FOLDER/config.d/*.toml beside it are read too")
      ->type_name("FILE");
  const auto add = [&app, &flags](const char* name, const char* key, const char* type, const char* help) {
    app.add_option_function<std::string>(
           name, [&flags, name, key](const std::string& value) { flags.overrides.push_back({key, value, name}); }, help)
        ->type_name(type);
  };
  add("--root", "root", "DIR", "persistent files (default /var/lib/berth)");
  add("--state", "state", "DIR", "runtime files (default /run/berth)");
  add("--listen", "listen", "SOCKET", "the CRI socket (default /run/berth/berth.sock)");
  add("--log-level", "log_level", "LEVEL", "debug, info, warn or error (default info)");
}

}  // namespace

int main(int argc, char** argv) {
  // Many arenas would cost an idle daemon megabytes; its hot paths allocate little.
  ::mallopt(M_ARENA_MAX, 2);  // NOLINT(concurrency-mt-unsafe): no other thread yet
  CLI::App app("berthd: the CRI daemon of Berth", "berthd");
  app.set_version_flag("--version", std::string("berthd ") + BERTH_VERSION);
  Flags flags;
  add_flags(app, flags);
  app.fallthrough();
  auto* config_command = app.add_subcommand("config", "Look at the configuration");
  config_command->require_subcommand(1);
  const auto* check = config_command->add_subcommand("check", "Say whether the configuration is right");
  const auto* dump = config_command->add_subcommand("dump", "Print each value in force and where it comes from");
  CLI11_PARSE(app, argc, argv);

  const auto loaded = load_config(flags);
  if (!loaded) return report(loaded.error());
  if (dump->parsed()) {
    std::fputs(loaded->dump().c_str(), stdout);
    return 0;
  }
  if (check->parsed()) {
    if (const auto handlers = check_handlers(loaded->config); !handlers) return report(handlers.error());
    std::puts("the configuration is right");
    return 0;
  }
  berth::set_log_level(to_level(loaded->config.log_level));
  const auto served = serve(loaded->config, flags);
  if (!served) return report(served.error());
  return 0;
}
