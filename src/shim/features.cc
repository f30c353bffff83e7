#include "shim/features.h"

#include <fcntl.h>
#include <sched.h>
#include <sys/stat.h>

#include <cerrno>

#include "base/log.h"
#include "os/file.h"
#include "os/mount.h"
#include "os/user_namespace.h"
#include "shim/rootfs.h"
#include "spec/json_text.h"

namespace berth::shim {
namespace {

constexpr uid_t kFirst = 65536;
constexpr const char* kRange = "0:65536:65536";
constexpr const char* kMap = "0 65536 65536\n";

Result<> expect_owner(int root_fd, const char* name) {
  struct stat st{};
  if (::fstatat(root_fd, name, &st, AT_SYMLINK_NOFOLLOW) != 0) return fail_errno(errno, "look at a file");
  if (st.st_uid == kFirst && st.st_gid == kFirst) return {};
  return fail(Code::kUnsupported, "a file of a layer belongs to " + std::to_string(st.st_uid));
}

Result<> try_root(const std::string& dir) {
  for (const char* name : {"/layers/one", "/layers/two", "/upper", "/work", "/spare"}) {
    BERTH_TRY(os::make_dirs(dir + name, 0700), "folders");
  }
  BERTH_TRY(os::write_file_atomic(dir + "/layers/one/file", "x"), "file");
  RootMount mount{"overlay", "overlay", {}};
  mount.options = {"lowerdir=" + dir + "/layers/two:" + dir + "/layers/one",
                   "upperdir=" + dir + "/upper",
                   "workdir=" + dir + "/work",
                   "volatile",
                   std::string("uidmap=") + kRange,
                   std::string("gidmap=") + kRange};
  BERTH_ASSIGN(const RootPlan plan, plan_root(mount), "plan");
  BERTH_ASSIGN(const UniqueFd root, make_root(plan, dir + "/spare"), "root file system");
  return expect_owner(root.get(), "file");
}

Result<> try_user_namespaces(const std::string& dir) {
  BERTH_TRY(os::make_user_namespace(kMap, kMap, CLONE_NEWNET | CLONE_NEWIPC | CLONE_NEWUTS), "namespaces");
  BERTH_TRY(os::remove_tree(dir), "what an earlier look left");
  auto tried = try_root(dir);
  if (auto removed = os::remove_tree(dir); !removed) log_warn("a probe leaves something", {{"path", dir}});
  return tried;
}

Result<> try_read_only(const std::string& folder) {
  BERTH_ASSIGN(const UniqueFd tree, os::clone_tree(AT_FDCWD, folder, true), "copy");
  os::MountChange change;
  change.set = MOUNT_ATTR_RDONLY;
  return os::change_mount(tree.get(), change, true);
}

}  // namespace

Features probe_features(const std::string& folder) {
  return {try_user_namespaces(folder + "/probe"), try_read_only(folder)};
}

std::string features_json(const Features& features) {
  const auto word = [](const Result<>& result) { return result ? std::string() : result.error().text(); };
  spec::JsonWriter json;
  json.begin_object();
  json.key("user_namespaces").string(word(features.user_namespaces));
  json.key("recursive_read_only_mounts").string(word(features.recursive_read_only_mounts));
  json.end_object();
  return json.take();
}

}  // namespace berth::shim
