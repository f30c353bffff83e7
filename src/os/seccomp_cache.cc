#include "os/seccomp_cache.h"

#include <fcntl.h>
#include <linux/filter.h>
#include <seccomp.h>
#include <stdio.h>
#include <unistd.h>

#include "base/ids.h"
#include "os/file.h"

namespace berth::os {
namespace {

constexpr std::size_t kMaxEntryBytes = 4U << 20;

void put(std::string& key, std::string_view text) {
  key.append(std::to_string(text.size())).append(":").append(text);
}
void put(std::string& key, std::uint64_t number) {
  key.append(std::to_string(number)).append(",");
}

// Everything that the program follows from, each part with its length, so that no two policies share a key.
std::string key_of(const SeccompPolicy& policy) {
  std::string key = "berth seccomp 1 ";
  const scmp_version* version = ::seccomp_version();
  if (version != nullptr) {
    put(key, version->major);
    put(key, version->minor);
    put(key, version->micro);
  }
  put(key, policy.default_action);
  put(key, policy.default_errno_ret.value_or(UINT32_MAX));
  put(key, policy.architectures != nullptr ? policy.architectures->size() : 0);
  if (policy.architectures != nullptr) {
    for (const auto& name : *policy.architectures) put(key, name);
  }
  for (const auto& rule : policy.rules) {
    put(key, rule.action);
    put(key, rule.errno_ret.value_or(UINT32_MAX));
    put(key, rule.names->size());
    for (const auto& name : *rule.names) put(key, name);
    put(key, rule.args.size());
    for (const auto& arg : rule.args) {
      put(key, arg.index);
      put(key, arg.op);
      put(key, arg.value);
      put(key, arg.value_two);
    }
  }
  key.push_back('\n');
  return key;
}

// FNV-1a, 64 bit: names the file; the key inside decides.
std::string name_of(const std::string& key) {
  std::uint64_t hash = 0xcbf29ce484222325U;
  for (const char c : key) hash = (hash ^ static_cast<unsigned char>(c)) * 0x100000001b3U;
  return std::to_string(hash) + ".bpf";
}

bool load(int dir_fd, const std::string& name, const std::string& key, SeccompProgram& program) {
  const auto entry = read_file_at(dir_fd, name, kMaxEntryBytes);
  if (!entry || !entry->starts_with(key)) return false;
  const auto bytes = std::string_view(*entry).substr(key.size());
  const std::size_t count = bytes.size() / sizeof(sock_filter);
  if (count == 0 || count > BPF_MAXINSNS || bytes.size() % sizeof(sock_filter) != 0) return false;
  program.instructions.resize(count);
  bytes.copy(reinterpret_cast<char*>(program.instructions.data()), bytes.size());
  return true;
}

void store(int dir_fd, const std::string& name, const std::string& key, const SeccompProgram& program) {
  const std::string temporary = name + ".tmp-" + random_hex(4);
  auto fd = open_at(dir_fd, temporary, O_WRONLY | O_CREAT | O_EXCL | O_NOFOLLOW, 0600);
  if (!fd) return;
  const std::string_view bytes(reinterpret_cast<const char*>(program.instructions.data()),
                               program.instructions.size() * sizeof(sock_filter));
  auto written = write_all(fd->get(), key);
  if (written) written = write_all(fd->get(), bytes);
  if (!written || ::renameat(dir_fd, temporary.c_str(), dir_fd, name.c_str()) != 0) {
    ::unlinkat(dir_fd, temporary.c_str(), 0);
  }
}

}  // namespace

Result<SeccompProgram> compile_seccomp_cached(const SeccompPolicy& policy, int cache_dir_fd) {
  if (cache_dir_fd < 0) return compile_seccomp(policy);
  const std::string key = key_of(policy);
  const std::string name = name_of(key);
  SeccompProgram program;
  if (load(cache_dir_fd, name, key, program)) return program;
  BERTH_ASSIGN(program, compile_seccomp(policy), "compile");
  store(cache_dir_fd, name, key, program);
  return program;
}

}  // namespace berth::os
