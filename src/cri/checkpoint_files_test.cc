#include "cri/checkpoint_files.h"

#include <fcntl.h>
#include <gmock/gmock.h>
#include <gtest/gtest.h>
#include <sys/stat.h>
#include <unistd.h>

#include "base/ids.h"
#include "cri/blob.h"
#include "cri/pod_checkpoint.h"
#include "os/file.h"

namespace berth::cri {
namespace {

using ::testing::ElementsAre;
using ::testing::HasSubstr;
using ::testing::IsEmpty;
using ::testing::Pair;

class CheckpointFiles : public ::testing::Test {
 protected:
  void SetUp() override { ASSERT_TRUE(os::make_dirs(place()).has_value()); }
  void TearDown() override { EXPECT_TRUE(os::remove_tree(dir_).has_value()); }
  [[nodiscard]] std::string place() const { return dir_ + "/place"; }
  [[nodiscard]] std::string notes() const { return dir_ + "/notes"; }
  static std::vector<std::string> names(const std::string& path) {
    return os::list_dir(path).value_or(std::vector<std::string>{"?"});
  }

  std::string dir_ = "/tmp/berth-checkpoint-" + random_hex(8);
};

TEST_F(CheckpointFiles, ADraftIsThereWholeOrNotAtAll) {
  {
    auto draft = Draft::begin(notes(), place());
    ASSERT_TRUE(draft.has_value());
    EXPECT_EQ(names(notes()).size(), 1U);
    ASSERT_TRUE(os::make_dirs(draft->path() + "/below").has_value());
  }
  EXPECT_THAT(names(place()), IsEmpty());
  EXPECT_THAT(names(notes()), IsEmpty());
  {
    auto draft = Draft::begin(notes(), place());
    ASSERT_TRUE(draft.has_value());
    ASSERT_TRUE(os::make_dirs(draft->shared_path()).has_value());
    const auto published = draft->publish("good");
    ASSERT_TRUE(published.has_value()) << published.error().text();
  }
  EXPECT_THAT(names(place()), ElementsAre("good"));
  EXPECT_THAT(names(notes()), IsEmpty());
}

TEST_F(CheckpointFiles, WhatADeadDaemonLeftIsRemovedAndNothingElse) {
  const std::string ours = ".berth-checkpoint-" + std::string(32, 'a');
  ASSERT_TRUE(os::make_dirs(notes()).has_value());
  ASSERT_TRUE(os::make_dirs(place() + "/" + ours + "/images").has_value());
  ASSERT_TRUE(os::make_dirs(place() + "/theirs").has_value());
  ASSERT_TRUE(os::write_file_atomic(notes() + "/one", place() + "/" + ours).has_value());
  ASSERT_TRUE(os::write_file_atomic(notes() + "/two", place() + "/theirs").has_value());
  ASSERT_TRUE(os::write_file_atomic(notes() + "/three", "").has_value());
  clear_noted(notes());
  EXPECT_THAT(names(place()), ElementsAre("theirs"));
  EXPECT_THAT(names(notes()), IsEmpty());
  clear_noted(dir_ + "/absent");
}

TEST_F(CheckpointFiles, ALinkAsThePlaceIsRefused) {
  ASSERT_EQ(::symlink(place().c_str(), (dir_ + "/link").c_str()), 0);
  EXPECT_FALSE(Draft::begin(notes(), dir_ + "/link").has_value());
  EXPECT_FALSE(Draft::begin(notes(), dir_ + "/absent").has_value());
}

TEST_F(CheckpointFiles, NothingButFilesOfTwoLevelsIsTaken) {
  ASSERT_TRUE(os::make_dirs(place() + "/checkpoint").has_value());
  ASSERT_TRUE(os::write_file_atomic(place() + "/config.dump", "{}").has_value());
  ASSERT_TRUE(os::write_file_atomic(place() + "/checkpoint/pages-1.img", "12345").has_value());
  const auto files = files_in(place());
  ASSERT_TRUE(files.has_value());
  EXPECT_THAT(*files, ElementsAre(Pair("checkpoint/pages-1.img", 5), Pair("config.dump", 2)));
  ASSERT_EQ(::symlink("/etc/passwd", (place() + "/checkpoint/link").c_str()), 0);
  EXPECT_EQ(files_in(place()).error().code(), Code::kCorrupt);
  ASSERT_EQ(::unlink((place() + "/checkpoint/link").c_str()), 0);
  ASSERT_TRUE(os::make_dirs(place() + "/checkpoint/deeper").has_value());
  EXPECT_EQ(files_in(place()).error().code(), Code::kCorrupt);
}

PodCheckpoint example() {
  PodCheckpoint checkpoint;
  checkpoint.kernel = "6.1";
  checkpoint.machine = "x86_64";
  checkpoint.created_at_ns = 7;
  checkpoint.sandbox.id = "pod";
  ContainerRecord container;
  container.id = "one";
  container.config.mutable_metadata()->set_name("main");
  checkpoint.containers.push_back({container, {{"checkpoint/a.img", 3}, {"config.dump", 4}}});
  container.id = "two";
  checkpoint.containers.push_back({container, {}});
  return checkpoint;
}

TEST(PodCheckpointForm, IsReadAsItWasWritten) {
  const auto read = decode_pod_checkpoint(encode(example()));
  ASSERT_TRUE(read.has_value()) << read.error().text();
  EXPECT_EQ(read->kernel, "6.1");
  EXPECT_EQ(read->machine, "x86_64");
  EXPECT_EQ(read->created_at_ns, 7);
  EXPECT_EQ(read->sandbox.id, "pod");
  ASSERT_EQ(read->containers.size(), 2U);
  EXPECT_EQ(read->containers[0].record.config.metadata().name(), "main");
  EXPECT_THAT(read->containers[0].files, ElementsAre(Pair("checkpoint/a.img", 3), Pair("config.dump", 4)));
  EXPECT_THAT(read->containers[1].files, IsEmpty());
}

TEST(PodCheckpointForm, HostileNamesAndPartsAreRefused) {
  const std::vector<std::string> hostile = {
      "", "/etc/passwd", "../x", "a/../b", "a//b", "./a", "a/b/c", std::string("a\0b", 3), std::string(1025, 'n')};
  for (const auto& name : hostile) {
    auto checkpoint = example();
    checkpoint.containers[0].files = {{name, 1}};
    EXPECT_EQ(decode_pod_checkpoint(encode(checkpoint)).error().code(), Code::kCorrupt) << name;
  }
  auto empty = example();
  empty.containers.clear();
  EXPECT_FALSE(decode_pod_checkpoint(encode(empty)).has_value());
  auto many = example();
  many.containers.resize(1025, many.containers[0]);
  EXPECT_EQ(decode_pod_checkpoint(encode(many)).error().code(), Code::kExhausted);
  BlobWriter newer;
  newer.put_int(1, 2);
  EXPECT_EQ(decode_pod_checkpoint(newer.take()).error().code(), Code::kUnsupported);
  EXPECT_FALSE(decode_pod_checkpoint("").has_value());
  const std::string whole = encode(example());
  for (std::size_t i = 0; i < whole.size(); ++i) (void)decode_pod_checkpoint(whole.substr(0, i));
}

TEST(PodCheckpointForm, AContainersDumpIsJsonForOthers) {
  ContainerRecord record;
  record.id = "abc";
  record.created_at_ns = 1;
  record.config.mutable_metadata()->set_name("ma\"in");
  record.config.mutable_image()->set_image("busybox");
  EXPECT_THAT(
      config_dump(record, "", 2'000'000'000),
      HasSubstr(
          R"("runtime":"berth","createdTime":"1970-01-01T00:00:00.000000001Z","checkpointedTime":"1970-01-01T00:00:02)"));
  EXPECT_THAT(config_dump(record, "fast", 2), HasSubstr(R"("name":"ma\"in")"));
}

}  // namespace
}  // namespace berth::cri
