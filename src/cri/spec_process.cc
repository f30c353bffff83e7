#include <algorithm>
#include <array>

#include "base/strings.h"
#include "cri/spec_builder.h"
#include "os/caps.h"

namespace berth::cri {

namespace {

constexpr const char* kDefaultPath = "PATH=/usr/local/sbin:/usr/local/bin:/usr/sbin:/usr/bin:/sbin:/bin";
constexpr std::size_t kMaxEnvBytes = 4U << 20;  // well beyond what execve(2) takes

// Docker's and containerd's set.
constexpr std::array<std::string_view, 14> kDefaultCaps = {
    "CAP_CHOWN",   "CAP_DAC_OVERRIDE", "CAP_FSETID", "CAP_FOWNER",     "CAP_MKNOD",
    "CAP_NET_RAW", "CAP_SETGID",       "CAP_SETUID", "CAP_SETFCAP",    "CAP_NET_BIND_SERVICE",
    "CAP_SETPCAP", "CAP_SYS_CHROOT",   "CAP_KILL",   "CAP_AUDIT_WRITE"};

std::vector<std::string> build_args(const pb::ContainerConfig& container, const spec::ContainerDefaults& image) {
  std::vector<std::string> args(container.command().begin(), container.command().end());
  if (args.empty()) args = image.entrypoint;
  if (container.args_size() > 0) {
    args.insert(args.end(), container.args().begin(), container.args().end());
  } else if (container.command_size() == 0) {
    args.insert(args.end(), image.cmd.begin(), image.cmd.end());
  }
  return args;
}

std::string_view name_of(std::string_view entry) {
  return entry.substr(0, entry.find('='));
}

/// A later entry takes the place of an earlier one with its name.
void set_env(std::vector<std::string>& env, std::string entry) {
  const std::string_view name = name_of(entry);
  const auto old = std::ranges::find_if(env, [name](const std::string& other) { return name_of(other) == name; });
  if (old == env.end()) {
    env.push_back(std::move(entry));
  } else {
    *old = std::move(entry);
  }
}

bool has_env(const std::vector<std::string>& env, std::string_view name) {
  return std::ranges::any_of(env, [name](const std::string& entry) { return name_of(entry) == name; });
}

Result<std::vector<std::string>> build_env(const SpecInput& input) {
  std::vector<std::string> env = {kDefaultPath};
  const std::string& hostname = input.pod.hostname().empty() ? input.host.hostname : input.pod.hostname();
  if (!hostname.empty()) env.push_back("HOSTNAME=" + hostname);
  if (input.container.tty()) env.emplace_back("TERM=xterm");
  for (const auto& entry : input.image.config.env) {
    if (!name_of(entry).empty() && entry.find('=') != std::string::npos) set_env(env, entry);
  }
  std::size_t bytes = 0;
  for (const auto& entry : input.container.envs()) {
    bytes += entry.key().size() + entry.value().size();
    if (bytes > kMaxEnvBytes) return fail(Code::kExhausted, "envs: more than 4 MiB");
    if (entry.key().empty() || entry.key().find_first_of(std::string_view("=\0", 2)) != std::string::npos) {
      return fail(Code::kInvalid, "envs: \"" + entry.key() + "\" is no name of a variable");
    }
    if (entry.value().find('\0') != std::string::npos) {
      return fail(Code::kInvalid, "envs: the value of " + entry.key() + " holds a NUL");
    }
    set_env(env, entry.key() + "=" + entry.value());
  }
  if (!has_env(env, "HOME"))
    env.push_back(std::string("HOME=").append(input.user.home.empty() ? "/" : input.user.home));
  return env;
}

Result<int> capability(const std::string& word) {
  std::string name = word;
  std::ranges::transform(name, name.begin(),
                         [](char c) { return c >= 'a' && c <= 'z' ? static_cast<char>(c - 32) : c; });
  if (!name.starts_with("CAP_")) name.insert(0, "CAP_");
  const auto number = os::cap_number(name);
  if (!number) return fail(Code::kInvalid, "capabilities: \"" + word + "\" is unknown");
  return *number;
}

bool names_all(const std::string& word) {
  return to_lower(word) == "all" || to_lower(word) == "cap_all";
}

std::uint64_t all_caps() {
  const auto count = os::cap_names().size();
  return count >= 64 ? ~0ULL : (1ULL << count) - 1;
}

std::vector<std::string> cap_list(std::uint64_t set) {
  std::vector<std::string> names;
  const auto known = os::cap_names();
  for (std::size_t i = 0; i < known.size(); ++i) {
    if ((set >> i & 1) != 0) names.emplace_back(known[i]);
  }
  return names;
}

using Words = google::protobuf::RepeatedPtrField<std::string>;

Result<std::uint64_t> cap_set(const Words& words) {
  std::uint64_t set = 0;
  for (const auto& word : words) {
    if (names_all(word)) {
      set |= all_caps();
      continue;
    }
    BERTH_ASSIGN(const int number, capability(word), "security_context");
    set |= 1ULL << number;
  }
  return set;
}

/// Drops what this process cannot give, which a container would be refused for, and says so.
std::uint64_t clamp(std::uint64_t wanted, const HostFacts& host, std::vector<std::string>& warnings) {
  const std::uint64_t missing = wanted & ~host.bounding_caps;
  if (missing == 0) return wanted;
  warnings.push_back("capabilities that this process does not have itself are not given: " +
                     join(cap_list(missing), " "));
  return wanted & host.bounding_caps;
}

}  // namespace

Result<spec::Capabilities> build_capabilities(const pb::LinuxContainerSecurityContext& security, const HostFacts& host,
                                              std::vector<std::string>& warnings) {
  const auto& asked = security.capabilities();
  std::uint64_t set = 0;
  for (const auto name : kDefaultCaps) set |= 1ULL << *os::cap_number(name);
  BERTH_ASSIGN(const std::uint64_t added, cap_set(asked.add_capabilities()), "add_capabilities");
  BERTH_ASSIGN(const std::uint64_t ambient, cap_set(asked.add_ambient_capabilities()), "add_ambient_capabilities");
  // "ALL" of either list comes first, then the single names: so drop ALL with add NET_BIND_SERVICE leaves one.
  const bool drop_all = std::ranges::any_of(asked.drop_capabilities(), names_all);
  const bool add_all = std::ranges::any_of(asked.add_capabilities(), names_all);
  if (drop_all) set = 0;
  Words single_drops;
  for (const auto& word : asked.drop_capabilities()) {
    if (!names_all(word)) *single_drops.Add() = word;
  }
  BERTH_ASSIGN(const std::uint64_t dropped, cap_set(single_drops), "drop_capabilities");
  set = (set | added | ambient) & ~dropped;
  if (add_all) set = all_caps() & ~dropped;
  if (security.privileged()) set = all_caps();
  set = clamp(set, host, warnings);
  spec::Capabilities result;
  result.bounding = cap_list(set);
  result.effective = result.bounding;
  result.permitted = result.bounding;
  // Inheritable is what CVE-2022-24769 was about: only what is to be ambient, which the kernel demands.
  result.inheritable = cap_list(ambient & set);
  result.ambient = result.inheritable;
  return result;
}

Result<spec::Process> build_process(const SpecInput& input, std::vector<std::string>& warnings) {
  const auto& container = input.container;
  const auto& security = container.linux().security_context();
  spec::Process process;
  process.terminal = container.tty();
  process.args = build_args(container, input.image.config);
  if (process.args.empty() || process.args.front().empty()) {
    return fail(Code::kInvalid, "no command: neither the request nor the image names a program");
  }
  for (const auto& arg : process.args) {
    if (arg.find('\0') != std::string::npos) return fail(Code::kInvalid, "command: an argument holds a NUL");
  }
  BERTH_ASSIGN(process.env, build_env(input), "environment");
  process.cwd = container.working_dir().empty() ? input.image.config.working_dir : container.working_dir();
  if (process.cwd.empty()) process.cwd.push_back('/');
  if (!process.cwd.starts_with('/')) return fail(Code::kInvalid, "working_dir \"" + process.cwd + "\" is not absolute");
  process.user.uid = input.user.ids.uid;
  process.user.gid = input.user.ids.gid;
  process.user.additional_gids = input.user.ids.groups;
  HostFacts host = input.host;
  // A new user namespace begins with all of them, whatever its maker has.
  if (input.facts.ids) host.bounding_caps = all_caps();
  BERTH_ASSIGN(process.capabilities, build_capabilities(security, host, warnings), "capabilities");
  process.no_new_privileges = security.no_new_privs();
  process.oom_score_adj =
      static_cast<std::int32_t>(std::clamp<std::int64_t>(container.linux().resources().oom_score_adj(), -1000, 1000));
  return process;
}

}  // namespace berth::cri
