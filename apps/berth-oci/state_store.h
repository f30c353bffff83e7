#pragma once
#include <memory>
#include <string>
#include <vector>

#include "base/result.h"
#include "base/unique_fd.h"
#include "engine/process/process_engine.h"
#include "spec/state.h"

namespace berth::oci {

/// state.json of a container. Version 1.
struct Record {
  std::string id;
  std::string bundle;
  std::string cgroup;   ///< ProcessContainer::cgroup_path()
  std::string created;  ///< RFC 3339
  pid_t pid = 0;        ///< 0: not made yet, or the creation did not end
  std::uint64_t start_time = 0;
  std::uint32_t owner = 0;
  std::string systemd_unit;        ///< of --systemd-cgroup; empty: none
  bool systemd_user = false;       ///< whose: the user's manager's, not the system's
  std::vector<std::string> stdio;  ///< as Saved::stdio
};

/// The folders <root>/<id>: state.json, config.json as it was at creation, start.sock. Made for root alone.
class StateStore final {
 public:
  explicit StateStore(std::string root) : root_(std::move(root)) {}

  /// Makes the folder and takes its lock. kExists when there is one.
  Result<UniqueFd> add(const std::string& id) const;
  /// The lock of an existing container, exclusive; waits for its holder. kNotFound "container does not exist".
  Result<UniqueFd> lock(const std::string& id) const;
  Result<> save(const Record& record) const;
  Result<> save_config(const std::string& id, const std::string& json) const;
  /// kNotFound "container does not exist"; kCorrupt an unreadable state.
  Result<Record> load(const std::string& id) const;
  Result<spec::Spec> load_config(const std::string& id) const;
  /// Fails, with nothing removed, while the container's root is still mounted in it.
  Result<> remove(const std::string& id) const;
  /// Ids of what is there, sorted; without a root there are none.
  Result<std::vector<std::string>> list() const;

  [[nodiscard]] std::string folder(const std::string& id) const { return root_ + "/" + id; }
  [[nodiscard]] std::string start_socket(const std::string& id) const { return folder(id) + "/start.sock"; }
  [[nodiscard]] std::string shared_root(const std::string& id) const { return folder(id) + "/rootfs"; }

 private:
  std::string root_;
};

/// A container as found: its record and a handle.
struct Found {
  Record record;
  std::unique_ptr<engine::process::ProcessContainer> container;
  spec::Spec spec;
};
/// `with_spec`: false leaves out what only exec and the hooks need.
Result<Found> find_container(const StateStore& store, engine::process::ProcessEngine& engine, const std::string& id,
                             bool with_spec);
[[nodiscard]] spec::Status status_of(const Found& found);

}  // namespace berth::oci
