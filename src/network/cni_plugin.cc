#include "network/cni_plugin.h"

#include <unistd.h>

#include <cstring>

#include "base/strings.h"
#include "network/cni_result.h"
#include "os/file.h"
#include "os/spawn.h"

namespace berth::network {
namespace {

constexpr std::size_t kMaxOutput = 1U << 20;
constexpr std::size_t kStderrTail = 512;
// Codes of section 5 of the specification that say more than "failed".
constexpr unsigned kIncompatibleVersion = 1;
constexpr unsigned kUnsupportedField = 2;
constexpr unsigned kUnknownContainer = 3;
constexpr unsigned kBadEnvironment = 4;
constexpr unsigned kBadConfiguration = 7;
constexpr unsigned kTryAgain = 11;
constexpr unsigned kNotAvailable = 50;
constexpr unsigned kLimitedConnectivity = 51;

Result<std::string> find_plugin(const std::vector<std::string>& bin_dirs, const std::string& type) {
  for (const auto& dir : bin_dirs) {
    std::string path = dir + "/" + type;
    if (::access(path.c_str(), X_OK) == 0) return path;
  }
  return fail(Code::kUnavailable, "CNI plugin " + type + " is not in " + join(bin_dirs, ", "), ENOENT);
}

// The daemon's environment without what a caller of the daemon might have left of CNI's.
std::vector<std::string> environment(const std::vector<std::string>& bin_dirs, const CniCall& call) {
  std::vector<std::string> env;
  for (char** entry = environ; entry != nullptr && *entry != nullptr; ++entry) {
    if (std::strncmp(*entry, "CNI_", 4) != 0) env.emplace_back(*entry);
  }
  env.push_back("CNI_COMMAND=" + call.command);
  env.push_back("CNI_PATH=" + join(bin_dirs, ":"));
  if (call.command == "STATUS") return env;
  env.push_back("CNI_CONTAINERID=" + call.container_id);
  env.push_back("CNI_NETNS=" + call.netns);
  env.push_back("CNI_IFNAME=" + call.ifname);
  env.push_back("CNI_ARGS=" + call.args);
  return env;
}

Code code_of(unsigned plugin_code) {
  switch (plugin_code) {
    case kIncompatibleVersion:
      return Code::kUnsupported;
    case kUnknownContainer:
      return Code::kNotFound;
    case kUnsupportedField:
    case kBadEnvironment:
    case kBadConfiguration:
      return Code::kInvalid;
    case kTryAgain:
    case kNotAvailable:
    case kLimitedConnectivity:
      return Code::kUnavailable;
    default:
      return Code::kInternal;
  }
}

Error failure(const CniCall& call, const os::RunOutput& ran) {
  std::string text = "CNI plugin " + call.type + " failed at " + call.command;
  Code code = Code::kInternal;
  if (const auto said = parse_cni_error(ran.out)) {
    code = code_of(said->code);
    text += ": " + (said->message.empty() ? "code " + std::to_string(said->code) : said->message);
    if (!said->details.empty()) text += "; " + said->details;
  } else {
    text += ran.exit_code >= 128 ? ": killed by signal " + std::to_string(ran.exit_code - 128)
                                 : ": exit code " + std::to_string(ran.exit_code);
    if (const auto out = printable_tail(ran.out, kStderrTail); !out.empty()) text += ", it printed: " + out;
  }
  if (const auto err = printable_tail(ran.err, kStderrTail); !err.empty()) text += " (stderr: " + err + ")";
  return {code, std::move(text)};
}

}  // namespace

Result<std::string> run_cni_plugin(const std::vector<std::string>& bin_dirs, const CniCall& call) {
  BERTH_ASSIGN(auto path, find_plugin(bin_dirs, call.type), call.command);
  os::RunOptions options;
  options.spawn.argv = {std::move(path)};
  options.spawn.env = environment(bin_dirs, call);
  options.input = call.input;
  options.output_limit = kMaxOutput;
  options.timeout = call.timeout;
  options.stop = call.stop;
  auto ran = os::run(std::move(options));
  if (!ran) {
    Error error = std::move(ran).error().in("CNI plugin " + call.type + " at " + call.command);
    // kNotFound is what the plugin itself says of a container.
    return fail(error.code() == Code::kNotFound ? std::move(error).as(Code::kUnavailable) : std::move(error));
  }
  if (ran->exit_code != 0) return fail(failure(call, *ran));
  return std::move(ran->out);
}

}  // namespace berth::network
