#include "image/disk.h"

#include <fcntl.h>
#include <sys/file.h>
#include <sys/stat.h>
#include <unistd.h>

#include <cerrno>
#include <set>

#include "base/failpoint.h"
#include "base/ids.h"
#include "base/log.h"
#include "base/strings.h"
#include "image/archive_layer.h"
#include "image/digest.h"
#include "image/layer_writer.h"
#include "image/records.h"
#include "os/file.h"

namespace berth::image {
namespace {

constexpr std::string_view kIndexEnd = ".erofs";
constexpr std::size_t kMaxRecord = 64U << 20;
constexpr std::size_t kMaxMeta = 8U << 20;
constexpr std::string_view kFolders[] = {"meta", "layers", "images", "refs", "containers", "tmp", "empty"};

Result<> rename_path(const std::string& from, const std::string& to) {
  if (::rename(from.c_str(), to.c_str()) != 0) return fail_errno(errno, "rename " + from + " to " + to);
  return {};
}

void warn_dropped(const std::string& path, const Error& error) {
  log_warn("image store: dropped a record", {{"path", path}, {"error", error.text()}});
}

Result<> make_folder(const std::string& path) {
  if (::mkdir(path.c_str(), 0755) != 0 && errno != EEXIST) return fail_errno(errno, "make folder " + path);
  return {};
}

}  // namespace

Disk::Disk(std::string root, UniqueFd lock, std::string boot_id, std::uint32_t umask)
    : root_(std::move(root)), lock_(std::move(lock)), boot_id_(std::move(boot_id)), umask_(umask) {}

Result<Disk> Disk::open(const std::string& root) {
  if (root.empty() || root.front() != '/' || root.find_first_of(",:\\") != std::string::npos) {
    return fail(Code::kInvalid, "image store: the folder must be absolute and hold no ',' ':' or '\\': " + root);
  }
  BERTH_TRY(os::make_dirs(root, 0700), "image store");
  BERTH_ASSIGN(UniqueFd lock, os::open_file(root + "/lock", O_RDWR | O_CREAT, 0600), "image store");
  if (::flock(lock.get(), LOCK_EX | LOCK_NB) != 0) {
    if (errno == EWOULDBLOCK) return fail(Code::kPrecondition, "image store " + root + " is in use by another process");
    return fail_errno(errno, "lock " + root);
  }
  for (const std::string_view folder : kFolders) {
    BERTH_TRY(make_folder(root + "/" + std::string(folder)), "image store");
  }
  BERTH_ASSIGN(const std::string boot_id, os::read_file("/proc/sys/kernel/random/boot_id", 256), "image store");
  BERTH_ASSIGN(const std::uint32_t umask, current_umask(), "image store");
  return Disk(root, std::move(lock), std::string(trim(boot_id)), umask);
}

std::string Disk::layer_dir(const std::string& diff_id) const {
  return root_ + "/layers/" + std::string(digest_hex(diff_id));
}
std::string Disk::archive_path(const std::string& diff_id) const {
  return layer_dir(diff_id) + kArchiveFile;
}
std::string Disk::layer_index(const std::string& diff_id) const {
  return layer_dir(diff_id) + kIndexFile;
}
std::string Disk::image_index(const std::string& id) const {
  return root_ + "/images/" + std::string(digest_hex(id)) + std::string(kIndexEnd);
}
std::string Disk::image_path(const std::string& id) const {
  return root_ + "/images/" + std::string(digest_hex(id)) + ".json";
}
std::string Disk::meta_path(const std::string& digest) const {
  return root_ + "/meta/" + std::string(digest_hex(digest));
}

Result<std::string> Disk::ref_path(const std::string& name) const {
  BERTH_ASSIGN(const std::string digest, sha256_of(name), "name");
  return root_ + "/refs/" + std::string(digest_hex(digest)) + ".json";
}

Result<Disk::Loaded> Disk::load() {
  Loaded out;
  BERTH_TRY(load_layers(out), "image store");
  BERTH_TRY(load_images(out), "image store");
  BERTH_TRY(load_refs(out), "image store");
  BERTH_TRY(load_containers(out), "image store");
  return out;
}

Result<> Disk::load_layers(Loaded& out) {
  BERTH_ASSIGN(const auto names, os::list_dir(root_ + "/layers"), "layers");
  for (const std::string& name : names) {
    const std::string dir = root_ + "/layers/" + name;
    auto text = os::read_file(dir + "/info.json", kMaxRecord);
    auto record = text ? read_layer_record(*text) : Result<LayerRecord>(fail(text.error()));
    if (record && digest_hex(record->diff_id) != name) record = fail(Code::kCorrupt, "its folder has another name");
    if (record && !record->durable && record->boot_id != boot_id_ && !os::exists(dir + "/synced")) {
      record = fail(Code::kCorrupt, "the machine stopped before it was on disk");
    }
    if (!record) {
      warn_dropped(dir, record.error());
      BERTH_TRY(set_aside(dir), "layers");
      continue;
    }
    out.layers.push_back(std::move(*record));
  }
  return {};
}

Result<> Disk::load_images(Loaded& out) {
  BERTH_ASSIGN(const auto names, os::list_dir(root_ + "/images"), "images");
  for (const std::string& name : names) {
    if (name.ends_with(kIndexEnd)) continue;  // drop_indexes() looks at those
    const std::string path = root_ + "/images/" + name;
    auto text = os::read_file(path, kMaxRecord);
    auto record = text ? read_image_record(*text) : Result<ImageRecord>(fail(text.error()));
    if (!record || image_path(record->id) != path) {
      warn_dropped(path, record ? Error(Code::kCorrupt, "its file has another name") : record.error());
      BERTH_TRY(os::remove_file(path), "images");
      continue;
    }
    out.images.push_back(std::move(*record));
  }
  return {};
}

Result<> Disk::load_refs(Loaded& out) {
  BERTH_ASSIGN(const auto names, os::list_dir(root_ + "/refs"), "names");
  for (const std::string& name : names) {
    const std::string path = root_ + "/refs/" + name;
    auto text = os::read_file(path, kMaxRecord);
    auto record = text ? read_ref_record(*text) : Result<RefRecord>(fail(text.error()));
    // A killed process may have left a whole record under its temporary name.
    if (record && ref_path(record->name).value_or("") != path) {
      record = fail(Code::kCorrupt, "its file has another name");
    }
    if (!record) {
      warn_dropped(path, record.error());
      BERTH_TRY(os::remove_file(path), "names");
      continue;
    }
    out.refs.push_back(std::move(*record));
  }
  return {};
}

Result<> Disk::load_containers(Loaded& out) {
  BERTH_ASSIGN(const auto names, os::list_dir(root_ + "/containers"), "containers");
  for (const std::string& name : names) {
    char target[128];
    const ssize_t size = ::readlink((container_dir(name) + "/image").c_str(), target, sizeof target);
    const std::string image(target, size > 0 ? static_cast<std::size_t>(size) : 0);
    if (!valid_digest(image)) {
      warn_dropped(container_dir(name), Error(Code::kCorrupt, "it does not say its image"));
      BERTH_TRY(set_aside(container_dir(name)), "containers");
      continue;
    }
    out.containers.push_back({name, image});
  }
  return {};
}

Result<std::string> Disk::make_temporary() const {
  std::string dir = tmp_dir() + "/" + random_hex(8);
  BERTH_TRY(make_folder(dir), "temporary folder");
  return dir;
}

Result<std::string> Disk::set_aside(const std::string& path) const {
  std::string aside = tmp_dir() + "/" + random_hex(8);
  if (::rename(path.c_str(), aside.c_str()) == 0) return aside;
  if (errno == ENOENT) return std::string();
  return fail_errno(errno, "set aside " + path);
}

Result<> Disk::publish_layer(const std::string& dir, LayerRecord record) const {
  record.boot_id = boot_id_;
  const auto sync = record.durable ? os::Sync::kYes : os::Sync::kNo;
  BERTH_TRY(os::write_file_atomic(dir + "/info.json", write_layer_record(record), 0644, sync), "publish layer");
  BERTH_TRY(rename_path(dir, layer_dir(record.diff_id)), "publish layer");
  return record.durable ? os::fsync_path(root_ + "/layers") : Result<>();
}

Result<> Disk::drop_indexes(const std::vector<std::string>& owned_ids) const {
  std::set<std::string> owned;
  for (const std::string& id : owned_ids) owned.insert(image_index(id));
  BERTH_ASSIGN(const auto names, os::list_dir(root_ + "/images"), "images");
  for (const std::string& name : names) {
    const std::string path = root_ + "/images/" + name;
    if (name.ends_with(kIndexEnd) && !owned.contains(path)) BERTH_TRY(os::remove_file(path), "images");
  }
  return {};
}

Result<> Disk::sync_layers(const std::vector<std::string>& diff_ids) const {
  if (::syncfs(lock_.get()) != 0) return fail_errno(errno, "syncfs " + root_);
  for (const std::string& id : diff_ids) {
    auto fd = os::open_file(layer_dir(id) + "/synced", O_WRONLY | O_CREAT, 0600);
    // Removed meanwhile: nothing to mark.
    if (!fd && fd.error().code() != Code::kNotFound) return fail(std::move(fd).error());
  }
  return {};
}

Result<> Disk::write_meta(const std::string& digest, std::string_view body) const {
  if (os::exists(meta_path(digest))) return {};
  return os::write_file_atomic(meta_path(digest), body, 0600, os::Sync::kYes);
}
Result<std::string> Disk::read_meta(const std::string& digest) const {
  BERTH_ASSIGN(std::string body, os::read_file(meta_path(digest), kMaxMeta), "read " + digest);
  BERTH_ASSIGN(const std::string got, sha256_of(body), "read " + digest);
  if (got != digest) return fail(Code::kCorrupt, "the stored " + digest + " is damaged");
  return body;
}
Result<> Disk::remove_meta(const std::string& digest) const {
  return os::remove_file(meta_path(digest));
}

Result<std::vector<std::string>> Disk::list_meta() const {
  BERTH_ASSIGN(auto names, os::list_dir(root_ + "/meta"), "meta");
  std::vector<std::string> out;
  for (const std::string& name : names) {
    if (is_hex(name, 64)) {
      out.push_back("sha256:" + name);
    } else {
      BERTH_TRY(os::remove_file(root_ + "/meta/" + name), "meta");  // a half-written file of a crash
    }
  }
  return out;
}

Result<> Disk::write_image(const ImageRecord& record) const {
  return os::write_file_atomic(image_path(record.id), write_image_record(record), 0600, os::Sync::kYes);
}
Result<> Disk::remove_image(const std::string& id) const {
  BERTH_TRY(os::remove_file(image_path(id)), "record");
  return os::remove_file(image_index(id));
}

Result<> Disk::write_ref(const RefRecord& record) const {
  BERTH_ASSIGN(const std::string path, ref_path(record.name), "name");
  return os::write_file_atomic(path, write_ref_record(record), 0600, os::Sync::kYes);
}
Result<> Disk::remove_ref(const std::string& name) const {
  BERTH_ASSIGN(const std::string path, ref_path(name), "name");
  return os::remove_file(path);
}

Result<> Disk::own_image(const std::string& id, const ImageRecord& image) const {
  const std::string dir = container_dir(id);
  BERTH_TRY(make_folder(dir), "container");
  BERTH_TRY(failpoint("rootfs.folder"), "container");
  // First what makes the folder a record, so that a crash leaves an owner for all that follows.
  if (::symlink(image.id.c_str(), (dir + "/image").c_str()) != 0) {
    if (errno != EEXIST) return fail_errno(errno, "make " + dir + "/image");
    char there[128];
    const ssize_t size = ::readlink((dir + "/image").c_str(), there, sizeof there);
    if (size < 0 || std::string_view(there, static_cast<std::size_t>(size)) != image.id) {
      return fail(Code::kExists, "container " + id + " has a writable layer over another image");
    }
    // A volatile overlay that was mounted before marks its work folder, and the kernel refuses a marked one.
    BERTH_TRY(os::remove_tree(dir + "/work/work/incompat"), "container");
  }
  return failpoint("rootfs.owned");
}

Result<> Disk::make_container(const std::string& id, const ImageRecord& image,
                              const std::optional<RootfsIds>& ids) const {
  BERTH_TRY(own_image(id, image), "container");
  const std::string dir = container_dir(id);
  const std::string upper = dir + "/upper";
  BERTH_TRY(make_folder(upper), "container");
  const bool usual = image.root_mode == 0755 && image.root_uid == 0 && image.root_gid == 0 && (umask_ & 0755) == 0;
  if (!usual || ids) {
    auto uid = image.root_uid;
    auto gid = image.root_gid;
    if (ids) {
      if (uid >= ids->uid_count || gid >= ids->gid_count) {
        return fail(Code::kInvalid, "the image's root folder belongs to " + std::to_string(uid) + ":" +
                                        std::to_string(gid) + ", which the pod's user namespace does not have");
      }
      uid += ids->first_uid;
      gid += ids->first_gid;
    }
    if (::chown(upper.c_str(), uid, gid) != 0) return fail_errno(errno, "chown " + upper);
    if (::chmod(upper.c_str(), image.root_mode) != 0) return fail_errno(errno, "chmod " + upper);
  }
  return make_folder(dir + "/work");
}

}  // namespace berth::image
