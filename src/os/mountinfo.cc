#include "os/mountinfo.h"

#include <fcntl.h>

#include <optional>
#include <string_view>

#include "base/strings.h"
#include "os/file.h"

namespace berth::os {
namespace {

constexpr std::size_t kMaxFdInfo = 4096;
constexpr std::size_t kMaxMountInfo = 64U << 20;

/// The number by which mountinfo lists the mount of an open file.
Result<std::string> mount_id(int fd) {
  const std::string path = "/proc/self/fdinfo/" + std::to_string(fd);
  BERTH_ASSIGN(const std::string text, read_file(path, kMaxFdInfo), "mount of a file");
  for (const auto line : split(text, '\n')) {
    if (line.starts_with("mnt_id:")) return std::string(trim(line.substr(7)));
  }
  return fail(Code::kUnsupported, path + " tells no mount");
}

/// "36 35 98:0 /mnt1 /mnt2 rw,noatime master:1 - ext3 /dev/root rw": the fields of proc_pid_mountinfo(5).
MountPropagation parse_line(std::string_view line) {
  constexpr std::size_t kMountPoint = 4;
  constexpr std::size_t kFirstOptional = 6;
  MountPropagation found;
  const auto fields = split(line, ' ');
  if (fields.size() > kMountPoint) found.mount_point = fields[kMountPoint];
  for (std::size_t i = kFirstOptional; i < fields.size() && fields[i] != "-"; ++i) {
    found.shared = found.shared || fields[i].starts_with("shared:");
    found.slave = found.slave || fields[i].starts_with("master:");
  }
  return found;
}

}  // namespace

Result<MountPropagation> propagation_at(const std::string& path) {
  BERTH_ASSIGN(const UniqueFd fd, open_file(path, O_PATH), "mount of a path");
  BERTH_ASSIGN(const std::string id, mount_id(fd.get()), path);
  BERTH_ASSIGN(const std::string text, read_file("/proc/self/mountinfo", kMaxMountInfo), path);
  for (const auto line : split(text, '\n')) {
    if (line.starts_with(id + " ")) return parse_line(line);
  }
  return fail(Code::kNotFound, "no mount " + id + " in this namespace, where " + path + " lies");
}

}  // namespace berth::os
