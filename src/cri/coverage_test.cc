// docs/cri-coverage.md names every RPC, and every field of what the built ones carry.
#include <google/protobuf/descriptor.h>
#include <google/protobuf/descriptor.pb.h>

#include <cstdlib>
#include <fstream>
#include <iterator>
#include <set>

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

TEST(Coverage, ThePageIsComplete) {
  const char* root = std::getenv("BERTH_SOURCE_DIR");  // NOLINT(concurrency-mt-unsafe): nobody sets it
  ASSERT_NE(root, nullptr);
  std::ifstream in(std::string(root) + "/docs/cri-coverage.md");
  const std::string page{std::istreambuf_iterator<char>(in), {}};
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

}  // namespace
}  // namespace berth::cri
