// main() of the tests that drive a runtime by others' programs.
#include <gtest/gtest.h>

#include <cstdio>

#include "isolation.h"
#include "peer_host.h"

int main(int argc, char** argv) {
  return berth::test::run_isolated(argc, argv, {.private_mounts = true}, [&argc, argv] {
    if (const auto prepared = berth::test::prepare_node(); !prepared) {
      std::fprintf(stderr, "%s\n", prepared.error().text().c_str());
      return 1;
    }
    testing::InitGoogleTest(&argc, argv);
    return RUN_ALL_TESTS();
  });
}
