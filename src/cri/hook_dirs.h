#pragma once
#include <optional>
#include <string>
#include <string_view>
#include <utility>
#include <vector>

#include "base/result.h"
#include "spec/runtime.h"

/// OCI hooks that the node adds to containers, from folders of JSON files. Source: oci-hooks(5), schema 1.0.0.
namespace berth::cri {

/// One file. All conditions that are there must hold.
struct HookFile {
  struct When {
    std::optional<bool> always{};
    std::vector<std::pair<std::string, std::string>> annotations{};  ///< regular expressions for a key and its value
    std::vector<std::string> commands{};                             ///< for the first argument; one must match
    std::optional<bool> has_bind_mounts{};
  };
  spec::Hook hook;
  When when;
  std::vector<std::string> stages;  ///< "prestart", "createRuntime", ...
};

/// What a container is like, as far as hooks ask.
struct HookQuestion {
  std::string command{};  ///< process.args[0]
  spec::StringMap annotations{};
  bool has_bind_mounts = false;
};

/// Reads one file; its regular expressions are tried. Errors, naming the member ("when.annotations"): kInvalid;
/// kUnsupported another schema version, a stage that only others have; kExhausted a limit of the JSON reader.
[[nodiscard]] Result<HookFile> parse_hook_file(std::string_view json);

/// Whether all of its conditions hold. Regular expressions match anywhere in the text unless they are anchored.
[[nodiscard]] bool matches(const HookFile& file, const HookQuestion& question);

/// Adds the hooks of all `*.json` of `dirs` that match to `spec`, in the order of the file names in lower case. A file
/// of a later folder takes the place of its namesake in an earlier one; a folder that is not there holds none. Errors
/// name file and member: a file that cannot be read or whose hook is not there fails the container, since nobody knows
/// what it would have guarded. Reads the disk.
[[nodiscard]] Result<> add_hooks_of_dirs(const std::vector<std::string>& dirs, const HookQuestion& question,
                                         spec::Spec& spec);

}  // namespace berth::cri
