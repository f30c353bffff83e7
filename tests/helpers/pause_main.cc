// The first process of a peer's pod: it waits to be ended and reaps orphans. Berth needs none.
#include <signal.h>
#include <sys/wait.h>
#include <unistd.h>

int main() {
  ::signal(SIGTERM, [](int) { ::_exit(0); });
  ::signal(SIGINT, [](int) { ::_exit(0); });
  ::signal(SIGCHLD, [](int) {
    while (::waitpid(-1, nullptr, WNOHANG) > 0) {
    }
  });
  while (true) ::pause();
}
