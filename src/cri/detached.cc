#include "cri/detached.h"

#include <algorithm>
#include <chrono>
#include <thread>

#include "base/log.h"
#include "cri/host_facts.h"
#include "cri/service_impl.h"
#include "cri/stuck_tasks.h"
#include "os/pidfd.h"
#include "spec/json_text.h"

/// A task in uninterruptible sleep (a read from a dead volume) ends when the kernel lets it, not when it is killed. It
/// keeps its cgroup, and nothing else of a pod: the pod is taken down without it, and the cgroup is given back in the
/// background.
namespace berth::cri {

namespace {

constexpr const char* kKey = "detached";
// A killed process leaves its cgroup a moment after it is seen dead.
constexpr std::chrono::milliseconds kSettle{2000};
constexpr std::chrono::milliseconds kPause{10};

/// Kills what is in the cgroups and removes them; those that stay.
std::vector<std::string> clear_cgroups(const os::CgroupLayout& cgroups, std::vector<std::string> paths,
                                       std::chrono::milliseconds time) {
  const auto deadline = std::chrono::steady_clock::now() + time;
  for (;;) {
    std::erase_if(paths, [&cgroups](const std::string& path) {
      if (!cgroup_exists(cgroups, path)) return true;
      kill_tasks(cgroups, path);
      return remove_cgroups(cgroups, path).has_value();
    });
    if (paths.empty() || std::chrono::steady_clock::now() >= deadline) return paths;
    std::this_thread::sleep_for(kPause);
  }
}

}  // namespace

std::string encode(const std::vector<Detached>& all) {
  spec::JsonWriter json;
  json.begin_array();
  for (const auto& one : all) {
    json.begin_object().key("sandbox").string(one.sandbox_id).key("cgroups").begin_array();
    for (const auto& path : one.cgroups) json.string(path);
    json.end_array().key("parent").string(one.cgroup_parent).key("top").string(one.cgroup_top);
    if (one.systemd_cgroups) json.key("systemd").boolean(true);
    json.end_object();
  }
  json.end_array();
  return json.take();
}

Result<std::vector<Detached>> decode_detached(std::string_view text) {
  std::vector<Detached> all;
  if (text.empty()) return all;
  auto json = spec::parse_json(text);
  if (!json || !json->is_array()) return fail(Code::kCorrupt, "the list of detached pods is no JSON array");
  for (const auto& item : json->items()) {
    Detached one;
    one.sandbox_id = item.string_or("sandbox");
    one.cgroup_parent = item.string_or("parent");
    one.cgroup_top = item.string_or("top");
    one.systemd_cgroups = item.get("systemd") != nullptr && item.get("systemd")->as_bool().value_or(false);
    const auto* cgroups = item.get("cgroups");
    if (one.sandbox_id.empty() || cgroups == nullptr) return fail(Code::kCorrupt, "a detached pod lacks its members");
    for (const auto& path : cgroups->items()) one.cgroups.emplace_back(path.as_string().value_or(""));
    std::erase_if(one.cgroups, [](const auto& path) { return !path.starts_with('/') || path.size() < 2; });
    all.push_back(std::move(one));
  }
  return all;
}

/// After the shim's end: what its containers' cgroups still hold is killed; what cannot be is left to
/// retry_detached(). The pod's own cgroups go too, unless one stays.
Result<> ServiceImpl::release_pod_cgroups(Operation& operation, const SandboxRecord& record) {
  const Stage stage(operation, "remove cgroups", record.cgroup_parent);
  std::vector<std::string> paths;
  for (const auto& container : registry_->containers_of(record.id)) {
    if (container->cgroups_path.starts_with('/')) paths.push_back(container->cgroups_path);
  }
  std::erase_if(paths, [this](const std::string& path) { return !cgroup_exists(cgroups_, path); });
  const auto there = paths;
  paths = clear_cgroups(cgroups_, std::move(paths), kSettle);
  end_cleared_units(record.systemd_cgroups, there, paths);
  if (paths.empty()) {
    auto released = release_cgroups(record);
    if (!released) log_warn("a pod's cgroup stays", {{"sandbox", record.id}, {"err", released.error().text()}});
    return {};
  }
  const Detached left{record.id, std::move(paths), record.cgroup_parent, record.cgroup_top, record.systemd_cgroups};
  const std::string why = describe(left);
  {
    MutexLock lock(detached_mutex_);
    auto all = detached_;
    std::erase_if(all, [&record](const auto& one) { return one.sandbox_id == record.id; });
    all.push_back(left);
    BERTH_TRY(db_->set_meta(kKey, encode(all)), "record what stays of the pod");
    detached_ = std::move(all);
  }
  log_warn("a pod is taken down without tasks that cannot be killed", {{"sandbox", record.id}, {"err", why}});
  note_event(record.id, {}, "detached: the rest is given back when these tasks have ended", why);
  return {};
}

std::string ServiceImpl::describe(const Detached& left) const {
  std::string text;
  for (const auto& path : left.cgroups) {
    if (!text.empty()) text += "; ";
    const auto tasks = stuck_tasks(cgroups_, path);
    text.append(path).append(": ").append(tasks.empty() ? "it cannot be removed" : tasks);
  }
  return text;
}

Result<> ServiceImpl::load_detached() {
  BERTH_ASSIGN(const auto text, db_->meta(kKey), "detached pods");
  auto all = decode_detached(text);
  if (!all) log_error("the list of detached pods cannot be read", {{"err", all.error().text()}});
  MutexLock lock(detached_mutex_);
  if (all) detached_ = std::move(*all);
  return {};
}

std::vector<Detached> ServiceImpl::detached() const {
  MutexLock lock(detached_mutex_);
  return detached_;
}

bool ServiceImpl::leave_shim(const SandboxRecord& record, const Pod& pod) {
  // A container can do this to its shim: sendfile() from a dead volume into its log's pipe holds the pipe meanwhile.
  const auto why = stuck_task(pod.shim_pid());
  if (why.empty()) return false;
  log_warn("a pod is taken down without its shim, which cannot be killed", {{"sandbox", record.id}, {"err", why}});
  note_event(record.id, {}, "detached: the pod's shim ends when the kernel lets it", why);
  MutexLock lock(detached_mutex_);
  dying_shims_.push_back(pod.pidfd());
  return true;
}

/// From the stats thread every few rounds, and at a start.
void ServiceImpl::retry_detached() {
  {
    MutexLock lock(detached_mutex_);
    std::erase_if(dying_shims_, [](const UniqueFd& pidfd) {
      const auto ended = os::reap(pidfd.get());
      return !ended || ended->has_value();  // an error: it was another daemon's child
    });
  }
  for (const auto& left : detached()) {
    if (auto released = release_detached(left); !released) {
      log_debug("a detached pod is still there", {{"sandbox", left.sandbox_id}, {"err", released.error().text()}});
    }
  }
}

Result<> ServiceImpl::release_detached(const Detached& left) {
  if (!clear_cgroups(cgroups_, left.cgroups, {}).empty()) return fail(Code::kUnavailable, describe(left));
  end_cleared_units(left.systemd_cgroups, left.cgroups, {});
  SandboxRecord gone;
  gone.id = left.sandbox_id;
  gone.systemd_cgroups = left.systemd_cgroups;
  gone.cgroup_parent = left.cgroup_parent;
  gone.cgroup_top = left.cgroup_top;
  BERTH_TRY(release_cgroups(gone), "detached pod " + left.sandbox_id);
  MutexLock lock(detached_mutex_);
  auto all = detached_;
  std::erase(all, left);
  BERTH_TRY(db_->set_meta(kKey, encode(all)), "forget a detached pod");
  detached_ = std::move(all);
  log_info("what was left of a detached pod is given back", {{"sandbox", left.sandbox_id}});
  return {};
}

}  // namespace berth::cri
