#include <fcntl.h>
#include <sys/stat.h>
#include <time.h>
#include <unistd.h>

#include <cerrno>
#include <cstdio>

#include "client.h"
#include "commands.h"
#include "log_lines.h"
#include "os/file.h"

namespace berth::cli {

void LogPrinter::feed(std::string_view data) {
  while (!data.empty()) {
    const auto end = data.find('\n');
    if (end == std::string_view::npos) {
      rest_.append(data);
      return;
    }
    if (rest_.empty()) {
      line(data.substr(0, end));
    } else {
      rest_.append(data.substr(0, end));
      line(rest_);
      rest_.clear();
    }
    data.remove_prefix(end + 1);
  }
}

void LogPrinter::line(std::string_view text) {
  const auto first = text.find(' ');
  const auto second = first == std::string_view::npos ? first : text.find(' ', first + 1);
  const auto third = second == std::string_view::npos ? second : text.find(' ', second + 1);
  const auto stream = second == std::string_view::npos ? "" : text.substr(first + 1, second - first - 1);
  if (third == std::string_view::npos || (stream != "stdout" && stream != "stderr")) {
    std::fwrite(text.data(), 1, text.size(), stdout);
    std::fputc('\n', stdout);
    return;
  }
  const bool is_error = stream == "stderr";
  std::FILE* out = is_error ? stderr : stdout;
  const bool full = text.substr(second + 1, third - second - 1).starts_with('F');
  if (timestamps_ && !continues_[is_error]) {
    std::fwrite(text.data(), 1, first + 1, out);
  }
  const auto body = text.substr(third + 1);
  std::fwrite(body.data(), 1, body.size(), out);
  if (full) std::fputc('\n', out);
  continues_[is_error] = !full;
}

namespace {

// How often a followed log is looked at; the log may be on a filesystem without inotify.
constexpr long kPollMs = 50;
constexpr std::size_t kChunk = 65536;

// Where the last `count` lines of the file begin.
Result<off_t> tail_offset(int fd, std::int64_t count) {
  struct stat info{};
  if (::fstat(fd, &info) != 0) return fail_errno(errno, "stat the log");
  off_t end = info.st_size;
  std::int64_t newlines = 0;
  std::string chunk(kChunk, '\0');
  while (end > 0) {
    const off_t start = end > static_cast<off_t>(kChunk) ? end - static_cast<off_t>(kChunk) : 0;
    const ssize_t n = ::pread(fd, chunk.data(), static_cast<std::size_t>(end - start), start);
    if (n <= 0) return fail_errno(errno, "read the log");
    for (ssize_t i = n - 1; i >= 0; --i) {
      if (chunk[static_cast<std::size_t>(i)] == '\n' && newlines++ == count) return start + i + 1;
    }
    end = start;
  }
  return 0;
}

// Prints to the end of the file; how many bytes that was.
Result<std::size_t> print_rest(int fd, LogPrinter& printer) {
  std::string chunk(kChunk, '\0');
  std::size_t total = 0;
  while (true) {
    const ssize_t n = ::read(fd, chunk.data(), chunk.size());
    if (n < 0) return fail_errno(errno, "read the log");
    if (n == 0) break;
    printer.feed(std::string_view(chunk).substr(0, static_cast<std::size_t>(n)));
    total += static_cast<std::size_t>(n);
  }
  std::fflush(stdout);
  return total;
}

bool rotated(int fd, const std::string& path) {
  struct stat open_file{};
  struct stat named{};
  if (::fstat(fd, &open_file) != 0 || ::stat(path.c_str(), &named) != 0) return false;
  return open_file.st_ino != named.st_ino || open_file.st_dev != named.st_dev;
}

Result<bool> still_running(Client& client, const std::string& id) {
  pb::ContainerStatusRequest request;
  request.set_container_id(id);
  BERTH_ASSIGN(const auto status, client.call(client.runtime(), &pb::RuntimeService::Stub::ContainerStatus, request),
               "container status");
  return status.status().state() != pb::CONTAINER_EXITED;
}

Result<> follow(Client& client, const std::string& id, const std::string& path, UniqueFd fd, LogPrinter& printer) {
  int quiet_rounds = 0;
  while (true) {
    // The state is asked before the read: what an ended container wrote is then certain to be seen.
    bool running = true;
    if (++quiet_rounds >= 4) {
      BERTH_ASSIGN(running, still_running(client, id), "follow");
      quiet_rounds = 0;
    }
    BERTH_ASSIGN(const auto printed, print_rest(fd.get(), printer), "follow");
    if (printed > 0) quiet_rounds = 0;
    if (rotated(fd.get(), path)) {
      BERTH_ASSIGN(fd, os::open_file(path, O_RDONLY), "follow the new log");
      continue;
    }
    if (!running && printed == 0) return {};
    const timespec pause{0, kPollMs * 1'000'000};
    ::nanosleep(&pause, nullptr);
  }
}

}  // namespace

Result<int> logs(Client& client, const LogsCommand& command) {
  BERTH_ASSIGN(const auto container, find_container(client, command.container), "logs");
  pb::ContainerStatusRequest request;
  request.set_container_id(container.id());
  BERTH_ASSIGN(const auto status, client.call(client.runtime(), &pb::RuntimeService::Stub::ContainerStatus, request),
               "container status");
  const std::string& path = status.status().log_path();
  if (path.empty()) return fail(Code::kPrecondition, "container " + short_id(container.id()) + " keeps no log");
  BERTH_ASSIGN(auto fd, os::open_file(path, O_RDONLY), "logs");
  if (command.tail >= 0) {
    BERTH_ASSIGN(const auto offset, tail_offset(fd.get(), command.tail), "logs");
    if (::lseek(fd.get(), offset, SEEK_SET) < 0) return fail_errno(errno, "seek in the log");
  }
  LogPrinter printer(command.timestamps);
  if (command.follow) {
    BERTH_TRY(follow(client, container.id(), path, std::move(fd), printer), "logs");
  } else {
    BERTH_TRY(print_rest(fd.get(), printer), "logs");
  }
  return 0;
}

}  // namespace berth::cli
