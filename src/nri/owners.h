#pragma once
#include <string>
#include <string_view>

#include "base/result.h"
#include "nri/v1alpha1/api.pb.h"

namespace berth::nri {

namespace api = ::nri::pkg::api::v1alpha1;

/// Which plugin has set what, of the containers that one event is about: two plugins may not set the same. A part of a
/// field (an environment variable, a mount) has a key of its own; for a field without parts it is empty. Plugins are
/// named as in "10-logger".
class Owners final {
 public:
  /// Errors: kPrecondition, with both plugins and the field, when another plugin has set or cleared it. Who has it may
  /// set it again.
  [[nodiscard]] Result<> claim(const std::string& container, api::Field field, const std::string& key,
                               const std::string& plugin);
  /// What another plugin has set is taken back by `plugin`, which may then set it.
  void clear(const std::string& container, api::Field field, const std::string& key, const std::string& plugin);
  /// One more plugin that has added hooks, which are no conflict.
  void add_hooks(const std::string& container, const std::string& plugin);
  /// Who has set it last; empty: nobody.
  [[nodiscard]] std::string of(const std::string& container, api::Field field, const std::string& key = {}) const;
  /// As validators get them; one who cleared a field has a '-' before its name.
  [[nodiscard]] const api::OwningPlugins& all() const { return all_; }

 private:
  [[nodiscard]] const std::string* find(const std::string& container, api::Field field, const std::string& key) const;
  std::string& entry(const std::string& container, api::Field field, const std::string& key);

  api::OwningPlugins all_;
};

/// "environment variable FOO": a field as it is called in errors.
[[nodiscard]] std::string field_words(api::Field field, std::string_view key);

/// "NRI plugin 10-net: mount /data": who is to blame, and for what.
[[nodiscard]] std::string plugin_field(const Owners& owners, const std::string& container, api::Field field,
                                       std::string_view key = {});

/// Whether a key asks for removal; `key` becomes what is to be removed. Source: the NRI API, '-' before the key.
[[nodiscard]] bool marked_for_removal(std::string_view& key);

/// A path in a container as a key, with its mark: "-/data/" is "-/data". One that is not absolute stays as it is.
[[nodiscard]] std::string clean_key(std::string_view key);

}  // namespace berth::nri
