#include "cri/checkpoint_match.h"

#include <google/protobuf/util/message_differencer.h>

#include <algorithm>
#include <map>
#include <string>
#include <vector>

namespace berth::cri {

namespace {

using google::protobuf::util::MessageDifferencer;

Result<> differs(const std::string& field) {
  return fail(Code::kInvalid, field + " is not what the checkpoint was made with");
}

bool same_words(const google::protobuf::RepeatedPtrField<std::string>& a,
                const google::protobuf::RepeatedPtrField<std::string>& b) {
  return std::ranges::equal(a, b);
}

bool same_variables(const pb::ContainerConfig& a, const pb::ContainerConfig& b) {
  return std::ranges::equal(a.envs(), b.envs(), [](const pb::KeyValue& x, const pb::KeyValue& y) {
    return x.key() == y.key() && x.value() == y.value();
  });
}

/// What mounts and devices there are, wherever they come from.
std::map<std::string, std::string> places(const pb::ContainerConfig& config) {
  std::map<std::string, std::string> all;
  for (const auto& mount : config.mounts()) {
    // An image is part of what it sees; what a folder of the host holds is not.
    all["mount " + mount.container_path()] =
        (mount.readonly() ? "ro " : "rw ") + mount.image().image() + " " + mount.image_sub_path();
  }
  for (const auto& device : config.devices()) {
    all["device " + (device.container_path().empty() ? device.host_path() : device.container_path())] =
        device.permissions();
  }
  for (const auto& device : config.cdi_devices()) all["cdi_devices " + device.name()] = "";
  return all;
}

Result<> match_places(const pb::ContainerConfig& asked, const pb::ContainerConfig& saved) {
  const auto ours = places(asked);
  const auto theirs = places(saved);
  if (ours == theirs) return {};
  for (const auto& [name, how] : theirs) {
    const auto found = ours.find(name);
    if (found == ours.end() || found->second != how) return differs(name);
  }
  for (const auto& [name, how] : ours) {
    if (!theirs.contains(name)) return differs(name);
  }
  return {};
}

}  // namespace

Result<> match_pod(const pb::PodSandboxConfig& asked, const pb::PodSandboxConfig& saved) {
  const auto& ours = asked.linux().security_context().namespace_options();
  const auto& theirs = saved.linux().security_context().namespace_options();
  if (!MessageDifferencer::Equals(ours, theirs)) return differs("linux.security_context.namespace_options");
  return {};
}

Result<> match_container(const pb::ContainerConfig& asked, const pb::ContainerConfig& saved) {
  if (!same_words(asked.command(), saved.command())) return differs("command");
  if (!same_words(asked.args(), saved.args())) return differs("args");
  if (asked.working_dir() != saved.working_dir()) return differs("working_dir");
  if (!same_variables(asked, saved)) return differs("envs");
  if (asked.tty() != saved.tty()) return differs("tty");
  if (asked.stdin() != saved.stdin()) return differs("stdin");
  if (!MessageDifferencer::Equals(asked.linux().security_context(), saved.linux().security_context())) {
    return differs("linux.security_context");
  }
  return match_places(asked, saved);
}

}  // namespace berth::cri
