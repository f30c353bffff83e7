#include "shim/foreign/log_drain.h"

#include <fcntl.h>
#include <sys/epoll.h>
#include <sys/stat.h>
#include <unistd.h>

#include <array>
#include <cerrno>

#include "base/log.h"
#include "base/strings.h"
#include "os/file.h"

namespace berth::shim::foreign {
namespace {

constexpr std::size_t kMaxLine = 512;

}  // namespace

Result<std::unique_ptr<LogDrain>> LogDrain::start(event::Loop& loop, const std::string& path, std::string name) {
  std::unique_ptr<LogDrain> drain(new LogDrain(loop, std::move(name)));
  BERTH_TRY(os::remove_file(path), "log of the shim");
  if (::mkfifo(path.c_str(), 0600) != 0) return fail_errno(errno, "mkfifo " + path);
  // For writing too: no end of file, whoever comes and goes at the other end.
  BERTH_ASSIGN(drain->fifo_, os::open_file(path, O_RDWR | O_NONBLOCK), "log of the shim");
  BERTH_ASSIGN(drain->watch_,
               loop.add_fd(drain->fifo_.get(), EPOLLIN, [raw = drain.get()](std::uint32_t) { raw->read(); }),
               "log of the shim");
  return drain;
}

LogDrain::~LogDrain() {
  loop_.remove(watch_);
}

void LogDrain::read() {
  std::array<char, 4096> buffer;
  const ssize_t got = ::read(fifo_.get(), buffer.data(), buffer.size());
  if (got <= 0) return;
  for (const auto line : split({buffer.data(), static_cast<std::size_t>(got)}, '\n')) {
    if (!trim(line).empty()) log_info("shim says", {{"shim", name_}, {"line", trim(line).substr(0, kMaxLine)}});
  }
}

}  // namespace berth::shim::foreign
