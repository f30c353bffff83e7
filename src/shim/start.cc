#include "shim/start.h"

#include <fcntl.h>
#include <unistd.h>

#include <cstdlib>
#include <optional>

#include "base/clock.h"
#include "base/failpoint.h"
#include "base/strings.h"
#include "containerd/runtime/task/v2/shim.pb.h"
#include "os/file.h"
#include "os/spawn.h"
#include "shim/leftovers.h"
#include "shim/server.h"

namespace berth::shim {
namespace {

constexpr std::size_t kMaxAddressBytes = 4096;
constexpr std::size_t kMaxErrorBytes = 4096;
constexpr std::uint32_t kKilled = 137;

std::vector<std::string> own_environment() {
  std::vector<std::string> result;
  for (char** entry = environ; *entry != nullptr; ++entry) result.emplace_back(*entry);
  return result;
}

Result<> clear_container(engine::process::ProcessEngine& engine, const ClearContainer& clear,
                         const Leftovers::Entry& entry) {
  engine::process::Saved saved;
  saved.id = entry.id;
  saved.bundle = entry.bundle;
  saved.cgroup_path = entry.cgroup_path;
  if (!entry.bundle.empty()) {
    // The specification has the hooks that are still to run; without it the cgroup is removed all the same.
    const auto text = os::read_file(entry.bundle + "/config.json", spec::Limits{}.max_bytes);
    auto spec = text ? spec::parse_spec(*text) : Result<spec::Spec>(fail(text.error()));
    if (spec) saved.spec = std::move(*spec);
  }
  const std::string asked = saved.spec.linux ? saved.spec.linux->cgroups_path : "";
  BERTH_ASSIGN(saved.systemd_unit, engine.unit_for(asked, entry.id), "container " + entry.id);
  if (saved.cgroup_path.empty() && !saved.systemd_unit.empty()) {
    BERTH_ASSIGN(saved.cgroup_path, engine.cgroup_for(asked, entry.id), "container " + entry.id);
  }
  if (saved.cgroup_path.empty()) saved.cgroup_path = asked;
  // Its runtime runs its hooks, and has state of its own.
  if (clear && !entry.bundle.empty()) return clear(entry.id, entry.bundle, saved.cgroup_path);
  if (saved.cgroup_path.empty()) return {};
  BERTH_ASSIGN(const auto container, engine.attach(std::move(saved)), "container " + entry.id);
  return container->remove();
}

}  // namespace

Result<std::string> start_server(std::vector<std::string> argv, const std::string& folder) {
  BERTH_ASSIGN(os::Pipe ready, os::make_pipe(), "start the server");
  const std::string log_path = folder + "/shim.log";
  BERTH_ASSIGN(UniqueFd log, os::open_file(log_path, O_RDWR | O_CREAT | O_APPEND, 0600), "start the server");
  const off_t log_start = ::lseek(log.get(), 0, SEEK_END);
  os::SpawnOptions options;
  options.argv = std::move(argv);
  options.env = own_environment();
  options.cwd = folder;
  options.fds = {{ready.write.get(), 1}, {log.get(), 2}};
  options.new_session = true;
  BERTH_ASSIGN(const os::Child child, os::spawn(options), "start the server");
  ready.write.reset();
  BERTH_ASSIGN(const std::string said, os::read_all(ready.read.get(), kMaxAddressBytes), "wait for the server");
  std::string address(trim(said));
  if (!address.empty() && said.ends_with('\n')) return address;
  ignore(os::wait_exit(child), "it has said all");
  ::lseek(log.get(), log_start, SEEK_SET);
  const auto words = os::read_all(log.get(), kMaxErrorBytes);
  return fail(Code::kInternal, "the server did not start: " + (words ? std::string(trim(*words)) : "no log"));
}

Result<std::string> clear_dead_shim(engine::process::ProcessEngine& engine, const ClearContainer& clear,
                                    const std::string& folder, const std::string& only) {
  const Leftovers leftovers(folder);
  BERTH_ASSIGN(std::vector<Leftovers::Entry> entries, leftovers.list(), "clear the pod");
  if (!only.empty()) {
    // Those of the same pod that are recorded here have bundles and a `delete` of their own.
    std::erase_if(entries, [&only](const Leftovers::Entry& entry) { return entry.id != only; });
    if (entries.empty()) entries.push_back({only, folder, {}});
  }
  std::optional<Error> first;
  for (const Leftovers::Entry& entry : entries) {
    crashpoint("shim.clear.container");
    if (auto cleared = clear_container(engine, clear, entry); !cleared) {
      if (!first) first = std::move(cleared).error();
      continue;
    }
    crashpoint("shim.clear.cleared");
    leftovers.forget(entry.id);
  }
  ignore(os::remove_file(folder + "/" + kSocketName), "nobody listens on it");
  if (first) return fail(std::move(*first));
  constexpr std::int64_t kNsPerSecond = 1'000'000'000;
  const std::int64_t now = wall_now_ns();
  ::containerd::task::v2::DeleteResponse reply;
  reply.set_exit_status(kKilled);
  reply.mutable_exited_at()->set_seconds(now / kNsPerSecond);
  reply.mutable_exited_at()->set_nanos(static_cast<std::int32_t>(now % kNsPerSecond));
  return reply.SerializeAsString();
}

}  // namespace berth::shim
