// A container's program that logs at a steady pace: "line 1", "line 2", ... at RATE lines a second (argument, default
// 1000) until SIGTERM; its last line is then "end N". Behind its schedule it catches up, so that a blocked pipe loses
// no line. Lines after argument COUNT (0: none) are not written, and it ends with code 0.
#include <signal.h>
#include <time.h>
#include <unistd.h>

#include <cerrno>
#include <cstdio>
#include <cstdlib>

namespace {

volatile sig_atomic_t g_end = 0;

long long now_us() {
  timespec now{};
  ::clock_gettime(CLOCK_MONOTONIC, &now);
  return now.tv_sec * 1'000'000LL + now.tv_nsec / 1000;
}

void put(const char* data, std::size_t size) {
  while (size > 0) {
    const ssize_t n = ::write(STDOUT_FILENO, data, size);
    if (n < 0 && errno == EINTR) continue;
    if (n <= 0) ::_exit(2);
    data += n;
    size -= static_cast<std::size_t>(n);
  }
}

}  // namespace

int main(int argc, char** argv) {
  struct sigaction action{};
  action.sa_handler = [](int) { g_end = 1; };
  ::sigaction(SIGTERM, &action, nullptr);
  const long long rate = argc > 1 ? std::atoll(argv[1]) : 1000;
  const long long limit = argc > 2 ? std::atoll(argv[2]) : 0;
  const long long start = now_us();
  long long line = 0;
  char text[64];
  while (g_end == 0 && (limit == 0 || line < limit)) {
    const long long due = (now_us() - start) * rate / 1'000'000;
    for (; line < due && g_end == 0 && (limit == 0 || line < limit); ++line) {
      const int size = std::snprintf(text, sizeof text, "line %lld\n", line + 1);
      put(text, static_cast<std::size_t>(size));
    }
    const timespec pause{0, 5'000'000};
    ::nanosleep(&pause, nullptr);
  }
  const int size = std::snprintf(text, sizeof text, "end %lld\n", line);
  put(text, static_cast<std::size_t>(size));
  return 0;
}
