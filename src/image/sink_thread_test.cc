#include "image/sink_thread.h"

#include <gmock/gmock.h>
#include <gtest/gtest.h>

#include <atomic>
#include <string>

#include "image/layer_unpacker.h"
#include "image/testing/image_builder.h"
#include "image/testing/tar_builder.h"

namespace berth::image {
namespace {

using ::testing::HasSubstr;

TEST(SinkThread, GivesEverythingOnInOrder) {
  std::string got;
  std::string sent;
  auto thread = SinkThread::start([&](Bytes bytes) -> Result<> {
    got.append(reinterpret_cast<const char*>(bytes.data()), bytes.size());
    return {};
  });
  ASSERT_TRUE(thread);
  for (unsigned i = 0; i < 200; ++i) {  // also pieces that are larger than a slot, and empty ones
    const std::string piece(i % 7 * 90'000, static_cast<char>('a' + i % 26));
    sent += piece;
    ASSERT_TRUE((*thread)->push(as_bytes(piece)));
  }
  ASSERT_TRUE((*thread)->finish());
  EXPECT_TRUE(got == sent);
}

TEST(SinkThread, AFailureIsToldAndEndsIt) {
  std::atomic<unsigned> calls = 0;
  auto thread = SinkThread::start([&](Bytes) -> Result<> {
    if (++calls == 3) return fail(Code::kExhausted, "the disk is full");
    return {};
  });
  ASSERT_TRUE(thread);
  Result<> pushed;
  for (unsigned i = 0; i < 1000 && pushed; ++i) pushed = (*thread)->push(as_bytes("x"));
  ASSERT_FALSE(pushed);
  EXPECT_EQ(pushed.error().code(), Code::kExhausted);
  EXPECT_THAT((*thread)->finish().error().text(), HasSubstr("the disk is full"));
  EXPECT_EQ(calls, 3U);
}

TEST(SinkThread, GoesInTheMidstOfItsWork) {
  for (unsigned i = 0; i < 50; ++i) {
    auto thread = SinkThread::start([](Bytes) -> Result<> { return {}; });
    ASSERT_TRUE(thread);
    for (unsigned j = 0; j < i; ++j) ASSERT_TRUE((*thread)->push(as_bytes("x")));
  }
}

/// Keeps what it is given, the bytes and the names.
class Kept final : public LayerForm, public TarSink {
 public:
  explicit Kept(std::string& out) : out_(out) {}
  TarSink& entries() override { return *this; }
  Result<> raw(Bytes bytes) override {
    raw_bytes_ += bytes.size();
    return {};
  }
  Result<LayerStats> finish() override { return LayerStats{.bytes = raw_bytes_}; }
  Result<> entry(const TarEntry& entry) override {
    out_ += entry.path + "\n";
    return {};
  }
  Result<> data(Bytes) override { return {}; }
  Result<> end_entry() override { return {}; }

 private:
  std::string& out_;
  std::uint64_t raw_bytes_ = 0;
};

/// A layer through an unpacker of one or two threads: its names, or what went wrong.
std::string unpacked(const testing::BuiltLayer& layer, const std::string& blob, bool two_threads) {
  std::string names;
  auto unpacker = LayerUnpacker::start({.digest = testing::digest_of(blob),
                                        .size = blob.size(),
                                        .diff_id = layer.diff_id,
                                        .max_bytes = 1U << 30,
                                        .two_threads = two_threads},
                                       std::make_unique<Kept>(names));
  if (!unpacker) return unpacker.error().text();
  for (std::size_t at = 0; at < blob.size(); at += 65536) {
    if (auto pushed = (*unpacker)->push(as_bytes(std::string_view(blob).substr(at, 65536))); !pushed) {
      return pushed.error().text();
    }
  }
  const auto stats = (*unpacker)->finish();
  return stats ? names + std::to_string(stats->bytes) : stats.error().text();
}

TEST(SinkThread, ALayerIsTheSameWithTwoThreads) {
  testing::TarBuilder tar;
  for (unsigned i = 0; i < 300; ++i) tar.file("f" + std::to_string(i), std::string(i * 131, static_cast<char>(i)));
  const auto good = testing::gzip_layer(tar.finish());
  EXPECT_EQ(unpacked(good, good.blob, true), unpacked(good, good.blob, false));
  EXPECT_THAT(unpacked(good, good.blob, true), HasSubstr("f299\n"));
  const auto other = testing::gzip_layer(testing::TarBuilder().file("other", "x").finish());
  EXPECT_THAT(unpacked(good, other.blob, true), HasSubstr("the image configuration says"));
  const auto broken = testing::gzip_layer(std::string(600'000, 'x'));  // no archive: the second thread finds it
  EXPECT_THAT(unpacked(broken, broken.blob, true), HasSubstr("checksum"));
}

}  // namespace
}  // namespace berth::image
