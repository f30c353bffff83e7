#pragma once
#include <unistd.h>

#include <string>
#include <vector>

#include "base/strings.h"
#include "fixture.h"
#include "wait.h"

namespace berth::test {

/// Whether criu can work on this kernel: asked of it itself, once.
inline bool criu_works() {
  static const bool works = [] {
    const auto ran = run_program({"criu", "check"}, std::chrono::seconds(120));
    return ran && ran->code == 0;
  }();
  return works;
}

struct PlainNode {
  static TestHostOptions options() { return {}; }
};

/// Pods with containers that count in memory and write the count into a file of their writable layer. In the node's
/// network, so that the guest of tests/vm needs no bridge.
template <class Traits = PlainNode>
class CountingPods : public HostTest<Traits> {
 protected:
  using HostTest<Traits>::host;
  using HostTest<Traits>::cri;
  static constexpr std::chrono::seconds kPatience{60};

  void SetUp() override {
    HostTest<Traits>::SetUp();
    must(os::remove_tree(out()));
    must(os::make_dirs(out(), 0700));
  }
  static pb::PodSandboxConfig pod_config(const std::string& name) {
    auto config = host().pod_config(name);
    config.mutable_linux()->mutable_security_context()->mutable_namespace_options()->set_network(pb::NODE);
    return config;
  }
  /// The word is in the process's memory alone: whoever still says it is the same process.
  static pb::ContainerConfig counter(const std::string& name) {
    return host().shell_config(
        name,
        "word=$(cat /proc/sys/kernel/random/uuid); i=0; echo kept > /kept; rm -f /etc/group; echo shared > /dev/shm/" +
            name +
            "; while :; do i=$((i+1)); echo \"$word $i\" > /n.new; mv /n.new /n; "
            "if [ -e /say ]; then rm /say; echo said; fi; sleep 0.02; done");
  }
  struct Count {
    std::string word;
    int number = 0;
  };
  static Count count(const std::string& container) {
    Count found;
    // Between the two moves there is none.
    (void)wait_until(kPatience, [&] {
      const auto text = cri().shell(container, "cat /n");
      const auto parts = text ? split(trim(*text), ' ') : std::vector<std::string_view>();
      if (parts.size() != 2) return false;
      found = {std::string(parts[0]), parse_number<int>(parts[1]).value_or(0)};
      return true;
    });
    return found;
  }
  /// It goes on as the same process.
  static void expect_counting(const std::string& container, const Count& before) {
    Count now;
    EXPECT_TRUE(wait_until(kPatience, [&] {
      now = count(container);
      return now.number > before.number || now.word != before.word;
    }));
    EXPECT_EQ(now.word, before.word);
    EXPECT_GT(now.number, before.number);
  }
  static std::string out() { return host().dir() + "/out"; }
  /// A new empty folder in it.
  static std::string folder(const std::string& name) {
    must(os::make_dirs(out() + "/" + name, 0700));
    return out() + "/" + name;
  }
  static auto checkpoint(const std::string& container, const std::string& location, std::int64_t timeout = 0) {
    pb::CheckpointContainerRequest request;
    request.set_container_id(container);
    request.set_location(location);
    request.set_timeout(timeout);
    return cri().call(&Runtime::CheckpointContainer, request, kPatience);
  }
  static pb::CheckpointPodRequest pod_request(const std::string& pod, const std::string& path,
                                              const std::vector<std::string>& containers) {
    pb::CheckpointPodRequest request;
    request.set_pod_sandbox_id(pod);
    request.set_output_path(path);
    for (const auto& id : containers) request.add_container_ids(id);
    return request;
  }
  static auto checkpoint_pod(const pb::CheckpointPodRequest& request,
                             std::chrono::milliseconds timeout = std::chrono::seconds(120)) {
    return cri().call(&Runtime::CheckpointPod, request, timeout);
  }
  static pb::RestorePodRequest restore_request(const std::string& path, const pb::PodSandboxConfig& config,
                                               const std::vector<pb::ContainerConfig>& containers) {
    pb::RestorePodRequest request;
    request.set_checkpoint_path(path);
    *request.mutable_config() = config;
    for (const auto& container : containers) *request.add_container_configs() = container;
    return request;
  }
  static auto restore_pod(const pb::RestorePodRequest& request,
                          std::chrono::milliseconds timeout = std::chrono::seconds(120)) {
    return cri().call(&Runtime::RestorePod, request, timeout);
  }
  static std::vector<std::string> names_in(const std::string& path) { return must(os::list_dir(path)); }
  /// Nothing of a checkpoint is left but what was asked for.
  static void expect_no_drafts() {
    for (const char* name : {"/checkpoints", "/checkpoint-notes"}) {
      const auto names = os::list_dir(host().root() + name);
      EXPECT_TRUE(!names || names->empty()) << name << ": " << names->front();
    }
  }
};

/// The same where criu works; each test leaves no draft of a checkpoint.
template <class Traits = PlainNode>
class CriuPods : public CountingPods<Traits> {
 protected:
  void SetUp() override {
    if (!criu_works()) GTEST_SKIP() << "criu does not work on this kernel";
    CountingPods<Traits>::SetUp();
  }
  void TearDown() override {
    if (this->IsSkipped()) return;
    this->expect_no_drafts();
    CountingPods<Traits>::TearDown();
  }
};

}  // namespace berth::test
