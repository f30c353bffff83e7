// A process that pulls and removes images is killed at random moments: whatever the moment, the next one finds a store
// in which every image is whole, nothing is left over, and everything can be pulled again. Needs root.
#include <gtest/gtest.h>
#include <signal.h>
#include <unistd.h>

#include <algorithm>
#include <chrono>
#include <cstdlib>
#include <filesystem>
#include <random>
#include <thread>

#include "image/store.h"
#include "image/testing/http_server.h"
#include "image/testing/image_builder.h"
#include "image/testing/sandbox.h"
#include "image/testing/tar_builder.h"
#include "image/testing/tree_text.h"
#include "os/file.h"
#include "os/spawn.h"

namespace berth::image {
namespace {

using testing::BuiltImage;
using testing::HttpServer;
using testing::TarBuilder;

constexpr const char* kWorkerWord = "--worker";

/// Bytes that do not compress to nothing.
std::string noise(std::size_t size, unsigned seed) {
  std::mt19937 random(seed);
  std::string out(size, '\0');
  for (char& c : out) c = static_cast<char>(random() % 64 + '0');
  return out;
}

std::string layer_of(unsigned seed, unsigned files) {
  TarBuilder out;
  out.dir("d" + std::to_string(seed) + "/", {.mode = 0750, .uid = seed});
  for (unsigned i = 0; i < files; ++i) {
    out.file("d" + std::to_string(seed) + "/f" + std::to_string(i), noise(3000 + 700 * i, seed * 1000 + i));
  }
  out.file("shared/" + std::to_string(seed), "x");
  return out.finish();
}

/// What the killed process does, over and over: all that changes a store.
int work(const StoreOptions& options, const std::string& host) {
  auto store = Store::open(options);
  if (!store) return 1;
  if (!(*store)->remove_rootfs("c1")) return 1;  // of an earlier life, over whichever image
  if (::write(STDOUT_FILENO, "r", 1) != 1) return 1;
  for (;;) {
    for (const char* name : {"/a:1", "/b:1"}) {
      const auto image = (*store)->pull(host + name, {});
      if (!image) return 2;
      if (!(*store)->prepare_rootfs("c1", image->id, std::nullopt)) return 3;
      if (!(*store)->remove(image->id)) return 4;
      if (!(*store)->remove_rootfs("c1")) return 5;
    }
  }
}

class StoreKillTest : public ::testing::Test {
 protected:
  StoreKillTest() {
    const auto common = testing::gzip_layer(layer_of(1, 60));
    images_ = {{"a", testing::build_image(
                         {common, testing::gzip_layer(layer_of(2, 20)), testing::zstd_layer(layer_of(3, 5))})},
               {"b", testing::build_image({common, testing::gzip_layer(layer_of(4, 30))})}};
  }
  HttpServer::Handler handler() {
    return [this](const testing::ServerRequest& request, testing::Reply& reply) {
      for (const auto& [name, image] : images_) {
        if (request.target.starts_with("/v2/" + name + "/") && testing::serve_image(image, request, reply)) return;
      }
      reply.answer(404, "");
    };
  }
  static std::string tree_of(const Store& store, const std::string& id) {
    const auto folders = store.layer_dirs(id);
    if (!folders) return folders.error().text();
    std::string out;
    for (const auto& folder : folders->paths) {
      for (const auto& [path, text] : testing::describe_tree(folder))
        out.append(path).append(" ").append(text).append("\n");
    }
    return out;
  }
  /// Starts a worker, waits until it works, lets it for a while, and kills it.
  void one_life(const std::string& host, std::chrono::microseconds life) {
    auto pipe = os::make_pipe();
    ASSERT_TRUE(pipe);
    os::SpawnOptions worker{
        .argv = {"/proc/self/exe", kWorkerWord, sandbox_.dir(), host}, .env = {}, .cwd = "", .fds = {}};
    worker.argv[0] = std::filesystem::read_symlink("/proc/self/exe");
    for (char** variable = environ; *variable != nullptr; ++variable) worker.env.emplace_back(*variable);
    worker.fds = {{pipe->write.get(), STDOUT_FILENO}, {STDERR_FILENO, STDERR_FILENO}};
    auto child = os::spawn(worker);
    ASSERT_TRUE(child) << child.error().text();
    pipe->write.reset();
    char ready = 0;
    EXPECT_EQ(::read(pipe->read.get(), &ready, 1), 1);
    std::this_thread::sleep_for(life);
    ASSERT_EQ(::kill(child->pid, SIGKILL), 0);
    const auto code = os::wait_exit(*child);
    ASSERT_TRUE(code);
    EXPECT_EQ(*code, 128 + SIGKILL) << "it ended by itself";
  }

  testing::Sandbox sandbox_;
  std::map<std::string, BuiltImage> images_;
};

TEST_F(StoreKillTest, EveryMoment) {
  const char* wanted = std::getenv("BERTH_STORE_KILLS");
  const unsigned rounds = wanted == nullptr ? 40 : static_cast<unsigned>(std::strtoul(wanted, nullptr, 10));
  std::mt19937 random(static_cast<unsigned>(::getpid()));
  sandbox_.run([&] {
    HttpServer server(handler());
    std::map<std::string, std::string> trees;
    unsigned found = 0;
    for (unsigned i = 0; i <= rounds && !HasFailure(); ++i) {
      SCOPED_TRACE("life " + std::to_string(i));
      if (i != 0) one_life(server.host(), std::chrono::microseconds(random() % 120'000));
      auto store = Store::open(sandbox_.store_options());
      ASSERT_TRUE(store) << store.error().text();
      for (const auto& image : (*store)->list()) {
        ++found;
        EXPECT_EQ(tree_of(**store, image.id), trees[image.id]);
      }
      for (const auto& [name, built] : images_) {
        const auto image = (*store)->pull(server.host() + "/" + name + ":1", {});
        ASSERT_TRUE(image) << image.error().text();
        if (i == 0) trees[image->id] = tree_of(**store, image->id);
        EXPECT_EQ(tree_of(**store, image->id), trees[image->id]);
      }
      if (random() % 2 == 0) continue;  // the next life begins with images
      for (const auto& holder : (*store)->rootfs_holders()) EXPECT_TRUE((*store)->remove_rootfs(holder));
      for (const auto& image : (*store)->list()) EXPECT_TRUE((*store)->remove(image.id));
      EXPECT_EQ((*store)->usage().used_bytes, 0U);
      store->reset();
      EXPECT_EQ(testing::leftovers(sandbox_.dir() + "/store"), std::vector<std::string>());
    }
    std::printf("%u kills, %u images found whole\n", rounds, found);
  });
}

}  // namespace
}  // namespace berth::image

int main(int argc, char** argv) {
  if (argc == 4 && std::string_view(argv[1]) == berth::image::kWorkerWord) {
    return berth::image::work(berth::image::testing::options_in(argv[2]), argv[3]);
  }
  ::testing::InitGoogleTest(&argc, argv);
  return RUN_ALL_TESTS();
}
