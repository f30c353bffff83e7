#include "cri/records.h"

#include <limits>

#include "cri/blob.h"

namespace berth::cri {

namespace {

// Tags are never used again for something else. 1 to 99: both; 100 on: sandbox; 200 on: container.
enum Tag : std::uint16_t {
  kId = 1,
  kState = 2,
  kCreatedAt = 3,
  kConfig = 4,
  kMessage = 5,
  kHandler = 100,
  kCgroupParent = 101,
  kCgroupTop = 102,
  kHostNetwork = 103,
  kNetworkHeld = 104,
  kIp = 105,
  kGateway = 106,
  kMac = 107,
  kNetworkName = 108,
  kShimPid = 109,
  kShimStart = 110,
  kInitPid = 111,
  kSystemdCgroups = 112,
  kRestoredFrom = 113,
  kSandboxId = 200,
  kStartedAt = 201,
  kFinishedAt = 202,
  kExitCode = 203,
  kReason = 204,
  kResources = 205,
  kImageId = 206,
  kImageRef = 207,
  kLogPath = 208,
  kProcessJson = 209,
  kCgroupsPath = 210,
  kStopSignal = 211,
  kShimDeleted = 212,
  kPid = 213,
  kUid = 214,
  kGid = 215,
  kGroup = 216,
  kCreateError = 217,
};

Result<> read_message(google::protobuf::MessageLite& message, std::string_view bytes) {
  if (bytes.size() > static_cast<std::size_t>(std::numeric_limits<int>::max()) ||
      !message.ParseFromArray(bytes.data(), static_cast<int>(bytes.size()))) {
    return fail(Code::kCorrupt, "the stored request does not parse");
  }
  return {};
}

template <class N>
Result<> read_number(N& out, const BlobField& field, std::int64_t low = std::numeric_limits<N>::min(),
                     std::int64_t high = std::numeric_limits<N>::max()) {
  BERTH_ASSIGN(const auto value, field.integer(), "read record");
  if (value < low || value > high) return fail(Code::kCorrupt, "field " + std::to_string(field.tag) + " out of range");
  out = static_cast<N>(value);
  return {};
}

template <class E>
Result<> read_enum(E& out, const BlobField& field, E last) {
  std::uint8_t value = 0;
  BERTH_TRY(read_number(value, field, 1, static_cast<std::int64_t>(last)), "read record");
  out = static_cast<E>(value);
  return {};
}

Result<> read_bool(bool& out, const BlobField& field) {
  BERTH_ASSIGN(const auto value, field.integer(), "read record");
  out = value != 0;
  return {};
}

Result<> read_start(std::uint64_t& out, const BlobField& field) {
  BERTH_ASSIGN(const auto value, field.integer(), "read record");
  out = static_cast<std::uint64_t>(value);
  return {};
}

Result<> read_group(std::vector<std::uint32_t>& out, const BlobField& field) {
  std::uint32_t group = 0;
  BERTH_TRY(read_number(group, field), "read record");
  out.push_back(group);
  return {};
}

Result<> read_field(SandboxRecord& record, const BlobField& field) {
  const std::string text(field.tag == kConfig ? std::string_view() : field.bytes);
  switch (field.tag) {
    case kId:
      record.id = text;
      return {};
    case kState:
      return read_enum(record.state, field, SandboxState::kRestoring);
    case kCreatedAt:
      return read_number(record.created_at_ns, field);
    case kConfig:
      return read_message(record.config, field.bytes);
    case kMessage:
      record.message = text;
      return {};
    case kHandler:
      record.handler = text;
      return {};
    case kCgroupParent:
      record.cgroup_parent = text;
      return {};
    case kCgroupTop:
      record.cgroup_top = text;
      return {};
    case kSystemdCgroups:
      return read_bool(record.systemd_cgroups, field);
    case kHostNetwork:
      return read_bool(record.host_network, field);
    case kNetworkHeld:
      return read_bool(record.network_held, field);
    case kIp:
      record.network.ips.push_back(text);
      return {};
    case kGateway:
      record.network.gateway = text;
      return {};
    case kMac:
      record.network.mac = text;
      return {};
    case kNetworkName:
      record.network.network = text;
      return {};
    case kShimPid:
      return read_number(record.shim_pid, field, 0);
    case kShimStart:
      return read_start(record.shim_start, field);
    case kInitPid:
      return read_number(record.init_pid, field, 0);
    case kRestoredFrom:
      record.restored_from = text;
      return {};
    default:
      return {};
  }
}

Result<> read_field(ContainerRecord& record, const BlobField& field) {
  const std::string text(field.tag == kConfig ? std::string_view() : field.bytes);
  switch (field.tag) {
    case kId:
      record.id = text;
      return {};
    case kState:
      return read_enum(record.phase, field, ContainerPhase::kRemoving);
    case kCreatedAt:
      return read_number(record.created_at_ns, field);
    case kConfig:
      return read_message(record.config, field.bytes);
    case kMessage:
      record.message = text;
      return {};
    case kSandboxId:
      record.sandbox_id = text;
      return {};
    case kStartedAt:
      return read_number(record.started_at_ns, field);
    case kFinishedAt:
      return read_number(record.finished_at_ns, field);
    case kExitCode:
      return read_number(record.exit_code, field);
    case kReason:
      record.reason = text;
      return {};
    case kResources:
      return read_message(record.resources, field.bytes);
    case kImageId:
      record.image_id = text;
      return {};
    case kImageRef:
      record.image_ref = text;
      return {};
    case kLogPath:
      record.log_path = text;
      return {};
    case kProcessJson:
      record.process_json = text;
      return {};
    case kCgroupsPath:
      record.cgroups_path = text;
      return {};
    case kStopSignal:
      return read_number(record.stop_signal, field, 1, 64);
    case kCreateError:
      record.create_error = text;
      return {};
    case kShimDeleted:
      return read_bool(record.shim_deleted, field);
    case kPid:
      return read_number(record.pid, field, 0);
    case kUid:
      return read_number(record.user.uid, field);
    case kGid:
      return read_number(record.user.gid, field);
    case kGroup:
      return read_group(record.user.groups, field);
    default:
      return {};
  }
}

template <class Record>
Result<Record> decode(std::string_view blob) {
  BERTH_ASSIGN(const auto fields, read_blob(blob), "read record");
  Record record;
  for (const auto& field : fields) BERTH_TRY(read_field(record, field), "read record");
  if (record.id.empty()) return fail(Code::kCorrupt, "record without an id");
  return record;
}

}  // namespace

std::string_view state_name(SandboxState state) {
  switch (state) {
    case SandboxState::kPreparing:
      return "preparing";
    case SandboxState::kReady:
      return "ready";
    case SandboxState::kStopping:
      return "stopping";
    case SandboxState::kStopped:
      return "stopped";
    case SandboxState::kRemoving:
      return "removing";
    case SandboxState::kRestoring:
      return "restoring";
  }
  return "unknown";
}

std::string_view phase_name(ContainerPhase phase) {
  switch (phase) {
    case ContainerPhase::kCreating:
      return "creating";
    case ContainerPhase::kCreated:
      return "created";
    case ContainerPhase::kStarting:
      return "starting";
    case ContainerPhase::kRunning:
      return "running";
    case ContainerPhase::kExited:
      return "exited";
    case ContainerPhase::kRemoving:
      return "removing";
  }
  return "unknown";
}

std::string encode(const SandboxRecord& record) {
  BlobWriter out;
  out.put(kId, record.id);
  out.put_int(kState, static_cast<std::int64_t>(record.state));
  out.put_int(kCreatedAt, record.created_at_ns);
  out.put(kConfig, record.config.SerializeAsString());
  out.put(kMessage, record.message);
  out.put(kHandler, record.handler);
  out.put(kCgroupParent, record.cgroup_parent);
  out.put(kCgroupTop, record.cgroup_top);
  if (record.systemd_cgroups) out.put_int(kSystemdCgroups, 1);
  out.put_int(kHostNetwork, record.host_network ? 1 : 0);
  out.put_int(kNetworkHeld, record.network_held ? 1 : 0);
  for (const auto& ip : record.network.ips) out.put(kIp, ip);
  out.put(kGateway, record.network.gateway);
  out.put(kMac, record.network.mac);
  out.put(kNetworkName, record.network.network);
  out.put_int(kShimPid, record.shim_pid);
  out.put_int(kShimStart, static_cast<std::int64_t>(record.shim_start));
  if (record.init_pid != 0) out.put_int(kInitPid, record.init_pid);
  if (!record.restored_from.empty()) out.put(kRestoredFrom, record.restored_from);
  return out.take();
}

std::string encode(const ContainerRecord& record) {
  BlobWriter out;
  out.put(kId, record.id);
  out.put_int(kState, static_cast<std::int64_t>(record.phase));
  out.put_int(kCreatedAt, record.created_at_ns);
  out.put(kConfig, record.config.SerializeAsString());
  out.put(kMessage, record.message);
  out.put(kSandboxId, record.sandbox_id);
  out.put_int(kStartedAt, record.started_at_ns);
  out.put_int(kFinishedAt, record.finished_at_ns);
  out.put_int(kExitCode, record.exit_code);
  out.put(kReason, record.reason);
  out.put(kResources, record.resources.SerializeAsString());
  out.put(kImageId, record.image_id);
  out.put(kImageRef, record.image_ref);
  out.put(kLogPath, record.log_path);
  out.put(kProcessJson, record.process_json);
  out.put(kCgroupsPath, record.cgroups_path);
  out.put_int(kStopSignal, record.stop_signal);
  out.put(kCreateError, record.create_error);
  out.put_int(kShimDeleted, record.shim_deleted ? 1 : 0);
  out.put_int(kPid, record.pid);
  out.put_int(kUid, record.user.uid);
  out.put_int(kGid, record.user.gid);
  for (const auto group : record.user.groups) out.put_int(kGroup, group);
  return out.take();
}

Result<SandboxRecord> decode_sandbox(std::string_view blob) {
  return decode<SandboxRecord>(blob);
}
Result<ContainerRecord> decode_container(std::string_view blob) {
  return decode<ContainerRecord>(blob);
}

pb::PodSandboxState cri_state(const SandboxRecord& record) {
  return record.state == SandboxState::kReady ? pb::SANDBOX_READY : pb::SANDBOX_NOTREADY;
}

pb::ContainerState cri_state(const ContainerRecord& record) {
  switch (record.phase) {
    case ContainerPhase::kCreating:
    case ContainerPhase::kCreated:
    case ContainerPhase::kStarting:
      return pb::CONTAINER_CREATED;
    case ContainerPhase::kRunning:
      return pb::CONTAINER_RUNNING;
    case ContainerPhase::kExited:
    case ContainerPhase::kRemoving:
      return pb::CONTAINER_EXITED;
  }
  return pb::CONTAINER_UNKNOWN;
}

bool visible(const SandboxRecord& record) {
  return record.state != SandboxState::kPreparing && record.state != SandboxState::kRestoring;
}
bool visible(const ContainerRecord& record) {
  return record.phase != ContainerPhase::kCreating;
}

}  // namespace berth::cri
