#include "cri/image_user.h"
#include "cri/service_impl.h"
#include "image/store.h"
#include "spec/json_text.h"

namespace berth::cri {

namespace {

constexpr std::size_t kMaxReference = 4096;

pb::Image image_of(const image::ImageInfo& info) {
  pb::Image image;
  image.set_id(info.id);
  for (const auto& tag : info.repo_tags) image.add_repo_tags(tag);
  for (const auto& digest : info.repo_digests) image.add_repo_digests(digest);
  image.set_size(info.size_bytes);
  const auto user = image_user(info.config.config.user);
  if (user.uid) image.mutable_uid()->set_value(*user.uid);
  image.set_username(user.name);
  image.mutable_spec()->set_image(info.repo_tags.empty() ? info.id : info.repo_tags.front());
  image.set_pinned(info.pinned);
  return image;
}

image::Auth auth_of(const pb::AuthConfig& auth) {
  return {.username = auth.username(),
          .password = auth.password(),
          .auth = auth.auth(),
          .server_address = auth.server_address(),
          .identity_token = auth.identity_token(),
          .registry_token = auth.registry_token()};
}

Result<> check_reference(const pb::ImageSpec& spec) {
  if (spec.image().empty()) return fail(Code::kInvalid, "image is empty");
  if (spec.image().size() > kMaxReference) return fail(Code::kInvalid, "image is longer than 4096 bytes");
  return {};
}

}  // namespace

Result<pb::PullImageResponse> ServiceImpl::pull_image(const Call& call, const pb::PullImageRequest& request) {
  BERTH_TRY(check_reference(request.image()), "PullImage");
  image::PullOptions options;
  options.auth = auth_of(request.auth());
  options.stop = call.stop;
  auto pulled = options_.images->pull(request.image().image(), std::move(options));
  if (!pulled) return fail(std::move(pulled).error().in("pull " + request.image().image()));
  pb::PullImageResponse answer;
  answer.set_image_ref(pulled->id);
  return answer;
}

Items ServiceImpl::image_items(const pb::ImageFilter& filter) {
  const auto& wanted = filter.image().image();
  std::vector<image::ImageInfo> images;
  if (wanted.empty()) {
    images = options_.images->list();
  } else if (auto found = options_.images->find(wanted)) {
    images.push_back(std::move(*found));
  }
  return [images = std::move(images), at = std::size_t{0}](std::string& out) mutable {
    return at < images.size() && image_of(images[at++]).AppendToString(&out);
  };
}

Result<pb::ImageStatusResponse> ServiceImpl::image_status(const Call& /*call*/, const pb::ImageStatusRequest& request) {
  BERTH_TRY(check_reference(request.image()), "ImageStatus");
  pb::ImageStatusResponse answer;
  const auto found = options_.images->find(request.image().image());
  if (!found) return answer;
  *answer.mutable_image() = image_of(*found);
  if (!request.verbose()) return answer;
  std::string json = R"({"imageSpec":)";
  json.append(spec::write_image_config(found->config)).push_back('}');
  (*answer.mutable_info())["info"] = std::move(json);
  return answer;
}

Result<pb::RemoveImageResponse> ServiceImpl::remove_image(const Call& /*call*/, const pb::RemoveImageRequest& request) {
  BERTH_TRY(check_reference(request.image()), "RemoveImage");
  // api.proto, RemoveImage: with one of its names an image loses all of them.
  const auto found = options_.images->find(request.image().image());
  if (!found) return pb::RemoveImageResponse();
  auto removed = options_.images->remove(found->id);
  if (!removed && removed.error().code() != Code::kNotFound) return fail(std::move(removed).error().in("RemoveImage"));
  return pb::RemoveImageResponse();
}

Result<pb::ImageFsInfoResponse> ServiceImpl::image_fs_info(const Call& /*call*/,
                                                           const pb::ImageFsInfoRequest& /*request*/) {
  const auto usage = options_.images->usage();
  pb::ImageFsInfoResponse answer;
  for (auto* fs : {answer.add_image_filesystems(), answer.add_container_filesystems()}) {
    fs->set_timestamp(usage.timestamp_ns);
    fs->mutable_fs_id()->set_mountpoint(usage.mountpoint);
    fs->mutable_used_bytes()->set_value(usage.used_bytes);
    fs->mutable_inodes_used()->set_value(usage.inodes_used);
  }
  return answer;
}

}  // namespace berth::cri
