#include "engine/process/idmap.h"

#include <fcntl.h>
#include <linux/mount.h>
#include <unistd.h>

#include "os/file.h"
#include "os/mount.h"
#include "os/spawn.h"
#include "os/user_namespace.h"

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
  auto made = os::make_user_namespace(id_map_text(uids), id_map_text(gids));
  if (!made) return fail(std::move(made).error().in("id map"));
  return std::move(made->user);
}

Result<> apply_id_map(int tree_fd, int map_fd, bool recursive) {
  auto done = os::change_mount(tree_fd, {MOUNT_ATTR_IDMAP, 0, 0, map_fd}, recursive);
  if (!done && done.error().errno_value() == EINVAL) {
    return fail(std::move(done).error().as(Code::kUnsupported).in("the file system takes no id map"));
  }
  return done;
}

}  // namespace berth::engine::process
