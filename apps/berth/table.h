#pragma once
#include <string>
#include <vector>

#include "base/result.h"

namespace google::protobuf {
class Message;
}

namespace berth::cli {

/// Prints rows under a header in aligned columns on stdout; control bytes of foreign text are shown as '?'.
void print_table(const std::vector<std::string>& header, const std::vector<std::vector<std::string>>& rows);
/// `text` with control bytes replaced: names and messages come from images and registries.
std::string printable(const std::string& text);

/// Prints a message as JSON with members named as in the CRI's JSON. kInternal it has bytes that no text has.
Result<> print_json(const google::protobuf::Message& message);

}  // namespace berth::cli
