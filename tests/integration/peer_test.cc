// The fixture itself, on a CRI server that is not ours: what the tests take for granted must hold of any.
#include "fixture.h"
#include "wait.h"

namespace berth::test {
namespace {

struct Peer {
  static TestHostOptions options() { return {.server = Server::kContainerd}; }
};
using PeerTest = HostTest<Peer>;

TEST_F(PeerTest, TheSameClientRunsAPodOnContainerd) {
  const auto pod_config = host().pod_config("peer");
  const auto pod = must(cri().run_pod(pod_config));
  const auto container = must(cri().run(pod, host().container_config("web", "busybox"), pod_config));
  EXPECT_EQ(must(cri().status(container)).state(), pb::CONTAINER_RUNNING);
  const auto ip = must(cri().pod_status(pod)).network().ip();
  // Its server listens a moment after the start has been answered.
  auto page = http_get(ip, 80);
  EXPECT_TRUE(wait_until(std::chrono::seconds(20), [&] { return page || (page = http_get(ip, 80)); }));
  EXPECT_TRUE(ok(page));
  EXPECT_EQ(must(cri().shell(container, "echo out")), "out\n");
  EXPECT_FALSE(processes_of(host()).empty());
  must(cri().end_pod(pod));
  EXPECT_TRUE(must(cri().pods()).empty());
}

}  // namespace
}  // namespace berth::test
