#pragma once
#include <functional>
#include <memory>
#include <string>
#include <vector>

#include "base/unique_fd.h"
#include "image/store.h"
#include "os/spawn.h"

namespace berth::image::testing {

/// A temporary folder and an own network namespace with its loopback up; both are gone afterwards. Needs root.
class Sandbox final {
 public:
  Sandbox();
  Sandbox(const Sandbox&) = delete;
  Sandbox& operator=(const Sandbox&) = delete;
  Sandbox(Sandbox&&) = delete;
  Sandbox& operator=(Sandbox&&) = delete;
  ~Sandbox();

  [[nodiscard]] const std::string& dir() const { return dir_; }
  /// Runs `work` in the namespace; what it starts (threads, processes) stays there.
  void run(const std::function<void()>& work) const;
  /// A store in dir()/store, for tests that pull inside run(). Layers as BERTH_TEST_LAYERS says ("erofs", "directory"),
  /// else as the store likes.
  [[nodiscard]] StoreOptions store_options() const;

 private:
  std::string dir_;
  UniqueFd netns_;
};

/// What Sandbox::store_options() gives for the sandbox `dir`.
[[nodiscard]] StoreOptions options_in(const std::string& dir);

/// Files and folders in a store that belong to images or to work under way, relative to its root, sorted: empty for a
/// store that holds nothing. Call it with the store closed.
[[nodiscard]] std::vector<std::string> leftovers(const std::string& store_root);

/// Debian's docker-registry on a loopback port, started in the caller's network namespace.
class DockerRegistry final {
 public:
  struct Options {
    std::string htpasswd = {};  ///< file for basic auth, or empty
    std::string cert = {};      ///< TLS certificate and key, or empty
    std::string key = {};
    std::string client_ca = {};       ///< with TLS: clients must have a certificate by it
    std::string redirect_blobs = {};  ///< address that blobs are redirected to, or empty
  };
  DockerRegistry(const std::string& dir, const Options& options);
  DockerRegistry(const DockerRegistry&) = delete;
  DockerRegistry& operator=(const DockerRegistry&) = delete;
  DockerRegistry(DockerRegistry&&) = delete;
  DockerRegistry& operator=(DockerRegistry&&) = delete;
  ~DockerRegistry();
  [[nodiscard]] unsigned port() const { return port_; }
  [[nodiscard]] std::string host() const { return "127.0.0.1:" + std::to_string(port_); }

 private:
  unsigned port_ = 0;
  os::Child child_;
};

/// Runs a program in the caller's namespace; gives back what it said when it failed, else "".
[[nodiscard]] std::string run_program(std::vector<std::string> argv);

}  // namespace berth::image::testing
