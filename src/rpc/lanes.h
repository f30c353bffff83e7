#pragma once
#include "rpc/pool.h"

namespace berth::rpc {

/// Reads have threads of their own, so that a hundred long pulls, execs and stops cannot delay a List or Status.
struct Lanes {
  Pool reads{{.name = "berth-read", .max_threads = 4, .max_queue = 4096}};
  Pool work{{.name = "berth-work", .max_threads = 128, .max_queue = 1024}};
};
enum class Lane { kReads, kWork };

}  // namespace berth::rpc
