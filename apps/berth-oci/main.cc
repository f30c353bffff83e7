#include <malloc.h>
#include <unistd.h>

#include "commands.h"

int main(int argc, char** argv) {
  // The heap grows by a megabyte at a time: a dozen brk calls less, and untouched memory costs nothing.
  constexpr int kGrowth = 1 << 20;
  ::mallopt(M_TOP_PAD, kGrowth);  // NOLINT(concurrency-mt-unsafe): one thread
  return berth::oci::run_program(argc, argv, ::environ);
}
