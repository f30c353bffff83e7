#include "nri/apply.h"

#include <algorithm>

#include "nri/apply_linux.h"
#include "spec/own_options.h"

namespace berth::nri {
namespace {

Result<> apply_env(const api::ContainerAdjustment& adjust, const Owners& owners, const std::string& container,
                   spec::Process& process) {
  const auto name_of = [](const std::string& entry) { return std::string_view(entry).substr(0, entry.find('=')); };
  for (const auto& variable : adjust.env()) {
    std::string_view key = variable.key();
    const bool removed = marked_for_removal(key);
    const std::string text = std::string(key) + "=" + variable.value();
    if (key.find_first_of(std::string_view("=\0", 2)) != key.npos || text.find('\0') != text.npos) {
      return fail(Code::kInvalid, plugin_field(owners, container, api::Env, key) + ": it is no variable");
    }
    const auto old = std::ranges::find_if(process.env, [&](const std::string& entry) { return name_of(entry) == key; });
    if (removed) {
      if (old != process.env.end()) process.env.erase(old);
    } else if (old != process.env.end()) {
      *old = text;
    } else {
      process.env.push_back(text);
    }
  }
  return {};
}

Result<> apply_hooks(const google::protobuf::RepeatedPtrField<api::Hook>& asked, std::vector<spec::Hook>& into) {
  for (const auto& hook : asked) {
    if (!hook.path().starts_with('/')) return fail(Code::kInvalid, "hook \"" + hook.path() + "\" is no absolute path");
    spec::Hook out;
    out.path = hook.path();
    out.args = {hook.args().begin(), hook.args().end()};
    out.env = {hook.env().begin(), hook.env().end()};
    // 0 is how plugins in Go say that they set none.
    if (hook.has_timeout() && hook.timeout().value() > 0) out.timeout = hook.timeout().value();
    into.push_back(std::move(out));
  }
  return {};
}

Result<> apply_all_hooks(const api::Hooks& asked, spec::Spec& spec) {
  if (!spec.hooks) spec.hooks.emplace();
  BERTH_TRY(apply_hooks(asked.prestart(), spec.hooks->prestart), "prestart");
  BERTH_TRY(apply_hooks(asked.create_runtime(), spec.hooks->create_runtime), "createRuntime");
  BERTH_TRY(apply_hooks(asked.create_container(), spec.hooks->create_container), "createContainer");
  BERTH_TRY(apply_hooks(asked.start_container(), spec.hooks->start_container), "startContainer");
  BERTH_TRY(apply_hooks(asked.poststart(), spec.hooks->poststart), "poststart");
  return apply_hooks(asked.poststop(), spec.hooks->poststop);
}

Result<spec::Mount> mount_of(const api::Mount& asked, std::string_view destination) {
  spec::Mount mount;
  mount.destination = destination;
  mount.type = asked.type();
  mount.source = asked.source();
  mount.options = {asked.options().begin(), asked.options().end()};
  if (!mount.destination.starts_with('/') || mount.destination == "/") {
    return fail(Code::kInvalid, "the destination is no path below the root");
  }
  for (const auto& option : mount.options) {
    if (option == "shared" || option == "rshared") {
      return fail(Code::kUnsupported, "propagation \"" + option + "\": a plugin's mounts never reach the host");
    }
    if (spec::is_own_option(option)) return fail(Code::kInvalid, "option \"" + option + "\" is Berth's own");
  }
  return mount;
}

/// What the pod has in its shim's mount namespace alone, which a plugin gives another look: without a shared root all
/// that is the host's is marked.
bool is_of_pod(const spec::Mount& mount, const std::vector<spec::Mount>& mounts) {
  return !spec::propagates(mount) && std::ranges::any_of(mounts, [&](const spec::Mount& other) {
    return spec::is_bind(other) && other.source == mount.source &&
           std::ranges::none_of(other.options, spec::is_own_option);
  });
}

std::ptrdiff_t depth(const spec::Mount& mount) {
  return std::ranges::count(mount.destination, '/');
}

Result<> apply_mounts(const api::ContainerAdjustment& adjust, const Owners& owners, const std::string& container,
                      const Machine& machine, spec::Spec& spec) {
  const auto before = spec.mounts;
  for (const auto& asked : adjust.mounts()) {
    const std::string key = clean_key(asked.destination());
    std::string_view path = key;
    const bool removed = marked_for_removal(path);
    std::erase_if(spec.mounts, [&](const spec::Mount& other) { return other.destination == path; });
    if (removed) continue;
    auto mount = mount_of(asked, path);
    if (!mount) return fail(std::move(mount).error().in(plugin_field(owners, container, api::Mounts, path)));
    if (!is_of_pod(*mount, before)) spec::mark_host_source(*mount, machine.shared_mounts);
    if (spec::receives(*mount) && spec.linux->rootfs_propagation.empty()) spec.linux->rootfs_propagation = "rslave";
    spec.mounts.push_back(std::move(*mount));
  }
  // Outer ones first, else as they were: by insertion, since what is there is mostly in order.
  for (std::size_t i = 1; i < spec.mounts.size() && !adjust.mounts().empty(); ++i) {
    const auto here = spec.mounts.begin() + static_cast<std::ptrdiff_t>(i);
    const auto place = std::upper_bound(spec.mounts.begin(), here, *here,
                                        [](const auto& a, const auto& b) { return depth(a) < depth(b); });
    std::rotate(place, here, here + 1);
  }
  return {};
}

void apply_rlimits(const api::ContainerAdjustment& adjust, spec::Process& process) {
  for (const auto& asked : adjust.rlimits()) {
    std::erase_if(process.rlimits, [&](const spec::Rlimit& other) { return other.type == asked.type(); });
    spec::Rlimit limit;
    limit.type = asked.type();
    limit.hard = asked.hard();
    limit.soft = asked.soft();
    process.rlimits.push_back(std::move(limit));
  }
}

void apply_annotations(const api::ContainerAdjustment& adjust, spec::Spec& spec) {
  for (const auto& [marked, value] : adjust.annotations()) {
    std::string_view key = marked;
    if (marked_for_removal(key)) {
      spec.annotations.erase(std::string(key));
    } else {
      spec.annotations[marked] = value;
    }
  }
}

}  // namespace

Result<> apply(const api::ContainerAdjustment& adjust, const Owners& owners, const std::string& container,
               const Machine& machine, spec::Spec& spec) {
  if (!spec.process || !spec.linux) return fail(Code::kInternal, "a specification without process and linux");
  apply_annotations(adjust, spec);
  BERTH_TRY(apply_env(adjust, owners, container, *spec.process), "NRI adjustment");
  if (!adjust.args().empty()) spec.process->args = {adjust.args().begin(), adjust.args().end()};
  if (adjust.has_hooks()) {
    BERTH_TRY(apply_all_hooks(adjust.hooks(), spec), plugin_field(owners, container, api::OciHooks));
  }
  BERTH_TRY(apply_mounts(adjust, owners, container, machine, spec), "NRI adjustment");
  apply_rlimits(adjust, *spec.process);
  return apply_linux({adjust.linux(), owners, container, machine}, spec);
}

}  // namespace berth::nri
