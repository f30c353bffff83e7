#include "shim/containerd.h"

#include <array>
#include <cstdlib>

#include "base/log.h"
#include "base/strings.h"
#include "containerd/types/introspection.pb.h"
#include "os/file.h"
#include "os/socket.h"
#include "shim/start.h"
#include "spec/json_text.h"
#include "spec/runtime.h"

namespace berth::shim {
namespace {

constexpr const char* kGroupAnnotation = "io.kubernetes.cri.sandbox-id";
constexpr std::chrono::milliseconds kConnectTimeout{1000};
constexpr std::size_t kMaxAddress = 4096;
constexpr std::string_view kScheme = "unix://";
constexpr unsigned kJsonSince = 3;

/// FNV-1a; `basis` gives independent ones.
std::uint64_t hash(std::string_view text, std::uint64_t basis) {
  constexpr std::uint64_t kPrime = 0x100000001b3;
  for (const char c : text) basis = (basis ^ static_cast<unsigned char>(c)) * kPrime;
  return basis;
}

void append_hex(std::string& out, std::uint64_t value) {
  constexpr std::string_view kDigits = "0123456789abcdef";
  for (int shift = 60; shift >= 0; shift -= 4) out.push_back(kDigits[(value >> shift) & 15]);
}

Result<std::string> group_of(const std::string& folder, const std::string& id) {
  BERTH_ASSIGN(const std::string text, os::read_file(folder + "/config.json", spec::Limits{}.max_bytes), "bundle");
  BERTH_ASSIGN(const spec::Spec spec, spec::parse_spec(text), folder + "/config.json");
  for (const auto& [name, value] : spec.annotations) {
    if (name == kGroupAnnotation && !value.empty()) return value;
  }
  return id;
}

}  // namespace

std::string socket_for(const std::string& address, const std::string& name_space, const std::string& group) {
  std::string key = address;
  key.push_back('\0');
  key.append(name_space).push_back('\0');
  key.append(group);
  std::string path = std::string(kSocketFolder) + "/berth-";
  append_hex(path, hash(key, 0xcbf29ce484222325));
  append_hex(path, hash(key, 0x6c62272e07bb0142));
  return path;
}

std::string bootstrap_answer(const std::string& address, const char* max_shim_version) {
  const auto version = parse_number<unsigned>(max_shim_version == nullptr ? "" : max_shim_version);
  if (!version || *version < kJsonSince) return address;
  spec::JsonWriter json;
  json.begin_object().key("version").unsigned_number(kJsonSince).key("address").string(address);
  json.key("protocol").string("ttrpc").end_object();
  return json.take();
}

Result<std::string> start_for_containerd(const CommandLine& line, const std::string& folder) {
  BERTH_ASSIGN(const std::string group, group_of(folder, line.id), "start");
  const std::string socket = socket_for(line.address, line.name_space, group);
  BERTH_TRY(os::make_dirs(kSocketFolder, 0711), "socket folder");
  std::string address = std::string(kScheme) + socket;
  if (!os::unix_connect(socket, kConnectTimeout)) {
    std::vector<std::string> argv = {"/proc/self/exe", "-namespace", line.name_space, "-id", group,
                                     "-address",       line.address, "-socket",       socket};
    if (!line.publish_binary.empty()) argv.insert(argv.end(), {"-publish-binary", line.publish_binary});
    if (line.debug) argv.emplace_back("-debug");
    argv.emplace_back("serve");
    BERTH_ASSIGN(address, start_server(std::move(argv), folder), "start");
  }
  BERTH_TRY(os::write_file_atomic(folder + "/address", address, 0600), "address");
  // NOLINTNEXTLINE(concurrency-mt-unsafe): one thread
  return bootstrap_answer(address, std::getenv("MAX_SHIM_VERSION"));
}

void forget_socket(const std::string& folder) {
  const auto address = os::read_file(folder + "/address", kMaxAddress);
  if (!address || !address->starts_with(kScheme)) return;
  const std::string path = address->substr(kScheme.size());
  const auto connected = os::unix_connect(path, kConnectTimeout);
  if (connected || connected.error().code() != Code::kUnavailable) return;
  ignore(os::remove_file(path), "the next shim of that name replaces it");
}

std::string runtime_info() {
  ::containerd::types::RuntimeInfo info;
  info.set_name("io.containerd.berth.v2");
  info.mutable_version()->set_version(BERTH_VERSION);
  return info.SerializeAsString();
}

}  // namespace berth::shim
