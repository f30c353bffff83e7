// The process that other runtimes keep in every pod. Ends on SIGTERM, as PID 1 must ask for.
#include <signal.h>
#include <unistd.h>

int main() {
  ::signal(SIGTERM, [](int) { ::_exit(0); });
  while (true) ::pause();
}
