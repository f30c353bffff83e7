#pragma once
#include <gtest/gtest.h>

#include <memory>
#include <stdexcept>
#include <string>
#include <type_traits>

#include "cri_client.h"
#include "leak_check.h"
#include "os/file.h"
#include "test_host.h"

namespace berth::test {

/// `EXPECT_TRUE(ok(result))`: the failure message is the error's text.
template <class T>
testing::AssertionResult ok(const Result<T>& result) {
  if (result) return testing::AssertionSuccess();
  return testing::AssertionFailure() << code_name(result.error().code()) << ": " << result.error().text();
}
/// `EXPECT_TRUE(fails(result, Code::kNotFound, "words"))`: the code is that and the text holds `words`.
template <class T>
testing::AssertionResult fails(const Result<T>& result, Code code, const std::string& words = "") {
  if (result) return testing::AssertionFailure() << "it succeeded";
  const auto& error = result.error();
  if (error.code() == code && error.text().find(words) != std::string::npos) return testing::AssertionSuccess();
  return testing::AssertionFailure() << code_name(error.code()) << ": " << error.text() << " (expected "
                                     << code_name(code) << " with \"" << words << "\")";
}

/// Ends a test: GoogleTest catches it and reports its text. Tests alone throw it.
class Stop final : public std::runtime_error {
 public:
  using std::runtime_error::runtime_error;
};
/// The value, or the end of the test. For the test's main thread.
template <class T>
T must(Result<T> result) {
  if (!result) {
    ADD_FAILURE() << code_name(result.error().code()) << ": " << result.error().text();
    throw Stop("see above");
  }
  if constexpr (!std::is_void_v<T>) return std::move(*result);
}

/// One node for all tests of a suite; pods are ended after each test. `Traits::options()` says what it is like. A test
/// that fails is followed by the end of the server's log.
template <class Traits>
class HostTest : public testing::Test {
 public:
  static void SetUpTestSuite() {
    auto started = TestHost::start(Traits::options());
    ASSERT_TRUE(ok(started));
    host_ = std::move(*started);
    for (const auto& name : Traits::options().images) {
      ASSERT_TRUE(ok(host_->cri().pull(TestHost::image(name))));
    }
  }
  static void TearDownTestSuite() { host_.reset(); }

 protected:
  void SetUp() override {
    if (!host_) GTEST_FAIL() << "no node";
    if (!host_->daemon_alive()) {
      ASSERT_TRUE(ok(host_->start_daemon())) << "after the test before";
    }
    // Pods of the same name log to the same place: each test begins without the lines of the one before.
    ASSERT_TRUE(ok(os::remove_tree(host_->logs(""))));
  }
  void TearDown() override {
    if (!host_) return;
    if (host_->daemon_alive()) {
      EXPECT_TRUE(ok(host_->cri().end_all()));
    }
    if (HasFailure()) std::fprintf(stderr, "--- the server's log ends:\n%s\n---\n", host_->daemon_log().c_str());
  }

  /// A pod with one container.
  struct Running {
    pb::PodSandboxConfig config;
    std::string pod;
    std::string container;
  };
  static Running start(const std::string& name, const pb::ContainerConfig& container) {
    Running running{host().pod_config(name), "", ""};
    running.pod = must(cri().run_pod(running.config));
    running.container = must(cri().run(running.pod, container, running.config));
    return running;
  }

  static TestHost& host() { return *host_; }
  static CriClient& cri() { return host_->cri(); }

 private:
  static inline std::unique_ptr<TestHost> host_;
};

}  // namespace berth::test
