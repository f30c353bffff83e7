#include "os/cgroup_control.h"

#include <fcntl.h>

#include <algorithm>
#include <string_view>
#include <utility>

#include "base/strings.h"
#include "os/file.h"

namespace berth::os {

namespace {

constexpr std::size_t kFileLimit = 256U << 10;

std::string relative(const std::string& path) {
  return path == "/" ? std::string(".") : path.substr(1);
}

/// Keeps what was opened last: of device rules, each is a write of its own to the same file.
class PlanWriter final {
 public:
  PlanWriter(const CgroupLayout& layout, const std::vector<std::string>& paths) : layout_(layout), paths_(paths) {}

  Result<> write(const CgroupWrite& write) {
    if (!dir_.valid() || controller_ != write.controller) BERTH_TRY(open_dir(write.controller), write.controller);
    if (!dir_.valid()) {
      if (write.optional) return {};
      return fail(Code::kUnsupported,
                  "cgroup controller " + write.controller + " is not available (for " + write.file + ")");
    }
    Result<> done = open_file(write.file);
    if (done) done = write_all(fd_.get(), write.value);
    if (done || (write.optional && done.error().code() == Code::kNotFound)) return {};
    Error error = std::move(done).error();
    if (error.code() == Code::kNotFound) error = std::move(error).as(Code::kUnsupported);
    if (error.errno_value() == EINVAL || error.errno_value() == ERANGE) error = std::move(error).as(Code::kInvalid);
    if (error.errno_value() == EBUSY) error = std::move(error).as(Code::kPrecondition);
    return fail(std::move(error).in("set " + write.file + " to \"" + write.value + "\""));
  }

 private:
  Result<> open_dir(const std::string& controller) {
    fd_.reset();
    file_.clear();
    dir_.reset();
    controller_ = controller;
    const auto* const hierarchy = layout_.find(controller);
    if (hierarchy == nullptr) return {};
    const auto index = static_cast<std::size_t>(hierarchy - layout_.hierarchies.data());
    if (index >= paths_.size() || paths_[index].empty()) return {};
    BERTH_ASSIGN(dir_, open_at(hierarchy->root.get(), relative(paths_[index]), O_PATH | O_DIRECTORY), "cgroup");
    return {};
  }
  Result<> open_file(const std::string& file) {
    if (fd_.valid() && file_ == file) return {};
    BERTH_ASSIGN(fd_, open_at(dir_.get(), file, O_WRONLY), "cgroup");
    file_ = file;
    return {};
  }

  const CgroupLayout& layout_;
  const std::vector<std::string>& paths_;
  std::string controller_;
  UniqueFd dir_;
  std::string file_;
  UniqueFd fd_;
};

}  // namespace

Result<> apply_cgroup_plan(const CgroupLayout& layout, const std::vector<std::string>& paths, const CgroupPlan& plan) {
  // Two limits can bind each other (memory and memory+swap, quota and period): on an update, which one has to go first
  // depends on the old values. What is refused as invalid is tried once more after the rest.
  std::vector<const CgroupWrite*> again;
  PlanWriter writer(layout, paths);
  for (const auto& write : plan) {
    const auto done = writer.write(write);
    if (done) continue;
    const int e = done.error().errno_value();
    if (e != EINVAL && e != EBUSY) return done;
    again.push_back(&write);
  }
  for (const auto* write : again) BERTH_TRY(writer.write(*write), "second try");
  return {};
}

std::uint64_t cpu_weight_of_shares(std::uint64_t shares) {
  if (shares == 0) return 0;
  const std::uint64_t bounded = std::clamp<std::uint64_t>(shares, 2, 262144);
  return 1 + ((bounded - 2) * 9999) / 262142;
}

Result<> init_cpuset(int root_fd, const std::string& path, bool made) {
  for (const char* file : {"cpuset.cpus", "cpuset.mems"}) {
    const std::string leaf = relative(path);
    std::size_t end = leaf.find('/');
    std::string parent_value;
    for (std::string level = leaf.substr(0, end);; level = leaf.substr(0, end)) {
      std::string value;
      if (!made || level.size() != leaf.size()) {
        BERTH_ASSIGN(value, read_file_at(root_fd, level + "/" + file, kFileLimit), "cpuset");
        value = std::string(trim(value));
      }
      if (value.empty()) {
        if (parent_value.empty()) {
          BERTH_ASSIGN(parent_value, read_file_at(root_fd, file, kFileLimit), "cpuset");
          parent_value = std::string(trim(parent_value));
        }
        BERTH_TRY(write_existing_at(root_fd, level + "/" + file, parent_value), "cpuset " + level);
      } else {
        parent_value = value;
      }
      if (level.size() == leaf.size()) break;
      end = leaf.find('/', level.size() + 1);
    }
  }
  return {};
}

Result<> enable_controllers(int root_fd, const std::string& path) {
  BERTH_ASSIGN(const std::string text, read_file_at(root_fd, "cgroup.controllers", kFileLimit), "controllers");
  std::string enable;
  for (const auto name : split(trim(text), ' ')) {
    if (!name.empty()) enable.append(enable.empty() ? "+" : " +").append(name);
  }
  if (enable.empty()) return {};
  const std::string leaf = relative(path);
  for (std::size_t at = 0; at != std::string::npos;) {
    const std::string level = at == 0 ? "." : leaf.substr(0, at);
    // One that refuses (threaded, busy) must not keep the others off; what is then missing shows when it is written.
    if (!write_existing_at(root_fd, level + "/cgroup.subtree_control", enable)) {
      for (const auto name : split(enable, ' ')) {
        ignore(write_existing_at(root_fd, level + "/cgroup.subtree_control", name),
               "a limit that needs it will say so");
      }
    }
    at = leaf.find('/', at == 0 ? 0 : at + 1);
  }
  return {};
}

Result<> make_cgroups(const CgroupLayout& layout, const std::string& path) {
  for (const auto& hierarchy : layout.hierarchies) {
    BERTH_ASSIGN(const bool made, make_cgroup(hierarchy.root.get(), path), "cgroup " + hierarchy.name);
    if (std::ranges::find(hierarchy.controllers, "cpuset") != hierarchy.controllers.end()) {
      BERTH_TRY(init_cpuset(hierarchy.root.get(), path, made), "cgroup cpuset");
    }
    if (layout.v2) BERTH_TRY(enable_controllers(hierarchy.root.get(), path), "cgroup");
  }
  return {};
}

}  // namespace berth::os
