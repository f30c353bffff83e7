#include "spec/own_options.h"

#include <algorithm>
#include <initializer_list>

namespace berth::spec {
namespace {

bool has_one_of(const Mount& mount, std::initializer_list<std::string_view> words) {
  return std::ranges::any_of(mount.options,
                             [&](std::string_view option) { return std::ranges::find(words, option) != words.end(); });
}

}  // namespace

bool is_bind(const Mount& mount) {
  return mount.type == "bind" || mount.type == "rbind" || has_one_of(mount, {"bind", "rbind"});
}

bool receives(const Mount& mount) {
  return has_one_of(mount, {"slave", "rslave"});
}

bool propagates(const Mount& mount) {
  return receives(mount) || has_one_of(mount, {"shared", "rshared"});
}

void mark_host_source(Mount& mount, bool shared_mounts) {
  // What is relative is the bundle's.
  if (!is_bind(mount) || !mount.source.starts_with('/') || (shared_mounts && !propagates(mount))) return;
  mount.options.emplace_back(kHostOption);
}

}  // namespace berth::spec
