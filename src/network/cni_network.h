#pragma once
#include <chrono>
#include <memory>
#include <optional>
#include <stop_token>
#include <string>
#include <vector>

#include "base/result.h"
#include "base/thread_annotations.h"
#include "network/cni_conf.h"
#include "network/cni_store.h"
#include "network/network.h"

namespace berth::network {

/// Networks made by CNI plugins. Thread-safe for different sandboxes; calls for one sandbox must not overlap.
class CniNetwork final {
 public:
  /// What the CNI folder holds.
  struct Config {
    std::string file;                     ///< empty: the folder has no configuration
    std::shared_ptr<const CniConf> conf;  ///< null when there is none or it is wrong
    std::string fault;                    ///< what is wrong with `file`
  };

  /// Reads records and configuration, and tries again what a former daemon left half done (at most some seconds for
  /// each).
  static Result<std::unique_ptr<CniNetwork>> open(const NetworkOptions& options);

  /// The folder's configuration now: two stat calls when nothing has changed since the last time.
  [[nodiscard]] Config config() const;

  Result<Attachment> add(const CniConf& conf, const PodNetwork& pod, std::stop_token stop);
  Result<> remove(const PodNetwork& pod);
  [[nodiscard]] bool holds(const std::string& sandbox_id) const { return store_->find(sandbox_id).has_value(); }
  [[nodiscard]] std::vector<std::string> holders() const { return store_->ids(); }
  /// Asks the plugins (STATUS, from version 1.1 on) whether ADD can work. Blocks.
  Result<> check_status(const CniConf& conf) const;

 private:
  /// Tells a file or folder apart from its former self.
  struct Stamp {
    std::uint64_t device = 0, inode = 0, size = 0;
    std::int64_t changed_ns = -1, modified_ns = -1;
    friend bool operator==(const Stamp&, const Stamp&) = default;
  };
  explicit CniNetwork(const NetworkOptions& options, std::unique_ptr<CniStore> store)
      : options_(options), store_(std::move(store)) {}

  static Stamp stamp_of(const std::string& path);
  static Config read_config(const std::string& dir, Stamp& stamp);
  Result<std::string> add_plugins(const CniConf& conf, const PodNetwork& pod, const std::string& args,
                                  const std::stop_token& stop) const;
  Result<> delete_plugins(CniRecord record, const std::string& netns, std::chrono::milliseconds timeout);
  Result<Attachment> finish(CniRecord record, const CniConf& conf);
  void resume();

  const NetworkOptions options_;
  const std::unique_ptr<CniStore> store_;
  /// Held over the read of the configuration when it has changed: small local files.
  mutable Mutex mutex_;
  mutable Config config_ BERTH_GUARDED_BY(mutex_);
  mutable Stamp folder_ BERTH_GUARDED_BY(mutex_);
  mutable Stamp file_ BERTH_GUARDED_BY(mutex_);
  mutable bool fresh_ BERTH_GUARDED_BY(mutex_) = false;  ///< config_ is as of folder_ and file_
};

}  // namespace berth::network
