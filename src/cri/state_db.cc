#include "cri/state_db.h"

#include <sqlite3.h>

#include <cstdio>
#include <optional>

#include "base/clock.h"
#include "cri/blob.h"
#include "os/file.h"

namespace berth::cri {

namespace {

constexpr int kLayout = 1;

// The page cache is small because every read is at start; the WAL is folded in every 256 pages, so that it stays small
// and no single commit pays for much.
constexpr const char* kSetup =
    "PRAGMA journal_mode=WAL; PRAGMA synchronous=NORMAL; PRAGMA cache_size=-256; PRAGMA wal_autocheckpoint=256;"
    "PRAGMA foreign_keys=OFF; PRAGMA temp_store=MEMORY;"
    "CREATE TABLE IF NOT EXISTS sandbox(id TEXT PRIMARY KEY, record BLOB NOT NULL) WITHOUT ROWID;"
    "CREATE TABLE IF NOT EXISTS container(id TEXT PRIMARY KEY, record BLOB NOT NULL) WITHOUT ROWID;"
    "CREATE TABLE IF NOT EXISTS timeline(id TEXT PRIMARY KEY, record BLOB NOT NULL) WITHOUT ROWID;"
    "CREATE TABLE IF NOT EXISTS meta(key TEXT PRIMARY KEY, value TEXT NOT NULL) WITHOUT ROWID;";

std::string column_text(sqlite3_stmt* statement, int column) {
  const void* bytes = sqlite3_column_blob(statement, column);
  const int size = sqlite3_column_bytes(statement, column);
  if (bytes == nullptr || size <= 0) return {};
  return {static_cast<const char*>(bytes), static_cast<std::size_t>(size)};
}

/// A statement for one use.
struct Statement {
  sqlite3_stmt* raw = nullptr;
  Statement() = default;
  Statement(const Statement&) = delete;
  Statement& operator=(const Statement&) = delete;
  Statement(Statement&&) = delete;
  Statement& operator=(Statement&&) = delete;
  ~Statement() { sqlite3_finalize(raw); }
};

bool damaged(const Error& error) {
  return error.code() == Code::kCorrupt;
}

}  // namespace

Error StateDb::db_error(const char* what) const {
  const int code = db_ == nullptr ? SQLITE_NOMEM : sqlite3_extended_errcode(db_);
  const int primary = code & 0xff;
  Code kind = Code::kInternal;
  if (primary == SQLITE_CORRUPT || primary == SQLITE_NOTADB) kind = Code::kCorrupt;
  if (primary == SQLITE_FULL || primary == SQLITE_NOMEM) kind = Code::kExhausted;
  if (primary == SQLITE_READONLY || primary == SQLITE_PERM) kind = Code::kDenied;
  const int system = db_ == nullptr ? 0 : sqlite3_system_errno(db_);
  return Error(kind,
               std::string("state database: ") + what + ": " + (db_ == nullptr ? "no memory" : sqlite3_errmsg(db_)),
               system);
}

Result<> StateDb::execute(const char* sql) {
  if (sqlite3_exec(db_, sql, nullptr, nullptr, nullptr) != SQLITE_OK) return fail(db_error("set up"));
  return {};
}

Result<> StateDb::prepare(sqlite3_stmt** statement, const char* sql) {
  if (sqlite3_prepare_v3(db_, sql, -1, SQLITE_PREPARE_PERSISTENT, statement, nullptr) != SQLITE_OK) {
    return fail(db_error("prepare"));
  }
  return {};
}

Result<> StateDb::start(const std::string& path) {
  MutexLock lock(mutex_);
  // One mutex of ours guards every use, so SQLite needs none of its own.
  const int flags = SQLITE_OPEN_READWRITE | SQLITE_OPEN_CREATE | SQLITE_OPEN_NOMUTEX;
  if (sqlite3_open_v2(path.c_str(), &db_, flags, nullptr) != SQLITE_OK) return fail(db_error("open").in(path));
  sqlite3_extended_result_codes(db_, 1);
  sqlite3_busy_timeout(db_, 5000);
  BERTH_TRY(execute(kSetup), path);
  Statement version;
  BERTH_TRY(prepare(&version.raw, "PRAGMA user_version"), path);
  if (sqlite3_step(version.raw) != SQLITE_ROW) return fail(db_error("read the layout's version"));
  const int layout = sqlite3_column_int(version.raw, 0);
  if (layout > kLayout) {
    return fail(Code::kUnsupported, path + ": written by a newer version (layout " + std::to_string(layout) + ")");
  }
  if (layout < kLayout) BERTH_TRY(execute("PRAGMA user_version=1"), path);
  BERTH_TRY(prepare(&put_sandbox_, "INSERT OR REPLACE INTO sandbox(id, record) VALUES(?1, ?2)"), path);
  BERTH_TRY(prepare(&put_container_, "INSERT OR REPLACE INTO container(id, record) VALUES(?1, ?2)"), path);
  BERTH_TRY(prepare(&put_timeline_, "INSERT OR REPLACE INTO timeline(id, record) VALUES(?1, ?2)"), path);
  BERTH_TRY(prepare(&erase_timeline_, "DELETE FROM timeline WHERE id=?1"), path);
  BERTH_TRY(prepare(&erase_sandbox_, "DELETE FROM sandbox WHERE id=?1"), path);
  BERTH_TRY(prepare(&erase_container_, "DELETE FROM container WHERE id=?1"), path);
  return {};
}

Result<std::unique_ptr<StateDb>> StateDb::open(const std::string& path, std::string* rescued) {
  std::unique_ptr<StateDb> db(new StateDb());
  auto started = db->start(path);
  if (!started && damaged(started.error())) {
    db = std::unique_ptr<StateDb>(new StateDb());
    const std::string aside = path + ".corrupt-" + std::to_string(wall_now_ns());
    if (std::rename(path.c_str(), aside.c_str()) != 0) return fail_errno(errno, "set " + path + " aside");
    BERTH_TRY(os::remove_file(path + "-wal"), "set the damaged database aside");
    BERTH_TRY(os::remove_file(path + "-shm"), "set the damaged database aside");
    if (rescued != nullptr) *rescued = aside;
    started = db->start(path);
  }
  if (!started) return fail(std::move(started).error());
  return db;
}

StateDb::~StateDb() {
  for (auto* statement :
       {put_sandbox_, put_container_, put_timeline_, erase_timeline_, erase_sandbox_, erase_container_}) {
    sqlite3_finalize(statement);
  }
  sqlite3_close_v2(db_);
}

Result<> StateDb::run(sqlite3_stmt* statement, const char* what) {
  const int code = sqlite3_step(statement);
  std::optional<Error> error;
  if (code != SQLITE_DONE) error = db_error(what);
  sqlite3_reset(statement);
  sqlite3_clear_bindings(statement);
  if (error) return fail(std::move(*error));
  return {};
}

Result<> StateDb::store(sqlite3_stmt* StateDb::* member, const std::string& id, const std::string& blob) {
  if (blob.size() > kMaxBlobBytes) return fail(Code::kExhausted, "record of " + id + " is larger than 32 MiB");
  MutexLock lock(mutex_);
  sqlite3_stmt* const statement = this->*member;
  sqlite3_bind_text(statement, 1, id.data(), static_cast<int>(id.size()), SQLITE_STATIC);
  sqlite3_bind_blob(statement, 2, blob.data(), static_cast<int>(blob.size()), SQLITE_STATIC);
  return run(statement, "write");
}

Result<> StateDb::put(const SandboxRecord& record) {
  return store(&StateDb::put_sandbox_, record.id, encode(record));
}
Result<> StateDb::put(const ContainerRecord& record) {
  return store(&StateDb::put_container_, record.id, encode(record));
}

Result<> StateDb::put_timeline(const std::string& id, const std::string& blob) {
  return store(&StateDb::put_timeline_, id, blob);
}

Result<> StateDb::erase(sqlite3_stmt* StateDb::* member, const std::string& id) {
  MutexLock lock(mutex_);
  sqlite3_stmt* const statement = this->*member;
  sqlite3_bind_text(statement, 1, id.data(), static_cast<int>(id.size()), SQLITE_STATIC);
  return run(statement, "delete");
}

Result<> StateDb::erase_sandbox(const std::string& id) {
  return erase(&StateDb::erase_sandbox_, id);
}
Result<> StateDb::erase_container(const std::string& id) {
  return erase(&StateDb::erase_container_, id);
}
Result<> StateDb::erase_timeline(const std::string& id) {
  return erase(&StateDb::erase_timeline_, id);
}

Result<StateDb::Content> StateDb::load() {
  MutexLock lock(mutex_);
  Content content;
  const auto read = [&](const char* sql, auto decoder, auto& out) BERTH_REQUIRES(mutex_) -> Result<> {
    Statement statement;
    BERTH_TRY(prepare(&statement.raw, sql), "load");
    int code = SQLITE_ROW;
    while ((code = sqlite3_step(statement.raw)) == SQLITE_ROW) {
      auto record = decoder(column_text(statement.raw, 1));
      if (record) {
        out.push_back(std::move(*record));
      } else {
        content.unreadable.push_back(column_text(statement.raw, 0) + ": " + record.error().text());
      }
    }
    if (code != SQLITE_DONE) return fail(db_error("read"));
    return {};
  };
  BERTH_TRY(read("SELECT id, record FROM sandbox ORDER BY id", decode_sandbox, content.sandboxes), "load sandboxes");
  BERTH_TRY(read("SELECT id, record FROM container ORDER BY id", decode_container, content.containers),
            "load containers");
  BERTH_TRY(read("SELECT id, record FROM timeline ORDER BY id", decode_timeline, content.timelines), "load timelines");
  return content;
}

Result<std::string> StateDb::meta(const std::string& key) {
  MutexLock lock(mutex_);
  Statement statement;
  BERTH_TRY(prepare(&statement.raw, "SELECT value FROM meta WHERE key=?1"), "read " + key);
  sqlite3_bind_text(statement.raw, 1, key.data(), static_cast<int>(key.size()), SQLITE_STATIC);
  const int code = sqlite3_step(statement.raw);
  if (code == SQLITE_DONE) return std::string();
  if (code != SQLITE_ROW) return fail(db_error("read"));
  return column_text(statement.raw, 0);
}

Result<> StateDb::set_meta(const std::string& key, const std::string& value) {
  MutexLock lock(mutex_);
  Statement statement;
  BERTH_TRY(prepare(&statement.raw, "INSERT OR REPLACE INTO meta(key, value) VALUES(?1, ?2)"), "write " + key);
  sqlite3_bind_text(statement.raw, 1, key.data(), static_cast<int>(key.size()), SQLITE_STATIC);
  sqlite3_bind_text(statement.raw, 2, value.data(), static_cast<int>(value.size()), SQLITE_STATIC);
  return run(statement.raw, "write");
}

}  // namespace berth::cri
