#include "engine/process/cgroup.h"

#include <fcntl.h>
#include <unistd.h>

#include <algorithm>
#include <csignal>
#include <ctime>
#include <set>

#include "base/log.h"
#include "base/strings.h"
#include "engine/process/device_filter.h"
#include "os/bpf.h"
#include "os/cgroup_control.h"
#include "os/file.h"

namespace berth::engine::process {

namespace {

constexpr std::size_t kFileLimit = 16U << 20;  // cgroup.procs of a pid-max cgroup is 32 MiB at worst; ours are small
constexpr int kFreezePolls = 2000;             // of a millisecond
constexpr int kKillFreezePolls = 100;          // a task in state D never freezes, and its killer has others to serve
constexpr int kRemoveTries = 500;
constexpr int kKillRounds = 100;

/// No file tells when a v1 cgroup became empty or frozen, so this is asked again after a millisecond.
void pause_a_millisecond() {
  timespec span{0, 1'000'000};
  ::nanosleep(&span, nullptr);
}

/// Without "//", "." and trailing slashes; refuses "..".
Result<std::string> clean_path(const std::string& path) {
  std::string clean;
  for (const auto part : split(path, '/')) {
    if (part.empty() || part == ".") continue;
    if (part == "..") return fail(Code::kInvalid, "linux.cgroupsPath: \"..\" in \"" + path + "\"");
    clean.append("/").append(part);
  }
  return clean.empty() ? std::string("/") : clean;
}

std::string relative(const std::string& path) {
  return path == "/" ? std::string(".") : path.substr(1);
}

void parse_pids(std::string_view text, std::vector<pid_t>& out) {
  for (const auto line : split(text, '\n')) {
    if (const auto pid = parse_number<pid_t>(line); pid && *pid > 0) out.push_back(*pid);
  }
}

Result<> collect_pids(int root_fd, const std::string& path, std::vector<pid_t>& out) {
  auto text = os::read_file_at(root_fd, relative(path) + "/cgroup.procs", kFileLimit);
  if (!text) {
    if (text.error().code() == Code::kNotFound || text.error().errno_value() == ENODEV) return {};
    return fail(std::move(text).error().in("cgroup " + path));
  }
  parse_pids(*text, out);
  BERTH_ASSIGN(const auto children, os::child_cgroups(root_fd, path), "cgroup " + path);
  for (const auto& child : children) BERTH_TRY(collect_pids(root_fd, path + "/" + child, out), "cgroup");
  return {};
}

}  // namespace

Result<> CgroupEntry::enter() const {
  for (const auto& tasks : v1_tasks) {
    if (::write(tasks.get(), "0", 1) != 1) return fail_errno(errno, "join the cgroup");
  }
  return {};
}

Result<Cgroup> Cgroup::locate(const os::CgroupLayout& layout, const std::string& spec_path, const std::string& id) {
  const bool looks_systemd = std::ranges::count(spec_path, ':') == 2 && !spec_path.starts_with('/');
  if (looks_systemd) {
    return fail(Code::kUnsupported,
                "linux.cgroupsPath \"" + spec_path + "\" is for the systemd cgroup driver, which is not in use here");
  }
  Cgroup cgroup;
  cgroup.layout_ = &layout;
  if (layout.hierarchies.empty()) return cgroup;
  if (spec_path.starts_with('/')) {
    BERTH_ASSIGN(const std::string path, clean_path(spec_path), "cgroup");
    if (path == "/") return fail(Code::kInvalid, "linux.cgroupsPath must not be the root cgroup");
    cgroup.paths_.assign(layout.hierarchies.size(), path);
    return cgroup;
  }
  BERTH_ASSIGN(auto own, os::own_cgroups(layout), "cgroup");
  for (auto& path : own) {
    // Under v2 our own cgroup holds processes and so cannot hand controllers down: go beside it.
    if (layout.v2) path = path.substr(0, path.rfind('/'));
    BERTH_ASSIGN(path, clean_path(path + "/" + (spec_path.empty() ? id : spec_path)), "cgroup");
  }
  cgroup.paths_ = std::move(own);
  return cgroup;
}

Result<Cgroup> Cgroup::from_saved(const os::CgroupLayout& layout, const std::string& text, bool scope) {
  Cgroup cgroup;
  cgroup.layout_ = &layout;
  if (text.empty()) return cgroup;
  if (scope && layout.unified.valid()) cgroup.unified_path_ = text;
  if (text.starts_with('/')) {
    cgroup.paths_.assign(layout.hierarchies.size(), text);
    return cgroup;
  }
  // A hierarchy that was mounted since has no line and no cgroup of ours: "" is skipped everywhere.
  cgroup.paths_.assign(layout.hierarchies.size(), "");
  for (const auto line : split(text, '\n')) {
    const std::size_t colon = line.rfind(":/");
    if (colon == std::string_view::npos) return fail(Code::kCorrupt, "saved cgroup path \"" + text + "\"");
    for (std::size_t i = 0; i < layout.hierarchies.size(); ++i) {
      if (layout.hierarchies[i].name == line.substr(0, colon)) cgroup.paths_[i] = line.substr(colon + 1);
    }
  }
  return cgroup;
}

std::string Cgroup::saved() const {
  if (paths_.empty()) return {};
  if (std::ranges::all_of(paths_, [this](const auto& path) { return path == paths_.front(); })) return paths_.front();
  std::string text;
  for (std::size_t i = 0; i < paths_.size(); ++i) {
    if (paths_[i].empty()) continue;
    if (!text.empty()) text.push_back('\n');
    text.append(layout_->hierarchies[i].name).append(":").append(paths_[i]);
  }
  return text;
}

Result<UniqueFd> Cgroup::open_index(std::size_t index) const {
  return os::open_at(layout_->hierarchies[index].root.get(), relative(paths_[index]), O_PATH | O_DIRECTORY);
}

Result<UniqueFd> Cgroup::open_dir(std::string_view controller) const {
  if (layout_ == nullptr || paths_.empty()) return UniqueFd();
  const auto* const hierarchy = layout_->find(controller);
  if (hierarchy == nullptr) return UniqueFd();
  const auto index = static_cast<std::size_t>(hierarchy - layout_->hierarchies.data());
  if (paths_[index].empty()) return UniqueFd();
  return open_index(index);
}

Result<> Cgroup::create(bool occupied) const {
  for (std::size_t i = 0; i < paths_.size(); ++i) {
    const auto& hierarchy = layout_->hierarchies[i];
    BERTH_ASSIGN(const bool made, os::make_cgroup(hierarchy.root.get(), paths_[i]), "cgroup " + hierarchy.name);
    if (!made && !occupied) {
      std::vector<pid_t> present;
      BERTH_TRY(collect_pids(hierarchy.root.get(), paths_[i], present), hierarchy.name);
      if (!present.empty()) {
        return fail(Code::kExists, "container's cgroup " + hierarchy.name + paths_[i] +
                                       " is not empty: " + std::to_string(present.size()) + " process(es) found");
      }
    }
    const auto& controllers = hierarchy.controllers;
    if (std::ranges::find(controllers, "cpuset") != controllers.end()) {
      BERTH_TRY(os::init_cpuset(hierarchy.root.get(), paths_[i], made), "cgroup cpuset");
    }
  }
  if (v2() && !paths_.empty()) {
    BERTH_TRY(os::enable_controllers(layout_->hierarchies.front().root.get(), paths_.front()), "cgroup");
  }
  return {};
}

Result<> Cgroup::apply(const CgroupPlan& plan) const {
  if (layout_ == nullptr) return os::apply_cgroup_plan({}, {}, plan);
  return os::apply_cgroup_plan(*layout_, paths_, plan);
}

std::size_t Cgroup::grouping_index() const {
  for (std::size_t i = 0; i < paths_.size(); ++i) {
    const auto& controllers = layout_->hierarchies[i].controllers;
    if (!paths_[i].empty() && std::ranges::find(controllers, "freezer") != controllers.end()) return i;
  }
  const auto first = std::ranges::find_if(paths_, [](const auto& path) { return !path.empty(); });
  return static_cast<std::size_t>(first - paths_.begin());
}

Result<Cgroup> Cgroup::below(const std::string& sub) const {
  BERTH_ASSIGN(const std::string suffix, clean_path(sub), "sub-cgroup");
  if (suffix == "/") return fail(Code::kInvalid, "sub-cgroup: no name");
  Cgroup inner;
  inner.layout_ = layout_;
  inner.paths_.assign(paths_.size(), "");
  const std::size_t index = grouping_index();
  if (index < paths_.size()) inner.paths_[index] = paths_[index] + suffix;
  return inner;
}

Result<> Cgroup::set(const spec::Resources& resources, bool update) const {
  BERTH_ASSIGN(const CgroupPlan plan, v2() ? plan_cgroup_v2(resources) : plan_cgroup_v1(resources), "resources");
  BERTH_TRY(apply(plan), "resources");
  if (!v2() || paths_.empty() || resources.devices.empty()) return {};
  const int root = layout_->hierarchies.front().root.get();
  BERTH_ASSIGN(const UniqueFd dir, os::open_at(root, relative(paths_.front()), O_RDONLY | O_DIRECTORY), "devices");
  auto done = os::attach_device_program(dir.get(), device_program(with_default_rules(resources.devices)), update);
  if (!done && done.error().code() == Code::kDenied && ::geteuid() != 0) {
    log_warn("device rules are not enforced: no right to load a program", {{"err", done.error().text()}});
    return {};
  }
  return done;
}

Result<CgroupEntry> Cgroup::entry(const std::string& sub) const {
  Cgroup inner;
  if (!sub.empty()) {
    BERTH_ASSIGN(inner, below(sub), "cgroup");
  }
  CgroupEntry entry;
  for (std::size_t i = 0; i < paths_.size(); ++i) {
    if (paths_[i].empty()) continue;
    const int root = layout_->hierarchies[i].root.get();
    const bool own_group = !sub.empty() && !inner.paths_[i].empty();
    const std::string& path = own_group ? inner.paths_[i] : paths_[i];
    if (own_group) {
      BERTH_ASSIGN(const bool made, os::make_cgroup(root, path), "sub-cgroup");
      if (made && layout_->hierarchies[i].name.find("cpuset") != std::string::npos) {
        BERTH_TRY(os::init_cpuset(root, path, made), "sub-cgroup");
      }
    }
    if (layout_->v2) {
      BERTH_ASSIGN(entry.v2_dir, os::open_at(root, relative(path), O_RDONLY | O_DIRECTORY), "cgroup");
    } else {
      BERTH_ASSIGN(UniqueFd tasks, os::open_at(root, relative(path) + "/tasks", O_WRONLY), "cgroup");
      entry.v1_tasks.push_back(std::move(tasks));
    }
  }
  BERTH_TRY(add_unified(entry), "cgroup");
  return entry;
}

Result<CgroupEntry> Cgroup::entry_by(std::span<const int> folders) const {
  CgroupEntry entry;
  for (const int folder : folders) {
    BERTH_ASSIGN(UniqueFd tasks, os::open_at(folder, "tasks", O_WRONLY), "cgroup");
    entry.v1_tasks.push_back(std::move(tasks));
  }
  BERTH_TRY(add_unified(entry), "cgroup");
  return entry;
}

Result<> Cgroup::add_unified(CgroupEntry& entry) const {
  if (unified_path_.empty()) return {};
  const std::string file = relative(unified_path_) + "/cgroup.procs";
  BERTH_ASSIGN(UniqueFd procs, os::open_at(layout_->unified.get(), file, O_WRONLY), "unified cgroup");
  entry.v1_tasks.push_back(std::move(procs));
  return {};
}

Result<std::vector<pid_t>> Cgroup::pids() const {
  std::vector<pid_t> pids;
  // All hierarchies hold the same processes, unless something inside moved some: the first that we have will do.
  for (std::size_t i = 0; i < paths_.size(); ++i) {
    if (paths_[i].empty()) continue;
    BERTH_TRY(collect_pids(layout_->hierarchies[i].root.get(), paths_[i], pids), "processes");
    break;
  }
  std::ranges::sort(pids);
  pids.erase(std::ranges::unique(pids).begin(), pids.end());
  return pids;
}

Result<bool> Cgroup::frozen() const {
  BERTH_ASSIGN(const UniqueFd dir, open_dir("freezer"), "freezer");
  if (!dir) return false;
  if (!v2()) {
    BERTH_ASSIGN(const std::string state, os::read_file_at(dir.get(), "freezer.state", kFileLimit), "freezer");
    return trim(state) != "THAWED";
  }
  BERTH_ASSIGN(const std::string state, os::read_file_at(dir.get(), "cgroup.freeze", kFileLimit), "freezer");
  return trim(state) == "1";
}

Result<> Cgroup::freeze(bool frozen) const {
  return freeze(frozen, kFreezePolls);
}

Result<> Cgroup::freeze(bool frozen, int polls) const {
  BERTH_ASSIGN(const UniqueFd dir, open_dir("freezer"), "freezer");
  if (!dir) return fail(Code::kUnsupported, "no freezer cgroup on this host");
  const char* const file = v2() ? "cgroup.freeze" : "freezer.state";
  const char* const value = v2() ? (frozen ? "1" : "0") : (frozen ? "FROZEN" : "THAWED");
  BERTH_TRY(os::write_existing_at(dir.get(), file, value), frozen ? "freeze" : "thaw");
  if (!frozen) return {};
  for (int i = 0; i < polls; ++i) {
    if (v2()) {
      BERTH_ASSIGN(const std::string events, os::read_file_at(dir.get(), "cgroup.events", kFileLimit), "freeze");
      if (events.find("frozen 1") != std::string::npos) return {};
    } else {
      BERTH_ASSIGN(const std::string state, os::read_file_at(dir.get(), "freezer.state", kFileLimit), "freeze");
      if (trim(state) == "FROZEN") return {};
      // A process that was being born is caught by asking again (kernel, freezer-subsystem.rst).
      BERTH_TRY(os::write_existing_at(dir.get(), file, value), "freeze");
    }
    pause_a_millisecond();
  }
  ignore(freeze(false), "the time-out is what the caller must hear of");
  return fail(Code::kTimeout, "the processes do not freeze");
}

Result<std::size_t> Cgroup::signal_each(int signal) const {
  BERTH_ASSIGN(const auto targets, pids(), "signal");
  std::size_t count = 0;
  for (const pid_t pid : targets) {
    // Between the listing and now the pid may have ended; only an unreaped child of init's could take its number, in
    // the same cgroup or not: a window that every runtime on v1 has. v2's SIGKILL goes by cgroup.kill instead.
    if (::kill(pid, signal) == 0) {
      ++count;
    } else if (errno != ESRCH) {
      return fail_errno(errno, "signal process " + std::to_string(pid));
    }
  }
  return count;
}

Result<std::size_t> Cgroup::kill_all(int signal) const {
  if (signal != SIGKILL) return signal_each(signal);
  if (v2() && !paths_.empty()) {
    BERTH_ASSIGN(const auto targets, pids(), "kill");
    auto done = os::write_existing_at(layout_->hierarchies[0].root.get(), relative(paths_[0]) + "/cgroup.kill", "1");
    if (done) return targets.size();
    // FALLBACK until kernel 5.14, which brought cgroup.kill: the loop below.
    if (done.error().code() != Code::kNotFound) return fail(std::move(done).error().in("kill"));
  }
  std::size_t total = 0;
  std::set<pid_t> killed;
  for (int round = 0; round < kKillRounds; ++round) {
    BERTH_ASSIGN(const auto targets, pids(), "kill");
    if (targets.empty()) return total;
    // Frozen, nobody forks away from under us; the signal is delivered on thawing.
    const bool held = freeze(true, kKillFreezePolls).has_value();
    const auto count = signal_each(SIGKILL);
    if (held || frozen().value_or(true)) BERTH_TRY(freeze(false), "thaw after kill");
    if (!count) return fail(count.error());
    total = std::max(total, *count);
    if (held) return total;
    // Not frozen, they may have forked; when nobody is new, those that are left cannot be ended now.
    const auto known = killed.size();
    killed.insert(targets.begin(), targets.end());
    if (killed.size() == known) return total;
  }
  return total;
}

Result<bool> Cgroup::remove_if_empty() const {
  for (std::size_t i = 0; i < paths_.size(); ++i) {
    if (paths_[i].empty()) continue;
    auto done = os::remove_cgroup(layout_->hierarchies[i].root.get(), paths_[i]);
    if (done) continue;
    if (done.error().errno_value() == EBUSY) return false;
    return fail(std::move(done).error().in("remove cgroup " + layout_->hierarchies[i].name + paths_[i]));
  }
  return true;
}

Result<> Cgroup::remove() const {
  for (std::size_t i = 0; i < paths_.size(); ++i) {
    if (paths_[i].empty()) continue;
    const auto& hierarchy = layout_->hierarchies[i];
    Result<> done;
    for (int attempt = 0; attempt < kRemoveTries; ++attempt) {
      done = os::remove_cgroup(hierarchy.root.get(), paths_[i]);
      if (done || done.error().errno_value() != EBUSY) break;
      pause_a_millisecond();
    }
    if (!done) return fail(std::move(done).error().in("remove cgroup " + hierarchy.name + paths_[i]));
  }
  return {};
}

}  // namespace berth::engine::process
