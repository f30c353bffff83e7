#include "cri/exec_spec.h"

#include <algorithm>

#include "spec/runtime.h"

namespace berth::cri {

Result<std::string> exec_process(const ContainerRecord& record, std::vector<std::string> args, bool terminal) {
  if (args.empty() || args.front().empty()) return fail(Code::kInvalid, "cmd is empty");
  for (const auto& arg : args) {
    if (arg.find('\0') != std::string::npos) return fail(Code::kInvalid, "cmd: an argument holds a NUL");
  }
  BERTH_ASSIGN(auto process, spec::parse_process(record.process_json), "the container's process");
  process.args = std::move(args);
  process.terminal = terminal;
  const bool has_term = std::ranges::any_of(process.env, [](const auto& entry) { return entry.starts_with("TERM="); });
  if (terminal && !has_term) process.env.emplace_back("TERM=xterm");
  return spec::write_process(process);
}

}  // namespace berth::cri
