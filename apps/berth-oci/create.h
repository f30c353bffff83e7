#pragma once
#include <string>
#include <vector>

#include "base/result.h"
#include "base/unique_fd.h"
#include "commands.h"

namespace berth::oci {

/// The folder of --bundle: its absolute path without links, its config.json, read and checked.
struct Bundle {
  std::string path;
  std::string config;
  spec::Spec spec;
};
Result<Bundle> load_bundle(const Args& args);

/// Descriptors to pass on: LISTEN_FDS of the environment and --preserve-fds, from 3 up.
struct PassedFds {
  std::vector<int> fds;
  int listen_count = 0;
};
Result<PassedFds> passed_fds(const Args& args);
/// Tells the program about its listening sockets, as sd_listen_fds(3) wants it.
void add_listen_env(const PassedFds& passed, spec::Process& process);

/// Sends a terminal to --console-socket.
Result<> send_console(const std::string& socket_path, int console_fd);
/// Whether flags and process agree about the terminal: a detached one needs a socket to send it to.
Result<> check_console(bool detached, bool terminal, const Args& args);
/// Temporary name and rename, as whoever waits for it must not read half of it.
Result<> write_pid_file(const Args& args, pid_t pid);

}  // namespace berth::oci
