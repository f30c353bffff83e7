// GetContainerEvents as a kubelet follows it.
#include <gmock/gmock.h>

#include <condition_variable>
#include <mutex>
#include <thread>

#include "fixture.h"
#include "wait.h"

namespace berth::test {
namespace {

using testing::ElementsAre;

struct WithBusybox {
  static TestHostOptions options() { return {.images = {"busybox"}}; }
};

/// One stream, read on a thread of its own.
class Follower final {
 public:
  explicit Follower(CriClient& client) : reader_(client.runtime().GetContainerEvents(&context_, {})) {
    thread_ = std::thread([this] {
      pb::ContainerEventResponse event;
      while (reader_->Read(&event)) {
        const std::lock_guard lock(mutex_);
        events_.push_back(event);
      }
      const auto status = reader_->Finish();
      const std::lock_guard lock(mutex_);
      end_ = status;
      ended_ = true;
    });
  }
  Follower(const Follower&) = delete;
  Follower& operator=(const Follower&) = delete;
  Follower(Follower&&) = delete;
  Follower& operator=(Follower&&) = delete;
  ~Follower() {
    context_.TryCancel();
    thread_.join();
  }
  std::vector<pb::ContainerEventResponse> events() {
    const std::lock_guard lock(mutex_);
    return events_;
  }
  bool wait_for(std::size_t count) {
    return wait_until(std::chrono::seconds(20), [&] { return events().size() >= count; });
  }
  /// The status that the stream ended with; OK while it goes on.
  grpc::Status end() {
    const std::lock_guard lock(mutex_);
    return end_;
  }

 private:
  grpc::ClientContext context_;
  std::unique_ptr<grpc::ClientReader<pb::ContainerEventResponse>> reader_;
  std::mutex mutex_;
  std::vector<pb::ContainerEventResponse> events_;
  grpc::Status end_;
  bool ended_ = false;
  std::thread thread_;
};

class EventsTest : public HostTest<WithBusybox> {
 protected:
  /// "pod started", "main stopped", ... of all events.
  static std::vector<std::string> words(const std::vector<pb::ContainerEventResponse>& events, const std::string& pod) {
    std::vector<std::string> all;
    for (const auto& event : events) {
      const char* const kWords[] = {"created", "started", "stopped", "deleted"};
      all.push_back((event.container_id() == pod ? "pod " : "container ") +
                    std::string(kWords[event.container_event_type()]));
    }
    return all;
  }
};

TEST_F(EventsTest, TheLifeOfAPodInOrder) {
  Follower follower(cri());
  const auto config = host().pod_config("followed");
  const auto pod = must(cri().run_pod(config));
  const auto container = must(cri().run(pod, host().shell_config("main", "exit 7"), config));
  EXPECT_EQ(must(cri().wait_exited(container)).exit_code(), 7);
  ASSERT_TRUE(ok(cri().end_pod(pod)));
  ASSERT_TRUE(follower.wait_for(8));
  const auto events = follower.events();
  EXPECT_THAT(words(events, pod), ElementsAre("pod created", "pod started", "container created", "container started",
                                              "container stopped", "pod stopped", "container deleted", "pod deleted"));
  for (const auto& event : events) {
    EXPECT_EQ(event.pod_sandbox_status().metadata().uid(), config.metadata().uid());
    EXPECT_GT(event.created_at(), 0);
  }
  const auto& stopped = events[4];
  EXPECT_EQ(stopped.container_id(), container);
  ASSERT_EQ(stopped.containers_statuses_size(), 1);
  EXPECT_EQ(stopped.containers_statuses(0).state(), pb::CONTAINER_EXITED);
  EXPECT_EQ(stopped.containers_statuses(0).exit_code(), 7);
  EXPECT_EQ(events[6].containers_statuses_size(), 0) << "a removed one is not listed any more";
}

TEST_F(EventsTest, WhoConnectsIsToldTheStateFirst) {
  const auto config = host().pod_config("before");
  const auto pod = must(cri().run_pod(config));
  const auto container = must(cri().run(pod, host().shell_config("main", "exec sleep 1000"), config));
  for (int round = 0; round < 2; ++round) {
    Follower follower(cri());
    ASSERT_TRUE(follower.wait_for(2));
    EXPECT_THAT(words(follower.events(), pod), ElementsAre("pod started", "container started"));
    EXPECT_EQ(follower.events()[1].containers_statuses(0).id(), container);
    // The daemon's end is told, and the next one tells the same.
    ASSERT_TRUE(ok(host().stop_daemon()));
    EXPECT_TRUE(wait_until(std::chrono::seconds(5), [&] { return !follower.end().ok(); }));
    EXPECT_EQ(follower.end().error_code(), grpc::StatusCode::UNAVAILABLE) << follower.end().error_message();
    ASSERT_TRUE(ok(host().start_daemon()));
  }
}

TEST_F(EventsTest, ManyFollowersAndOneThatDoesNotRead) {
  grpc::ClientContext context;
  const auto idle = cri().runtime().GetContainerEvents(&context, {});  // never read
  std::vector<std::unique_ptr<Follower>> followers;
  for (int i = 0; i < 8; ++i) followers.push_back(std::make_unique<Follower>(cri()));
  constexpr int kPods = 10;
  for (int i = 0; i < kPods; ++i) {
    ASSERT_TRUE(ok(cri().end_pod(must(cri().run_pod(host().pod_config("many" + std::to_string(i)))))));
  }
  for (auto& follower : followers) {
    EXPECT_TRUE(follower->wait_for(4U * kPods));
    EXPECT_EQ(follower->events().size(), 4U * kPods);
  }
  context.TryCancel();
}

}  // namespace
}  // namespace berth::test
