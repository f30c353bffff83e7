#include "shim/log_file.h"

#include <fcntl.h>
#include <sys/stat.h>
#include <sys/uio.h>
#include <unistd.h>

#include <array>
#include <cerrno>
#include <cstring>

#include "base/failpoint.h"
#include "base/log.h"
#include "os/file.h"

namespace berth::shim {
namespace {

// What the container wrote to make `entries`: the newline of a full line was its own.
std::uint64_t output_bytes(std::string_view entries) {
  std::uint64_t total = 0;
  while (!entries.empty()) {
    const std::size_t end = entries.find('\n');
    const std::size_t length = end == std::string_view::npos ? entries.size() : end;
    if (length >= kLogHeaderBytes) {
      total += length - kLogHeaderBytes;
      if (entries[kLogHeaderBytes - 2] == 'F') ++total;
    }
    entries.remove_prefix(end == std::string_view::npos ? entries.size() : end + 1);
  }
  return total;
}

}  // namespace

Result<std::unique_ptr<LogFile>> LogFile::open(std::string path) {
  BERTH_ASSIGN(UniqueFd fd, os::open_file(path, O_WRONLY | O_CREAT | O_APPEND | O_NOCTTY | O_NONBLOCK, 0640),
               "open log");
  BERTH_TRY(failpoint("shim.log.opened"), "open log");
  struct stat info{};
  if (::fstat(fd.get(), &info) != 0) return fail_errno(errno, "fstat log " + path);
  if (!S_ISREG(info.st_mode)) return fail(Code::kInvalid, "log path " + path + " is not a regular file");
  return std::unique_ptr<LogFile>(new LogFile(std::move(path), std::move(fd)));
}

Result<> LogFile::reopen() {
  BERTH_ASSIGN(auto fresh, open(path_), "reopen");
  BERTH_TRY(failpoint("shim.log.reopened"), "reopen");
  fd_ = std::move(fresh->fd_);
  torn_ = false;
  return {};
}

void LogFile::append(std::string_view entries) {
  std::size_t done = 0;
  while (done < entries.size()) {
    std::array<iovec, 2> parts{};
    std::size_t count = 0;
    char newline = '\n';
    if (torn_) parts[count++] = {&newline, 1};
    parts[count++] = {const_cast<char*>(entries.data() + done), entries.size() - done};
    const ssize_t written = ::writev(fd_.get(), parts.data(), static_cast<int>(count));
    if (written > 0) {
      done += static_cast<std::size_t>(written) - (torn_ ? 1 : 0);
      torn_ = false;
      continue;
    }
    if (written < 0 && errno == EINTR) continue;
    const int error = written < 0 ? errno : ENOSPC;
    const std::size_t newline_before = done == 0 ? std::string_view::npos : entries.rfind('\n', done - 1);
    const std::size_t whole = newline_before == std::string_view::npos ? 0 : newline_before + 1;
    take_back(done - whole);
    bytes_dropped_ += output_bytes(entries.substr(whole));
    if (!failing_) {
      log_warn("container output is being dropped", {{"log", path_}, {"err", std::strerror(error)}});  // NOLINT
    }
    failing_ = true;
    return;
  }
  failing_ = false;
}

void LogFile::take_back(std::size_t torn_bytes) {
  if (torn_bytes == 0) return;
  struct stat info{};
  torn_ = ::fstat(fd_.get(), &info) != 0 || info.st_size < static_cast<off_t>(torn_bytes) ||
          ::ftruncate(fd_.get(), info.st_size - static_cast<off_t>(torn_bytes)) != 0;
}

}  // namespace berth::shim
