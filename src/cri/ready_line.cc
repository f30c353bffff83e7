#include "cri/ready_line.h"

#include <unistd.h>

#include <array>
#include <cerrno>

#include "base/strings.h"
#include "os/file.h"
#include "os/pidfd.h"

namespace berth::cri {

namespace {

constexpr std::size_t kMaxReadyLine = 4096;
constexpr std::size_t kMaxLog = 64U << 10;

}  // namespace

Result<std::optional<std::string>> read_ready_line(int fd, SteadyTime deadline) {
  using std::chrono::milliseconds;
  std::string line;
  std::array<char, 512> buffer{};
  while (line.size() < kMaxReadyLine) {
    const auto left = std::chrono::duration_cast<milliseconds>(deadline - std::chrono::steady_clock::now());
    BERTH_ASSIGN(const bool readable, os::wait_readable(fd, left), "wait until it is ready");
    if (!readable) return fail(Code::kTimeout, "it did not become ready in time");
    const auto count = ::read(fd, buffer.data(), buffer.size());
    if (count < 0 && errno == EINTR) continue;
    if (count < 0) return fail_errno(errno, "read its first line");
    if (count == 0) return std::nullopt;
    line.append(buffer.data(), static_cast<std::size_t>(count));
    if (const auto end = line.find('\n'); end != std::string::npos) return line.substr(0, end);
  }
  return fail(Code::kInternal, "its first line is longer than 4096 bytes");
}

std::string last_words(const std::string& log_path) {
  const auto text = os::read_file(log_path, kMaxLog);
  if (!text) return "it left no message";
  const auto lines = split(trim(*text), '\n');
  const auto line = trim(lines.back());
  return line.empty() ? "it left no message" : std::string(line);
}

}  // namespace berth::cri
