#include "engine/process/sysctl.h"

#include <algorithm>
#include <array>

#include "os/root_path.h"

namespace berth::engine::process {

namespace {

/// "net.ipv4.ip_forward" or "net/ipv4/ip_forward" to the path below /proc/sys. With dots as separators a slash stands
/// for a dot in a name (sysctl(8)): "net.ipv4.conf.eth0/1.forwarding".
std::string path_of(const std::string& key) {
  const std::size_t first = key.find_first_of("./");
  std::string path = key;
  if (first == std::string::npos || key[first] == '/') return path;
  for (char& c : path) {
    if (c == '.') {
      c = '/';
    } else if (c == '/') {
      c = '.';
    }
  }
  return path;
}

std::optional<spec::NamespaceType> namespace_of(const std::string& path) {
  constexpr std::array<std::string_view, 8> kIpc{"kernel/msgmax", "kernel/msgmnb", "kernel/msgmni",
                                                 "kernel/sem",    "kernel/shmall", "kernel/shm_rmid_forced",
                                                 "kernel/shmmax", "kernel/shmmni"};
  if (path.starts_with("net/")) return spec::NamespaceType::kNetwork;
  if (path.starts_with("fs/mqueue/") || std::ranges::find(kIpc, path) != kIpc.end()) return spec::NamespaceType::kIpc;
  if (path == "kernel/domainname" || path == "kernel/hostname") return spec::NamespaceType::kUts;
  if (path.starts_with("user/")) return spec::NamespaceType::kUser;
  return std::nullopt;
}

}  // namespace

Result<> check_sysctls(const spec::Linux& config) {
  for (const auto& [key, value] : config.sysctl) {
    const std::string path = path_of(key);
    const auto type = namespace_of(path);
    if (!type || path.find("..") != std::string::npos) {
      return fail(Code::kInvalid, "linux.sysctl: \"" + key + "\" is not in a separate kernel namespace");
    }
    if (config.find_namespace(*type) == nullptr) {
      return fail(Code::kInvalid, "linux.sysctl: \"" + key + "\" needs a " + std::string(spec::namespace_name(*type)) +
                                      " namespace, it would change the host's");
    }
  }
  return {};
}

Result<> write_sysctls(const spec::Linux& config, int proc_fd) {
  for (const auto& [key, value] : config.sysctl) {
    BERTH_TRY(os::write_proc(proc_fd, "sys/" + path_of(key), value), key);
  }
  return {};
}

}  // namespace berth::engine::process
