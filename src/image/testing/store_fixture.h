#pragma once
#include <gtest/gtest.h>

#include <cstddef>
#include <functional>
#include <map>
#include <memory>
#include <string>
#include <vector>

#include "base/thread_annotations.h"
#include "image/store.h"
#include "image/testing/http_server.h"
#include "image/testing/sandbox.h"
#include "image/testing/tar_builder.h"

namespace berth::image {

/// A store beside a well-behaved stand-in registry. Needs root.
class StoreTest : public ::testing::Test {
 protected:
  /// A gzip layer with one file.
  static testing::BuiltLayer layer(const std::string& name, const std::string& text = "x") {
    return testing::gzip_layer(testing::TarBuilder().file(name, text).finish());
  }
  /// Runs `work` beside a registry that serves images_ ("repository:tag").
  void with_registry(const std::function<void(testing::HttpServer&)>& work) {
    sandbox_.run([&] {
      testing::HttpServer server(
          [this](const testing::ServerRequest& request, testing::Reply& reply) { serve(request, reply); });
      work(server);
    });
  }
  void serve(const testing::ServerRequest& request, testing::Reply& reply) {
    if (hook_) hook_(request);
    std::map<std::string, testing::BuiltImage> images;
    {
      const MutexLock lock(images_mutex_);
      images = images_;
    }
    for (const auto& [name, image] : images) {
      const std::size_t colon = name.find(':');
      const std::string prefix = "/v2/" + name.substr(0, colon) + "/";
      if (!request.target.starts_with(prefix)) continue;
      const std::string rest = request.target.substr(prefix.size());
      const bool wanted = rest == "manifests/" + name.substr(colon + 1) ||
                          rest == "manifests/" + image.manifest_digest() || rest.starts_with("blobs/");
      if (wanted && testing::serve_image(image, request, reply)) return;
    }
    reply.answer(404, "");
  }
  std::unique_ptr<Store> open() {
    auto store = Store::open(sandbox_.store_options());
    EXPECT_TRUE(store) << store.error().text();
    return store ? std::move(*store) : nullptr;
  }
  static std::size_t blob_fetches(const testing::HttpServer& server, const std::string& digest) {
    std::size_t count = 0;
    for (const std::string& line : server.log()) count += line.ends_with("/blobs/" + digest) ? 1U : 0U;
    return count;
  }
  [[nodiscard]] std::vector<std::string> store_leftovers() const {
    return testing::leftovers(sandbox_.dir() + "/store");
  }

  testing::Sandbox sandbox_;
  Mutex images_mutex_;  ///< for changes while a server runs
  std::map<std::string, testing::BuiltImage> images_;
  std::function<void(const testing::ServerRequest&)> hook_;
};

}  // namespace berth::image
