// docs/conformance.md has each rule with its answers, and each difference with its reason.
#include <set>

#include "os/file.h"
#include "spec_host.h"

namespace berth::test {
namespace {

std::string source_folder() {
  const char* const folder = std::getenv("BERTH_SOURCE_DIR");  // NOLINT(concurrency-mt-unsafe): one thread
  return folder != nullptr ? folder : ".";
}

/// "Suite.Test" of every rule of this program, in the program's order, once for all runtimes.
std::vector<std::string> rules() {
  std::vector<std::string> all;
  std::set<std::string> seen;
  const auto* const program = ::testing::UnitTest::GetInstance();
  for (int i = 0; i < program->total_test_suite_count(); ++i) {
    const auto* const suite = program->GetTestSuite(i);
    const std::string name = suite->name();
    if (name.find('/') == std::string::npos) continue;
    for (int k = 0; k < suite->total_test_count(); ++k) {
      const std::string test = suite->GetTestInfo(k)->name();
      std::string rule = name.substr(name.find('/') + 1) + "." + test.substr(0, test.find('/'));
      if (seen.insert(rule).second) all.push_back(std::move(rule));
    }
  }
  return all;
}

TEST(SpecDocument, HasEachRuleAndDifference) {
  const auto text = os::read_file(source_folder() + "/docs/conformance.md", 1U << 20);
  ASSERT_TRUE(text.has_value()) << text.error().text();
  const auto known = rules();
  for (const auto& rule : known) {
    std::string line = "| " + rule + " |";
    for (const char* runtime : {"berth-oci", "runc", "crun"})
      line += differences(runtime, rule).empty() ? " yes |" : " no |";
    EXPECT_NE(text->find(line + "\n"), std::string::npos) << line;
  }
  for (const auto& row : all_differences()) {
    EXPECT_THAT(known, ::testing::Contains(std::string(row.rule))) << "a difference of no rule";
    const std::string line =
        "| " + std::string(row.runtime) + " | " + std::string(row.rule) + " | " + std::string(row.why) + " |\n";
    EXPECT_NE(text->find(line), std::string::npos) << line;
  }
}

}  // namespace
}  // namespace berth::test
