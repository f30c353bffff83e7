#include "state_store.h"

#include <fcntl.h>
#include <sys/file.h>
#include <sys/stat.h>
#include <unistd.h>

#include <cstdint>
#include <limits>

#include "base/ids.h"
#include "notify_socket.h"
#include "os/file.h"
#include "spec/json_reader.h"
#include "spec/json_text.h"

namespace berth::oci {

namespace {
constexpr std::int64_t kVersion = 1;
constexpr std::size_t kStateLimit = 64U << 10;
constexpr std::size_t kConfigLimit = 4U << 20;
constexpr mode_t kPrivate = 0700;

Error unknown_container() {
  return Error(Code::kNotFound, "container does not exist");
}

Result<> check_id(const std::string& id) {
  if (!valid_id(id)) return fail(Code::kInvalid, "invalid container ID format: " + id);
  return {};
}

Result<UniqueFd> lock_folder(const std::string& folder) {
  BERTH_ASSIGN(UniqueFd fd, os::open_file(folder, O_RDONLY | O_DIRECTORY | O_NOFOLLOW), "state");
  while (::flock(fd.get(), LOCK_EX) != 0) {
    if (errno != EINTR) return fail_errno(errno, "lock " + folder);
  }
  return fd;
}
}  // namespace

Result<UniqueFd> StateStore::add(const std::string& id) const {
  BERTH_TRY(check_id(id), "create");
  const std::string path = folder(id);
  constexpr int kTries = 16;  // against folders that are removed between mkdir and lock
  for (int attempt = 0; attempt < kTries; ++attempt) {
    const bool made = ::mkdir(path.c_str(), kPrivate) == 0;
    if (!made && errno == ENOENT) {
      BERTH_TRY(os::make_dirs(root_, kPrivate), "state");
      continue;
    }
    if (!made && errno != EEXIST) return fail_errno(errno, "mkdir " + path);
    auto fd = lock_folder(path);
    if (!fd && fd.error().code() == Code::kNotFound) continue;
    if (!fd || made) return fd;
    struct stat held{};
    if (::fstat(fd->get(), &held) != 0 || held.st_nlink == 0) continue;
    // An empty folder is what a creation that was killed at its first step left: it may be taken over.
    if (os::exists(path + "/config.json") || os::exists(path + "/state.json")) {
      return fail(Code::kExists, "container with given ID already exists");
    }
    return fd;
  }
  return fail(Code::kUnavailable, "state folder " + path + " comes and goes");
}

Result<UniqueFd> StateStore::lock(const std::string& id) const {
  if (!check_id(id)) return fail(unknown_container());
  auto fd = lock_folder(folder(id));
  if (!fd && fd.error().code() == Code::kNotFound) return fail(unknown_container());
  // Removed while we waited: the folder that we hold has no name any more.
  struct stat held{};
  if (fd && ::fstat(fd->get(), &held) == 0 && held.st_nlink == 0) return fail(unknown_container());
  return fd;
}

Result<> StateStore::save(const Record& record) const {
  spec::JsonWriter json;
  json.begin_object().key("version").number(kVersion);
  json.key("id").string(record.id).key("bundle").string(record.bundle);
  json.key("pid").number(record.pid).key("startTime").unsigned_number(record.start_time);
  json.key("cgroup").string(record.cgroup).key("created").string(record.created);
  json.key("owner").unsigned_number(record.owner);
  if (!record.systemd_unit.empty()) {
    json.key("systemdUnit").string(record.systemd_unit).key("systemdUser").boolean(record.systemd_user);
  }
  json.key("stdio").begin_array();
  for (const auto& link : record.stdio) json.string(link);
  json.end_array();
  json.end_object();
  return os::write_file_atomic(folder(record.id) + "/state.json", json.take(), 0600);
}

Result<> StateStore::save_config(const std::string& id, const std::string& json) const {
  BERTH_ASSIGN(const UniqueFd fd, os::open_file(folder(id) + "/config.json", O_WRONLY | O_CREAT | O_TRUNC, 0600),
               "state");
  return os::write_all(fd.get(), json);
}

Result<Record> StateStore::load(const std::string& id) const {
  if (!check_id(id)) return fail(unknown_container());
  auto text = os::read_file(folder(id) + "/state.json", kStateLimit);
  if (!text) {
    if (text.error().code() == Code::kNotFound) return fail(unknown_container());
    return fail(std::move(text).error().in("state of " + id));
  }
  Record record;
  std::int64_t version = 0;
  std::int64_t pid = 0;
  std::uint64_t owner = 0;
  spec::JsonReader reader(*text, {});
  constexpr std::int64_t kMaxPid = std::numeric_limits<pid_t>::max();
  const bool read = reader.object([&](std::string_view name) {
    if (name == "version") return reader.signed_number(version, 0, kMaxPid);
    if (name == "id") return reader.string(record.id);
    if (name == "bundle") return reader.string(record.bundle);
    if (name == "pid") return reader.signed_number(pid, 0, kMaxPid);
    if (name == "startTime") return reader.unsigned_number(record.start_time, UINT64_MAX);
    if (name == "cgroup") return reader.string(record.cgroup);
    if (name == "created") return reader.string(record.created);
    if (name == "owner") return reader.unsigned_number(owner, UINT32_MAX);
    if (name == "systemdUnit") return reader.string(record.systemd_unit);
    if (name == "systemdUser") return reader.boolean(record.systemd_user);
    if (name == "stdio") return reader.array([&] { return reader.string(record.stdio.emplace_back()); });
    return reader.skip(nullptr);
  });
  if (!read || !reader.finish()) return fail(reader.error().in("state of " + id).as(Code::kCorrupt));
  if (version != kVersion) {
    return fail(Code::kUnsupported,
                "state of " + id + ": version " + std::to_string(version) + " is not " + std::to_string(kVersion));
  }
  record.pid = static_cast<pid_t>(pid);
  record.owner = static_cast<std::uint32_t>(owner);
  return record;
}

Result<spec::Spec> StateStore::load_config(const std::string& id) const {
  BERTH_ASSIGN(const std::string text, os::read_file(folder(id) + "/config.json", kConfigLimit), "state of " + id);
  return spec::parse_spec(text);
}

Result<> StateStore::remove(const std::string& id) const {
  BERTH_TRY(check_id(id), "remove");
  // What is below a mount that could not be undone is somebody's root file system.
  if (::rmdir(shared_root(id).c_str()) != 0 && errno != ENOENT) return fail_errno(errno, "remove " + shared_root(id));
  // The files by name first: three calls instead of a walk. What else is there, if anything, goes with the walk.
  for (const char* name : {"/state.json", "/config.json", "/start.sock"}) {
    if (::unlink((folder(id) + name).c_str()) != 0 && errno != ENOENT) break;
  }
  if (::rmdir(folder(id).c_str()) == 0 || errno == ENOENT) return {};
  return os::remove_tree(folder(id));
}

Result<std::vector<std::string>> StateStore::list() const {
  auto names = os::list_dir(root_);
  if (!names && names.error().code() == Code::kNotFound) return std::vector<std::string>();
  return names;
}

Result<Found> find_container(const StateStore& store, engine::process::ProcessEngine& engine, const std::string& id,
                             bool with_spec) {
  Found found;
  auto record = store.load(id);
  if (!record) return fail(std::move(record).error());
  found.record = std::move(*record);
  engine::process::Saved saved;
  saved.id = found.record.id;
  saved.bundle = found.record.bundle;
  saved.pid = found.record.pid;
  saved.start_time = found.record.start_time;
  saved.cgroup_path = found.record.cgroup;
  saved.start_socket = store.start_socket(id);
  saved.shared_root = store.shared_root(id);
  saved.systemd_unit = found.record.systemd_unit;
  saved.systemd_user = found.record.systemd_user;
  saved.stdio = found.record.stdio;
  if (with_spec) {
    BERTH_ASSIGN(found.spec, store.load_config(id), "container " + id);
    saved.spec = found.spec;
    if (auto mount = NotifySocket::mount_of(store.folder(id))) saved.spec.mounts.push_back(std::move(*mount));
  }
  auto container = engine.attach(std::move(saved));
  if (!container) return fail(std::move(container).error());
  found.container = std::move(*container);
  return found;
}

spec::Status status_of(const Found& found) {
  if (!found.container->alive()) return spec::Status::kStopped;
  if (found.container->waiting()) return spec::Status::kCreated;
  if (found.container->paused().value_or(false)) return spec::Status::kPaused;
  return spec::Status::kRunning;
}

}  // namespace berth::oci
