#include "cri/pod_files.h"

#include "base/strings.h"
#include "cri/cgroup_names.h"
#include "cri/user_namespace.h"
#include "os/file.h"
#include "spec/json_text.h"

namespace berth::cri {

namespace {

constexpr std::uint64_t kShmBytes = 64U << 20;
constexpr std::size_t kMaxExitNote = 256;

bool one_word(std::string_view text) {
  if (text.empty()) return false;
  for (const char c : text) {
    if (static_cast<unsigned char>(c) <= ' ' || c == 0x7f) return false;
  }
  return true;
}

Result<> append_words(std::string& line, const google::protobuf::RepeatedPtrField<std::string>& words,
                      const char* what) {
  for (const auto& word : words) {
    if (!one_word(word))
      return fail(Code::kInvalid, std::string("dns_config: ") + what + " \"" + word + "\" is no word");
    line.append(" ").append(word);
  }
  line.push_back('\n');
  return {};
}

}  // namespace

std::string user_namespace_path(pid_t shim_pid) {
  return "/proc/" + std::to_string(shim_pid) + "/fd/" + std::to_string(kUserNamespaceFd);
}

std::string sandbox_json(const SandboxRecord& record, const Handler& handler, std::uint64_t log_max_line_bytes,
                         const std::string& scope_program) {
  const auto& linux_config = record.config.linux();
  const bool node_ipc = linux_config.security_context().namespace_options().ipc() == pb::NODE;
  spec::JsonWriter json;
  json.begin_object();
  json.key("version").number(1);
  json.key("sandbox_id").string(record.id);
  json.key("hostname").string(record.host_network ? std::string_view() : std::string_view(record.config.hostname()));
  json.key("ipc").string(node_ipc ? "node" : "pod");
  json.key("uts").string(record.host_network ? "node" : "pod");
  if (const auto ids = ids_of(record.config); ids) {
    json.key("user_namespace").begin_object();
    json.key("fd").number(kUserNamespaceFd);
    if (!node_ipc) json.key("ipc_fd").number(kIpcNamespaceFd);
    if (!record.host_network) json.key("uts_fd").number(kUtsNamespaceFd);
    json.key("root_uid").unsigned_number(ids->root_uid());
    json.key("root_gid").unsigned_number(ids->root_gid());
    json.end_object();
  }
  if (shares_pids(record.config)) json.key("pid").string("pod");
  json.key("shm_size_bytes").unsigned_number(node_ipc ? 0 : kShmBytes);
  json.key("sysctls").begin_object();
  for (const auto& [name, value] : linux_config.sysctls()) json.key(name).string(value);
  json.end_object();
  json.key("cgroup_parent").string(record.cgroup_parent);
  if (record.systemd_cgroups) {
    json.key("systemd").begin_object();
    json.key("slice").string(unit_of(record.cgroup_parent)).key("scope").string(scope_name(record.id));
    json.key("program").string(scope_program).end_object();
  }
  json.key("log_max_line_bytes").unsigned_number(log_max_line_bytes);
  if (!handler.shim.empty()) {
    json.key("engine").string("shim").key("shim").string(handler.shim);
  } else if (!handler.binary.empty()) {
    json.key("engine").string("external");
  }
  if (!handler.binary.empty()) json.key("runtime_binary").string(handler.binary);
  if (!handler.root.empty()) json.key("runtime_root").string(handler.root);
  json.end_object();
  return json.take();
}

Result<std::string> resolv_conf(const pb::DNSConfig& dns) {
  std::string text;
  if (dns.searches_size() > 0) {
    text += "search";
    BERTH_TRY(append_words(text, dns.searches(), "search domain"), "resolv.conf");
  }
  for (const auto& server : dns.servers()) {
    if (!one_word(server)) return fail(Code::kInvalid, "dns_config: server \"" + server + "\" is no word");
    text.append("nameserver ").append(server).append("\n");
  }
  if (dns.options_size() > 0) {
    text += "options";
    BERTH_TRY(append_words(text, dns.options(), "option"), "resolv.conf");
  }
  return text;
}

std::string hosts_file(const std::string& hostname, const std::vector<std::string>& ips) {
  std::string text =
      "127.0.0.1\tlocalhost\n::1\tlocalhost ip6-localhost ip6-loopback\nfe00::\tip6-localnet\n"
      "fe00::\tip6-mcastprefix\nfe00::1\tip6-allnodes\nfe00::2\tip6-allrouters\n";
  if (!one_word(hostname)) return text;
  for (const auto& ip : ips) text.append(ip).append("\t").append(hostname).append("\n");
  return text;
}

std::string pod_dir(const std::string& state_dir, const std::string& sandbox_id) {
  return state_dir + "/pods/" + sandbox_id;
}

std::string container_dir(const std::string& state_dir, const std::string& sandbox_id,
                          const std::string& container_id) {
  return pod_dir(state_dir, sandbox_id) + "/containers/" + container_id;
}

std::optional<NotedExit> read_exit_note(const std::string& dir) {
  const auto text = os::read_file(dir + "/exit", kMaxExitNote);
  if (!text || !text->ends_with('\n')) return std::nullopt;
  const auto words = split(trim(*text), ' ');
  if (words.size() != 3) return std::nullopt;
  const auto code = parse_number<std::int32_t>(words[0]);
  const auto at = parse_number<std::int64_t>(words[1]);
  if (!code || !at) return std::nullopt;
  return NotedExit{*code, *at, std::string(words[2])};
}

}  // namespace berth::cri
