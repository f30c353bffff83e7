// A container's program that logs MEGABYTES a second (argument 1) for SECONDS (argument 2; 0: until SIGTERM) and then
// writes to the file REPORT (argument 3) how long its writes took: NAME VALUE lines. Behind its schedule it catches up.
#include <fcntl.h>
#include <signal.h>
#include <time.h>
#include <unistd.h>

#include <algorithm>
#include <cerrno>
#include <cstdio>
#include <cstdlib>
#include <vector>

#include "steady_line.h"

namespace {

using berth::test::kSteadyLine;

constexpr long long kAtOnce = 16;  // lines in one write, as a program with a buffer of 16 KiB
constexpr long long kSlowUs = 1000;
constexpr long long kBarUs = 10'000;

volatile sig_atomic_t g_end = 0;

long long now_us() {
  timespec now{};
  ::clock_gettime(CLOCK_MONOTONIC, &now);
  return now.tv_sec * 1'000'000LL + now.tv_nsec / 1000;
}

// How long this process has been ready to run and did not, in microseconds (the second number of schedstat).
long long waited_for_a_cpu(int fd) {
  char text[128];
  const ssize_t size = ::pread(fd, text, sizeof text - 1, 0);
  if (size <= 0) return 0;
  text[size] = '\0';
  unsigned long long ran = 0;
  unsigned long long waited = 0;
  return std::sscanf(text, "%llu %llu", &ran, &waited) == 2 ? static_cast<long long>(waited / 1000) : 0;
}

struct Times {
  long long longest = 0;          // of a write
  long long longest_blocked = 0;  // less the time for which this process itself only lacked a CPU
  long long slow = 0;             // writes of more than 1 ms
  long long over_bar = 0;         // of more than 10 ms, as the writer sees it
  long long blocked_over_bar = 0;
};

void put(const char* data, std::size_t size) {
  while (size > 0) {
    const ssize_t n = ::write(STDOUT_FILENO, data, size);
    if (n < 0 && errno == EINTR) continue;
    if (n <= 0) ::_exit(2);
    data += n;
    size -= static_cast<std::size_t>(n);
  }
}

void timed_put(const std::vector<char>& buffer, long long lines, int schedstat, long long waited, Times& times) {
  const long long begun = now_us();
  put(buffer.data(), static_cast<std::size_t>(lines) * kSteadyLine);
  const long long took = now_us() - begun;
  times.longest = std::max(times.longest, took);
  if (took < kSlowUs) return;
  ++times.slow;
  const long long blocked = std::max(0LL, took - (waited_for_a_cpu(schedstat) - waited));
  times.longest_blocked = std::max(times.longest_blocked, blocked);
  if (took > kBarUs) ++times.over_bar;
  if (blocked > kBarUs) ++times.blocked_over_bar;
}

}  // namespace

int main(int argc, char** argv) {
  if (argc != 4) return 2;
  struct sigaction action{};
  action.sa_handler = [](int) { g_end = 1; };
  ::sigaction(SIGTERM, &action, nullptr);
  const long long rate = std::atoll(argv[1]) * 1'000'000 / static_cast<long long>(kSteadyLine);  // lines a second
  const long long end_us = std::atoll(argv[2]) * 1'000'000;
  const int schedstat = ::open("/proc/self/schedstat", O_RDONLY | O_CLOEXEC);
  std::vector<char> buffer(static_cast<std::size_t>(kAtOnce) * kSteadyLine);
  Times times;
  long long line = 0;
  const long long start = now_us();
  while (g_end == 0 && (end_us == 0 || now_us() - start < end_us)) {
    const long long due = (now_us() - start) * rate / 1'000'000;
    while (line < due && g_end == 0) {
      const long long count = std::min(kAtOnce, due - line);
      const long long waited = waited_for_a_cpu(schedstat);
      for (long long i = 0; i < count; ++i) {
        berth::test::steady_line(static_cast<unsigned long long>(line + i),
                                 buffer.data() + static_cast<std::size_t>(i) * kSteadyLine);
      }
      timed_put(buffer, count, schedstat, waited, times);
      line += count;
    }
    const timespec pause{0, 500'000};
    ::nanosleep(&pause, nullptr);
  }
  std::FILE* report = std::fopen(argv[3], "we");
  if (report == nullptr) return 3;
  std::fprintf(
      report,
      "lines %lld\nmilliseconds %lld\nlongest_us %lld\nlongest_blocked_us %lld\nover_1ms %lld\nover_10ms %lld\n"
      "blocked_over_10ms %lld\n",
      line, (now_us() - start) / 1000, times.longest, times.longest_blocked, times.slow, times.over_bar,
      times.blocked_over_bar);
  return std::fclose(report) == 0 ? 0 : 3;
}
