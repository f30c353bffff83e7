#include "beside.h"

#include <unistd.h>

#include <climits>
#include <cstdlib>

#include "base/strings.h"

namespace berth::oci {

namespace {

std::string find_in_path(const std::string& name) {
  const char* const path = ::getenv("PATH");  // NOLINT(concurrency-mt-unsafe): one thread
  for (const auto folder : split(path == nullptr ? "" : path, ':')) {
    const std::string candidate = std::string(folder) + "/" + name;
    if (!folder.empty() && ::access(candidate.c_str(), X_OK) == 0) return candidate;
  }
  return {};
}

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
  const bool has_slash = own_name.find('/') != std::string::npos;
  for (const std::string& folder :
       {folder_of(has_slash ? own_name : find_in_path(own_name)), std::string(BERTH_BIN_FOLDER "/")}) {
    if (!folder.empty() && ::access((folder + name).c_str(), X_OK) == 0) return folder + name;
  }
  return name;
}

}  // namespace berth::oci
