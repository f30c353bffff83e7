#include "engine/process/idmap.h"

#include <fcntl.h>
#include <linux/mount.h>
#include <sched.h>
#include <unistd.h>

#include <csignal>

#include "os/clone.h"
#include "os/file.h"
#include "os/mount.h"
#include "os/spawn.h"

namespace berth::engine::process {

namespace {

Result<> run_mapper(const char* program, pid_t pid, const std::vector<spec::IdMapping>& mappings) {
  os::RunOptions options;
  options.spawn.argv = {program, std::to_string(pid)};
  options.spawn.env = {"PATH=/usr/local/bin:/usr/bin:/bin:/usr/sbin:/sbin"};
  for (const auto& entry : mappings) {
    options.spawn.argv.push_back(std::to_string(entry.container_id));
    options.spawn.argv.push_back(std::to_string(entry.host_id));
    options.spawn.argv.push_back(std::to_string(entry.size));
  }
  BERTH_ASSIGN(const os::RunOutput output, os::run(std::move(options)), program);
  if (output.exit_code != 0) return fail(Code::kDenied, std::string(program) + ": " + output.err);
  return {};
}

/// A user namespace with the maps, held by its descriptor: a child makes it and ends when it is open.
Result<UniqueFd> user_namespace_with(const std::vector<spec::IdMapping>& uids,
                                     const std::vector<spec::IdMapping>& gids) {
  BERTH_ASSIGN(os::Pipe hold, os::make_pipe(), "id map");
  os::CloneOptions options;
  options.flags = CLONE_NEWUSER;
  BERTH_ASSIGN(const os::Cloned child, os::clone_process(options), "id map");
  if (child.pid == 0) {
    hold.write.reset();
    char nothing = 0;
    [[maybe_unused]] const ssize_t n = ::read(hold.read.get(), &nothing, 1);  // until the parent closes its end
    ::_exit(0);
  }
  const std::string proc = "/proc/" + std::to_string(child.pid);
  Result<UniqueFd> ns = os::open_file(proc + "/ns/user", O_RDONLY);
  auto written = os::write_existing(proc + "/uid_map", id_map_text(uids));
  if (written) written = os::write_existing(proc + "/gid_map", id_map_text(gids));
  hold.write.reset();
  ignore(os::reap_pidfd(child.pidfd.get()), "a child of ours that does nothing");
  if (!written) return fail(std::move(written).error().in("id map"));
  return ns;
}

}  // namespace

std::string id_map_text(const std::vector<spec::IdMapping>& mappings) {
  std::string text;
  for (const auto& entry : mappings) {
    text.append(std::to_string(entry.container_id)).append(" ");
    text.append(std::to_string(entry.host_id)).append(" ");
    text.append(std::to_string(entry.size)).append("\n");
  }
  return text;
}

Result<> write_id_maps(pid_t pid, const spec::Linux& config) {
  const std::string proc = "/proc/" + std::to_string(pid);
  if (::geteuid() == 0) {
    BERTH_TRY(os::write_existing(proc + "/uid_map", id_map_text(config.uid_mappings)), "linux.uidMappings");
    BERTH_TRY(os::write_existing(proc + "/gid_map", id_map_text(config.gid_mappings)), "linux.gidMappings");
    return {};
  }
  const auto& uids = config.uid_mappings;
  if (uids.size() == 1 && uids[0].size == 1 && uids[0].host_id == ::geteuid()) {
    BERTH_TRY(os::write_existing(proc + "/uid_map", id_map_text(uids)), "linux.uidMappings");
    BERTH_TRY(os::write_existing(proc + "/setgroups", "deny"), "linux.gidMappings");
    BERTH_TRY(os::write_existing(proc + "/gid_map", id_map_text(config.gid_mappings)), "linux.gidMappings");
    return {};
  }
  BERTH_TRY(run_mapper("newuidmap", pid, uids), "linux.uidMappings");
  return run_mapper("newgidmap", pid, config.gid_mappings);
}

Result<UniqueFd> open_id_map(const spec::Spec& spec, const spec::Mount& mount) {
  const bool own = !mount.uid_mappings.empty();
  const auto& uids = own ? mount.uid_mappings : spec.linux->uid_mappings;
  const auto& gids = own ? mount.gid_mappings : spec.linux->gid_mappings;
  if (uids.empty() || gids.empty()) return fail(Code::kInvalid, "an idmap mount needs uidMappings and gidMappings");
  return user_namespace_with(uids, gids);
}

Result<> apply_id_map(int tree_fd, int map_fd, bool recursive) {
  auto done = os::change_mount(tree_fd, {MOUNT_ATTR_IDMAP, 0, 0, map_fd}, recursive);
  if (!done && done.error().errno_value() == EINVAL) {
    return fail(std::move(done).error().as(Code::kUnsupported).in("the file system takes no id map"));
  }
  return done;
}

}  // namespace berth::engine::process
