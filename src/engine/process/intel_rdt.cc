#include "engine/process/intel_rdt.h"

#include <fcntl.h>
#include <linux/magic.h>
#include <sys/stat.h>
#include <sys/statfs.h>
#include <unistd.h>

#include <algorithm>
#include <map>

#include "base/strings.h"
#include "os/file.h"

namespace berth::engine::process {

namespace {

constexpr const char* kDefaultRoot = "/sys/fs/resctrl";
constexpr std::size_t kFileLimit = 64U << 10;

Result<> check_line(std::string_view field, std::string_view text) {
  if (text.find('\n') == std::string_view::npos) return {};
  return fail(Code::kInvalid, std::string(field) + " must not hold a newline");
}

/// "0=7f0;1=1f" as domain to value, both without leading zeros.
std::map<std::string, std::string, std::less<>> domains_of(std::string_view text) {
  const auto number = [](std::string_view digits) {
    const auto bare = trim(digits);
    const std::size_t first = bare.find_first_not_of('0');
    std::string out(first == std::string_view::npos ? "0" : bare.substr(first));
    std::ranges::transform(out, out.begin(),
                           [](char c) { return c >= 'A' && c <= 'F' ? static_cast<char>(c + 32) : c; });
    return out;
  };
  std::map<std::string, std::string, std::less<>> domains;
  for (const auto part : split(text, ';')) {
    const std::size_t equals = part.find('=');
    if (equals == std::string_view::npos) continue;
    domains[number(part.substr(0, equals))] = number(part.substr(equals + 1));
  }
  return domains;
}

Result<> make_folder(int root_fd, const std::string& path, bool& made) {
  made = ::mkdirat(root_fd, path.c_str(), 0755) == 0;
  if (made || errno == EEXIST) return {};
  return fail_errno(errno, "mkdir " + path);
}

Result<> remove_folder(int root_fd, const std::string& path) {
  if (::unlinkat(root_fd, path.c_str(), AT_REMOVEDIR) == 0 || errno == ENOENT) return {};
  return fail_errno(errno, "rmdir " + path);
}

/// The kernel has these files in every group; the flag to make them is for a folder that stands for resctrl.
Result<UniqueFd> open_for_writing(int root_fd, const std::string& path) {
  return os::open_at(root_fd, path, O_WRONLY | O_CREAT | O_NOFOLLOW, 0600);
}

}  // namespace

Result<RdtPlan> plan_rdt(const spec::IntelRdt& config, const std::string& id) {
  RdtPlan plan;
  const std::string& clos = config.clos_id;
  if (clos == "." || clos == ".." || (clos != "/" && clos.find('/') != std::string::npos)) {
    return fail(Code::kInvalid, "linux.intelRdt.closID \"" + clos + "\" is no name of a group");
  }
  BERTH_TRY(check_line("l3CacheSchema", config.l3_cache_schema), "linux.intelRdt");
  BERTH_TRY(check_line("memBwSchema", config.mem_bw_schema), "linux.intelRdt");
  if (!config.mem_bw_schema.empty() && !config.mem_bw_schema.starts_with("MB:")) {
    return fail(Code::kInvalid, "linux.intelRdt.memBwSchema must start with \"MB:\"");
  }
  plan.own = clos.empty();
  plan.group = clos == "/" ? "" : plan.own ? id : clos;
  for (const auto* line : {&config.l3_cache_schema, &config.mem_bw_schema}) {
    if (line->empty()) continue;
    plan.to_match.push_back(*line);
    plan.schemata.append(*line).append("\n");
  }
  for (const auto& line : config.schemata) {
    BERTH_TRY(check_line("schemata", line), "linux.intelRdt");
    if (!line.empty()) plan.schemata.append(line).append("\n");
  }
  plan.must_exist = !plan.own && plan.schemata.empty();
  if (config.enable_monitoring) plan.monitor = (plan.group.empty() ? "" : plan.group + "/") + "mon_groups/" + id;
  return plan;
}

bool schemata_have(std::string_view schemata, std::string_view line) {
  const std::size_t colon = line.find(':');
  if (colon == std::string_view::npos) return false;
  const auto resource = trim(line.substr(0, colon));
  for (const auto present : split(schemata, '\n')) {
    const std::size_t at = present.find(':');
    if (at == std::string_view::npos || trim(present.substr(0, at)) != resource) continue;
    const auto have = domains_of(present.substr(at + 1));
    return std::ranges::all_of(domains_of(line.substr(colon + 1)), [&have](const auto& wanted) {
      const auto found = have.find(wanted.first);
      return found != have.end() && found->second == wanted.second;
    });
  }
  return false;
}

Result<RdtGroup> RdtGroup::open(const spec::IntelRdt& config, const std::string& id, const std::string& root) {
  BERTH_ASSIGN(RdtPlan plan, plan_rdt(config, id), "config");
  auto fd = os::open_file(root.empty() ? kDefaultRoot : root, O_PATH | O_DIRECTORY);
  struct statfs fs{};
  const bool mounted = fd && ::fstatfs(fd->get(), &fs) == 0 && (!root.empty() || fs.f_type == RDTGROUP_SUPER_MAGIC);
  if (!mounted) return fail(Code::kUnsupported, "linux.intelRdt: resctrl is not mounted");
  return RdtGroup(std::move(*fd), std::move(plan));
}

std::string RdtGroup::in_group(const std::string& name) const {
  return plan_.group.empty() ? name : plan_.group + "/" + name;
}

std::unexpected<Error> RdtGroup::explained(Error error) const {
  const auto status = os::read_file_at(root_.get(), "info/last_cmd_status", kFileLimit);
  const auto words = status ? trim(*status) : std::string_view();
  if (words.empty() || words == "ok") return fail(std::move(error));
  return fail(Error(error.code(), error.text() + " (" + std::string(words) + ")", error.errno_value()));
}

Result<> RdtGroup::make_group(bool& made) {
  if (plan_.group.empty()) return {};
  struct stat st{};
  if (plan_.must_exist && ::fstatat(root_.get(), plan_.group.c_str(), &st, 0) != 0) {
    return fail_errno(errno, "closID " + plan_.group + " without schemata must name a group that is there");
  }
  BERTH_TRY(make_folder(root_.get(), plan_.group, made), "group");
  if (plan_.own && !made) return fail(Code::kExists, "there is a group " + plan_.group + " already", EEXIST);
  return {};
}

Result<> RdtGroup::write_schemata() {
  if (plan_.schemata.empty()) return {};
  BERTH_ASSIGN(const UniqueFd file, open_for_writing(root_.get(), in_group("schemata")), "schemata");
  return os::write_all(file.get(), plan_.schemata);
}

Result<> RdtGroup::create() {
  bool made = false;
  bool monitored = false;
  const auto steps = [&]() -> Result<> {
    BERTH_TRY(make_group(made), "linux.intelRdt");
    if (!made && !plan_.to_match.empty()) {
      BERTH_ASSIGN(const auto there, os::read_file_at(root_.get(), in_group("schemata"), kFileLimit), "linux.intelRdt");
      for (const auto& line : plan_.to_match) {
        if (schemata_have(there, line)) continue;
        return fail(Code::kPrecondition,
                    "linux.intelRdt: the group " + plan_.group + " has other schemata than \"" + line + "\"");
      }
    }
    BERTH_TRY(write_schemata(), "linux.intelRdt");
    if (!plan_.monitor.empty()) BERTH_TRY(make_folder(root_.get(), plan_.monitor, monitored), "linux.intelRdt");
    return {};
  };
  auto done = steps();
  if (done) return {};
  // The words first: the next command replaces them.
  auto told = explained(std::move(done).error());
  if (monitored) ignore(remove_folder(root_.get(), plan_.monitor), "the first failure is the one to tell");
  if (made) ignore(remove_folder(root_.get(), plan_.group), "likewise");
  return told;
}

Result<> RdtGroup::update() {
  auto done = write_schemata();
  if (!done) return explained(std::move(done).error().in("linux.intelRdt"));
  return {};
}

Result<> RdtGroup::add(pid_t pid) {
  BERTH_ASSIGN(const auto files, entry(), "linux.intelRdt");
  for (const auto& file : files) {
    auto written = os::write_all(file.get(), std::to_string(pid));
    if (!written) return explained(std::move(written).error().in("linux.intelRdt: assign the process"));
  }
  return {};
}

Result<std::vector<UniqueFd>> RdtGroup::entry() const {
  std::vector<UniqueFd> files;
  // In this order: a monitoring group takes only processes of its own control group.
  BERTH_ASSIGN(UniqueFd tasks, open_for_writing(root_.get(), in_group("tasks")), "tasks");
  files.push_back(std::move(tasks));
  if (plan_.monitor.empty()) return files;
  BERTH_ASSIGN(UniqueFd monitor, open_for_writing(root_.get(), plan_.monitor + "/tasks"), "tasks");
  files.push_back(std::move(monitor));
  return files;
}

Result<> RdtGroup::remove() {
  if (!plan_.monitor.empty()) BERTH_TRY(remove_folder(root_.get(), plan_.monitor), "linux.intelRdt");
  if (plan_.own) BERTH_TRY(remove_folder(root_.get(), plan_.group), "linux.intelRdt");
  return {};
}

Result<> enter_rdt(const std::vector<UniqueFd>& entry) {
  // "0" is the writer, as in a cgroup's tasks file.
  for (const auto& file : entry) BERTH_TRY(os::write_all(file.get(), "0"), "linux.intelRdt");
  return {};
}

Result<> remove_rdt(const spec::IntelRdt& config, const std::string& id, const std::string& root) {
  auto group = RdtGroup::open(config, id, root);
  if (group) return group->remove();
  if (group.error().code() == Code::kUnsupported) return {};
  return fail(std::move(group).error());
}

}  // namespace berth::engine::process
