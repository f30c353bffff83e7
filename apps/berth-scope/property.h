#pragma once
#include <string>
#include <string_view>

#include "base/result.h"

struct sd_bus_message;

namespace berth::scope {

/// A property of a unit, as the command line has it: "[?]NAME:TYPE=VALUE". "?": one that not every systemd knows, left
/// out where it is refused. TYPE is a D-Bus signature: b y n q i u x t d s o; "as": a line each; "ay": hexadecimal
/// digits; "a(ss)": two words a line. An empty VALUE of an array is an empty array, which resets a list.
struct Property {
  bool optional = false;
  std::string name;
  std::string type;
  std::string value;
};

/// Errors: kInvalid another form. The value is looked at by append_property().
Result<Property> parse_property(std::string_view text);

/// Adds the (sv) of `property` to an open array of a message. Errors: kInvalid an unknown type, or a value that is none
/// of that type.
Result<> append_property(sd_bus_message* message, const Property& property);

}  // namespace berth::scope
