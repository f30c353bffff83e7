#pragma once
#include <cstdint>
#include <map>
#include <optional>
#include <string>
#include <string_view>
#include <vector>

#include "base/result.h"
#include "spec/limits.h"

/// The Linux part of the OCI runtime-spec 1.3 config.json as plain data, in the specification's order and meaning.
/// Names are the JSON names in snake_case. `std::optional` marks a member whose absence means something else than zero;
/// in every other member absent, null and empty are one. Strings hold UTF-8 without NUL.
/// Source: opencontainers/runtime-spec config.md and config-linux.md, 1.3.0.
namespace berth::spec {

/// What a struct has no member for: JSON name to compact JSON text, written back as it came. It also remembers a known
/// member that was present but empty ("args": []), so that a document survives parse and write whole. Struct equality
/// looks at it too. Code that builds a Spec leaves it empty. (Every member has a `{}`, so that designated initialisers
/// may leave it out without a warning from g++.)
using Extra = std::map<std::string, std::string, std::less<>>;
using StringMap = std::map<std::string, std::string, std::less<>>;

struct IdMapping {
  std::uint32_t container_id = 0;
  std::uint32_t host_id = 0;
  std::uint32_t size = 0;
  Extra extra{};
  bool operator==(const IdMapping&) const = default;
};

// ---- process ----

struct ConsoleSize {
  std::uint32_t height = 0;
  std::uint32_t width = 0;
  Extra extra{};
  bool operator==(const ConsoleSize&) const = default;
};

struct User {
  std::uint32_t uid = 0;
  std::uint32_t gid = 0;
  std::optional<std::uint32_t> umask{};
  std::vector<std::uint32_t> additional_gids{};
  std::string username{};
  Extra extra{};
  bool operator==(const User&) const = default;
};

/// Names as written, "CAP_CHOWN".
struct Capabilities {
  std::vector<std::string> bounding{};
  std::vector<std::string> effective{};
  std::vector<std::string> inheritable{};
  std::vector<std::string> permitted{};
  std::vector<std::string> ambient{};
  Extra extra{};
  bool operator==(const Capabilities&) const = default;
};

struct Rlimit {
  std::string type{};  ///< "RLIMIT_NOFILE"
  std::uint64_t hard = 0;
  std::uint64_t soft = 0;
  Extra extra{};
  bool operator==(const Rlimit&) const = default;
};

struct Scheduler {
  std::string policy{};  ///< "SCHED_OTHER", ...
  std::int32_t nice = 0;
  std::int32_t priority = 0;
  std::vector<std::string> flags{};
  std::uint64_t runtime = 0;   ///< ns
  std::uint64_t deadline = 0;  ///< ns
  std::uint64_t period = 0;    ///< ns
  Extra extra{};
  bool operator==(const Scheduler&) const = default;
};

struct IoPriority {
  std::string io_class{};  ///< JSON "class": "IOPRIO_CLASS_BE"
  std::int32_t priority = 0;
  Extra extra{};
  bool operator==(const IoPriority&) const = default;
};

/// CPU lists ("0-3,7") while an exec is set up (initial) and for the program (final); JSON "final".
struct ExecCpuAffinity {
  std::string initial{};
  std::string final_cpus{};
  Extra extra{};
  bool operator==(const ExecCpuAffinity&) const = default;
};

struct Process {
  bool terminal = false;
  std::optional<ConsoleSize> console_size{};
  User user{};
  std::vector<std::string> args{};
  std::vector<std::string> env{};
  std::string cwd{};
  std::optional<Capabilities> capabilities{};
  std::vector<Rlimit> rlimits{};
  bool no_new_privileges = false;
  std::string apparmor_profile{};
  std::optional<std::int32_t> oom_score_adj{};
  std::string selinux_label{};
  std::optional<Scheduler> scheduler{};
  std::optional<IoPriority> io_priority{};
  std::optional<ExecCpuAffinity> exec_cpu_affinity{};
  Extra extra{};
  bool operator==(const Process&) const = default;
};

// ---- filesystem and hooks ----

struct Root {
  std::string path{};  ///< absolute, or relative to the bundle
  bool readonly = false;
  Extra extra{};
  bool operator==(const Root&) const = default;
};

struct Mount {
  std::string destination{};
  std::string type{};
  std::string source{};
  std::vector<std::string> options{};
  std::vector<IdMapping> uid_mappings{};
  std::vector<IdMapping> gid_mappings{};
  Extra extra{};
  bool operator==(const Mount&) const = default;
};

struct Hook {
  std::string path{};
  std::vector<std::string> args{};  ///< with argv[0]
  std::vector<std::string> env{};
  std::optional<std::int64_t> timeout{};  ///< seconds
  Extra extra{};
  bool operator==(const Hook&) const = default;
};

struct Hooks {
  std::vector<Hook> prestart{};
  std::vector<Hook> create_runtime{};
  std::vector<Hook> create_container{};
  std::vector<Hook> start_container{};
  std::vector<Hook> poststart{};
  std::vector<Hook> poststop{};
  Extra extra{};
  bool operator==(const Hooks&) const = default;
};

// ---- linux ----

enum class NamespaceType : std::uint8_t { kPid, kNetwork, kMount, kIpc, kUts, kUser, kCgroup, kTime };

/// "pid", "network", "mount", ...: the JSON word of the type.
[[nodiscard]] std::string_view namespace_name(NamespaceType type);
[[nodiscard]] std::optional<NamespaceType> namespace_type(std::string_view name);

struct Namespace {
  NamespaceType type = NamespaceType::kPid;
  std::string path{};  ///< empty: make a new one
  Extra extra{};
  bool operator==(const Namespace&) const = default;
};

struct TimeOffset {
  std::int64_t secs = 0;
  std::uint32_t nanosecs = 0;
  Extra extra{};
  bool operator==(const TimeOffset&) const = default;
};

struct Device {
  std::string path{};
  std::string type{};  ///< "c", "b", "u" or "p"
  std::int64_t major = 0;
  std::int64_t minor = 0;
  std::optional<std::uint32_t> file_mode{};
  std::optional<std::uint32_t> uid{};
  std::optional<std::uint32_t> gid{};
  Extra extra{};
  bool operator==(const Device&) const = default;
};

struct DeviceRule {
  bool allow = false;
  std::string type{};                   ///< "a", "b", "c" or empty, which means "a"
  std::optional<std::int64_t> major{};  ///< absent: every one; -1 likewise
  std::optional<std::int64_t> minor{};
  std::string access{};  ///< of "rwm"
  Extra extra{};
  bool operator==(const DeviceRule&) const = default;
};

/// -1 means no limit in limit, reservation, swap, kernel and kernel_tcp.
struct MemoryResources {
  std::optional<std::int64_t> limit{};
  std::optional<std::int64_t> reservation{};
  std::optional<std::int64_t> swap{};  ///< memory and swap together, as in cgroup v1
  std::optional<std::int64_t> kernel{};
  std::optional<std::int64_t> kernel_tcp{};
  std::optional<std::uint64_t> swappiness{};
  std::optional<bool> disable_oom_killer{};
  std::optional<bool> use_hierarchy{};
  std::optional<bool> check_before_update{};
  Extra extra{};
  bool operator==(const MemoryResources&) const = default;
};

struct CpuResources {
  std::optional<std::uint64_t> shares{};
  std::optional<std::int64_t> quota{};    ///< us per period; -1: none
  std::optional<std::uint64_t> burst{};   ///< us
  std::optional<std::uint64_t> period{};  ///< us
  std::optional<std::int64_t> realtime_runtime{};
  std::optional<std::uint64_t> realtime_period{};
  std::string cpus{};
  std::string mems{};
  std::optional<std::int64_t> idle{};
  Extra extra{};
  bool operator==(const CpuResources&) const = default;
};

struct PidsResources {
  std::optional<std::int64_t> limit{};  ///< 0 or less: none (config-linux.md 1.3); -1 is what everybody writes
  Extra extra{};
  bool operator==(const PidsResources&) const = default;
};

struct WeightDevice {
  std::int64_t major = 0;
  std::int64_t minor = 0;
  std::optional<std::uint16_t> weight{};
  std::optional<std::uint16_t> leaf_weight{};
  Extra extra{};
  bool operator==(const WeightDevice&) const = default;
};

struct ThrottleDevice {
  std::int64_t major = 0;
  std::int64_t minor = 0;
  std::uint64_t rate = 0;  ///< bytes or operations per second
  Extra extra{};
  bool operator==(const ThrottleDevice&) const = default;
};

struct BlockIoResources {
  std::optional<std::uint16_t> weight{};
  std::optional<std::uint16_t> leaf_weight{};
  std::vector<WeightDevice> weight_device{};
  std::vector<ThrottleDevice> throttle_read_bps_device{};
  std::vector<ThrottleDevice> throttle_write_bps_device{};
  std::vector<ThrottleDevice> throttle_read_iops_device{};
  std::vector<ThrottleDevice> throttle_write_iops_device{};
  Extra extra{};
  bool operator==(const BlockIoResources&) const = default;
};

struct HugepageLimit {
  std::string page_size{};  ///< "2MB"
  std::uint64_t limit = 0;
  Extra extra{};
  bool operator==(const HugepageLimit&) const = default;
};

struct InterfacePriority {
  std::string name{};
  std::uint32_t priority = 0;
  Extra extra{};
  bool operator==(const InterfacePriority&) const = default;
};

struct NetworkResources {
  std::optional<std::uint32_t> class_id{};
  std::vector<InterfacePriority> priorities{};
  Extra extra{};
  bool operator==(const NetworkResources&) const = default;
};

struct RdmaLimit {
  std::optional<std::uint32_t> hca_handles{};
  std::optional<std::uint32_t> hca_objects{};
  Extra extra{};
  bool operator==(const RdmaLimit&) const = default;
};

struct Resources {
  std::vector<DeviceRule> devices{};
  std::optional<MemoryResources> memory{};
  std::optional<CpuResources> cpu{};
  std::optional<PidsResources> pids{};
  std::optional<BlockIoResources> block_io{};
  std::vector<HugepageLimit> hugepage_limits{};
  std::optional<NetworkResources> network{};
  std::map<std::string, RdmaLimit, std::less<>> rdma{};
  StringMap unified{};
  Extra extra{};
  bool operator==(const Resources&) const = default;
};

struct SeccompArg {
  std::uint32_t index = 0;
  std::uint64_t value = 0;
  std::uint64_t value_two = 0;
  std::string op{};  ///< "SCMP_CMP_EQ", ...
  Extra extra{};
  bool operator==(const SeccompArg&) const = default;
};

struct SeccompSyscall {
  std::vector<std::string> names{};
  std::string action{};  ///< "SCMP_ACT_ALLOW", ...
  std::optional<std::uint32_t> errno_ret{};
  std::vector<SeccompArg> args{};
  Extra extra{};
  bool operator==(const SeccompSyscall&) const = default;
};

struct Seccomp {
  std::string default_action{};
  std::optional<std::uint32_t> default_errno_ret{};
  std::vector<std::string> architectures{};
  std::vector<std::string> flags{};
  std::string listener_path{};
  std::string listener_metadata{};
  std::vector<SeccompSyscall> syscalls{};
  Extra extra{};
  bool operator==(const Seccomp&) const = default;
};

struct IntelRdt {
  std::string clos_id{};
  std::vector<std::string> schemata{};
  std::string l3_cache_schema{};
  std::string mem_bw_schema{};
  bool enable_cmt = false;
  bool enable_mbm = false;
  bool enable_monitoring = false;
  Extra extra{};
  bool operator==(const IntelRdt&) const = default;
};

struct Personality {
  std::string domain{};  ///< "LINUX" or "LINUX32"
  std::vector<std::string> flags{};
  Extra extra{};
  bool operator==(const Personality&) const = default;
};

struct MemoryPolicy {
  std::string mode{};   ///< "MPOL_BIND", ...
  std::string nodes{};  ///< "0-1"
  std::vector<std::string> flags{};
  Extra extra{};
  bool operator==(const MemoryPolicy&) const = default;
};

/// The map's key is the device's name on the host.
struct NetDevice {
  std::string name{};  ///< in the container; empty: as on the host
  Extra extra{};
  bool operator==(const NetDevice&) const = default;
};

struct Linux {
  std::vector<IdMapping> uid_mappings{};
  std::vector<IdMapping> gid_mappings{};
  StringMap sysctl{};
  std::optional<Resources> resources{};
  std::string cgroups_path{};
  std::vector<Namespace> namespaces{};
  std::map<std::string, TimeOffset, std::less<>> time_offsets{};
  std::vector<Device> devices{};
  std::map<std::string, NetDevice, std::less<>> net_devices{};
  std::optional<Seccomp> seccomp{};
  std::string rootfs_propagation{};
  std::vector<std::string> masked_paths{};
  std::vector<std::string> readonly_paths{};
  std::string mount_label{};
  std::optional<IntelRdt> intel_rdt{};
  std::optional<MemoryPolicy> memory_policy{};
  std::optional<Personality> personality{};
  Extra extra{};
  bool operator==(const Linux&) const = default;

