#include "cri/user_namespace.h"

#include <algorithm>

namespace berth::cri {

namespace {

using Mappings = google::protobuf::RepeatedPtrField<pb::IDMapping>;

constexpr int kMaxRanges = 340;                  // user_namespaces(7): lines in uid_map since Linux 4.15
constexpr std::uint64_t kEndOfIds = 4294967295;  // (uid_t)-1 is nobody

Result<spec::IdMapping> range_of(const pb::IDMapping& asked) {
  spec::IdMapping range;
  range.container_id = asked.container_id();
  range.host_id = asked.host_id();
  range.size = asked.length();
  if (range.size == 0) return fail(Code::kInvalid, "a range of length 0");
  if (std::uint64_t{range.container_id} + range.size > kEndOfIds ||
      std::uint64_t{range.host_id} + range.size > kEndOfIds) {
    return fail(Code::kInvalid, "a range that reaches past 4294967294");
  }
  return range;
}

Result<spec::IdMapping> pod_range(const Mappings& asked) {
  if (asked.size() != 1) {
    return fail(Code::kInvalid, std::to_string(asked.size()) + " ranges, a pod has exactly one");
  }
  BERTH_ASSIGN(auto range, range_of(asked[0]), "mapping");
  if (range.container_id != 0) {
    return fail(Code::kInvalid, "the range begins at " + std::to_string(range.container_id) +
                                    " inside: without a 0 the pod would have no root");
  }
  return range;
}

bool overlap(std::uint64_t first, std::uint64_t second, std::uint64_t first_size, std::uint64_t second_size) {
  return first < second + second_size && second < first + first_size;
}

Result<std::vector<spec::IdMapping>> mount_ranges(const Mappings& asked) {
  if (asked.size() > kMaxRanges) return fail(Code::kInvalid, "more than 340 ranges");
  std::vector<spec::IdMapping> ranges;
  for (const auto& one : asked) {
    BERTH_ASSIGN(auto range, range_of(one), "mapping");
    for (const auto& other : ranges) {
      if (overlap(range.container_id, other.container_id, range.size, other.size) ||
          overlap(range.host_id, other.host_id, range.size, other.size)) {
        return fail(Code::kInvalid, "two ranges overlap");
      }
    }
    ranges.push_back(std::move(range));
  }
  return ranges;
}

}  // namespace

Result<std::optional<PodIds>> pod_ids(const pb::NamespaceOption& options) {
  if (!options.has_userns_options()) return std::optional<PodIds>();
  const auto& user = options.userns_options();
  if (user.mode() == pb::NODE) {
    if (user.uids().empty() && user.gids().empty()) return std::optional<PodIds>();
    return fail(Code::kInvalid, "userns_options: mappings with mode NODE");
  }
  if (user.mode() != pb::POD) {
    const std::string name =
        pb::NamespaceMode_IsValid(user.mode()) ? pb::NamespaceMode_Name(user.mode()) : std::to_string(user.mode());
    return fail(Code::kInvalid, "userns_options: mode " + name + ", which is neither POD nor NODE");
  }
  if (options.pid() == pb::NODE) {
    return fail(Code::kInvalid, "userns_options: a user namespace with the node's pids (pid NODE)");
  }
  if (options.ipc() == pb::NODE) {
    return fail(Code::kInvalid, "userns_options: a user namespace with the node's IPC (ipc NODE)");
  }
  PodIds ids;
  BERTH_ASSIGN(ids.uids, pod_range(user.uids()), "userns_options.uids");
  BERTH_ASSIGN(ids.gids, pod_range(user.gids()), "userns_options.gids");
  return std::optional(std::move(ids));
}

std::optional<PodIds> ids_of(const pb::PodSandboxConfig& config) {
  return pod_ids(config.linux().security_context().namespace_options()).value_or(std::nullopt);
}

std::string map_line(const spec::IdMapping& range) {
  return std::to_string(range.container_id) + " " + std::to_string(range.host_id) + " " + std::to_string(range.size) +
         "\n";
}

Result<> check_container_ids(const pb::NamespaceOption& container, const std::optional<PodIds>& pod) {
  BERTH_ASSIGN(const auto ids, pod_ids(container), "namespace_options");
  if (ids == pod) return {};
  const char* what = !pod   ? ": its pod has none"
                     : !ids ? ": its pod has a user namespace, and the container is to have none"
                            : ": they are not those of its pod";
  return fail(Code::kInvalid, std::string("namespace_options.userns_options") + what);
}

Result<MountIds> mount_ids(const pb::Mount& mount) {
  MountIds ids;
  BERTH_ASSIGN(ids.uids, mount_ranges(mount.uidmappings()), "uidMappings");
  BERTH_ASSIGN(ids.gids, mount_ranges(mount.gidmappings()), "gidMappings");
  if (ids.uids.empty() != ids.gids.empty()) return fail(Code::kInvalid, "uidMappings and gidMappings belong together");
  return ids;
}

}  // namespace berth::cri
