#include "os/process_list.h"

#include <utility>

#include "base/strings.h"
#include "os/file.h"
#include "os/pidfd.h"

namespace berth::os {

namespace {
constexpr std::size_t kMaxCommandLine = 64U << 10;
}

Result<std::vector<FoundProcess>> find_processes(
    const std::function<bool(const std::vector<std::string>& words)>& wanted) {
  BERTH_ASSIGN(const auto names, list_dir("/proc"), "look for processes");
  std::vector<FoundProcess> found;
  for (const auto& name : names) {
    const auto pid = parse_number<pid_t>(name);
    if (!pid) continue;
    auto pidfd = open_pidfd(*pid);
    if (!pidfd) continue;
    const auto command = read_file("/proc/" + name + "/cmdline", kMaxCommandLine);
    if (!command || command->empty()) continue;
    std::vector<std::string> words;
    for (const auto word : split(*command, '\0')) words.emplace_back(word);
    if (wanted(words)) found.push_back({*pid, std::move(*pidfd), std::move(words)});
  }
  return found;
}

}  // namespace berth::os
