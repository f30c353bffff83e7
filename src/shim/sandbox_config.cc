#include "shim/sandbox_config.h"

#include <algorithm>
#include <type_traits>

#include "base/ids.h"
#include "os/file.h"
#include "os/systemd_unit.h"
#include "shim/log_stream.h"
#include "spec/json_reader.h"

namespace berth::shim {
namespace {

using spec::JsonReader;

bool read_scope(JsonReader& reader, bool& pod) {
  std::string word;
  if (!reader.string(word)) return false;
  if (word != "pod" && word != "node") return reader.fail_here("must be pod or node");
  pod = word == "pod";
  return true;
}

bool read_pid_scope(JsonReader& reader, bool& pod) {
  std::string word;
  if (!reader.string(word)) return false;
  if (word != "pod" && word != "container") return reader.fail_here("must be pod or container");
  pod = word == "pod";
  return true;
}

bool read_engine(JsonReader& reader, std::string& word) {
  if (!reader.string(word)) return false;
  const bool known = word == "process" || word == "external" || word == "shim";
  return known || reader.fail_here("must be process, external or shim");
}

bool read_user_namespace(JsonReader& reader, PodUserNamespace& out) {
  constexpr std::uint64_t kMaxFd = 1023;
  constexpr std::uint64_t kMaxId = 4294967294;
  const auto read = [&reader](auto& into, std::uint64_t limit) {
    std::uint64_t number = 0;
    if (!reader.unsigned_number(number, limit)) return false;
    into = static_cast<std::remove_reference_t<decltype(into)>>(number);
    return true;
  };
  return reader.object([&](std::string_view name) {
    if (name == "fd") return read(out.fd, kMaxFd);
    if (name == "ipc_fd") return read(out.ipc_fd, kMaxFd);
    if (name == "uts_fd") return read(out.uts_fd, kMaxFd);
    if (name == "root_uid") return read(out.root_uid, kMaxId);
    if (name == "root_gid") return read(out.root_gid, kMaxId);
    return reader.skip(nullptr);
  });
}

bool read_systemd(JsonReader& reader, PodSystemd& out) {
  return reader.object([&](std::string_view name) {
    if (name == "slice") return reader.string(out.slice);
    if (name == "scope") return reader.string(out.scope);
    if (name == "program") return reader.string(out.program);
    return reader.skip(nullptr);
  });
}

/// What a document says beside the configuration itself.
struct Read {
  std::uint64_t version = 0;
  std::string engine = "process";
};

bool read_member(JsonReader& reader, std::string_view name, SandboxConfig& config, Read& read) {
  constexpr std::uint64_t kMaxShm = 1ULL << 50;
  if (name == "version") return reader.unsigned_number(read.version, 1'000'000);
  if (name == "sandbox_id") return reader.string(config.sandbox_id);
  if (name == "hostname") return reader.string(config.hostname);
  if (name == "ipc") return read_scope(reader, config.pod_ipc);
  if (name == "uts") return read_scope(reader, config.pod_uts);
  if (name == "user_namespace") return read_user_namespace(reader, config.user_namespace.emplace());
  if (name == "pid") return read_pid_scope(reader, config.pod_pid);
  if (name == "shm_size_bytes") return reader.unsigned_number(config.shm_size_bytes, kMaxShm);
  if (name == "engine") return read_engine(reader, read.engine);
  if (name == "shim") return reader.string(config.shim);
  if (name == "runtime_binary") return reader.string(config.runtime_binary);
  if (name == "runtime_root") return reader.string(config.runtime_root);
  if (name == "cgroup_parent") return reader.string(config.cgroup_parent);
  if (name == "systemd") return read_systemd(reader, config.systemd.emplace());
  if (name == "log_max_line_bytes") {
    return reader.unsigned_number(config.log_max_line_bytes, LogStream::kMaxLineLimit);
  }
  if (name == "sysctls") {
    return reader.object([&](std::string_view key) {
      config.sysctls.emplace_back(key, std::string());
      return reader.string(config.sysctls.back().second);
    });
  }
  return reader.skip(nullptr);
}

Result<> check_engine(const SandboxConfig& config, std::string_view engine) {
  if (config.shim.starts_with('/') != (engine == "shim") || (engine != "shim" && !config.shim.empty())) {
    return fail(Code::kInvalid, "shim: an absolute path with engine shim, and only with it");
  }
  const bool binary = config.runtime_binary.starts_with('/');
  if (!config.runtime_binary.empty() && !binary) return fail(Code::kInvalid, "runtime_binary: not an absolute path");
  if ((engine == "external" && !binary) || (engine == "process" && binary)) {
    return fail(Code::kInvalid, "runtime_binary: needed with engine external, and of none without a runtime");
  }
  return {};
}

/// Above those of the standard streams, all different, and one for each namespace that is the pod's.
Result<> check_user_namespace(const SandboxConfig& config) {
  if (!config.user_namespace) return {};
  const PodUserNamespace& user = *config.user_namespace;
  const auto asked = [](int fd, bool wanted) { return wanted ? fd > 2 : fd == -1; };
  if (!asked(user.fd, true) || !asked(user.ipc_fd, config.pod_ipc) || !asked(user.uts_fd, config.pod_uts)) {
    return fail(Code::kInvalid, "a descriptor above 2 for the user namespace and for each that is the pod's");
  }
  if (user.fd == user.ipc_fd || user.fd == user.uts_fd || (user.ipc_fd == user.uts_fd && user.ipc_fd != -1)) {
    return fail(Code::kInvalid, "one descriptor for two namespaces");
  }
  return {};
}

Result<> check_systemd(const SandboxConfig& config) {
  if (!config.systemd) return {};
  BERTH_TRY(os::slice_path(config.systemd->slice), "slice");
  if (!os::is_unit_name(config.systemd->scope) || !config.systemd->scope.ends_with(".scope")) {
    return fail(Code::kInvalid, "scope: not the name of a scope");
  }
  if (!config.systemd->program.starts_with('/')) return fail(Code::kInvalid, "program: not an absolute path");
  return {};
}

}  // namespace

Result<SandboxConfig> parse_sandbox_config(std::string_view json) {
  spec::Limits limits;
  limits.max_bytes = kMaxSandboxJsonBytes;
  JsonReader reader(json, limits);
  SandboxConfig config;
  Read read;
  const bool whole = reader.object([&](std::string_view name) { return read_member(reader, name, config, read); });
  if (!whole || !reader.finish()) return fail(reader.error());
  if (read.version != 1) return fail(Code::kInvalid, "version: this shim reads version 1 only");
  if (!valid_id(config.sandbox_id)) return fail(Code::kInvalid, "sandbox_id: not an id");
  if (config.hostname.size() > 64) return fail(Code::kInvalid, "hostname: longer than 64 bytes");
  BERTH_TRY(check_engine(config, read.engine), "engine");
  BERTH_TRY(check_user_namespace(config), "user_namespace");
  BERTH_TRY(check_systemd(config), "systemd");
  if (!config.runtime_root.empty() && !config.runtime_root.starts_with('/')) {
    return fail(Code::kInvalid, "runtime_root: not an absolute path");
  }
  if (config.log_max_line_bytes == 0) return fail(Code::kInvalid, "log_max_line_bytes: must not be 0");
  return config;
}

Result<std::optional<SandboxConfig>> read_sandbox_config(const std::string& folder) {
  auto text = os::read_file(folder + "/sandbox.json", kMaxSandboxJsonBytes);
  if (!text) {
    if (text.error().code() == Code::kNotFound) return std::nullopt;
    return fail(std::move(text).error());
  }
  BERTH_ASSIGN(SandboxConfig config, parse_sandbox_config(*text), "sandbox.json");
  return config;
}

Result<std::string> sysctl_path(std::string_view name) {
  std::string path(name);
  const std::size_t first = path.find_first_of("./");
  if (first == std::string::npos || path.size() > 256) return fail(Code::kInvalid, "sysctl " + path + " is no name");
  if (path[first] == '.') {
    for (char& c : path) {
      if (c == '.') {
        c = '/';
      } else if (c == '/') {
        c = '.';
      }
    }
  }
  for (std::size_t start = 0; start <= path.size();) {
    const std::size_t end = std::min(path.find('/', start), path.size());
    const std::string_view part = std::string_view(path).substr(start, end - start);
    if (part.empty() || part == "." || part == "..") return fail(Code::kInvalid, "sysctl " + path + " is no name");
    start = end + 1;
  }
  const bool allowed = path.starts_with("net/") || path.starts_with("fs/mqueue/") || path == "kernel/sem" ||
                       path.starts_with("kernel/shm") || path.starts_with("kernel/msg");
  // kernel.shm* and kernel.msg* are files right there.
  if (!allowed || (path.starts_with("kernel/") && path.find('/', 7) != std::string::npos)) {
    return fail(Code::kDenied, "sysctl " + std::string(name) + " does not belong to a pod");
  }
  return path;
}

}  // namespace berth::shim
