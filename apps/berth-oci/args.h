#pragma once
#include <optional>
#include <span>
#include <string>
#include <string_view>
#include <utility>
#include <vector>

#include "base/result.h"

namespace berth::oci {

/// One flag that a command takes. "--name value", "--name=value", and with one dash alike, as runc's parser has it.
struct FlagSpec {
  std::string_view name;
  char letter = 0;  ///< 0: no short form
  bool takes_value = false;
};

/// A command line taken apart. Flags end at the first word that is none, or at "--".
class Args final {
 public:
  /// Reads flags and leaves the rest as words. Errors: kInvalid "flag provided but not defined: -x", "flag needs an
  /// argument: -x".
  static Result<Args> parse(std::span<char* const> words, std::span<const FlagSpec> flags);

  [[nodiscard]] bool has(std::string_view name) const;
  /// "--name" or "--name=true", not "--name=false".
  [[nodiscard]] bool on(std::string_view name) const;
  /// The last value given.
  [[nodiscard]] std::optional<std::string> value(std::string_view name) const;
  [[nodiscard]] std::string value_or(std::string_view name, std::string_view otherwise) const;
  /// Every value given, in order.
  [[nodiscard]] std::vector<std::string> values(std::string_view name) const;
  /// What follows the flags.
  [[nodiscard]] std::span<char* const> rest() const { return rest_; }

 private:
  std::vector<std::pair<std::string_view, std::string>> given_;
  std::span<char* const> rest_;
};

}  // namespace berth::oci
