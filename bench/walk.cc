// What a container of bench_pull runs, out of its image: `walk ready` says so and waits; `walk list DIR` looks at every
// entry of the file system below DIR as find -xdev does; `walk read DIR` also reads every regular file. It tells
// "ENTRIES BYTES MICROSECONDS". Static, since not every image has a library.
#include <dirent.h>
#include <fcntl.h>
#include <sys/stat.h>
#include <time.h>
#include <unistd.h>

#include <cstdio>
#include <cstring>
#include <string_view>

namespace {

struct Totals {
  unsigned long long entries = 0;
  unsigned long long bytes = 0;
};
char buffer[256 << 10];

unsigned long long now_us() {
  timespec time{};
  ::clock_gettime(CLOCK_MONOTONIC, &time);
  return static_cast<unsigned long long>(time.tv_sec) * 1'000'000 +
         static_cast<unsigned long long>(time.tv_nsec) / 1000;
}

bool read_file(int dir, const char* name, Totals& totals) {
  const int fd = ::openat(dir, name, O_RDONLY | O_CLOEXEC | O_NOFOLLOW);
  if (fd < 0) return false;
  ssize_t got = 0;
  while ((got = ::read(fd, buffer, sizeof buffer)) > 0) totals.bytes += static_cast<unsigned long long>(got);
  ::close(fd);
  return got == 0;
}

// Folders of another device are not entered: files of an overlay may well have another one. Takes `fd`.
bool walk(int fd, dev_t device, bool read, Totals& totals) {
  DIR* folder = ::fdopendir(fd);
  if (folder == nullptr) return false;
  bool good = true;
  while (const dirent* entry = ::readdir(folder)) {
    if (std::strcmp(entry->d_name, ".") == 0 || std::strcmp(entry->d_name, "..") == 0) continue;
    ++totals.entries;
    struct stat status{};
    if (::fstatat(fd, entry->d_name, &status, AT_SYMLINK_NOFOLLOW) != 0) {
      good = false;
    } else if (S_ISDIR(status.st_mode) && status.st_dev == device) {
      const int below = ::openat(fd, entry->d_name, O_RDONLY | O_DIRECTORY | O_CLOEXEC | O_NOFOLLOW);
      good = below >= 0 && walk(below, device, read, totals) && good;
    } else if (read && S_ISREG(status.st_mode)) {
      good = read_file(fd, entry->d_name, totals) && good;
    }
  }
  ::closedir(folder);
  return good;
}

}  // namespace

int main(int argc, char** argv) {
  const std::string_view word = argc > 1 ? argv[1] : "";
  if (word == "ready") {
    std::puts("ready");
    std::fflush(stdout);
    while (true) ::pause();
  }
  if (argc != 3 || (word != "list" && word != "read")) return 2;
  const auto begun = now_us();
  const int root = ::open(argv[2], O_RDONLY | O_DIRECTORY | O_CLOEXEC);
  struct stat status{};
  if (root < 0 || ::fstat(root, &status) != 0) return 1;
  Totals totals;
  if (!walk(root, status.st_dev, word == "read", totals)) return 1;
  std::printf("%llu %llu %llu\n", totals.entries, totals.bytes, now_us() - begun);
  return 0;
}
