#include "cri/blob.h"

#include <limits>

#include "gtest/gtest.h"

namespace berth::cri {
namespace {

TEST(Blob, FieldsComeBackInOrder) {
  BlobWriter out;
  out.put(7, "text");
  out.put_int(8, -1);
  out.put(7, "");
  out.put_int(65535, std::numeric_limits<std::int64_t>::min());
  const auto blob = out.take();
  const auto fields = read_blob(blob);
  ASSERT_TRUE(fields) << fields.error().text();
  ASSERT_EQ(fields->size(), 4U);
  EXPECT_EQ((*fields)[0].bytes, "text");
  EXPECT_EQ(*(*fields)[1].integer(), -1);
  EXPECT_EQ((*fields)[2].tag, 7);
  EXPECT_EQ(*(*fields)[3].integer(), std::numeric_limits<std::int64_t>::min());
  EXPECT_EQ((*fields)[0].integer().error().code(), Code::kCorrupt);
}

TEST(Blob, EveryCutIsRefusedOrShorter) {
  BlobWriter out;
  out.put(1, "abc");
  out.put_int(2, 5);
  const auto blob = out.take();
  for (std::size_t size = 0; size < blob.size(); ++size) {
    const auto fields = read_blob(std::string_view(blob).substr(0, size));
    // A cut between two fields is a shorter record, any other is damage.
    const bool between = size == 4 || size == 4 + 6 + 3;
    EXPECT_EQ(fields.has_value(), between) << size;
  }
}

TEST(Blob, AnotherVersionIsNotGuessedAt) {
  std::string blob = BlobWriter().take();
  blob[2] = 9;
  EXPECT_EQ(read_blob(blob).error().code(), Code::kUnsupported);
  EXPECT_EQ(read_blob("xx").error().code(), Code::kCorrupt);
}

}  // namespace
}  // namespace berth::cri
