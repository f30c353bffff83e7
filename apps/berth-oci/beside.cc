#include "beside.h"

#include <unistd.h>

#include <climits>
#include <cstdlib>

#include "os/spawn.h"

namespace berth::oci {

namespace {

/// Links followed; empty where there is nothing.
std::string folder_of(const std::string& file) {
  char* const real = file.empty() ? nullptr : ::realpath(file.c_str(), nullptr);
  if (real == nullptr) return {};
  std::string path(real);
  ::free(real);  // NOLINT(cppcoreguidelines-no-malloc): realpath's contract
  path.resize(path.rfind('/') + 1);
  return path;
}

}  // namespace

std::string program_beside(const std::string& own_name, const std::string& name) {
  for (const std::string& folder :
       {folder_of(os::find_program(own_name).value_or("")), std::string(BERTH_BIN_FOLDER "/")}) {
    if (!folder.empty() && ::access((folder + name).c_str(), X_OK) == 0) return folder + name;
  }
  return name;
}

}  // namespace berth::oci
