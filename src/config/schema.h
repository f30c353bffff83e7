#pragma once
#include <cstdint>
#include <string>
#include <string_view>
#include <variant>
#include <vector>

#include "config/config.h"

/// The keys of config.toml as a table: one row each, used to load, to check, to suggest and to dump. Private to
/// src/config.
namespace berth::config {

struct Fault {
  Code code = Code::kInvalid;
  std::string text;
};

/// What is wrong with a string (of a list: with each entry); an empty text when nothing is.
using Check = Fault (*)(std::string_view value);

struct Key {
  std::string_view section;  ///< "" for the keys above the first section; "handlers" for those of a handler
  std::string_view name;
  std::variant<std::string*, bool*, unsigned*, std::uint64_t*, std::vector<std::string>*> value;
  Check check = nullptr;
  std::uint64_t min = 0;  ///< numbers only
  std::uint64_t max = 0;
  bool zero_too = false;  ///< 0 is allowed besides the range

  /// "network.mtu", "root".
  [[nodiscard]] std::string path() const;
};

/// All keys but those of handlers, in file order, bound to `config`, which must outlive them.
[[nodiscard]] std::vector<Key> keys_of(Config& config);
[[nodiscard]] std::vector<Key> keys_of(Handler& handler);

/// Rules that look at more than one key; `origins` as in Loaded.
[[nodiscard]] std::vector<Fault> check_together(const Config& config,
                                                const std::map<std::string, std::string, std::less<>>& origins);
/// RuntimeClass handlers are DNS labels (RFC 1123).
[[nodiscard]] bool is_handler_name(std::string_view name);

/// The known word that `word` was likely meant to be, or "".
[[nodiscard]] std::string_view nearest(std::string_view word, const std::vector<std::string_view>& known);

}  // namespace berth::config
