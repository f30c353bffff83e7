#pragma once
#include <chrono>
#include <stop_token>
#include <string>
#include <vector>

#include "base/result.h"

namespace berth::network {

/// One run of a plugin.
struct CniCall {
  std::string command;  ///< ADD, DEL, CHECK, STATUS
  std::string type;     ///< the plugin
  std::string container_id;
  std::string netns;  ///< path; empty when it is gone
  std::string ifname;
  std::string args;
  std::string input;  ///< its configuration, for stdin
  std::chrono::milliseconds timeout{60'000};
  std::stop_token stop;
};

/// Runs the plugin from the first of `bin_dirs` that has it and returns what it printed on stdout (at most 1 MiB).
/// At the timeout its process group is killed. Every failure names plugin and command, with the plugin's message,
/// details and the end of its stderr. Errors: kNotFound the plugin does not know the container (its code 3);
/// kUnavailable no such program, or its codes 11, 50, 51; kTimeout; kCancelled; kExhausted too much output;
/// kUnsupported 1; kInvalid 2, 4, 7; else kInternal. Blocks. Source: CNI specification 1.1, sections 2 and 4.
Result<std::string> run_cni_plugin(const std::vector<std::string>& bin_dirs, const CniCall& call);

}  // namespace berth::network
