#include "pull_ground.h"

#include <fcntl.h>
#include <sys/mount.h>
#include <sys/statvfs.h>
#include <unistd.h>

#include <algorithm>
#include <cstdio>
#include <vector>

#include "base/strings.h"
#include "os/file.h"
#include "process.h"
#include "wait.h"

namespace berth::bench {
namespace {

constexpr std::uint64_t kGigabyte = 1'000'000'000;
constexpr std::uint64_t kReserve = 8 * kGigabyte;  // of the machine's disk, for others
constexpr const char* kMark = "/.berth-bench-pull";
constexpr std::chrono::minutes kToolTimeout{10};

Result<std::string> tool(std::vector<std::string> argv) {
  const std::string name = argv[0];
  BERTH_ASSIGN(auto ran, test::run_program(std::move(argv), kToolTimeout), name);
  if (ran.code != 0) return fail(Code::kInternal, name + ": " + ran.err);
  return std::string(trim(ran.out));
}

Result<UniqueFd> take_folder(const std::string& work) {
  if (const auto names = os::list_dir(work); names && !names->empty() && !os::exists(work + kMark)) {
    return fail(Code::kPrecondition, work + " is not empty and no folder of this benchmark");
  }
  BERTH_TRY(os::make_dirs(work), "work folder");
  auto lock = os::open_file(work + kMark, O_RDWR | O_CREAT);
  if (!lock) return lock;
  BERTH_ASSIGN(const bool ours, os::try_lock(lock->get()), "work folder");
  if (!ours) return fail(Code::kPrecondition, work + " is in use by another run");
  return lock;
}

Result<> make_disk(const std::string& work, unsigned gigabytes) {
  struct statvfs space{};
  if (::statvfs(work.c_str(), &space) != 0) return fail_errno(errno, "statvfs " + work);
  const std::uint64_t free = space.f_bavail * space.f_frsize;
  const std::uint64_t size = std::min(gigabytes * kGigabyte, free > kReserve ? free - kReserve : 0);
  if (size < kGigabyte) return fail(Code::kExhausted, "no space for a disk below " + work);
  const std::string image = work + "/disk.new";
  BERTH_ASSIGN(const auto fd, os::open_file(image, O_RDWR | O_CREAT | O_TRUNC, 0600), "disk");
  // Where space cannot be reserved, a sparse file does.
  if (::fallocate(fd.get(), 0, 0, static_cast<off_t>(size)) != 0 &&
      ::ftruncate(fd.get(), static_cast<off_t>(size)) != 0)
    return fail_errno(errno, "disk of " + std::to_string(size) + " bytes");
  // Nothing is left to a thread of the kernel that would write while we measure.
  BERTH_TRY(tool({"mkfs.ext4", "-q", "-F", "-m", "0", "-E", "lazy_itable_init=0,lazy_journal_init=0,nodiscard", image}),
            "disk");
  if (::rename(image.c_str(), (work + "/disk.img").c_str()) != 0) return fail_errno(errno, "rename " + image);
  return {};
}

Result<> mount_disk(const std::string& work) {
  const std::string image = work + "/disk.img";
  const std::string at = work + "/disk";
  BERTH_TRY(os::make_dirs(at), "disk");
  BERTH_ASSIGN(const auto loop, tool({"losetup", "--find", "--show", "--direct-io=on", image}), "disk");
  const bool mounted = ::mount(loop.c_str(), at.c_str(), "ext4", MS_NOATIME, nullptr) == 0;
  const int error = errno;
  // From here on the device goes with its last user (LOOP_CLR_FD on a busy device), which is the mount.
  const auto detached = tool({"losetup", "--detach", loop});
  if (!mounted) return fail_errno(error, "mount " + loop + " at " + at);
  if (!detached) return fail(Error(detached.error()));
  if (!os::exists("/proc/fs/jbd2/" + loop.substr(5) + "-8")) return fail(Code::kInternal, "the disk has no journal");
  return {};
}

std::uint64_t memory_kib(std::string_view name) {
  const auto text = os::read_file("/proc/meminfo", 64U << 10);
  if (!text) return 0;
  for (const auto line : split(*text, '\n')) {
    if (!line.starts_with(name)) continue;
    const auto number = trim(line.substr(name.size()));
    return parse_number<std::uint64_t>(number.substr(0, number.find(' '))).value_or(0);
  }
  return 0;
}

/// The loop device of `image`, or "". One of another namespace looks the same.
std::string loop_of(const std::string& image) {
  const auto names = os::list_dir("/sys/block");
  if (!names) return "";
  for (const auto& name : *names) {
    if (!name.starts_with("loop")) continue;
    const auto file = os::read_file("/sys/block/" + name + "/loop/backing_file", 8192);
    if (file && trim(*file).starts_with(image)) return name;
  }
  return "";
}

}  // namespace

Result<Ground> Ground::make(const std::string& work, unsigned gigabytes) {
  auto lock = take_folder(work);
  if (!lock) return fail(Error(lock.error()));
  Ground ground;
  ground.work_ = work;
  ground.lock_ = std::move(*lock);
  if (!os::exists(work + "/disk.img")) BERTH_TRY(make_disk(work, gigabytes), "disk");
  BERTH_TRY(mount_disk(work), "disk");
  BERTH_TRY(os::remove_tree(ground.disk() + "/fill"), "disk");
  return ground;
}

std::uint64_t Ground::used() const {
  struct statvfs space{};
  if (::statvfs(disk().c_str(), &space) != 0) return 0;
  return (space.f_blocks - space.f_bfree) * space.f_frsize;
}

Result<> Ground::sync() const {
  BERTH_ASSIGN(const auto fd, os::open_file(disk(), O_RDONLY | O_DIRECTORY), "sync");
  return ::syncfs(fd.get()) == 0 ? Result<>{} : fail_errno(errno, "syncfs " + disk());
}

Result<> Ground::fill() {
  constexpr std::uint64_t kStep = 64U << 20;
  const std::uint64_t enough = memory_kib("MemTotal:") * 1024 / 64;  // the kernel itself keeps half as much free
  const std::uint64_t most = memory_kib("MemFree:") * 1024 / 5 * 6 + (4ULL << 30);
  BERTH_TRY(os::make_dirs(disk() + "/fill"), "fill");
  const std::string path = disk() + "/fill/" + std::to_string(fillers_++);
  BERTH_ASSIGN(const auto fd, os::open_file(path, O_RDWR | O_CREAT | O_TRUNC), "fill");
  if (::ftruncate(fd.get(), static_cast<off_t>(most)) != 0) return fail_errno(errno, "fill");
  // Single pages: read-ahead wants large blocks of memory, and for these the kernel throws other pages out of the cache
  // while gigabytes of small blocks stay free.
  ::posix_fadvise(fd.get(), 0, 0, POSIX_FADV_RANDOM);
  std::vector<char> buffer(1U << 20);
  for (std::uint64_t at = 0; at < most;) {
    if (at % kStep == 0 && memory_kib("MemFree:") * 1024 < enough) return {};
    const ssize_t got = ::pread(fd.get(), buffer.data(), buffer.size(), static_cast<off_t>(at));
    if (got < 0) return fail_errno(errno, "fill");
    if (got == 0) return {};
    at += static_cast<std::uint64_t>(got);
  }
  std::fprintf(stderr, "bench_pull: %s of memory are free, and could not be filled with cached pages\n",
               human_bytes(memory_kib("MemFree:") * 1024).c_str());
  return {};
}

void clear_ground(const std::string& work, bool keep) {
  const std::string image = work + "/disk.img";
  if (!os::exists(work + kMark)) return;  // not ours
  const auto lock = os::open_file(work + kMark, O_RDWR);
  if (!lock || !os::try_lock(lock->get()).value_or(false)) return;  // another run's
  // A run that was killed early left a device without a mount. Else the mount goes some time after the last process
  // that saw it, and the device with it.
  if (const auto loop = loop_of(image); !loop.empty()) {
    ignore(tool({"losetup", "--detach", "/dev/" + loop}), "it may go by itself just now");
  }
  if (!test::wait_until(std::chrono::minutes(2), [&image] { return loop_of(image).empty(); })) {
    std::fprintf(stderr, "bench_pull: /dev/%s still has %s\n", loop_of(image).c_str(), image.c_str());
  }
  const auto names = os::list_dir(work);
  if (!names) return;
  for (const auto& name : *names) {
    if (keep && (name == "disk.img" || work + "/" + name == work + kMark)) continue;
    const auto removed = os::remove_tree(work + "/" + name);
    if (!removed) std::fprintf(stderr, "bench_pull: %s\n", removed.error().text().c_str());
  }
  if (!keep) ::rmdir(work.c_str());
}

void clear_cgroups(const std::string& name) {
  const auto hierarchies = os::list_dir("/sys/fs/cgroup");
  if (!hierarchies) return;
  std::vector<std::string> tops = {"/sys/fs/cgroup" + name};
  for (const auto& hierarchy : *hierarchies) tops.push_back("/sys/fs/cgroup/" + hierarchy + name);
  for (const auto& top : tops) {
    // A cgroup stays busy until the kernel has taken down what was killed in it.
    const bool gone = test::wait_until(std::chrono::seconds(20), [&top] {
      if (!os::exists(top)) return true;
      ignore(tool({"find", top, "-depth", "-type", "d", "-exec", "rmdir", "{}", "+"}), "tried again");
      return !os::exists(top);
    });
    if (!gone) std::fprintf(stderr, "bench_pull: the cgroup %s stays\n", top.c_str());
  }
}

Result<std::uint64_t> disk_usage(const std::string& path) {
  BERTH_ASSIGN(const auto text, tool({"du", "-sx", "--block-size=1", path}), "du");
  const auto bytes = parse_number<std::uint64_t>(text.substr(0, text.find('\t')));
  return bytes ? Result<std::uint64_t>(*bytes) : fail(Code::kInternal, "du says " + text);
}

}  // namespace berth::bench
