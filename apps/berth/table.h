#pragma once
#include <string>
#include <vector>

namespace berth::cli {

/// Prints rows under a header in aligned columns on stdout; control bytes of foreign text are shown as '?'.
void print_table(const std::vector<std::string>& header, const std::vector<std::vector<std::string>>& rows);
/// `text` with control bytes replaced: names and messages come from images and registries.
std::string printable(const std::string& text);

}  // namespace berth::cli
