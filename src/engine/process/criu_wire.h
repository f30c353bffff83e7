#pragma once
#include <sys/types.h>

#include <cstdint>
#include <optional>
#include <string>
#include <string_view>
#include <utility>
#include <vector>

#include "base/result.h"

/// The messages of criu's RPC, as far as we speak it. Pure. Field numbers and enumerations: images/rpc.proto of criu.
namespace berth::engine::process {

enum class CriuRequestType : std::uint8_t {
  kEmpty = 0,
  kDump = 1,
  kRestore = 2,
  kPreDump = 4,
  kNotify = 6,
  kFeatureCheck = 9,
  kVersion = 10,
};

using CriuPair = std::pair<std::string, std::string>;

/// Members at their default are not sent. Descriptors are numbers in the requester's process, but for inherit_fds,
/// which are criu's own.
struct CriuSettings {
  int images_dir_fd = -1;
  int work_dir_fd = -1;
  pid_t pid = 0;
  std::string log_file;
  std::string root;
  std::string parent_img;
  std::string config_file;
  std::string freeze_cgroup;
  std::string lsm_profile;
  std::string lsm_mount_context;
  bool leave_running = false;
  bool ext_unix_sk = false;
  bool tcp_established = false;
  bool tcp_skip_in_flight = false;
  bool evasive_devices = false;
  bool shell_job = false;
  bool file_locks = false;
  bool track_mem = false;
  bool auto_dedup = false;
  bool link_remap = false;
  bool rst_sibling = false;
  bool lazy_pages = false;
  bool orphan_pts_master = false;
  int cgroups_mode = 6;  ///< criu_cg_mode
  std::uint32_t empty_ns = 0;
  std::string page_server_address;
  int page_server_port = 0;
  std::vector<CriuPair> ext_mounts;                      ///< dump: mount point, name; restore: name, source
  std::vector<std::string> external;                     ///< "net[inode]:key"
  std::vector<CriuPair> cgroup_roots;                    ///< controller, path
  std::vector<std::pair<std::string, int>> inherit_fds;  ///< key, descriptor
  std::vector<CriuPair> join_namespaces;                 ///< "ipc", file
};

struct CriuFeatures {
  bool mem_track = false;
  bool lazy_pages = false;
};

struct CriuRequest {
  CriuRequestType type = CriuRequestType::kEmpty;
  std::optional<CriuSettings> settings;
  std::optional<CriuFeatures> features;
  std::optional<bool> notify_success;
};

struct CriuResponse {
  std::uint64_t type = 0;  ///< a CriuRequestType, or what we do not know
  bool success = false;
  pid_t restored_pid = 0;
  std::string script;  ///< of a notification: "post-dump", ...
  pid_t notify_pid = 0;
  int criu_errno = 0;
  std::string error_text;
  int version = 0;  ///< 31701 for 3.17.1
  CriuFeatures features;
};

/// More than any response of criu's has.
inline constexpr std::size_t kMaxCriuResponse = 64U << 10;

[[nodiscard]] std::string encode_criu_request(const CriuRequest& request);
/// `bytes`: anything. kCorrupt where it is no such message. Texts are cut to a few hundred printable characters.
[[nodiscard]] Result<CriuResponse> decode_criu_response(std::string_view bytes);

/// What a log of criu's says went wrong: its last error lines, without their times and places in criu's source, at most
/// a few hundred printable characters; empty where there are none.
[[nodiscard]] std::string criu_log_errors(std::string_view log);

}  // namespace berth::engine::process
