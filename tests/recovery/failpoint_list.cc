#include "failpoint_list.h"

#include <algorithm>
#include <cstdlib>
#include <filesystem>
#include <regex>

#include "os/file.h"

namespace berth::test {
namespace {

namespace fs = std::filesystem;
constexpr std::size_t kMaxSource = 1U << 20;

Result<> add_points_of(const fs::path& source, bool in_shim, std::vector<Failpoint>& points) {
  static const std::regex kPoint("\\b(?:failpoint|crashpoint)\\(\"([^\"]+)\"\\)");
  BERTH_ASSIGN(const auto text, os::read_file(source, kMaxSource), "source");
  for (std::sregex_iterator it(text.begin(), text.end(), kPoint), end; it != end; ++it) {
    const std::string name = (*it)[1].str();
    const bool of_criu =
        name.starts_with("checkpoint") || name.starts_with("restore.") || name.contains(".checkpoint.");
    points.push_back({name, in_shim, of_criu});
  }
  return {};
}

}  // namespace

Result<std::vector<Failpoint>> all_failpoints() {
  const char* top = std::getenv("BERTH_SOURCE_DIR");  // NOLINT(concurrency-mt-unsafe): nobody sets it
  if (top == nullptr) return fail(Code::kInvalid, "BERTH_SOURCE_DIR is not set");
  std::vector<Failpoint> points;
  const fs::path src = fs::path(top) / "src";
  std::error_code error;
  for (fs::recursive_directory_iterator it(src, error), end; !error && it != end; it.increment(error)) {
    if (it->path().extension() != ".cc") continue;
    const bool in_shim = *it->path().lexically_relative(src).begin() == "shim";
    BERTH_TRY(add_points_of(it->path(), in_shim, points), it->path().string());
  }
  std::ranges::sort(points, {}, &Failpoint::name);
  const auto twice = std::ranges::adjacent_find(points, {}, &Failpoint::name);
  if (twice != points.end()) return fail(Code::kExists, "two failpoints are called " + twice->name);
  if (points.empty()) return fail(Code::kNotFound, "no failpoints below " + src.string());
  return points;
}

}  // namespace berth::test
