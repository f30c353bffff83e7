// main() of tests that need a node of their own: isolation first, then GoogleTest.
#include <gtest/gtest.h>

#include "isolation.h"

#ifndef BERTH_TEST_PRIVATE_MOUNTS
#define BERTH_TEST_PRIVATE_MOUNTS true
#endif

int main(int argc, char** argv) {
  return berth::test::run_isolated(argc, argv, {.private_mounts = BERTH_TEST_PRIVATE_MOUNTS}, [&argc, argv] {
    testing::InitGoogleTest(&argc, argv);
    return RUN_ALL_TESTS();
  });
}
