#include <unistd.h>

#include "base/log.h"
#include "base/strings.h"
#include "checkpoint_flags.h"
#include "os/file.h"
#include "rootless.h"

namespace berth::oci {

namespace {

using engine::process::CheckpointOptions;
using engine::process::CriuCgroups;

constexpr int kStreams = 3;

Result<CriuCgroups> cgroups_mode(const std::string& word) {
  if (word.empty()) return CriuCgroups::kDefault;
  if (word == "soft") return CriuCgroups::kSoft;
  if (word == "full") return CriuCgroups::kFull;
  if (word == "strict") return CriuCgroups::kStrict;
  if (word == "ignore") return CriuCgroups::kIgnore;
  return fail(Code::kInvalid, "--manage-cgroups-mode \"" + word + "\" is none of soft, full, strict, ignore");
}

Result<CheckpointOptions> checkpoint_options(const Context& context) {
  const Args& args = context.args;
  CheckpointOptions options;
  BERTH_ASSIGN(options.criu, criu_options(context), "checkpoint");
  options.parent_path = args.value_or("parent-path", "");
  options.leave_running = args.on("leave-running");
  options.tcp_skip_in_flight = args.on("tcp-skip-in-flight");
  options.link_remap = args.on("link-remap");
  options.pre_dump = args.on("pre-dump");
  if (const auto text = args.value("status-fd")) {
    const auto fd = parse_number<int>(*text);
    if (!fd) return fail(Code::kInvalid, "--status-fd \"" + *text + "\" is no descriptor");
    options.status_fd = *fd;
  }
  if (const auto text = args.value("page-server"); text && !text->empty()) {
    BERTH_ASSIGN(PageServer server, parse_page_server(*text), "--page-server");
    options.page_server_address = std::move(server.address);
    options.page_server_port = server.port;
  }
  return options;
}

}  // namespace

Result<engine::process::CriuOptions> criu_options(const Context& context) {
  const Args& args = context.args;
  engine::process::CriuOptions options;
  options.program = context.criu;
  options.image_path = args.value_or("image-path", "");
  if (options.image_path.empty()) options.image_path = "checkpoint";
  options.work_path = args.value_or("work-path", "");
  options.tcp_established = args.on("tcp-established");
  options.ext_unix_sk = args.on("ext-unix-sk");
  options.shell_job = args.on("shell-job");
  options.file_locks = args.on("file-locks");
  options.auto_dedup = args.on("auto-dedup");
  options.lazy_pages = args.on("lazy-pages");
  BERTH_ASSIGN(options.cgroups, cgroups_mode(args.value_or("manage-cgroups-mode", "")), "flags");
  for (const auto& name : args.values("empty-ns")) {
    if (name != "network") return fail(Code::kInvalid, "--empty-ns: namespace \"" + name + "\" is not supported");
  }
  if (!machine_root()) log_warn("checkpoint and restore without the machine's root are not tested", {});
  return options;
}

Result<PageServer> parse_page_server(const std::string& text) {
  PageServer server;
  const auto colon = text.rfind(':');
  constexpr int kMaxPort = 65535;
  const auto port = colon == std::string::npos ? std::optional<int>() : parse_number<int>(text.substr(colon + 1));
  if (port) server.address = text.substr(0, colon);
  const bool bracketed = server.address.starts_with('[') && server.address.ends_with(']');
  if (bracketed) server.address = server.address.substr(1, server.address.size() - 2);
  const bool plain = bracketed || server.address.find(':') == std::string::npos;
  if (!port || *port <= 0 || *port > kMaxPort || server.address.empty() || !plain) {
    return fail(Code::kInvalid, "\"" + text + "\" is not ADDRESS:PORT");
  }
  server.port = *port;
  return server;
}

std::vector<std::string> stdio_links(bool terminal) {
  std::vector<std::string> links(kStreams, "/dev/console");
  for (int fd = 0; !terminal && fd < kStreams; ++fd) {
    links[static_cast<std::size_t>(fd)] = engine::process::fd_path(fd).value_or("/dev/null");
  }
  return links;
}

Result<int> run_checkpoint(Context& context) {
  const std::string id = context.args.rest()[0];
  BERTH_ASSIGN(const UniqueFd lock, context.store.lock(id), "checkpoint");
  auto found = find_container(context.store, context.engine, id, true);
  if (!found) return fail(std::move(found).error());
  const spec::Status status = status_of(*found);
  if (status != spec::Status::kRunning && status != spec::Status::kPaused) {
    return fail(Code::kPrecondition,
                "container cannot be checkpointed in " + std::string(spec::status_name(status)) + " state");
  }
  BERTH_ASSIGN(const CheckpointOptions options, checkpoint_options(context), "checkpoint");
  auto done = found->container->checkpoint(options);
  if (!done) return fail(std::move(done).error());
  if (options.leave_running || options.pre_dump) return 0;
  // criu has ended its processes: what is left is what `delete` takes away.
  BERTH_TRY(found->container->remove(), "delete");
  BERTH_TRY(context.store.remove(id), "delete");
  return 0;
}

}  // namespace berth::oci
