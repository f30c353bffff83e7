#include <sys/stat.h>

#include <cerrno>

#include "base/failpoint.h"
#include "cri/service_impl.h"
#include "image/store.h"
#include "os/file.h"
#include "os/mountinfo.h"

/// What a container mounts beside its root: folders of the host, and images.
namespace berth::cri {

namespace {

constexpr std::string_view kVolume = ".volume-";

/// Under which the image store knows the mount `index` of a container.
std::string volume_id(const std::string& container_id, int index) {
  return container_id + std::string(kVolume) + std::to_string(index);
}

/// What propagates wants a mount that does: elsewhere the container would quietly see nothing of the host's mounts.
Result<> check_propagation(const pb::Mount& mount) {
  const bool both_ways = mount.propagation() == pb::PROPAGATION_BIDIRECTIONAL;
  if (!both_ways && mount.propagation() != pb::PROPAGATION_HOST_TO_CONTAINER) return {};
  const std::string what = "volume " + mount.host_path() + " for " + mount.container_path();
  BERTH_ASSIGN(const auto place, os::propagation_at(mount.host_path()), what);
  if (place.shared || (place.slave && !both_ways)) return {};
  return fail(Code::kPrecondition, what + ": propagation " + pb::MountPropagation_Name(mount.propagation()) +
                                       " needs a mount that is shared" + (both_ways ? "" : " or a slave") +
                                       ", and the one at " + place.mount_point + " is not");
}

}  // namespace

std::string owner_of_rootfs(const std::string& id) {
  return id.substr(0, id.find(kVolume));
}

/// Each look at a path of the request is a stage of its own, because it may hang on a dead volume.
Result<> ServiceImpl::look_at_volumes(Operation& operation, const pb::ContainerConfig& config) {
  for (const auto& mount : config.mounts()) {
    if (mount.host_path().empty()) continue;
    const Stage stage(operation, "stat volume", mount.host_path());
    struct stat status{};
    if (::stat(mount.host_path().c_str(), &status) != 0) {
      const int error = errno;
      if (error != ENOENT) return fail_errno(error, "volume " + mount.host_path() + " for " + mount.container_path());
      BERTH_TRY(os::make_dirs(mount.host_path(), 0755), "make volume " + mount.host_path());
    }
    BERTH_TRY(check_propagation(mount), "mounts");
  }
  return {};
}

/// Holds the images that the container mounts, which must be there.
Result<ImageVolumes> ServiceImpl::prepare_volumes(Operation& operation, const ContainerRecord& record, Rollback& undo) {
  ImageVolumes volumes;
  for (int i = 0; i < record.config.mounts_size(); ++i) {
    const auto& mount = record.config.mounts(i);
    if (!is_image_volume(mount)) continue;
    const Stage stage(operation, "prepare the image volume", mount.image().image());
    BERTH_ASSIGN(const auto image, find_image(*options_.images, mount.image()), "mount " + mount.container_path());
    const std::string id = volume_id(record.id, i);
    undo.add("image volume " + id, [this, id] { return options_.images->remove_rootfs(id); });
    BERTH_ASSIGN(volumes[i], options_.images->prepare_volume(id, image.id), "mount " + mount.container_path());
    BERTH_TRY(failpoint("create.volume"), "mount " + mount.container_path());
  }
  return volumes;
}

Result<> ServiceImpl::remove_volumes(const ContainerRecord& record) {
  for (int i = 0; i < record.config.mounts_size(); ++i) {
    if (!is_image_volume(record.config.mounts(i))) continue;
    BERTH_TRY(options_.images->remove_rootfs(volume_id(record.id, i)), "image volume");
    crashpoint("remove.volume");
  }
  return {};
}

}  // namespace berth::cri
