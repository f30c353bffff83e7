#include "image/endpoint_health.h"

#include <gtest/gtest.h>

namespace berth::image {
namespace {

using std::chrono::seconds;

TEST(EndpointHealth, AHostIsDueAgainAndTriedByOne) {
  EndpointHealth health;
  const SteadyTime t0 = std::chrono::steady_clock::now();
  EXPECT_FALSE(health.is_ill("m", t0));
  EXPECT_TRUE(health.failed("m", t0));
  EXPECT_FALSE(health.failed("m", t0 + seconds(2)));  // a request that was under way
  EXPECT_TRUE(health.is_ill("m", t0 + seconds(59)));
  EXPECT_FALSE(health.is_ill("other", t0));
  EXPECT_FALSE(health.is_ill("m", t0 + seconds(61)));
  EXPECT_TRUE(health.is_ill("m", t0 + seconds(62)));  // the first asker is trying it
  EXPECT_FALSE(health.failed("m", t0 + seconds(63)));
  EXPECT_TRUE(health.is_ill("m", t0 + seconds(63 + 119)));
  EXPECT_FALSE(health.is_ill("m", t0 + seconds(63 + 121)));
  health.answered("m");
  EXPECT_FALSE(health.is_ill("m", t0 + seconds(63 + 122)));
  EXPECT_EQ(health.size(), 0U);
}

TEST(EndpointHealth, NeverLongerThanTenMinutes) {
  EndpointHealth health;
  SteadyTime now = std::chrono::steady_clock::now();
  for (int i = 0; i < 40; ++i) {
    health.failed("m", now);
    now += seconds(601);
    EXPECT_FALSE(health.is_ill("m", now)) << i;
  }
}

TEST(EndpointHealth, IsBounded) {
  EndpointHealth health;
  const SteadyTime now = std::chrono::steady_clock::now();
  for (int i = 0; i < 1000; ++i) health.failed("m" + std::to_string(i), now + seconds(i));
  EXPECT_EQ(health.size(), 256U);
  EXPECT_TRUE(health.was_ill("m999"));
  EXPECT_FALSE(health.was_ill("m0"));
}

}  // namespace
}  // namespace berth::image
