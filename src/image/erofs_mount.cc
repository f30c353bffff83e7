#include "image/erofs_mount.h"

#include <fcntl.h>
#include <unistd.h>

#include <cerrno>

#include "base/tar_header.h"
#include "image/archive_layer.h"
#include "image/digest.h"
#include "image/tar_reader.h"
#include "os/file.h"
#include "os/mount.h"

namespace berth::image {
namespace {

/// An archive with one file.
std::string small_archive(const std::string& text) {
  return tar_header({.path = "file", .size = text.size(), .mode = 0644}) + text +
         std::string(tar_padding(text.size()), '\0') + tar_end();
}

Result<> try_overlay(int lower, const std::string& folder) {
  BERTH_TRY(os::make_dirs(folder + "/upper"), "probe");
  BERTH_TRY(os::make_dirs(folder + "/work"), "probe");
  BERTH_ASSIGN(const UniqueFd context, os::fs_open("overlay"), "overlay");
  BERTH_TRY(os::fs_set(context.get(), "lowerdir+", path_of(lower).c_str()), "overlay");
  BERTH_TRY(os::fs_set(context.get(), "upperdir", (folder + "/upper").c_str()), "overlay");
  BERTH_TRY(os::fs_set(context.get(), "workdir", (folder + "/work").c_str()), "overlay");
  BERTH_ASSIGN(const UniqueFd tree, os::fs_mount(context.get(), 0), "overlay");
  BERTH_ASSIGN(const std::string text, os::read_file_at(tree.get(), "file", 64), "overlay");
  if (text != "probe") return fail(Code::kUnsupported, "a file reads as something else");
  return {};
}

Result<> try_all(const std::string& folder) {
  BERTH_ASSIGN(const std::unique_ptr<LayerForm> layer, ArchiveLayer::start(folder, 1U << 20), "probe");
  const std::string archive = small_archive("probe");
  TarReader reader({}, layer->entries());
  BERTH_TRY(layer->raw(as_bytes(archive)), "probe");
  BERTH_TRY(reader.push(as_bytes(archive)), "probe");
  BERTH_TRY(layer->finish(), "probe");
  BERTH_ASSIGN(const UniqueFd tree, mount_erofs(folder + kIndexFile, {folder + kArchiveFile}), "probe");
  return try_overlay(tree.get(), folder);
}

}  // namespace

Result<UniqueFd> mount_erofs(const std::string& index, const std::vector<std::string>& archives) {
  // By descriptor: a setting may not be longer than 255 bytes.
  std::vector<UniqueFd> files;
  const auto set = [&files](int context, const char* key, const std::string& path) -> Result<> {
    auto file = os::open_file(path, O_RDONLY);
    if (!file) return fail(std::move(file).error());
    const std::string by_fd = "/proc/self/fd/" + std::to_string(file->get());
    files.push_back(std::move(*file));
    return os::fs_set(context, key, by_fd.c_str());
  };
  BERTH_ASSIGN(const UniqueFd context, os::fs_open("erofs"), "mount " + index);
  BERTH_TRY(set(context.get(), "source", index), "mount " + index);
  for (const std::string& archive : archives) BERTH_TRY(set(context.get(), "device", archive), "mount " + index);
  BERTH_TRY(os::fs_set(context.get(), "ro", nullptr), "mount " + index);
  // Who mounts an image walks through it soon: its index is small.
  (void)::posix_fadvise(files.front().get(), 0, 0, POSIX_FADV_WILLNEED);
  auto tree = os::fs_mount(context.get(), MOUNT_ATTR_RDONLY);
  if (tree) return tree;
  const int why = tree.error().errno_value();
  Error error = std::move(tree).error().in("mount " + index);
  if (why == ENOTBLK || why == ENODEV || why == ENOSYS) return fail(std::move(error).as(Code::kUnsupported));
  if (why == EINVAL || why == EUCLEAN) return fail(std::move(error).as(Code::kCorrupt));
  return fail(std::move(error));
}

Result<> probe_erofs(const std::string& folder) {
  const std::string dir = folder + "/erofs-probe";
  BERTH_TRY(os::remove_tree(dir), "what an earlier probe left");
  BERTH_TRY(os::make_dirs(dir, 0700), "probe");
  auto tried = try_all(dir);
  BERTH_TRY(os::remove_tree(dir), "probe");
  return tried;
}

std::string path_of(int fd) {
  return "/proc/" + std::to_string(::getpid()) + "/fd/" + std::to_string(fd);
}

}  // namespace berth::image
