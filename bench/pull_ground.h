#pragma once
#include <cstdint>
#include <string>
#include <vector>

#include "base/result.h"
#include "base/unique_fd.h"

namespace berth::bench {

/// Where bench_pull works: a folder with a journaled ext4 on a loop device, mounted in this mount namespace alone, so
/// that it goes with it, however that ends. A file system without a journal makes whoever unpacks after a removal look
/// for inodes one by one, which would be measured instead.
class Ground final {
 public:
  /// Makes or takes the folder `work`, and the disk in it, of at most `gigabytes` as space allows. kPrecondition: the
  /// folder holds something else, or another run uses it.
  static Result<Ground> make(const std::string& work, unsigned gigabytes);

  [[nodiscard]] const std::string& work() const { return work_; }
  [[nodiscard]] std::string disk() const { return work_ + "/disk"; }
  /// Bytes in use on the disk.
  [[nodiscard]] std::uint64_t used() const;
  /// Writes out what is dirty on the disk.
  Result<> sync() const;
  /// Fills the page cache until memory that nobody has touched is used up: a machine whose host takes free pages back
  /// pays for each of them when it is touched first, several times what a copy costs. Reads a new sparse file until a
  /// 64th of memory is free, at most a fifth and 4 GiB more than was free.
  Result<> fill();

 private:
  std::string work_;
  UniqueFd lock_;
  unsigned fillers_ = 0;
};

/// Removes what a run made in `work`, all of it unless `keep`; then the disk with the images stays. Waits until the
/// loop device is gone. To be called when no process of the run is left. Says what stays.
void clear_ground(const std::string& work, bool keep);

/// Removes the cgroup `name` ("/x") with all below it in every hierarchy. Says what stays.
void clear_cgroups(const std::string& name);

/// Bytes allocated below `path` on its file system, as du says.
Result<std::uint64_t> disk_usage(const std::string& path);

}  // namespace berth::bench
