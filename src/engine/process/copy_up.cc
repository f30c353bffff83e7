#include <fcntl.h>
#include <sys/sendfile.h>
#include <sys/stat.h>
#include <unistd.h>

#include <dirent.h>
#include <array>
#include <climits>
#include <memory>

#include "engine/process/launch.h"
#include "os/file.h"

namespace berth::engine::process {

namespace {

constexpr int kMaxDepth = 256;

struct CloseDir {
  void operator()(DIR* dir) const { ::closedir(dir); }
};

Result<> copy_attributes(int fd, const struct stat& st) {
  if (::fchown(fd, st.st_uid, st.st_gid) != 0) return fail_errno(errno, "chown");
  if (::fchmod(fd, st.st_mode & 07777U) != 0) return fail_errno(errno, "chmod");
  return {};
}

Result<> copy_file(int from_dir, int to_dir, const std::string& name, const struct stat& st) {
  BERTH_ASSIGN(const UniqueFd from, os::open_at(from_dir, name, O_RDONLY | O_NOFOLLOW), "copy");
  BERTH_ASSIGN(const UniqueFd to, os::open_at(to_dir, name, O_WRONLY | O_CREAT | O_EXCL | O_NOFOLLOW, 0600), "copy");
  while (true) {
    constexpr std::size_t kChunk = 1U << 20;
    const ssize_t n = ::sendfile(to.get(), from.get(), nullptr, kChunk);
    if (n < 0) return fail_errno(errno, "copy " + name);
    if (n == 0) break;
  }
  return copy_attributes(to.get(), st);
}

Result<> copy_link(int from_dir, int to_dir, const std::string& name, const struct stat& st) {
  std::array<char, PATH_MAX> target{};
  const ssize_t n = ::readlinkat(from_dir, name.c_str(), target.data(), target.size() - 1);
  if (n < 0) return fail_errno(errno, "readlink " + name);
  if (::symlinkat(target.data(), to_dir, name.c_str()) != 0) return fail_errno(errno, "symlink " + name);
  if (::fchownat(to_dir, name.c_str(), st.st_uid, st.st_gid, AT_SYMLINK_NOFOLLOW) != 0)
    return fail_errno(errno, "chown");
  return {};
}

Result<> copy_tree(int from_fd, int to_fd, int depth);

Result<> copy_entry(int from_fd, int to_fd, const std::string& name, int depth) {
  struct stat st{};
  if (::fstatat(from_fd, name.c_str(), &st, AT_SYMLINK_NOFOLLOW) != 0) return fail_errno(errno, "stat " + name);
  if (S_ISREG(st.st_mode)) return copy_file(from_fd, to_fd, name, st);
  if (S_ISLNK(st.st_mode)) return copy_link(from_fd, to_fd, name, st);
  if (!S_ISDIR(st.st_mode)) {
    // Sockets, pipes and devices: made anew where allowed, as cp -a does.
    if (::mknodat(to_fd, name.c_str(), st.st_mode, st.st_rdev) != 0) return fail_errno(errno, "mknod " + name);
    return {};
  }
  if (::mkdirat(to_fd, name.c_str(), 0700) != 0) return fail_errno(errno, "mkdir " + name);
  BERTH_ASSIGN(const UniqueFd from, os::open_at(from_fd, name, O_PATH | O_DIRECTORY | O_NOFOLLOW), "copy");
  BERTH_ASSIGN(const UniqueFd to, os::open_at(to_fd, name, O_RDONLY | O_DIRECTORY | O_NOFOLLOW), "copy");
  BERTH_TRY(copy_tree(from.get(), to.get(), depth + 1), name);
  return copy_attributes(to.get(), st);
}

Result<> copy_tree(int from_fd, int to_fd, int depth) {
  if (depth > kMaxDepth) return fail(Code::kExhausted, "folders are nested too deep");
  BERTH_ASSIGN(UniqueFd listed, os::open_at(from_fd, ".", O_RDONLY | O_DIRECTORY), "copy");
  const std::unique_ptr<DIR, CloseDir> dir(::fdopendir(listed.get()));
  if (!dir) return fail_errno(errno, "fdopendir");
  [[maybe_unused]] const int owned = listed.release();
  while (const dirent* entry = ::readdir(dir.get())) {  // NOLINT(concurrency-mt-unsafe): an own stream
    const std::string name = entry->d_name;
    if (name == "." || name == "..") continue;
    BERTH_TRY(copy_entry(from_fd, to_fd, name, depth), "copy");
  }
  return {};
}

}  // namespace

Result<> copy_up(int from_fd, int to_fd) {
  struct stat st{};
  if (::fstat(from_fd, &st) != 0) return fail_errno(errno, "stat");
  BERTH_ASSIGN(const UniqueFd to, os::open_at(to_fd, ".", O_RDONLY | O_DIRECTORY), "copy");
  BERTH_TRY(copy_tree(from_fd, to.get(), 0), "copy");
  return copy_attributes(to.get(), st);
}

}  // namespace berth::engine::process
