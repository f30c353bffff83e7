#include "image/decompress.h"

#include <gmock/gmock.h>
#include <gtest/gtest.h>

#include "image/testing/tar_builder.h"

namespace berth::image {
namespace {

using testing::gzip;
using ::testing::HasSubstr;
using testing::zstd;

/// Decompresses in pieces; the error's text goes to `error`.
std::string run(const std::string& data, std::size_t piece, std::string& error) {
  std::string out;
  Decompressor decompressor([&out](Bytes bytes) -> Result<> {
    out.append(reinterpret_cast<const char*>(bytes.data()), bytes.size());
    return {};
  });
  error.clear();
  for (std::size_t at = 0; at < data.size(); at += piece) {
    if (auto done = decompressor.push(as_bytes(std::string_view(data).substr(at, piece))); !done) {
      error = done.error().text();
      return out;
    }
  }
  if (auto done = decompressor.finish(); !done) error = done.error().text();
  return out;
}

std::string text_of(std::size_t size) {
  std::string out;
  for (std::uint32_t i = 0; out.size() < size; ++i)
    out += std::to_string(i * 2654435761U) + (i % 7 == 0 ? std::string(300, 'z') : "-");
  out.resize(size);
  return out;
}

TEST(Decompress, GoesRoundInPiecesOfAnySize) {
  const std::string text = text_of(900'000);
  std::string error;
  for (const std::size_t piece : {std::size_t{1}, std::size_t{3}, std::size_t{4096}, std::size_t{1} << 20}) {
    for (const std::string& packed :
         {text, gzip(text), zstd(text), gzip(text.substr(0, 500'000)) + gzip(text.substr(500'000)),
          zstd(text.substr(0, 10)) + zstd(text.substr(10)),
          std::string("\x50\x2a\x4d\x18\x02\0\0\0xy", 10) + zstd(text)}) {
      ASSERT_EQ(run(packed, piece, error), text) << piece;
      EXPECT_EQ(error, "");
    }
  }
  for (const std::string& small : {std::string(), std::string("a"), std::string("\x1f")})
    EXPECT_EQ(run(small, 1, error), small);
  EXPECT_EQ(run(gzip("") + gzip("x") + gzip(""), 1, error), "x");
  EXPECT_EQ(error, "");
}

TEST(Decompress, FindsDamage) {
  const std::string text = text_of(300'000);
  const std::string packed = gzip(text);
  std::string error;
  for (const std::size_t piece : {std::size_t{1}, std::size_t{1} << 20}) {
    for (const std::size_t cut : {packed.size() - 1, packed.size() - 8, packed.size() / 2, std::size_t{5}}) {
      run(packed.substr(0, cut), piece, error);
      EXPECT_THAT(error, HasSubstr("truncated")) << cut;
    }
    std::string crc = packed;
    crc[crc.size() - 6] = static_cast<char>(crc[crc.size() - 6] ^ 1);
    run(crc, piece, error);
    EXPECT_THAT(error, HasSubstr("checksum"));
    run(packed + "trailing garbage", piece, error);
    EXPECT_THAT(error, HasSubstr("bytes follow the gzip stream"));
    run(packed + "\x1f", piece, error);
    EXPECT_THAT(error, HasSubstr("truncated"));
    std::string middle = packed;
    for (std::size_t i = packed.size() / 2; i < packed.size() / 2 + 50; ++i) middle[i] = '\xff';
    run(middle, piece, error);
    EXPECT_NE(error, "");
    run(zstd(text).substr(0, 1000), piece, error);
    EXPECT_THAT(error, HasSubstr("truncated"));
    run(zstd(text) + "garbage", piece, error);
    EXPECT_THAT(error, HasSubstr("damaged zstd"));
  }
}

TEST(Decompress, BoundsTheZstdWindow) {
  // Frame header: magic, descriptor 0 (window byte follows), window byte for 2^(10+25): 32 GiB.
  std::string error;
  run(std::string("\x28\xb5\x2f\xfd\x00\xc8\x01\x00\x00", 9), 1U << 20, error);
  EXPECT_THAT(error, HasSubstr("window exceeds 128 MiB"));
}

}  // namespace
}  // namespace berth::image
