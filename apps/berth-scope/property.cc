#include "property.h"

#include <systemd/sd-bus.h>

#include <algorithm>
#include <cstdint>
#include <vector>

#include "base/strings.h"

namespace berth::scope {

namespace {

Error bad_value(const Property& property) {
  return Error(Code::kInvalid,
               "property " + property.name + ": \"" + property.value + "\" is no value of type " + property.type);
}

Result<> checked(int result, const Property& property) {
  if (result < 0) return fail_errno(-result, "property " + property.name);
  return {};
}

template <class N>
Result<> append_number(sd_bus_message* message, const Property& property) {
  const auto number = parse_number<N>(property.value);
  if (!number) return fail(bad_value(property));
  return checked(sd_bus_message_append_basic(message, property.type[0], &*number), property);
}

Result<> append_basic(sd_bus_message* message, const Property& property) {
  switch (property.type[0]) {
    case SD_BUS_TYPE_BOOLEAN: {
      if (property.value != "true" && property.value != "false") return fail(bad_value(property));
      const int on = property.value == "true" ? 1 : 0;
      return checked(sd_bus_message_append_basic(message, SD_BUS_TYPE_BOOLEAN, &on), property);
    }
    case SD_BUS_TYPE_BYTE:
      return append_number<std::uint8_t>(message, property);
    case SD_BUS_TYPE_INT16:
      return append_number<std::int16_t>(message, property);
    case SD_BUS_TYPE_UINT16:
      return append_number<std::uint16_t>(message, property);
    case SD_BUS_TYPE_INT32:
      return append_number<std::int32_t>(message, property);
    case SD_BUS_TYPE_UINT32:
      return append_number<std::uint32_t>(message, property);
    case SD_BUS_TYPE_INT64:
      return append_number<std::int64_t>(message, property);
    case SD_BUS_TYPE_UINT64:
      return append_number<std::uint64_t>(message, property);
    case SD_BUS_TYPE_DOUBLE: {
      double number = 0;
      const char* const end = property.value.data() + property.value.size();
      const auto [stop, error] = std::from_chars(property.value.data(), end, number);
      if (error != std::errc{} || stop != end) return fail(bad_value(property));
      return checked(sd_bus_message_append_basic(message, SD_BUS_TYPE_DOUBLE, &number), property);
    }
    case SD_BUS_TYPE_STRING:
    case SD_BUS_TYPE_OBJECT_PATH:
      return checked(sd_bus_message_append_basic(message, property.type[0], property.value.c_str()), property);
    default:
      return fail(Code::kInvalid, "property " + property.name + ": no type \"" + property.type + "\" here");
  }
}

Result<> append_bytes(sd_bus_message* message, const Property& property) {
  std::vector<std::uint8_t> bytes;
  if (property.value.size() % 2 != 0) return fail(bad_value(property));
  for (std::size_t at = 0; at < property.value.size(); at += 2) {
    const auto byte = parse_number<std::uint8_t>(std::string_view(property.value).substr(at, 2), 16);
    if (!byte) return fail(bad_value(property));
    bytes.push_back(*byte);
  }
  return checked(sd_bus_message_append_array(message, SD_BUS_TYPE_BYTE, bytes.data(), bytes.size()), property);
}

Result<> append_list(sd_bus_message* message, const Property& property) {
  const bool pairs = property.type == "a(ss)";
  BERTH_TRY(checked(sd_bus_message_open_container(message, SD_BUS_TYPE_ARRAY, pairs ? "(ss)" : "s"), property), "list");
  for (const auto line : property.value.empty() ? std::vector<std::string_view>() : split(property.value, '\n')) {
    const std::size_t space = line.rfind(' ');
    if (pairs && space == std::string_view::npos) return fail(bad_value(property));
    const std::string first(pairs ? line.substr(0, space) : line);
    const std::string second(pairs ? line.substr(space + 1) : std::string_view());
    const int added = pairs ? sd_bus_message_append(message, "(ss)", first.c_str(), second.c_str())
                            : sd_bus_message_append(message, "s", first.c_str());
    BERTH_TRY(checked(added, property), "list");
  }
  return checked(sd_bus_message_close_container(message), property);
}

Result<> append_value(sd_bus_message* message, const Property& property) {
  if (property.type == "ay") return append_bytes(message, property);
  if (property.type == "as" || property.type == "a(ss)") return append_list(message, property);
  if (property.type.size() == 1) return append_basic(message, property);
  return fail(Code::kInvalid, "property " + property.name + ": no type \"" + property.type + "\" here");
}

}  // namespace

Result<Property> parse_property(std::string_view text) {
  Property property;
  property.optional = text.starts_with('?');
  const std::string_view rest = text.substr(property.optional ? 1 : 0);
  const std::size_t colon = rest.find(':');
  const std::size_t equals = colon == std::string_view::npos ? colon : rest.find('=', colon);
  if (equals == std::string_view::npos || colon == 0 || equals == colon + 1) {
    return fail(Code::kInvalid, "\"" + std::string(text) + "\" is no NAME:TYPE=VALUE");
  }
  property.name = rest.substr(0, colon);
  property.type = rest.substr(colon + 1, equals - colon - 1);
  property.value = rest.substr(equals + 1);
  return property;
}

Result<> append_property(sd_bus_message* message, const Property& property) {
  const char* const type = property.type.c_str();
  if (sd_bus_interface_name_is_valid(("a." + property.name).c_str()) <= 0) {
    return fail(Code::kInvalid, "\"" + property.name + "\" is no name of a property");
  }
  BERTH_TRY(checked(sd_bus_message_open_container(message, SD_BUS_TYPE_STRUCT, "sv"), property), "property");
  BERTH_TRY(checked(sd_bus_message_append(message, "s", property.name.c_str()), property), "property");
  if (sd_bus_message_open_container(message, SD_BUS_TYPE_VARIANT, type) < 0) {
    return fail(Code::kInvalid, "property " + property.name + ": no type \"" + property.type + "\" here");
  }
  BERTH_TRY(append_value(message, property), "property");
  BERTH_TRY(checked(sd_bus_message_close_container(message), property), "property");
  return checked(sd_bus_message_close_container(message), property);
}

}  // namespace berth::scope