  /// The entry for `type`, or nullptr.
  [[nodiscard]] const Namespace* find_namespace(NamespaceType type) const;
};

// ---- the document ----

struct Spec {
  std::string oci_version{};
  std::optional<Process> process{};
  std::optional<Root> root{};
  std::string hostname{};
  std::string domainname{};
  std::vector<Mount> mounts{};
  std::optional<Hooks> hooks{};
  StringMap annotations{};
  std::optional<Linux> linux{};
  Extra extra{};
  bool operator==(const Spec&) const = default;
};

/// Reads a config.json. `json`: one object, UTF-8; unknown members are kept; a member that appears twice is refused.
/// Does not check the meaning (see validate()). Errors: kInvalid, naming the JSON path ("process.user.uid: expected a
/// number from 0 to 4294967295") or the byte of a syntax fault; kExhausted when a limit is passed. Thread-safe.
[[nodiscard]] Result<Spec> parse_spec(std::string_view json, const Limits& limits = {});
/// Compact JSON, known members in the specification's order. Bytes that are not UTF-8 become U+FFFD.
[[nodiscard]] std::string write_spec(const Spec& spec);

/// The `process` object alone: `exec --process FILE`, the shim's Exec request. As parse_spec.
[[nodiscard]] Result<Process> parse_process(std::string_view json, const Limits& limits = {});
[[nodiscard]] std::string write_process(const Process& process);

/// The `linux.resources` object alone: `update --resources FILE`, the shim's Update request. As parse_spec.
[[nodiscard]] Result<Resources> parse_resources(std::string_view json, const Limits& limits = {});
[[nodiscard]] std::string write_resources(const Resources& resources);

/// Structural rules that need no host: version, args, cwd, root, mount targets, namespaces, id mappings, devices,
/// hooks. Error: kInvalid, the first fault, with its JSON path. Source: runtime-spec config.md, config-linux.md.
[[nodiscard]] Result<> validate(const Spec& spec);
/// The same for a process alone.
[[nodiscard]] Result<> validate(const Process& process);

}  // namespace berth::spec
