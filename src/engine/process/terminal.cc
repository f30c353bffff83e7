#include <fcntl.h>
#include <linux/magic.h>
#include <sys/ioctl.h>
#include <sys/vfs.h>
#include <termios.h>
#include <unistd.h>

#include "engine/process/exec_terminal.h"
#include "engine/process/launch.h"
#include "engine/process/protocol.h"
#include "os/file.h"
#include "os/mount.h"
#include "os/process_attr.h"
#include "os/root_path.h"

namespace berth::engine::process {

namespace {

Result<> require_devpts(int fd) {
  struct statfs fs{};
  if (::fstatfs(fd, &fs) != 0) return fail_errno(errno, "stat /dev/pts");
  if (fs.f_type != DEVPTS_SUPER_MAGIC) return fail(Code::kInvalid, "process.terminal needs a devpts at /dev/pts");
  return {};
}

Result<> send_master(int channel_fd, UniqueFd master) {
  os::ChannelMessage message;
  message.kind = static_cast<std::uint32_t>(Signal::kConsole);
  message.fd = std::move(master);
  return os::send_message(channel_fd, message);
}

}  // namespace

Result<Terminal> open_terminal(int devpts_fd, const spec::Process& process) {
  Terminal terminal;
  BERTH_ASSIGN(terminal.master, os::open_at(devpts_fd, "ptmx", O_RDWR | O_NOCTTY | O_NOFOLLOW), "terminal");
  const int unlock = 0;
  if (::ioctl(terminal.master.get(), TIOCSPTLCK, &unlock) != 0) return fail_errno(errno, "unlock the terminal");
  terminal.slave.reset(::ioctl(terminal.master.get(), TIOCGPTPEER, O_RDWR | O_NOCTTY | O_CLOEXEC));
  if (!terminal.slave.valid()) return fail_errno(errno, "open the terminal");
  if (process.user.uid != 0 && ::fchown(terminal.slave.get(), process.user.uid, static_cast<gid_t>(-1)) != 0) {
    return fail_errno(errno, "give the terminal to the user");
  }
  if (process.console_size) {
    const auto rows = static_cast<unsigned short>(process.console_size->height);
    const auto columns = static_cast<unsigned short>(process.console_size->width);
    BERTH_TRY(os::set_window_size(terminal.slave.get(), rows, columns), "terminal");
  }
  return terminal;
}

Result<UniqueFd> open_exec_terminal(const spec::Process& process, int channel_fd) {
  BERTH_ASSIGN(const UniqueFd devpts, os::open_file("/dev/pts", O_PATH | O_DIRECTORY | O_NOFOLLOW), "terminal");
  BERTH_TRY(require_devpts(devpts.get()), "terminal");
  BERTH_ASSIGN(Terminal terminal, open_terminal(devpts.get(), process), "exec");
  BERTH_TRY(send_master(channel_fd, std::move(terminal.master)), "terminal");
  return std::move(terminal.slave);
}

Result<UniqueFd> make_console(const Launch& launch, int root_fd, int devpts_fd) {
  // The devpts that we mounted ourselves; else what the container has at /dev/pts, which must be one.
  UniqueFd found;
  if (devpts_fd < 0) {
    BERTH_ASSIGN(found, os::open_in_root(root_fd, "/dev/pts", O_DIRECTORY), "terminal");
    BERTH_TRY(require_devpts(found.get()), "terminal");
    devpts_fd = found.get();
  }
  BERTH_ASSIGN(Terminal terminal, open_terminal(devpts_fd, *launch.spec->process), "console");
  if (launch.mounts.make_devices) {
    BERTH_ASSIGN(const UniqueFd target, os::make_file_in_root(root_fd, "/dev/console", 0666), "/dev/console");
    BERTH_ASSIGN(const UniqueFd tree, os::clone_tree(terminal.slave.get(), "", false), "/dev/console");
    BERTH_TRY(os::attach_tree(tree.get(), target.get()), "/dev/console");
  }
  BERTH_TRY(send_master(launch.channel, std::move(terminal.master)), "terminal");
  return std::move(terminal.slave);
}

}  // namespace berth::engine::process
