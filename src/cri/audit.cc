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
/// daemon that lost its database, or by a fault of ours; the start removes it, and `berth fsck` looks for it at any
/// time.
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

/// The pod of a process by the folder that it works in, or "".
std::string pod_of_process(const std::string& pid, const std::string& pods_dir) {
  std::error_code error;
  const std::string folder = std::filesystem::read_symlink("/proc/" + pid + "/cwd", error).string();
  if (error || !folder.starts_with(pods_dir + "/")) return {};
  const std::string id = folder.substr(pods_dir.size() + 1, kIdLength);
  return looks_made_by_us(id) ? id : std::string();
}

/// Ends `pid` if it still is what it was taken for.
Result<> end_if(pid_t pid, const std::function<bool()>& still) {
  const auto pidfd = os::open_pidfd(pid);
  if (!pidfd) return {};
  if (!still()) return {};
  return end_process(pidfd->get(), kEnd);
}

/// Kills what runs in a cgroup of any hierarchy and removes it everywhere.
Result<> clear_cgroup(const os::CgroupLayout& cgroups, const std::string& path) {
  for (const auto& hierarchy : cgroups.hierarchies) {
    const auto text = os::read_file_at(hierarchy.root.get(), path.substr(1) + "/cgroup.procs", kMaxProcFile);
    for (const auto line : split(trim(text.value_or("")), '\n')) {
      const auto pid = parse_number<pid_t>(line);
      if (!pid) continue;
      const std::string groups = "/proc/" + std::to_string(*pid) + "/cgroup";
      auto ended = end_if(*pid, [&] { return os::read_file(groups, kMaxProcFile).value_or("").contains(path); });
      if (!ended) return fail(std::move(ended).error().in("process " + std::to_string(*pid)));
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

void ServiceImpl::find_unowned_cgroups(std::vector<Unowned>& found) {
  const auto sandboxes = registry_->sandboxes();
  // The cgroups that pods lie in, and those that containers lie in.
  std::set<std::string> parents{options_.cgroup_parent};
  for (const auto& sandbox : sandboxes) parents.insert(sandbox->cgroup_parent);
  std::set<std::string> unowned;
  for (const auto& hierarchy : cgroups_.hierarchies) {
    for (const auto& parent : parents) {
      const auto children = os::child_cgroups(hierarchy.root.get(), parent);
      for (const auto& name : children ? *children : std::vector<std::string>()) {
        if (looks_made_by_us(name)) unowned.insert(parent + "/" + name);
      }
    }
  }
  // After the look, so that what was recorded before it was made is known.
  for (const auto& path : unowned) {
    const std::string name = path.substr(path.rfind('/') + 1);
    if (registry_->sandbox(name) || registry_->container(name)) continue;
    found.push_back({"cgroup", path, [this, path] { return clear_cgroup(cgroups_, path); }});
  }
}

std::vector<ServiceImpl::Unowned> ServiceImpl::find_unowned() {
  std::vector<Unowned> found;
  const std::string pods_dir = options_.state_dir + "/pods";
  const auto pids = os::list_dir("/proc");
  for (const auto& name : pids ? *pids : std::vector<std::string>()) {
    const auto pid = parse_number<pid_t>(name);
    const std::string id = pid ? pod_of_process(name, pods_dir) : std::string();
    if (id.empty() || registry_->sandbox(id)) continue;
    found.push_back({"process", name + " of pod " + id, [=, this]() -> Result<> {
                       BERTH_TRY(end_if(*pid, [&] { return pod_of_process(name, pods_dir) == id; }), "end it");
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
    if (registry_->container(id)) continue;
    found.push_back({"root-fs", id, [this, id] { return options_.images->remove_rootfs(id); }});
  }
  for (const auto& id : options_.network->holders()) {
    if (registry_->sandbox(id)) continue;
    found.push_back({"network", id, [this, id] {
                       network::PodNetwork pod;
                       pod.sandbox_id = id;
                       return options_.network->remove(pod);
                     }});
  }
  const auto links = options_.network->strays();
  if (!links) log_warn("the bridge's ports cannot be looked at", {{"err", links.error().text()}});
  for (const auto& link : links ? *links : std::vector<std::string>()) {
    found.push_back({"link", link, [this, link] { return options_.network->remove_stray(link); }});
  }
  find_unowned_cgroups(found);
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
  std::vector<Finding> findings;
  auto found = find_unowned();
  if (!found.empty()) {
    std::set<std::pair<std::string, std::string>> first;
    for (const auto& thing : found) first.emplace(thing.kind, thing.object);
    std::this_thread::sleep_for(kSecondLook);
    found = find_unowned();
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
