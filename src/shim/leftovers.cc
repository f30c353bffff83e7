#include "shim/leftovers.h"

#include <fcntl.h>

#include "base/ids.h"
#include "base/log.h"
#include "os/file.h"
#include "spec/json_text.h"

namespace berth::shim {
namespace {

constexpr std::size_t kMaxEntryBytes = 64U << 10;

}  // namespace

Result<> Leftovers::record(const Entry& entry) {
  if (!folder_made_) BERTH_TRY(os::make_dirs(folder_, 0700), "record container");
  folder_made_ = true;
  spec::JsonWriter json;
  json.begin_object().key("bundle").string(entry.bundle);
  if (!entry.cgroup_path.empty()) json.key("cgroup_path").string(entry.cgroup_path);
  json.end_object();
  BERTH_ASSIGN(const UniqueFd fd, os::open_file(path(entry.id), O_WRONLY | O_CREAT | O_TRUNC, 0600),
               "record container");
  return os::write_all(fd.get(), json.take());
}

void Leftovers::forget(std::string_view id) const {
  if (auto removed = os::remove_file(path(id)); !removed) {
    log_warn("record of a container stays", {{"container", id}, {"err", removed.error().text()}});
  }
}

Result<std::vector<Leftovers::Entry>> Leftovers::list() const {
  std::vector<Entry> entries;
  auto names = os::list_dir(folder_);
  if (!names) {
    if (names.error().code() == Code::kNotFound) return entries;
    return fail(std::move(names).error());
  }
  for (const std::string& name : *names) {
    if (!valid_id(name)) continue;
    Entry entry;
    entry.id = name;
    const auto text = os::read_file(path(name), kMaxEntryBytes);
    const auto json = text ? spec::parse_json(*text) : Result<spec::Json>(fail(text.error()));
    if (json) {
      entry.bundle = json->string_or("bundle");
      entry.cgroup_path = json->string_or("cgroup_path");
    }
    entries.push_back(std::move(entry));
  }
  return entries;
}

}  // namespace berth::shim
