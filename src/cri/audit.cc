#include <algorithm>
#include <filesystem>
#include <set>
#include <system_error>
#include <thread>
#include <utility>

#include "base/ids.h"
#include "base/log.h"
#include "base/strings.h"
#include "cri/host_facts.h"
#include "cri/pod_files.h"
#include "cri/service_impl.h"
#include "cri/shim_process.h"
#include "image/store.h"
#include "os/file.h"
#include "os/pidfd.h"

/// Everything of ours on the node has an owner: a record, written before it was made. What has none was left by a
/// daemon that lost its database, or by a fault of ours. The start removes what can only be this daemon's; `berth fsck`
/// looks at any time, and further.
namespace berth::cri {

namespace {

using std::chrono::milliseconds;

constexpr std::size_t kMaxProcFile = 1U << 20;
constexpr milliseconds kEnd{5000};
// Longer than a removal takes from its first object to its record.
constexpr milliseconds kSecondLook{300};
constexpr std::size_t kIdLength = 64;  // of new_id()

bool looks_made_by_us(const std::string& name) {
  return name.size() == kIdLength && valid_id(name) && name.find_first_not_of("0123456789abcdef") == std::string::npos;
}

/// Kills what runs in a cgroup of any hierarchy and removes it everywhere.
Result<> clear_cgroup(const os::CgroupLayout& cgroups, const std::string& path) {
  for (const auto& hierarchy : cgroups.hierarchies) {
    const auto text = os::read_file_at(hierarchy.root.get(), path.substr(1) + "/cgroup.procs", kMaxProcFile);
    for (const auto line : split(trim(text.value_or("")), '\n')) {
      const auto pid = parse_number<pid_t>(line);
      if (!pid) continue;
      // The descriptor first, then the look: the process that is looked at is the one that is killed.
      const auto pidfd = os::open_pidfd(*pid);
      const auto groups = os::read_file("/proc/" + std::to_string(*pid) + "/cgroup", kMaxProcFile);
      if (!pidfd || !groups || !groups->contains(path)) continue;
      BERTH_TRY(end_process(pidfd->get(), kEnd), "process " + std::to_string(*pid));
    }
  }
  return remove_cgroups(cgroups, path);
}

}  // namespace

struct ServiceImpl::Unowned {
  std::string kind;
  std::string object;
  std::function<Result<>()> remove;
};

/// The parent may be shared with another daemon of this machine: a pod that a shim runs, and that has no folder with
/// us, is that one's.
void ServiceImpl::find_unowned_cgroups(std::vector<Unowned>& found) {
  std::set<std::string> unowned;
  const auto look_below = [&](const std::string& parent) {
    for (const auto& hierarchy : cgroups_.hierarchies) {
      const auto children = os::child_cgroups(hierarchy.root.get(), parent);
      for (const auto& name : children ? *children : std::vector<std::string>()) {
        if (looks_made_by_us(std::string(owner_in_name(name)))) unowned.insert(parent + "/" + name);
      }
    }
  };
  look_below(parent_path_);
  for (const auto& sandbox : registry_->sandboxes()) look_below(sandbox->cgroup_parent);
  if (unowned.empty()) return;
  const auto shims = find_shims(options_.shim_path);
  if (!shims) return log_warn("running shims cannot be looked for", {{"err", shims.error().text()}});
  // After the look, so that what was recorded before it was made is known.
  for (const auto& path : unowned) {
    const std::string unit = unit_of(path);
    const std::string name(owner_in_name(unit));
    const bool runs = std::ranges::find(*shims, name, &FoundShim::sandbox_id) != shims->end();
    const bool somebody_elses = runs && !os::exists(dir_of(name));
    if (somebody_elses || registry_->sandbox(name) || registry_->container(name)) continue;
    found.push_back({"cgroup", path, [this, path, systemd = unit != name]() -> Result<> {
                       return systemd ? clear_units(path) : clear_cgroup(cgroups_, path);
                     }});
  }
}

void ServiceImpl::find_unowned_links(std::vector<Unowned>& found) {
  const auto links = options_.network->strays();
  if (!links) log_warn("the bridge's ports cannot be looked at", {{"err", links.error().text()}});
  for (const auto& link : links ? *links : std::vector<std::string>()) {
    found.push_back({"link", link, [this, link] { return options_.network->remove_stray(link); }});
  }
}

std::vector<ServiceImpl::Unowned> ServiceImpl::find_unowned() {
  std::vector<Unowned> found;
  const std::string pods_dir = options_.state_dir + "/pods";
  auto shims = find_shims(options_.shim_path);
  if (!shims) log_warn("running shims cannot be looked for", {{"err", shims.error().text()}});
  for (std::size_t i = 0; shims && i < shims->size(); ++i) {
    auto& shim = (*shims)[i];
    // Another daemon of this machine may have shims of its own.
    if (!looks_made_by_us(shim.sandbox_id) || registry_->sandbox(shim.sandbox_id) ||
        !os::exists(dir_of(shim.sandbox_id))) {
      continue;
    }
    const std::string id = shim.sandbox_id;
    found.push_back({"shim", std::to_string(shim.pid) + " of pod " + id,
                     [this, id, pidfd = std::make_shared<UniqueFd>(std::move(shim.pidfd))]() -> Result<> {
                       BERTH_TRY(end_process(pidfd->get(), kEnd), "end it");
                       return clean_after_shim(options_.shim_path, dir_of(id), id);
                     }});
  }
  const auto folders = os::list_dir(pods_dir);
  for (const auto& id : folders ? *folders : std::vector<std::string>()) {
    const auto path = dir_of(id);
    if (!registry_->sandbox(id)) {
      found.push_back({"folder", path, [path] { return os::remove_tree(path); }});
      continue;
    }
    const auto bundles = os::list_dir(path + "/containers");
    for (const auto& container : bundles ? *bundles : std::vector<std::string>()) {
      if (registry_->container(container)) continue;
      const std::string bundle = container_dir(options_.state_dir, id, container);
      found.push_back({"folder", bundle, [bundle] { return os::remove_tree(bundle); }});
    }
  }
  for (const auto& id : options_.images->rootfs_holders()) {
    if (registry_->container(owner_of_rootfs(id))) continue;
    found.push_back({"root-fs", id, [this, id] { return options_.images->remove_rootfs(id); }});
  }
  for (const auto& left : detached()) {
    found.push_back({"cgroup", describe(left), [this, left] { return release_detached(left); }});
  }
  for (const auto& id : options_.network->holders()) {
    if (registry_->sandbox(id)) continue;
    found.push_back({"network", id, [this, id] {
                       network::PodNetwork pod;
                       pod.sandbox_id = id;
                       return options_.network->remove(pod);
                     }});
  }
  return found;
}

void ServiceImpl::remove_unowned() {
  for (const auto& thing : find_unowned()) {
    log_warn("something that no record owns is removed", {{"kind", thing.kind}, {"object", thing.object}});
    auto removed = thing.remove();
    if (!removed) log_warn("it stays for now", {{"object", thing.object}, {"err", removed.error().text()}});
  }
}

Result<std::vector<Finding>> ServiceImpl::fsck(const Call& call, bool repair) {
  const auto look = [this] {
    auto found = find_unowned();
    find_unowned_links(found);
    find_unowned_cgroups(found);
    return found;
  };
  std::vector<Finding> findings;
  auto found = look();
  if (!found.empty()) {
    std::set<std::pair<std::string, std::string>> first;
    for (const auto& thing : found) first.emplace(thing.kind, thing.object);
    std::this_thread::sleep_for(kSecondLook);
    found = look();
    std::erase_if(found, [&](const Unowned& thing) { return !first.contains({thing.kind, thing.object}); });
  }
  for (const auto& thing : found) {
    if (call.stop.stop_requested()) return fail(Code::kCancelled, "fsck: the caller has gone");
    Finding finding{.kind = thing.kind, .object = thing.object, .removed = false, .error = {}};
    if (repair) {
      auto removed = thing.remove();
      finding.removed = removed.has_value();
      if (!removed) finding.error = removed.error().text();
      log_warn("fsck: something that no record owns",
               {{"kind", thing.kind}, {"object", thing.object}, {"removed", finding.removed}});
    }
    findings.push_back(std::move(finding));
  }
  return findings;
}

}  // namespace berth::cri
