#pragma once
#include <cstdint>
#include <map>
#include <memory>
#include <optional>
#include <string>
#include <string_view>
#include <vector>

#include "base/result.h"
#include "base/thread_annotations.h"
#include "base/unique_fd.h"
#include "network/network.h"

namespace berth::network {

/// What a pod holds of a CNI network: everything that DEL needs, also after the configuration has changed, and after a
/// reboot. On disk, synced, before the first plugin runs.
struct CniRecord {
  enum class State : std::uint8_t {
    kAdding,    ///< ADD has begun; any plugin may hold something
    kAdded,     ///< all is there, `result` is the cached result
    kRemoving,  ///< DEL has begun; the plugins of `pending` still have to answer
  };
  State state = State::kAdding;
  PodNetwork pod;               ///< netns_fd is not kept
  std::uint64_t netns_dev = 0;  ///< which namespace netns_path named at ADD: its device and inode
  std::uint64_t netns_inode = 0;
  std::string ifname;
  std::string conf;                  ///< the configuration's text as it was at ADD
  std::string result;                ///< the last plugin's result; empty until kAdded
  std::vector<std::size_t> pending;  ///< indexes of plugins whose DEL has not succeeded yet
};

/// Records by sandbox id, one file each, kept in memory as well. Thread-safe; one caller at a time for one id.
class CniStore final {
 public:
  /// Makes `dir` if absent, locks it against a second daemon, reads it. A file that is no whole record is set aside
  /// (renamed
  /// *.bad) with a warning; one of a later version is kUnsupported.
  static Result<std::unique_ptr<CniStore>> open(std::string dir);
  /// Writes and syncs the record, then remembers it.
  Result<> put(const CniRecord& record);
  /// Unknown is success.
  Result<> erase(const std::string& sandbox_id);
  [[nodiscard]] std::optional<CniRecord> find(const std::string& sandbox_id) const;
  /// Sorted.
  [[nodiscard]] std::vector<std::string> ids() const;

 private:
  CniStore(std::string dir, UniqueFd lock) : dir_(std::move(dir)), lock_(std::move(lock)) {}
  Result<> load() BERTH_REQUIRES(mutex_);
  [[nodiscard]] std::string path_of(const std::string& sandbox_id) const { return dir_ + "/" + sandbox_id + ".json"; }

  const std::string dir_;
  const UniqueFd lock_;
  mutable Mutex mutex_;
  std::map<std::string, CniRecord> records_ BERTH_GUARDED_BY(mutex_);
};

[[nodiscard]] std::string format_cni_record(const CniRecord& record);
/// kCorrupt, kInvalid: not a whole record; kUnsupported: of a later version.
[[nodiscard]] Result<CniRecord> parse_cni_record(std::string_view text);

}  // namespace berth::network
