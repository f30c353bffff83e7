#pragma once
#include <memory>
#include <string>
#include <vector>

#include "base/result.h"
#include "base/thread_annotations.h"
#include "cri/records.h"
#include "cri/timeline.h"

struct sqlite3;
struct sqlite3_stmt;

namespace berth::cri {

/// The records on disk: one SQLite file, WAL, synchronous=NORMAL. A committed write survives kill -9 of the daemon; a
/// power cut may lose the newest ones, which is sound because nothing of a pod outlives a reboot. Thread-safe, one
/// writer.
class StateDb final {
 public:
  /// Makes or opens `path`. A file that SQLite cannot read is moved to `<path>.corrupt-<time>` and a new one made: what
  /// runs is then found and removed as unowned. `rescued`: set to that name, for the log. Errors: kUnsupported a newer
  /// layout.
  static Result<std::unique_ptr<StateDb>> open(const std::string& path, std::string* rescued);
  ~StateDb();
  StateDb(const StateDb&) = delete;
  StateDb& operator=(const StateDb&) = delete;
  StateDb(StateDb&&) = delete;
  StateDb& operator=(StateDb&&) = delete;

  Result<> put(const SandboxRecord& record) BERTH_EXCLUDES(mutex_);
  Result<> put(const ContainerRecord& record) BERTH_EXCLUDES(mutex_);
  /// Absent is success.
  Result<> erase_sandbox(const std::string& id) BERTH_EXCLUDES(mutex_);
  Result<> erase_container(const std::string& id) BERTH_EXCLUDES(mutex_);

  /// The timeline of a pod (encode(), decode_timeline()); kept when its record is erased.
  Result<> put_timeline(const std::string& id, const std::string& blob) BERTH_EXCLUDES(mutex_);
  Result<> erase_timeline(const std::string& id) BERTH_EXCLUDES(mutex_);

  struct Content {
    std::vector<SandboxRecord> sandboxes;
    std::vector<ContainerRecord> containers;
    std::vector<Timeline> timelines;
    std::vector<std::string> unreadable;  ///< one message for each record that did not decode; it stays on disk
  };
  [[nodiscard]] Result<Content> load() BERTH_EXCLUDES(mutex_);

  /// Small facts about the whole, such as the boot that the records are of. Absent is "".
  [[nodiscard]] Result<std::string> meta(const std::string& key) BERTH_EXCLUDES(mutex_);
  Result<> set_meta(const std::string& key, const std::string& value) BERTH_EXCLUDES(mutex_);

 private:
  StateDb() = default;
  Result<> start(const std::string& path) BERTH_EXCLUDES(mutex_);
  Result<> prepare(sqlite3_stmt** statement, const char* sql) BERTH_REQUIRES(mutex_);
  Result<> execute(const char* sql) BERTH_REQUIRES(mutex_);
  Result<> run(sqlite3_stmt* statement, const char* what) BERTH_REQUIRES(mutex_);
  Result<> erase(sqlite3_stmt* StateDb::* member, const std::string& id) BERTH_EXCLUDES(mutex_);
  Result<> store(sqlite3_stmt* StateDb::* member, const std::string& id, const std::string& blob)
      BERTH_EXCLUDES(mutex_);
  [[nodiscard]] Error db_error(const char* what) const BERTH_REQUIRES(mutex_);

  Mutex mutex_;
  sqlite3* db_ BERTH_GUARDED_BY(mutex_) = nullptr;
  sqlite3_stmt* put_sandbox_ BERTH_GUARDED_BY(mutex_) = nullptr;
  sqlite3_stmt* put_container_ BERTH_GUARDED_BY(mutex_) = nullptr;
  sqlite3_stmt* put_timeline_ BERTH_GUARDED_BY(mutex_) = nullptr;
  sqlite3_stmt* erase_timeline_ BERTH_GUARDED_BY(mutex_) = nullptr;
  sqlite3_stmt* erase_sandbox_ BERTH_GUARDED_BY(mutex_) = nullptr;
  sqlite3_stmt* erase_container_ BERTH_GUARDED_BY(mutex_) = nullptr;
};

}  // namespace berth::cri
