#include "cri/hook_dirs.h"

#include <re2/re2.h>

#include <algorithm>
#include <array>
#include <map>

#include "base/strings.h"
#include "os/file.h"
#include "spec/json_text.h"

namespace berth::cri {

namespace {

constexpr std::size_t kMaxFile = 1U << 20;
constexpr std::size_t kMaxFiles = 1024;

using Stage = std::pair<std::string_view, std::vector<spec::Hook> spec::Hooks::*>;
const std::array<Stage, 6> kStages = {{{"prestart", &spec::Hooks::prestart},
                                       {"createRuntime", &spec::Hooks::create_runtime},
                                       {"createContainer", &spec::Hooks::create_container},
                                       {"startContainer", &spec::Hooks::start_container},
                                       {"poststart", &spec::Hooks::poststart},
                                       {"poststop", &spec::Hooks::poststop}}};

/// The syntax of Go's regexp package, which is what the files are written for; linear in time, whatever an annotation
/// says.
RE2::Options options() {
  RE2::Options options;
  options.set_log_errors(false);
  return options;
}

Result<> check_pattern(const std::string& pattern, const std::string& member) {
  const RE2 expression(pattern, options());
  if (expression.ok()) return {};
  return fail(Code::kInvalid,
              member + ": \"" + pattern.substr(0, 200) + "\" is no regular expression: " + expression.error());
}

bool found_in(const std::string& pattern, const std::string& text) {
  const RE2 expression(pattern, options());
  return expression.ok() && RE2::PartialMatch(text, expression);
}

Result<std::string> string_at(const spec::Json& value, const std::string& member) {
  const auto text = value.as_string();
  if (!text) return fail(Code::kInvalid, member + ": expected a string");
  if (text->find('\0') != text->npos) return fail(Code::kInvalid, member + ": holds a NUL");
  return std::string(*text);
}

Result<std::vector<std::string>> strings_at(const spec::Json& value, const std::string& member) {
  if (!value.is_array()) return fail(Code::kInvalid, member + ": expected an array of strings");
  std::vector<std::string> all;
  for (const auto& item : value.items()) {
    BERTH_ASSIGN(auto text, string_at(item, member), "hook file");
    all.push_back(std::move(text));
  }
  return all;
}

Result<spec::Hook> parse_hook(const spec::Json* value) {
  if (value == nullptr || !value->is_object()) return fail(Code::kInvalid, "hook: expected an object");
  spec::Hook hook;
  for (const auto& [name, member] : value->members()) {
    if (name == "path") {
      BERTH_ASSIGN(hook.path, string_at(member, "hook.path"), "hook file");
    } else if (name == "args") {
      BERTH_ASSIGN(hook.args, strings_at(member, "hook.args"), "hook file");
    } else if (name == "env") {
      BERTH_ASSIGN(hook.env, strings_at(member, "hook.env"), "hook file");
    } else if (name == "timeout") {
      hook.timeout = member.as_int();
      if (!hook.timeout || *hook.timeout <= 0) {
        return fail(Code::kInvalid, "hook.timeout: expected a number of seconds above 0");
      }
    } else {
      return fail(Code::kInvalid, "hook." + name.substr(0, 64) + ": there is no such member");
    }
  }
  if (!hook.path.starts_with('/')) return fail(Code::kInvalid, "hook.path: must be an absolute path");
  return hook;
}

Result<> parse_annotations(const spec::Json& value, HookFile::When& when) {
  if (!value.is_object()) return fail(Code::kInvalid, "when.annotations: expected an object");
  for (const auto& [key, pattern] : value.members()) {
    BERTH_ASSIGN(auto text, string_at(pattern, "when.annotations"), "hook file");
    BERTH_TRY(check_pattern(key, "when.annotations"), "hook file");
    BERTH_TRY(check_pattern(text, "when.annotations"), "hook file");
    when.annotations.emplace_back(key, std::move(text));
  }
  return {};
}

Result<HookFile::When> parse_when(const spec::Json* value) {
  if (value == nullptr || !value->is_object()) return fail(Code::kInvalid, "when: expected an object");
  HookFile::When when;
  for (const auto& [name, member] : value->members()) {
    if (name == "always" || name == "hasBindMounts") {
      const auto flag = member.as_bool();
      if (!flag) return fail(Code::kInvalid, "when." + name + ": expected true or false");
      (name == "always" ? when.always : when.has_bind_mounts) = flag;
    } else if (name == "annotations") {
      BERTH_TRY(parse_annotations(member, when), "hook file");
    } else if (name == "commands") {
      BERTH_ASSIGN(when.commands, strings_at(member, "when.commands"), "hook file");
      for (const auto& pattern : when.commands) BERTH_TRY(check_pattern(pattern, "when.commands"), "hook file");
    } else {
      // A condition that is not known is one that is not looked at.
      return fail(Code::kInvalid, "when." + name.substr(0, 64) + ": there is no such condition");
    }
  }
  if (!when.always && !when.has_bind_mounts && when.annotations.empty() && when.commands.empty()) {
    return fail(Code::kInvalid, "when: needs always, annotations, commands or hasBindMounts");
  }
  return when;
}

Result<std::vector<std::string>> parse_stages(const spec::Json* value) {
  if (value == nullptr) return fail(Code::kInvalid, "stages: is missing");
  BERTH_ASSIGN(auto stages, strings_at(*value, "stages"), "hook file");
  for (const auto& stage : stages) {
    if (stage == "precreate") return fail(Code::kUnsupported, "stages: \"precreate\" is an extension of podman");
    if (std::ranges::none_of(kStages, [&](const Stage& known) { return known.first == stage; })) {
      return fail(Code::kInvalid, "stages: there is no \"" + stage.substr(0, 64) + "\"");
    }
  }
  if (stages.empty()) return fail(Code::kInvalid, "stages: names none");
  return stages;
}

}  // namespace

Result<HookFile> parse_hook_file(std::string_view json) {
  BERTH_ASSIGN(const auto tree, spec::parse_json(json), "hook file");
  if (!tree.is_object()) return fail(Code::kInvalid, "expected an object");
  const auto version = tree.string_or("version");
  if (version != "1.0.0") {
    return fail(Code::kUnsupported, "version: \"" + std::string(version.substr(0, 64)) + "\" is not \"1.0.0\"");
  }
  HookFile file;
  BERTH_ASSIGN(file.hook, parse_hook(tree.get("hook")), "hook file");
  BERTH_ASSIGN(file.when, parse_when(tree.get("when")), "hook file");
  BERTH_ASSIGN(file.stages, parse_stages(tree.get("stages")), "hook file");
  return file;
}

bool matches(const HookFile& file, const HookQuestion& question) {
  const auto& when = file.when;
  if (when.always && !*when.always) return false;
  if (when.has_bind_mounts && !(*when.has_bind_mounts && question.has_bind_mounts)) return false;
  for (const auto& [key, value] : when.annotations) {
    const bool found = std::ranges::any_of(question.annotations, [&](const auto& entry) {
      return found_in(key, entry.first) && found_in(value, entry.second);
    });
    if (!found) return false;
  }
  if (when.commands.empty()) return true;
  return std::ranges::any_of(when.commands, [&](const auto& pattern) { return found_in(pattern, question.command); });
}

Result<> add_hooks_of_dirs(const std::vector<std::string>& dirs, const HookQuestion& question, spec::Spec& spec) {
  std::map<std::string, std::string> paths;  // file name to path
  for (const auto& dir : dirs) {
    const auto names = os::list_dir(dir);
    if (!names && names.error().code() == Code::kNotFound) continue;
    if (!names) return fail(names.error());
    for (const auto& name : *names) {
      if (name.ends_with(".json")) paths[name] = dir + "/" + name;
    }
  }
  if (paths.empty()) return {};
  if (paths.size() > kMaxFiles) return fail(Code::kExhausted, "more than 1024 hook files");
  std::map<std::pair<std::string, std::string>, std::string> sorted;
  for (const auto& [name, path] : paths) sorted[{to_lower(name), name}] = path;
  for (const auto& [name, path] : sorted) {
    const auto text = os::read_regular_file(path, kMaxFile);
    if (!text && text.error().code() == Code::kNotFound) continue;  // just removed
    if (!text) return fail(text.error());
    auto file = parse_hook_file(*text);
    if (!file) return fail(std::move(file).error().in("hook file " + path));
    if (!os::exists(file->hook.path)) {
      return fail(Code::kNotFound, "hook file " + path + ": hook.path: there is no " + file->hook.path);
    }
    if (!matches(*file, question)) continue;
    if (!spec.hooks) spec.hooks.emplace();
    for (const auto& [stage, list] : kStages) {
      if (std::ranges::find(file->stages, stage) != file->stages.end()) ((*spec.hooks).*list).push_back(file->hook);
    }
  }
  return {};
}

}  // namespace berth::cri
