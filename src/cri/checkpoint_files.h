#pragma once
#include <cstdint>
#include <string>
#include <string_view>
#include <utility>
#include <vector>

#include "base/clock.h"
#include "base/result.h"
#include "base/unique_fd.h"
#include "cri/records.h"

/// The files of a checkpoint, and the place where they come to be. Both RPCs write under a name of ours first: what is
/// at the place that was asked for is whole.
namespace berth::cri {

/// "config.dump": what checkpointctl and other runtimes read of a container. JSON.
[[nodiscard]] std::string config_dump(const ContainerRecord& record, const std::string& handler,
                                      std::int64_t checkpointed_at_ns);

/// Writes what lies in `folder`, files and folders of ours, as a tar archive to `out_fd` (borrowed). Blocks on disk.
[[nodiscard]] Result<> write_folder_tar(const std::string& folder, int out_fd);
/// A file of the folder with its size in bytes; names of files in folders have a "/".
using FileSize = std::pair<std::string, std::uint64_t>;
/// The files below `folder`, sorted. Errors: kCorrupt anything but files and folders of at most two levels; kExhausted
/// more than 100,000.
[[nodiscard]] Result<std::vector<FileSize>> files_in(const std::string& folder);

/// kTimeout once `deadline` is over: asked before a checkpoint or a pod is shown, which no caller waits for any more.
[[nodiscard]] Result<> in_time(SteadyTime deadline);

/// A name of ours in a folder of the caller's, where something is made before it gets its name. The intent is noted in
/// a folder of ours first, so that a daemon that dies leaves nothing: see clear_noted().
class Draft final {
 public:
  /// `notes`: our folder, made if missing. `parent`: the caller's, absolute; the last part of it is no link. Errors:
  /// kInvalid; else by errno.
  static Result<Draft> begin(const std::string& notes, const std::string& parent);
  Draft(const Draft&) = delete;
  Draft& operator=(const Draft&) = delete;
  Draft(Draft&&) = default;
  Draft& operator=(Draft&&) = delete;
  /// Removes what is left under our name, and the note.
  ~Draft();

  /// By the open folder, wherever its path leads by now; for this process alone.
  [[nodiscard]] std::string path() const;
  /// The same for other processes of root, as long as this one lives.
  [[nodiscard]] std::string shared_path() const;
  [[nodiscard]] int parent_fd() const { return parent_.get(); }
  [[nodiscard]] const std::string& name() const { return name_; }
  /// Gives it `name`; what has that name is replaced if it is a file and this is one.
  Result<> publish(const std::string& name);

 private:
  Draft() = default;
  UniqueFd parent_;
  std::string name_;
  std::string note_;
};

/// At start: removes what drafts of a daemon that died have left, and their notes. Failures are logged and their notes
/// stay.
void clear_noted(const std::string& notes);

}  // namespace berth::cri
