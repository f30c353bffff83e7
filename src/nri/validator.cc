#include "nri/validator.h"

#include <algorithm>
#include <optional>

#include "base/strings.h"

namespace berth::nri {
namespace {

constexpr std::string_view kRequiredAnnotation = "required-plugins.noderesource.dev";

/// Of a container by "KEY/container.NAME", else of the pod by "KEY/pod" or the bare key.
std::optional<std::string> annotation(const api::ValidateContainerAdjustmentRequest& request, std::string_view key) {
  const auto& all = request.pod().annotations();
  const std::string name(key);
  for (const auto& form : {name + "/container." + request.container().name(), name + "/pod", name}) {
    if (const auto found = all.find(form); found != all.end()) return found->second;
  }
  return std::nullopt;
}

std::string_view unquoted(std::string_view text) {
  text = trim(text);
  if (text.size() >= 2 && (text.front() == '"' || text.front() == '\'') && text.back() == text.front()) {
    text = text.substr(1, text.size() - 2);
  }
  return text;
}

/// A list as YAML has it in an annotation: "[ a, b ]", or one "- a" on each line.
Result<std::vector<std::string>> names_in(std::string_view text) {
  std::vector<std::string> names;
  text = trim(text);
  const bool flow = text.starts_with('[');
  if (flow && !text.ends_with(']')) return fail(Code::kInvalid, "no list");
  if (flow) text = text.substr(1, text.size() - 2);
  for (const auto part : split(text, flow ? ',' : '\n')) {
    auto word = trim(part);
    if (word.empty()) continue;
    if (!flow) {
      if (!word.starts_with("- ")) return fail(Code::kInvalid, "no list");
      word.remove_prefix(2);
    }
    names.emplace_back(unquoted(word));
  }
  return names;
}

Result<> check_seccomp(const ValidatorOptions& options, const api::ValidateContainerAdjustmentRequest& request,
                       const Owners& owners) {
  const std::string owner = owners.of(request.container().id(), api::SeccompPolicy);
  if (owner.empty()) return {};
  const auto& task = request.container().linux();
  const auto type =
      task.has_seccomp_profile() ? task.seccomp_profile().profile_type() : api::SecurityProfile::UNCONFINED;
  const char* what = nullptr;
  if (type == api::SecurityProfile::UNCONFINED && options.reject_unconfined_seccomp) what = "an unconfined container";
  if (type == api::SecurityProfile::RUNTIME_DEFAULT && options.reject_runtime_default_seccomp) {
    what = "a container with the runtime's default profile";
  }
  if (type == api::SecurityProfile::LOCALHOST && options.reject_custom_seccomp) {
    what = "a container with a profile of its own";
  }
  if (what == nullptr) return {};
  return fail(Code::kDenied, "NRI plugin " + owner + " may not set the seccomp policy of " + what);
}

Result<> check_required(const ValidatorOptions& options, const api::ValidateContainerAdjustmentRequest& request) {
  std::vector<std::string> required = options.required_plugins;
  if (!options.tolerate_missing_annotation.empty()) {
    if (const auto value = annotation(request, options.tolerate_missing_annotation)) {
      const std::string word = to_lower(trim(*value));
      if (word == "true" || word == "t" || word == "1") return {};
      if (word != "false" && word != "f" && word != "0") {
        return fail(Code::kInvalid, "annotation " + options.tolerate_missing_annotation + ": \"" + *value +
                                        "\" is neither true nor false");
      }
    }
  }
  if (const auto value = annotation(request, kRequiredAnnotation)) {
    BERTH_ASSIGN(const auto names, names_in(*value), "annotation " + std::string(kRequiredAnnotation));
    required.insert(required.end(), names.begin(), names.end());
  }
  for (const auto& name : required) {
    const bool there = std::ranges::any_of(request.plugins(), [&](const api::PluginInstance& plugin) {
      return plugin.name() == name || plugin.index() + "-" + plugin.name() == name;
    });
    if (!there) return fail(Code::kUnavailable, "NRI plugin " + name + " is required and not connected");
  }
  return {};
}

}  // namespace

Result<> validate_adjustment(const ValidatorOptions& options, const api::ValidateContainerAdjustmentRequest& request,
                             const Owners& owners) {
  if (!options.enabled) return {};
  const std::string& id = request.container().id();
  if (const auto owner = owners.of(id, api::OciHooks); options.reject_hooks && !owner.empty()) {
    return fail(Code::kDenied, "NRI plugin " + owner + " may not add OCI hooks");
  }
  BERTH_TRY(check_seccomp(options, request, owners), "NRI validator");
  for (const auto& space : request.adjust().linux().namespaces()) {
    std::string_view type = space.type();
    static_cast<void>(marked_for_removal(type));
    if (options.reject_namespaces) {
      return fail(Code::kDenied, "NRI plugin " + owners.of(id, api::Namespace, std::string(type)) +
                                     " may not change the " + std::string(type) + " namespace");
    }
  }
  for (const auto& [key, value] : request.adjust().linux().sysctl()) {
    std::string_view name = key;
    static_cast<void>(marked_for_removal(name));
    if (options.reject_sysctls) {
      return fail(Code::kDenied, "NRI plugin " + owners.of(id, api::Sysctl, std::string(name)) +
                                     " may not change the sysctl " + std::string(name));
    }
  }
  return check_required(options, request);
}

}  // namespace berth::nri
