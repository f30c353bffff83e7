#include "nri/preinstalled.h"

#include <unistd.h>

#include "nri/plugin.h"
#include "os/file.h"
#include "os/socket.h"

namespace berth::nri {
namespace {

constexpr std::size_t kMaxConfig = 1U << 20;
constexpr std::size_t kMaxPlugins = 256;
// The first bytes of a WebAssembly module, version 1.
constexpr std::string_view kWasmMagic{"\0asm\1\0\0\0", 8};

bool is_wasm(const std::string& path) {
  const auto file = os::open_file(path, O_RDONLY);
  char head[8];
  return file && ::read(file->get(), head, sizeof(head)) == sizeof(head) && std::string_view(head, 8) == kWasmMagic;
}

Result<std::string> read_config(const std::string& dir, const std::string& full, const std::string& base) {
  for (const auto& name : {full, base}) {
    auto text = os::read_file(dir + "/" + name + ".conf", kMaxConfig);
    if (text || text.error().code() != Code::kNotFound) return text;
  }
  return std::string();
}

Result<Preinstalled> look_at(const std::string& dir, const std::string& config_dir, const std::string& file) {
  Preinstalled plugin{.path = dir + "/" + file, .index = file.substr(0, 2), .name = {}, .config = {}};
  if (file.size() > 3 && file[2] == '-') plugin.name = file.substr(3);
  if (!is_plugin_index(plugin.index) || !is_plugin_name(plugin.name)) {
    return fail(Code::kInvalid, plugin.path + ": the name of a plugin is two digits, '-' and letters");
  }
  if (is_wasm(plugin.path)) return fail(Code::kUnsupported, plugin.path + ": WebAssembly plugins are not run");
  BERTH_ASSIGN(plugin.config, read_config(config_dir, file, plugin.name), "configuration of " + file);
  return plugin;
}

}  // namespace

std::vector<Preinstalled> find_preinstalled(const std::string& dir, const std::string& config_dir,
                                            std::vector<std::string>& faults) {
  std::vector<Preinstalled> found;
  const auto files = os::list_dir(dir);
  if (!files) {
    if (files.error().code() != Code::kNotFound) faults.push_back(files.error().text());
    return found;
  }
  for (const auto& file : *files) {
    struct stat status{};
    const bool program =
        ::stat((dir + "/" + file).c_str(), &status) == 0 && S_ISREG(status.st_mode) && (status.st_mode & 0111) != 0;
    if (!program) continue;
    if (found.size() == kMaxPlugins) {
      faults.push_back(dir + ": more than " + std::to_string(kMaxPlugins) + " plugins");
      break;
    }
    auto plugin = look_at(dir, config_dir, file);
    if (plugin) {
      found.push_back(std::move(*plugin));
    } else {
      faults.push_back(plugin.error().text());
    }
  }
  return found;
}

Result<Launched> launch(const Preinstalled& plugin) {
  auto pair = os::unix_socketpair();
  if (!pair) return fail(std::move(pair).error());
  os::SpawnOptions options;
  options.argv = {plugin.path};
  options.env = {"NRI_PLUGIN_NAME=" + plugin.name, "NRI_PLUGIN_IDX=" + plugin.index, "NRI_PLUGIN_SOCKET=3"};
  options.fds = {{pair->second.get(), 3}, {2, 2}};
  options.new_process_group = true;
  auto child = os::spawn(options);
  if (!child) return fail(std::move(child).error());
  return Launched{std::move(*child), std::move(pair->first)};
}

}  // namespace berth::nri
