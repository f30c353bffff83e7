#pragma once
#include <cstdint>
#include <string>

namespace berth::cri {

enum class Health : std::uint8_t {
  kGood = 1,
  kLimited = 2,  ///< pods run, and something is missing that some of them may want
  kBad = 3,      ///< pods cannot run, or not for long
};

/// One thing that was looked at.
struct Probe {
  std::string name;  ///< "RuntimeReady", "handler crun", "kernel: overlay": stable, unique in a list
  Health health = Health::kGood;
  std::string found;   ///< what is there, for people; one line
  std::string remedy;  ///< what to do about it; empty when it is well
  std::int64_t took_us = 0;
};

}  // namespace berth::cri
