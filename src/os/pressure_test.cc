#include "os/pressure.h"

#include <string>

#include "gtest/gtest.h"

namespace berth::os {
namespace {

TEST(Pressure, BothLines) {
  const auto parsed = parse_pressure(
      "some avg10=5.51 avg60=8.57 avg300=29.40 total=419455697\n"
      "full avg10=0.00 avg60=0.25 avg300=100.00 total=18446744073709551615\n");
  ASSERT_TRUE(parsed.has_value());
  EXPECT_EQ(parsed->some, (PressureLine{419'455'697, 5.51, 8.57, 29.40}));
  EXPECT_EQ(parsed->full, (PressureLine{18'446'744'073'709'551'615U, 0, 0.25, 100}));
}

TEST(Pressure, AKernelWithoutFull) {
  const auto parsed = parse_pressure("some avg10=1.00 avg60=2.00 avg300=3.00 total=4\n");
  ASSERT_TRUE(parsed.has_value());
  EXPECT_EQ(parsed->full, PressureLine{});
}

TEST(Pressure, WhatIsToComeIsPassedOver) {
  const auto parsed =
      parse_pressure("some avg10=1.00 avg60=2.00 avg300=3.00 avg900=4.00 total=5 peak\nworst avg10=7.00\n\n");
  ASSERT_TRUE(parsed.has_value());
  EXPECT_EQ(parsed->some.total_us, 5U);
}

TEST(Pressure, WhatIsNoSuchFile) {
  for (const std::string text : {
           "",
           "\n",
           "some",
           "some ",
           "full avg10=0.00 avg60=0.00 avg300=0.00 total=0\n",
           "some avg10=0.00 avg60=0.00 avg300=0.00\n",
           "some avg10=0.00 avg60=0.00 total=1\n",
           "some avg10=-1.00 avg60=0.00 avg300=0.00 total=0\n",
           "some avg10=nan avg60=0.00 avg300=0.00 total=0\n",
           "some avg10=0.00x avg60=0.00 avg300=0.00 total=0\n",
           "some avg10=0.00 avg60=0.00 avg300=0.00 total=18446744073709551616\n",
           "some avg10=0.00 avg60=0.00 avg300=0.00 total=-1\n",
           "some avg10=0.00 avg60=0.00 avg300=0.00 total=0\nfull avg10= avg60=0.00 avg300=0.00 total=0\n",
       }) {
    EXPECT_FALSE(parse_pressure(text).has_value()) << text;
  }
  EXPECT_FALSE(parse_pressure("some avg10=0.00 avg60=0.00 avg300=0.00 total=0\n" + std::string(kMaxPressureText, ' ')));
  EXPECT_EQ(parse_pressure("some avg10=1000.00 avg60=0.00 avg300=0.00 total=0\n")->some.avg10, 100.0);
}

}  // namespace
}  // namespace berth::os
