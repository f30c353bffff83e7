#include "cri/checkpoint_files.h"

#include <fcntl.h>
#include <sys/stat.h>
#include <unistd.h>

#include <algorithm>
#include <cerrno>
#include <chrono>
#include <cstdio>
#include <thread>

#include "base/clock.h"
#include "base/ids.h"
#include "base/log.h"
#include "base/tar_header.h"
#include "os/file.h"
#include "spec/json_text.h"

namespace berth::cri {

namespace {

constexpr std::string_view kPrefix = ".berth-checkpoint-";
constexpr std::size_t kNameBytes = 16;
constexpr std::size_t kMaxNote = 8192;
constexpr std::size_t kBuffer = 1U << 20;
constexpr int kMaxLevels = 2;
constexpr std::size_t kMaxFiles = 100'000;
constexpr int kTries = 100;
constexpr std::chrono::milliseconds kTryPause{20};

std::string time_text(std::int64_t ns) {
  return format_rfc3339(WallTime(std::chrono::nanoseconds(ns)));
}

Result<> put_file(int fd, const std::string& name, std::uint64_t size, int out_fd) {
  BERTH_TRY(os::write_all(out_fd, tar_header({.path = name, .size = size, .mode = 0600})), "write");
  std::string buffer(kBuffer, '\0');
  for (std::uint64_t left = size; left > 0;) {
    const ssize_t n = ::read(fd, buffer.data(), static_cast<std::size_t>(std::min<std::uint64_t>(left, kBuffer)));
    if (n < 0 && errno == EINTR) continue;
    if (n < 0) return fail_errno(errno, "read " + name);
    if (n == 0) return fail(Code::kInternal, name + " became shorter while it was read");
    BERTH_TRY(os::write_all(out_fd, std::string_view(buffer).substr(0, static_cast<std::size_t>(n))), "write");
    left -= static_cast<std::uint64_t>(n);
  }
  return os::write_all(out_fd, std::string(tar_padding(size), '\0'));
}

/// `visit(path, name, size)` for each file; folders come first, with a "/" at the end and no size.
template <class Visit>
Result<> walk(const std::string& folder, const std::string& before, int levels, std::size_t& count,
              const Visit& visit) {
  BERTH_ASSIGN(const auto names, os::list_dir(folder), folder);
  for (const auto& name : names) {
    if (++count > kMaxFiles) return fail(Code::kExhausted, "more than 100,000 files");
    const std::string path = folder + "/" + name;
    struct stat st{};
    if (::lstat(path.c_str(), &st) != 0) return fail_errno(errno, "stat " + path);
    if (S_ISREG(st.st_mode)) {
      BERTH_TRY(visit(path, before + name, static_cast<std::uint64_t>(st.st_size)), name);
    } else if (S_ISDIR(st.st_mode) && levels > 1) {
      BERTH_TRY(visit(path, before + name + "/", 0), name);
      BERTH_TRY(walk(path, before + name + "/", levels - 1, count, visit), name);
    } else {
      return fail(Code::kCorrupt, before + name + " is neither a file nor a folder of a checkpoint's");
    }
  }
  return {};
}

bool is_ours(std::string_view name) {
  return name.starts_with(kPrefix) && name.size() == kPrefix.size() + 2 * kNameBytes &&
         name.find_first_not_of("0123456789abcdef", kPrefix.size()) == std::string_view::npos;
}

Result<> remove_noted(const std::string& note) {
  BERTH_ASSIGN(const std::string target, os::read_file(note, kMaxNote), "note");
  const auto slash = target.rfind('/');
  // A note that was cut off is of something that was not made yet.
  if (slash == std::string::npos || !is_ours(std::string_view(target).substr(slash + 1))) return {};
  auto removed = os::remove_tree(target);
  // A shim notices within a moment that nobody wants its checkpoint any more, and may write until then.
  for (int i = 0; i < kTries && !removed && removed.error().errno_value() == ENOTEMPTY; ++i) {
    std::this_thread::sleep_for(kTryPause);
    removed = os::remove_tree(target);
  }
  return removed;
}

}  // namespace

std::string config_dump(const ContainerRecord& record, const std::string& handler, std::int64_t checkpointed_at_ns) {
  spec::JsonWriter json;
  json.begin_object();
  json.key("id").string(record.id);
  json.key("name").string(record.config.metadata().name());
  json.key("rootfsImage").string(record.image_id);
  json.key("rootfsImageRef").string(record.image_ref);
  json.key("rootfsImageName").string(record.config.image().image());
  json.key("runtime").string(handler.empty() ? "berth" : handler);
  json.key("createdTime").string(time_text(record.created_at_ns));
  json.key("checkpointedTime").string(time_text(checkpointed_at_ns));
  json.end_object();
  return json.take();
}

Result<> write_folder_tar(const std::string& folder, int out_fd) {
  std::size_t count = 0;
  const auto put = [out_fd](const std::string& path, const std::string& name, std::uint64_t size) -> Result<> {
    if (name.ends_with('/')) return os::write_all(out_fd, tar_header({.type = '5', .path = name, .mode = 0700}));
    BERTH_ASSIGN(const UniqueFd file, os::open_file(path, O_RDONLY | O_NOFOLLOW), "open");
    return put_file(file.get(), name, size, out_fd);
  };
  BERTH_TRY(walk(folder, "", kMaxLevels, count, put), "archive");
  return os::write_all(out_fd, tar_end());
}

Result<std::vector<FileSize>> files_in(const std::string& folder) {
  std::vector<FileSize> all;
  std::size_t count = 0;
  const auto add = [&all](const std::string& /*path*/, const std::string& name, std::uint64_t size) -> Result<> {
    if (!name.ends_with('/')) all.emplace_back(name, size);
    return {};
  };
  BERTH_TRY(walk(folder, "", kMaxLevels, count, add), "look at the files");
  std::ranges::sort(all);
  return all;
}

Result<> in_time(SteadyTime deadline) {
  if (std::chrono::steady_clock::now() < deadline) return {};
  return fail(Code::kTimeout, "the time is over");
}

Result<Draft> Draft::begin(const std::string& notes, const std::string& parent) {
  Draft draft;
  BERTH_ASSIGN(draft.parent_, os::open_file(parent, O_RDONLY | O_DIRECTORY | O_NOFOLLOW), "open");
  const std::string name = std::string(kPrefix) + random_hex(kNameBytes);
  BERTH_TRY(os::make_dirs(notes, 0700), "note the intent");
  BERTH_TRY(os::write_file_atomic(notes + "/" + name.substr(1), parent + "/" + name, 0600), "note the intent");
  draft.name_ = name;
  draft.note_ = notes + "/" + name.substr(1);
  return draft;
}

Draft::~Draft() {
  if (!parent_.valid() || note_.empty()) return;
  auto removed = name_.empty() ? Result<>() : os::remove_tree(path());
  if (removed) removed = os::remove_file(note_);
  if (!removed) log_warn("a half-made checkpoint stays for now", {{"path", path()}, {"err", removed.error().text()}});
}

std::string Draft::path() const {
  return "/proc/self/fd/" + std::to_string(parent_.get()) + "/" + name_;
}

std::string Draft::shared_path() const {
  return "/proc/" + std::to_string(::getpid()) + "/fd/" + std::to_string(parent_.get()) + "/" + name_;
}

Result<> Draft::publish(const std::string& name) {
  // All that was written below, by whichever process.
  if (::syncfs(parent_.get()) != 0) return fail_errno(errno, "sync the checkpoint");
  if (::renameat(parent_.get(), name_.c_str(), parent_.get(), name.c_str()) != 0) {
    return fail_errno(errno, "rename the checkpoint to " + name);
  }
  name_.clear();
  if (::fsync(parent_.get()) != 0) return fail_errno(errno, "sync the folder of the checkpoint");
  return {};
}

void clear_noted(const std::string& notes) {
  const auto names = os::list_dir(notes);
  for (const auto& name : names ? *names : std::vector<std::string>()) {
    const std::string note = notes + "/" + name;
    auto removed = remove_noted(note);
    if (removed) removed = os::remove_file(note);
    if (!removed) log_warn("a half-made checkpoint stays for now", {{"note", note}, {"err", removed.error().text()}});
  }
}

}  // namespace berth::cri
