#pragma once
#include <sys/mount.h>

#include <string>

#include "base/result.h"
#include "os/file.h"

namespace berth::test {

/// A folder that is a mount of its own in the test's mount namespace, with the propagation that is asked for, as long
/// as this lives.
class SharedFolder final {
 public:
  /// `type`: MS_SHARED, MS_SLAVE, MS_PRIVATE. `source`: what is shown there, and whose slave it is; empty: itself.
  SharedFolder(std::string path, unsigned long type, const std::string& source = "") : path_(std::move(path)) {
    made_ = os::make_dirs(path_).has_value() &&
            ::mount((source.empty() ? path_ : source).c_str(), path_.c_str(), nullptr, MS_BIND, nullptr) == 0 &&
            ::mount(nullptr, path_.c_str(), nullptr, type, nullptr) == 0;
  }
  SharedFolder(const SharedFolder&) = delete;
  SharedFolder& operator=(const SharedFolder&) = delete;
  SharedFolder(SharedFolder&&) = delete;
  SharedFolder& operator=(SharedFolder&&) = delete;
  ~SharedFolder() { ::umount2(path_.c_str(), MNT_DETACH); }

  [[nodiscard]] bool made() const { return made_; }
  [[nodiscard]] const std::string& path() const { return path_; }
  [[nodiscard]] std::string at(const std::string& name) const { return path_ + "/" + name; }
  /// A tmpfs below it with a file `mark`.
  bool mount_below(const std::string& name) const {
    const std::string place = at(name);
    return os::make_dirs(place).has_value() && ::mount("none", place.c_str(), "tmpfs", 0, nullptr) == 0 &&
           os::write_file_atomic(place + "/mark", name).has_value();
  }
  bool unmount_below(const std::string& name) const { return ::umount2(at(name).c_str(), 0) == 0; }

 private:
  std::string path_;
  bool made_ = false;
};

}  // namespace berth::test
