// docs/cri-coverage.md names every RPC, and every field of what the built ones carry, each with tests that are there.
#include <google/protobuf/descriptor.h>
#include <google/protobuf/descriptor.pb.h>

#include <algorithm>
#include <cctype>
#include <cstdlib>
#include <filesystem>
#include <fstream>
#include <iterator>
#include <map>
#include <set>
#include <sstream>

#include "base/strings.h"
#include "cri/runtime/v1/api.pb.h"
#include "gtest/gtest.h"

namespace berth::cri {
namespace {

void collect(const google::protobuf::Descriptor& message, std::set<std::string>& fields, std::set<std::string>& seen) {
  if (!seen.insert(message.full_name()).second) return;
  for (int i = 0; i < message.field_count(); ++i) {
    const auto& field = *message.field(i);
    if (message.options().map_entry()) {
      if (field.message_type() != nullptr) collect(*field.message_type(), fields, seen);
      continue;
    }
    fields.insert(message.name() + "." + field.name());
    if (field.message_type() != nullptr) collect(*field.message_type(), fields, seen);
  }
}

/// Of the sources; ends with "/".
std::string source_dir() {
  const char* root = std::getenv("BERTH_SOURCE_DIR");  // NOLINT(concurrency-mt-unsafe): nobody sets it
  return root == nullptr ? std::string() : std::string(root) + "/";
}

std::string read_all(const std::filesystem::path& path) {
  std::ifstream in(path);
  return {std::istreambuf_iterator<char>(in), {}};
}

/// The names in a C++ source. An accessor counts as its field: of "mutable_linux" there is "linux", too.
void collect_names(const std::string& text, std::set<std::string>& names) {
  const auto in_name = [](char c) { return std::isalnum(static_cast<unsigned char>(c)) != 0 || c == '_'; };
  for (auto at = text.begin(); at != text.end();) {
    const auto begin = std::find_if(at, text.end(), in_name);
    at = std::find_if_not(begin, text.end(), in_name);
    std::string name(begin, at);
    names.insert(name);
    for (const std::string_view prefix : {"set_", "mutable_", "add_", "has_"}) {
      if (name.starts_with(prefix)) names.insert(name.substr(prefix.size()));
    }
    for (const std::string_view suffix : {"_size", "_"}) {
      if (name.ends_with(suffix)) names.insert(name.substr(0, name.size() - suffix.size()));
    }
  }
}

/// The names in each `*_test.cc` of tests/ and src/, by its name without the ending; "" stands for tests/helpers, by
/// which many tests make their calls.
std::map<std::string, std::set<std::string>> names_of_tests() {
  std::map<std::string, std::set<std::string>> all;
  for (const char* folder : {"tests", "src"}) {
    for (const auto& entry : std::filesystem::recursive_directory_iterator(source_dir() + folder)) {
      const auto& path = entry.path();
      const bool helper = path.parent_path().filename() == "helpers";
      const bool test = path.extension() == ".cc" && path.stem().string().ends_with("_test");
      if (entry.is_regular_file() && (helper || test))
        collect_names(read_all(path), all[test ? path.stem().string() : ""]);
    }
  }
  return all;
}

TEST(Coverage, ThePageIsComplete) {
  const std::string page = read_all(source_dir() + "docs/cri-coverage.md");
  ASSERT_FALSE(page.empty());
  std::set<std::string> fields;
  std::set<std::string> seen;
  const auto& file = *::runtime::v1::VersionRequest::descriptor()->file();
  unsigned rpcs = 0;
  for (int s = 0; s < file.service_count(); ++s) {
    for (int m = 0; m < file.service(s)->method_count(); ++m) {
      const auto& method = *file.service(s)->method(m);
      ++rpcs;
      const auto row = page.find("| `" + method.name() + "` |");
      ASSERT_NE(row, std::string::npos) << method.name();
      if (page.compare(row + method.name().size() + 7, 4, "done") != 0) continue;
      collect(*method.input_type(), fields, seen);
      collect(*method.output_type(), fields, seen);
    }
  }
  EXPECT_EQ(rpcs, 43U);
  EXPECT_GT(fields.size(), 200U);
  for (const auto& field : fields) EXPECT_NE(page.find("| `" + field + "` |"), std::string::npos) << field;
}

TEST(Coverage, EachNamedTestIsThereAndOneNamesTheField) {
  const auto tests = names_of_tests();
  ASSERT_GT(tests.size(), 50U);
  std::istringstream page(read_all(source_dir() + "docs/cri-coverage.md"));
  unsigned rows = 0;
  for (std::string line; std::getline(page, line);) {
    if (!line.starts_with("| `")) continue;
    ++rows;
    // The descriptions hold no "|": "", what, state, tests, "".
    const auto cells = split(line, '|');
    ASSERT_EQ(cells.size(), 5U) << line;
    if (trim(cells[3]) == "-") continue;
    const auto what = trim(cells[1]);
    const auto dot = what.find('.');
    std::string field(what.substr(dot + 1, what.size() - dot - 2));
    std::ranges::transform(field, field.begin(), [](unsigned char c) { return std::tolower(c); });
    bool named = dot == std::string_view::npos || tests.at("").contains(field);
    for (const auto cell : split(cells[3], ',')) {
      const auto found = tests.find(std::string(trim(cell)));
      ASSERT_NE(found, tests.end()) << line;
      named = named || found->second.contains(field);
    }
    EXPECT_TRUE(named) << "in none of the tests: " << line;
  }
  EXPECT_GT(rows, 400U);
}

}  // namespace
}  // namespace berth::cri
