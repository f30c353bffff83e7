#pragma once
#include <gtest/gtest.h>

#include <chrono>
#include <ostream>
#include <string>
#include <vector>

#include "process.h"

namespace berth::test {

/// An OCI runtime that podman, buildah and containerd are made to use.
struct Runtime {
  std::string name;
  std::string path;
};
inline void PrintTo(const Runtime& runtime, std::ostream* out) {
  *out << runtime.name;
}
/// Ours first, then the one that the peers are made for: what a test expects of ours must hold of it too, or the test
/// is wrong.
[[nodiscard]] std::vector<Runtime> runtimes();
/// For INSTANTIATE_TEST_SUITE_P.
[[nodiscard]] std::string runtime_name(const ::testing::TestParamInfo<Runtime>& parameter);

/// Private places for what these programs share on a machine (state below /run, locks in /dev/shm), and a cgroup layout
/// that they all take: without the v2 mount of the hybrid one. For a mount namespace of the test's own; once, in
/// main().
Result<> prepare_node();

/// One test's folders, image and cgroup, in which a runtime is driven by others. Everything is removed at the end; what
/// the runtime left by then is a failure.
class PeerTest : public ::testing::TestWithParam<Runtime> {
 protected:
  void SetUp() override;
  void TearDown() override;

  [[nodiscard]] const std::string& folder() const { return folder_; }
  [[nodiscard]] const std::string& name() const { return name_; }
  [[nodiscard]] const Runtime& runtime() const { return GetParam(); }

  /// A program with the test's environment; its failure to run is the test's.
  Ran run(std::vector<std::string> words);
  /// `podman` with its storage in the test's folder. `run`, `create` and `pod create` get the test's cgroup.
  Ran podman(std::vector<std::string> words);
  /// podman, of which success is expected: what it printed, without the last line's end.
  std::string must(std::vector<std::string> words);
  /// `podman run --rm --network none FLAGS IMAGE WORDS`.
  Ran run_once(const std::vector<std::string>& flags, const std::vector<std::string>& words);
  /// Starts a detached container; its id.
  std::string start(const std::string& container, const std::vector<std::string>& flags,
                    const std::vector<std::string>& words);
  /// ALL, the flags, the image and the words; without a network unless the flags name one.
  static std::vector<std::string> run_words(std::vector<std::string> all, const std::vector<std::string>& flags,
                                            const std::vector<std::string>& words);
  /// `podman` with what every call needs; its storage in the folders graph, run and libpod below `place`.
  static std::vector<std::string> podman_words(const std::string& runtime_path, const std::string& place);
  /// A shell in a running container.
  Ran in(const std::string& container, const std::string& script);
  void write(const std::string& file, const std::string& text);
  /// Puts the busybox image into podman's storage (containers/storage of root) as `kImage`.
  void import_image();
  /// Environment of what runs: HOME and the configuration files.
  [[nodiscard]] std::vector<std::string> environment() const;

  static constexpr const char* kImage = "localhost/busybox:1";

 private:
  void make_image();

  std::string folder_;
  std::string name_;
  bool imported_ = false;
};

/// The names of what a runtime keeps: the folders below its state root; empty when there is none.
[[nodiscard]] std::vector<std::string> state_of(const Runtime& runtime);
/// The value of a cgroup file of the process `pid` in the v1 hierarchy `controller`.
[[nodiscard]] std::string cgroup_value(const std::string& pid, const std::string& controller, const std::string& file);

}  // namespace berth::test
