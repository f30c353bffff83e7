#include <unistd.h>

#include "commands.h"

int main(int argc, char** argv) {
  return berth::oci::run_program(argc, argv, ::environ);
}
