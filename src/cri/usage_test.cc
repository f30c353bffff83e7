#include "cri/usage.h"

#include "gtest/gtest.h"

namespace berth::cri {
namespace {

void set_line(::berth::shim::v1::PressureLine& line, std::uint64_t total_us) {
  line.set_total_us(total_us);
  line.set_avg10(1.5);
  line.set_avg60(2.5);
  line.set_avg300(3.5);
}

TEST(Usage, PressureOfEachKind) {
  ::berth::shim::v1::ContainerStatsResponse sample;
  sample.set_timestamp_ns(7);
  set_line(*sample.mutable_cpu_pressure()->mutable_some(), 11);
  set_line(*sample.mutable_memory_pressure()->mutable_full(), 12);
  set_line(*sample.mutable_io_pressure()->mutable_some(), 13);
  const auto usage = to_usage(sample);
  pb::CpuUsage cpu;
  fill_cpu(cpu, usage);
  EXPECT_EQ(cpu.psi().some().total(), 11'000U) << "nanoseconds; the kernel counts microseconds";
  EXPECT_EQ(cpu.psi().some().avg10(), 1.5);
  EXPECT_EQ(cpu.psi().some().avg60(), 2.5);
  EXPECT_EQ(cpu.psi().some().avg300(), 3.5);
  EXPECT_TRUE(cpu.psi().has_full());
  pb::MemoryUsage memory;
  fill_memory(memory, usage);
  EXPECT_EQ(memory.psi().full().total(), 12'000U);
  pb::IoUsage io;
  fill_io(io, usage);
  EXPECT_EQ(io.psi().some().total(), 13'000U);
  EXPECT_EQ(io.timestamp(), 7);
}

TEST(Usage, WhatIsNotKnownIsAbsent) {
  const auto usage = to_usage({});
  pb::CpuUsage cpu;
  fill_cpu(cpu, usage);
  EXPECT_FALSE(cpu.has_psi());
  pb::MemoryUsage memory;
  fill_memory(memory, usage);
  EXPECT_FALSE(memory.has_psi());
  EXPECT_FALSE(memory.has_available_bytes());
  EXPECT_FALSE(usage.io_pressure.has_value());
}

TEST(Usage, SwapThatIsLeft) {
  os::CgroupUsage usage;
  usage.timestamp_ns = 9;
  usage.swap_usage_bytes = 30;
  const auto filled = [&usage] {
    pb::SwapUsage swap;
    fill_swap(swap, usage);
    return swap;
  };
  EXPECT_EQ(filled().timestamp(), 9);
  EXPECT_EQ(filled().swap_usage_bytes().value(), 30U);
  EXPECT_FALSE(filled().has_swap_available_bytes()) << "no limit";
  usage.swap_limit_bytes = 100;
  EXPECT_EQ(filled().swap_available_bytes().value(), 70U);
  usage.swap_limit_bytes = 0;
  ASSERT_TRUE(filled().has_swap_available_bytes());
  EXPECT_EQ(filled().swap_available_bytes().value(), 0U);
  ::berth::shim::v1::ContainerStatsResponse sample;
  EXPECT_FALSE(to_usage(sample).swap_limit_bytes.has_value());
  sample.set_swap_limit_bytes(0);
  EXPECT_EQ(to_usage(sample).swap_limit_bytes, 0U) << "none may be used";
}

}  // namespace
}  // namespace berth::cri
