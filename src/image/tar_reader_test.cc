#include "image/tar_reader.h"

#include <gmock/gmock.h>
#include <gtest/gtest.h>

#include "image/testing/tar_builder.h"

namespace berth::image {
namespace {

using ::testing::ElementsAre;
using ::testing::HasSubstr;
using testing::TarBuilder;

class Recorder final : public TarSink {
 public:
  Result<> entry(const TarEntry& entry) override {
    entries.push_back(entry);
    contents.emplace_back();
    return {};
  }
  Result<> data(Bytes bytes) override {
    contents.back().append(reinterpret_cast<const char*>(bytes.data()), bytes.size());
    return {};
  }
  Result<> end_entry() override {
    ++ended;
    return {};
  }
  std::vector<TarEntry> entries;
  std::vector<std::string> contents;
  std::size_t ended = 0;
};

/// Reads `archive` in pieces of `piece` bytes; "" when all went well.
std::string read(const std::string& archive, Recorder& recorder, std::size_t piece = 1U << 20,
                 const TarLimits& limits = {}) {
  TarReader reader(limits, recorder);
  for (std::size_t at = 0; at < archive.size(); at += piece) {
    if (auto done = reader.push(as_bytes(std::string_view(archive).substr(at, piece))); !done)
      return done.error().text();
  }
  auto done = reader.finish();
  return done ? std::string() : done.error().text();
}

std::string fault(const std::string& archive, const TarLimits& limits = {}) {
  Recorder recorder;
  return read(archive, recorder, 1U << 20, limits);
}

TEST(TarReader, ReadsEverythingInPiecesOfAnySize) {
  const std::string long_name = "d/" + std::string(150, 'n');
  const std::string archive =
      TarBuilder()
          .dir("./")
          .dir("d/", {.mode = 01777, .uid = 5, .gid = 6})
          .file("d/f", std::string(1000, 'q'), {.mode = 04755, .uid = 1000, .gid = 1001, .mtime = 42})
          .file(long_name, "long")
          .pax({{"path", "d/päx"},
                {"size", "3"},
                {"uid", "3000000000"},
                {"mtime", "-1.25"},
                {"SCHILY.xattr.user.a", std::string("v\0\n", 3)}})
          .file("short", "abc")
          .hard_link("h", "d/f")
          .symlink("s", "../x")
          .node("c", '3', {.mode = 0600, .major = 1, .minor = 3})
          .node("p", '6')
          .pax({{"comment", "abc"}}, 'g')
          .file("empty", "")
          .finish();
  for (const std::size_t piece :
       {std::size_t{1}, std::size_t{7}, std::size_t{511}, std::size_t{512}, std::size_t{513}, std::size_t{1} << 20}) {
    Recorder r;
    ASSERT_EQ(read(archive, r, piece), "") << piece;
    ASSERT_EQ(r.entries.size(), 10U);
    EXPECT_EQ(r.ended, 10U);
    EXPECT_EQ(r.entries[0].type, TarType::kDirectory);
    EXPECT_EQ(r.entries[1].mode, 01777U);
    EXPECT_EQ(r.entries[2].mode, 04755U);
    EXPECT_EQ(r.entries[2].uid, 1000U);
    EXPECT_EQ(r.entries[2].mtime_s, 42);
    EXPECT_EQ(r.contents[2], std::string(1000, 'q'));
    EXPECT_EQ(r.entries[3].path, long_name);
    EXPECT_EQ(r.entries[4].path, "d/päx");
    EXPECT_EQ(r.entries[4].uid, 3000000000U);
    EXPECT_EQ(r.entries[4].mtime_s, -2);
    EXPECT_EQ(r.entries[4].mtime_ns, 750'000'000U);
    ASSERT_EQ(r.entries[4].xattrs.size(), 1U);
    EXPECT_EQ(r.entries[4].xattrs[0].second, std::string("v\0\n", 3));
    EXPECT_EQ(r.contents[4], "abc");
    EXPECT_EQ(r.entries[5].type, TarType::kHardLink);
    EXPECT_EQ(r.entries[5].link, "d/f");
    EXPECT_EQ(r.entries[6].link, "../x");
    EXPECT_EQ(r.entries[7].device_minor, 3U);
    EXPECT_EQ(r.entries[8].type, TarType::kFifo);
  }
}

TEST(TarReader, ReadsBase256Numbers) {
  std::string archive = TarBuilder().file("f", "").finish();
  archive.replace(108, 8, std::string("\x80\0\0\0\0\x01\0\0", 8));                                // uid 65536
  archive.replace(136, 12, std::string("\xff\xff\xff\xff\xff\xff\xff\xff\xff\xff\xff\xfe", 12));  // mtime -2
  archive.replace(148, 8, "        ");
  unsigned sum = 0;
  for (int i = 0; i < 512; ++i) sum += static_cast<unsigned char>(archive[static_cast<std::size_t>(i)]);
  char text[8];
  std::snprintf(text, sizeof text, "%06o", sum);
  archive.replace(148, 7, std::string(text, 7));
  Recorder r;
  ASSERT_EQ(read(archive, r), "");
  EXPECT_EQ(r.entries[0].uid, 65536U);
  EXPECT_EQ(r.entries[0].mtime_s, -2);
}

TEST(TarReader, AcceptsNoEndMarkerAndNothingAtAll) {
  Recorder r;
  EXPECT_EQ(read(TarBuilder().file("f", "x").unfinished(), r), "");
  EXPECT_EQ(fault(""), "");
  EXPECT_EQ(fault(std::string(1024, '\0')), "");
  EXPECT_EQ(fault(TarBuilder().file("f", "x").finish() + std::string(9000, '\0')), "");
}

TEST(TarReader, NamesWhatIsWrong) {
  const std::string good = TarBuilder().file("dir/name", std::string(2000, 'x')).finish();
  EXPECT_THAT(fault(good.substr(0, 300)), HasSubstr("truncated at its first header"));
  EXPECT_THAT(fault(good.substr(0, 1500)), HasSubstr("truncated at entry \"dir/name\""));
  EXPECT_THAT(fault(good.substr(0, 2600)), HasSubstr("truncated at entry \"dir/name\""));
  EXPECT_THAT(fault(good + "garbage"), HasSubstr("bytes follow the end of the archive"));
  std::string damaged = good;
  damaged[3] = '!';
  EXPECT_THAT(fault(damaged), HasSubstr("checksum of a header is wrong"));
  EXPECT_THAT(fault(std::string(512, 'x')), HasSubstr("checksum"));
  EXPECT_THAT(fault(TarBuilder().raw('S', "sparse", "", 0, "").finish()), HasSubstr("sparse"));
  EXPECT_THAT(fault(TarBuilder().pax({{"GNU.sparse.major", "1"}}).file("f", "").finish()), HasSubstr("sparse"));
  EXPECT_THAT(fault(TarBuilder().raw('Q', "odd", "", 0, "").finish()),
              HasSubstr("entry \"odd\": header: member type \"Q\""));
  EXPECT_THAT(fault(TarBuilder().pax({{"path", "x"}}).finish()), HasSubstr("ends after an extended header"));
  EXPECT_THAT(fault(TarBuilder().pax({{"path", "x"}}).unfinished()), HasSubstr("truncated"));
  EXPECT_THAT(fault(TarBuilder().pax({{"uid", "x"}}).file("f", "").finish()), HasSubstr("uid: no number in range"));
  EXPECT_THAT(fault(TarBuilder().pax({{"path", std::string("a\0b", 3)}}).file("f", "").finish()),
              HasSubstr("holds a NUL"));
  EXPECT_THAT(fault(TarBuilder().raw('x', "p", "", 9, "99 a=bcd\n").finish()), HasSubstr("length is wrong"));
  EXPECT_THAT(fault(TarBuilder().raw('x', "p", "", 4, "abcd").finish()), HasSubstr("no length"));
  EXPECT_THAT(fault(TarBuilder().file("", "").finish()), HasSubstr("no name"));
  EXPECT_THAT(
      fault(TarBuilder().file("a", "").unfinished() + std::string(512, '\0') + TarBuilder().file("b", "").finish()),
      HasSubstr("zero block lies between"));
}

TEST(TarReader, BoundsWhatItKeeps) {
  const TarLimits limits{.max_entries = 3, .max_path_bytes = 200, .max_header_bytes = 1000, .max_xattrs = 2};
  TarBuilder many;
  for (int i = 0; i < 4; ++i) many.file("f" + std::to_string(i), "");
  EXPECT_THAT(fault(many.finish(), limits), HasSubstr("more than 3 entries"));
  EXPECT_THAT(fault(TarBuilder().raw('x', "p", "", 1U << 30, "").finish(), limits), HasSubstr("exceeds 1000"));
  EXPECT_THAT(fault(TarBuilder().gnu_long('L', std::string(201, 'a')).file("f", "").finish(), limits),
              HasSubstr("exceeds 200"));
  EXPECT_THAT(fault(TarBuilder()
                        .pax({{"SCHILY.xattr.a", "1"}, {"SCHILY.xattr.b", "1"}, {"SCHILY.xattr.c", "1"}})
                        .file("f", "")
                        .finish(),
                    limits),
              HasSubstr("more than 2 extended attributes"));
  TarBuilder headers;
  for (int i = 0; i < 20; ++i) headers.pax({{"comment", "x"}}, 'g');
  EXPECT_THAT(fault(headers.finish(), limits), HasSubstr("too many extended headers"));
}

}  // namespace
}  // namespace berth::image
