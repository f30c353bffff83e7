// A file system whose reads never end, spoken to the kernel directly: MOUNTPOINT holds the one file "hang". Mounts it,
// writes a line to stdout when it serves, and serves until it is killed, with a line "read" for each read; then the
// kernel ends what waits for it. A process that reads "hang" is in state D meanwhile, whatever signal it gets; while
// this program is stopped, so is whoever looks.
#include <fcntl.h>
#include <linux/fuse.h>
#include <sys/mount.h>
#include <sys/stat.h>
#include <sys/uio.h>
#include <unistd.h>

#include <cerrno>
#include <cstdio>
#include <cstring>
#include <string>
#include <vector>

namespace {

constexpr std::uint64_t kFile = 2;
// FUSE_MIN_READ_BUFFER is less than what a kernel may send with the largest write that INIT allows below.
constexpr std::size_t kBuffer = 1U << 17;

void answer(int fd, std::uint64_t unique, int error, const void* data = nullptr, std::size_t size = 0) {
  fuse_out_header header{static_cast<std::uint32_t>(sizeof(fuse_out_header) + size), -error, unique};
  iovec parts[2] = {{&header, sizeof header}, {const_cast<void*>(data), size}};
  (void)!::writev(fd, parts, size > 0 ? 2 : 1);
}

fuse_attr attributes(std::uint64_t node) {
  fuse_attr attr{};
  attr.ino = node;
  attr.size = node == kFile ? 65536 : 0;
  attr.mode = node == kFile ? S_IFREG | 0444 : S_IFDIR | 0755;
  attr.nlink = 1;
  attr.blksize = 4096;
  return attr;
}

void serve(int fd, const fuse_in_header& in, const char* body) {
  switch (in.opcode) {
    case FUSE_INIT: {
      fuse_init_out out{};
      out.major = FUSE_KERNEL_VERSION;
      out.minor = FUSE_KERNEL_MINOR_VERSION;
      out.max_write = 4096;
      return answer(fd, in.unique, 0, &out, sizeof out);
    }
    case FUSE_GETATTR: {
      fuse_attr_out out{};
      out.attr = attributes(in.nodeid);
      return answer(fd, in.unique, 0, &out, sizeof out);
    }
    case FUSE_LOOKUP: {
      if (in.nodeid != FUSE_ROOT_ID || std::strcmp(body, "hang") != 0) return answer(fd, in.unique, ENOENT);
      fuse_entry_out out{};
      out.nodeid = kFile;
      out.generation = 1;
      out.attr = attributes(kFile);
      return answer(fd, in.unique, 0, &out, sizeof out);
    }
    case FUSE_OPEN:
    case FUSE_OPENDIR: {
      fuse_open_out out{};
      out.open_flags = FOPEN_DIRECT_IO;
      return answer(fd, in.unique, 0, &out, sizeof out);
    }
    case FUSE_STATFS: {
      fuse_statfs_out out{};
      out.st.bsize = 4096;
      out.st.namelen = 255;
      return answer(fd, in.unique, 0, &out, sizeof out);
    }
    case FUSE_READ:
      std::puts("read");
      std::fflush(stdout);
      return;
    case FUSE_INTERRUPT:
    case FUSE_FORGET:
    case FUSE_BATCH_FORGET:
      return;  // these have no answer
    case FUSE_READDIR:
    case FUSE_RELEASE:
    case FUSE_RELEASEDIR:
    case FUSE_FLUSH:
      return answer(fd, in.unique, 0);
    default:
      return answer(fd, in.unique, ENOSYS);
  }
}

}  // namespace

int main(int argc, char** argv) {
  if (argc != 2) return 2;
  const int fd = ::open("/dev/fuse", O_RDWR | O_CLOEXEC);
  const std::string options = "fd=" + std::to_string(fd) + ",rootmode=40000,user_id=0,group_id=0,allow_other";
  if (fd < 0 || ::mount("hang", argv[1], "fuse.hang", MS_NOSUID | MS_NODEV, options.c_str()) != 0) {
    std::perror("hanging_fuse");
    return 1;
  }
  std::puts("serves");
  std::fflush(stdout);
  std::vector<char> buffer(kBuffer);
  for (;;) {
    const ssize_t size = ::read(fd, buffer.data(), buffer.size() - 1);
    if (size < 0 && (errno == EINTR || errno == ENOENT)) continue;      // ENOENT: the request was withdrawn
    if (size < static_cast<ssize_t>(sizeof(fuse_in_header))) return 0;  // ENODEV: unmounted
    buffer[static_cast<std::size_t>(size)] = '\0';
    fuse_in_header in{};
    std::memcpy(&in, buffer.data(), sizeof in);
    serve(fd, in, buffer.data() + sizeof in);
  }
}
