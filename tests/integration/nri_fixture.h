#pragma once
#include <gmock/gmock.h>
#include <unistd.h>

#include <memory>
#include <string>

#include "fixture.h"
#include "nri_plugin.h"
#include "wait.h"

namespace berth::test {

using CreateRequest = nri_api::CreateContainerRequest;
using CreateReply = nri_api::CreateContainerResponse;

/// Where the tests of this program have what NRI looks for.
inline std::string nri_dir() {
  return "/tmp/berth-test-nri-" + std::to_string(::getpid());
}
inline std::string nri_socket() {
  return nri_dir() + "/nri.sock";
}

/// A daemon that waits a second for plugins, at most.
struct WithNri {
  static TestHostOptions options() {
    return {.config = "[nri]\nsocket = \"" + nri_socket() + "\"\nplugin_dir = \"\"\nrequest_timeout_ms = 1000\n" +
                      "registration_timeout_ms = 1000\n[runtime]\ncdi_dirs = [\"" + nri_dir() + "/cdi\"]\n"};
  }
};

/// An environment variable in an answer to CreateContainer.
inline void set_env(CreateReply& reply, const std::string& key, const std::string& value) {
  auto& variable = *reply.mutable_adjust()->add_env();
  variable.set_key(key);
  variable.set_value(value);
}

template <class Traits>
class NriHostTest : public HostTest<Traits> {
 public:
  static void TearDownTestSuite() {
    HostTest<Traits>::TearDownTestSuite();
    ASSERT_TRUE(ok(os::remove_tree(nri_dir())));
  }

 protected:
  using HostTest<Traits>::host;
  using HostTest<Traits>::cri;

  static std::string sleeper(const std::string& pod, const pb::PodSandboxConfig& config,
                             const std::string& name = "main") {
    return must(cri().run(pod, host().shell_config(name, "exec sleep 1000"), config));
  }
  /// What creating a container in a new pod comes to.
  static Result<std::string> try_create(const std::string& pod_name,
                                        const std::function<void(pb::ContainerConfig&)>& change = {}) {
    const auto config = host().pod_config(pod_name);
    auto pod = cri().run_pod(config);
    if (!pod) return pod;
    auto container = host().shell_config("main", "exec sleep 1000");
    if (change) change(container);
    return cri().create(*pod, container, config);
  }
};

}  // namespace berth::test
