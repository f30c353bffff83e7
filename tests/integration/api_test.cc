// The rest of the CRI: versions and conditions, images, usage figures, and what is not built.
#include <gmock/gmock.h>

#include <map>
#include <set>
#include <thread>

#include "fixture.h"
#include "wait.h"

namespace berth::test {
namespace {

struct Images2 {
  static TestHostOptions options() { return {.images = {"busybox", "configured"}}; }
};
using ApiTest = HostTest<Images2>;

TEST_F(ApiTest, VersionStatusAndConfiguration) {
  pb::VersionRequest ask;
  ask.set_version("v1");
  const auto version = must(cri().call(&Runtime::Version, ask));
  EXPECT_EQ(version.runtime_name(), "berth");
  EXPECT_EQ(version.runtime_api_version(), "v1");
  EXPECT_FALSE(version.runtime_version().empty());

  pb::StatusRequest request;
  request.set_verbose(true);
  const auto status = must(cri().call(&Runtime::Status, request));
  std::map<std::string, bool> conditions;
  for (const auto& condition : status.status().conditions()) {
    conditions[condition.type()] = condition.status();
    EXPECT_EQ(condition.reason() + condition.message(), "") << "nothing is wrong";
  }
  EXPECT_EQ(conditions, (std::map<std::string, bool>{{"NetworkReady", true}, {"RuntimeReady", true}}));
  std::vector<std::string> handlers;
  for (const auto& handler : status.runtime_handlers()) handlers.push_back(handler.name());
  EXPECT_THAT(handlers, testing::UnorderedElementsAre("", "berth"));
  EXPECT_FALSE(status.info().empty());
  EXPECT_TRUE(status.features().supplemental_groups_policy());
  EXPECT_TRUE(status.features().mount_options());

  EXPECT_EQ(must(cri().call(&Runtime::RuntimeConfig, pb::RuntimeConfigRequest())).linux().cgroup_driver(),
            pb::CGROUPFS);
  pb::UpdateRuntimeConfigRequest update;
  auto& cidr = *update.mutable_runtime_config()->mutable_network_config()->mutable_pod_cidr();
  cidr = "10.244.7.0/24";
  EXPECT_TRUE(ok(cri().call(&Runtime::UpdateRuntimeConfig, update)));
  EXPECT_THAT(host().daemon_log(), testing::HasSubstr(cidr));
  cidr.assign(257, '1');
  EXPECT_TRUE(fails(cri().call(&Runtime::UpdateRuntimeConfig, update), Code::kInvalid, "pod_cidr"));
}

/// The messages of one stream, which must end well.
template <class Reply, class Open>
std::vector<Reply> read_stream(const Open& open) {
  grpc::ClientContext context;
  context.set_deadline(std::chrono::system_clock::now() + CriClient::kTimeout);
  const auto reader = open(&context);
  std::vector<Reply> messages;
  for (Reply message; reader->Read(&message);) messages.push_back(message);
  const auto status = reader->Finish();
  EXPECT_TRUE(status.ok()) << status.error_message();
  return messages;
}

TEST_F(ApiTest, StreamsTellEachItemOfTheirListOnce) {
  auto& runtime = cri().runtime();
  const auto no_pods =
      read_stream<pb::StreamPodSandboxesResponse>([&](auto* c) { return runtime.StreamPodSandboxes(c, {}); });
  EXPECT_TRUE(no_pods.empty());
  constexpr int kPods = 6;
  for (int i = 0; i < kPods; ++i) {
    auto config = host().pod_config("pod" + std::to_string(i));
    (*config.mutable_annotations())["large"] = std::string(100'000, static_cast<char>('a' + i));
    const auto pod = must(cri().run_pod(config));
    must(cri().run(pod, host().shell_config("main", "exec sleep 1000"), config));
  }
  const auto pods =
      read_stream<pb::StreamPodSandboxesResponse>([&](auto* c) { return runtime.StreamPodSandboxes(c, {}); });
  EXPECT_GT(pods.size(), 1U) << "600 KB are more than one message";
  std::map<std::string, std::string> told;
  for (const auto& message : pods) {
    EXPECT_GT(message.pod_sandboxes_size(), 0);
    for (const auto& pod : message.pod_sandboxes()) {
      EXPECT_TRUE(told.emplace(pod.id(), pod.SerializeAsString()).second) << "twice";
    }
  }
  std::map<std::string, std::string> listed;
  for (const auto& pod : must(cri().pods())) listed.emplace(pod.id(), pod.SerializeAsString());
  EXPECT_EQ(told, listed);
  EXPECT_EQ(told.size(), static_cast<std::size_t>(kPods));

  pb::StreamContainersRequest containers;
  containers.mutable_filter()->set_pod_sandbox_id(listed.begin()->first);
  const auto of_one =
      read_stream<pb::StreamContainersResponse>([&](auto* c) { return runtime.StreamContainers(c, containers); });
  ASSERT_EQ(of_one.size(), 1U);
  ASSERT_EQ(of_one[0].containers_size(), 1);
  EXPECT_EQ(of_one[0].containers(0).pod_sandbox_id(), listed.begin()->first);
  const auto stats =
      read_stream<pb::StreamContainerStatsResponse>([&](auto* c) { return runtime.StreamContainerStats(c, {}); });
  ASSERT_EQ(stats.size(), 1U);
  EXPECT_EQ(stats[0].container_stats_size(), kPods);
  pb::StreamImagesRequest images;
  images.mutable_filter()->mutable_image()->set_image(TestHost::image("busybox"));
  const auto of_image =
      read_stream<pb::StreamImagesResponse>([&](auto* c) { return cri().images().StreamImages(c, images); });
  ASSERT_EQ(of_image.size(), 1U);
  ASSERT_EQ(of_image[0].images_size(), 1);
  EXPECT_THAT(of_image[0].images(0).repo_tags(), testing::ElementsAre(TestHost::image("busybox")));

  // A client that leaves in the middle takes nothing along.
  {
    grpc::ClientContext context;
    const auto reader = runtime.StreamPodSandboxes(&context, {});
    pb::StreamPodSandboxesResponse first;
    EXPECT_TRUE(reader->Read(&first));
    context.TryCancel();
    EXPECT_EQ(reader->Finish().error_code(), grpc::StatusCode::CANCELLED);
  }
  must(cri().end_all());
}

TEST_F(ApiTest, ImagesAreListedAndFoundByEachOfTheirNames) {
  const auto list = must(cri().call(&Images::ListImages, pb::ListImagesRequest()));
  ASSERT_EQ(list.images_size(), 2);
  const auto id = must(cri().pull(TestHost::image("busybox")));
  const auto& image = list.images(0).id() == id ? list.images(0) : list.images(1);
  const auto& other = list.images(0).id() == id ? list.images(1) : list.images(0);
  EXPECT_TRUE(id.starts_with("sha256:"));
  EXPECT_THAT(image.repo_tags(), testing::ElementsAre(TestHost::image("busybox")));
  ASSERT_EQ(image.repo_digests_size(), 1);
  EXPECT_GT(image.size(), 500'000U);
  EXPECT_FALSE(image.pinned());
  EXPECT_EQ(other.username(), "app");
  EXPECT_FALSE(other.has_uid());

  for (const auto& name : {id, id.substr(7), id.substr(7, 12), TestHost::image("busybox"), image.repo_digests(0)}) {
    pb::ImageStatusRequest request;
    request.mutable_image()->set_image(name);
    auto reply = must(cri().call(&Images::ImageStatus, request));
    EXPECT_EQ(reply.image().id(), id) << name;
    EXPECT_TRUE(reply.info().empty());
    request.set_verbose(true);
    reply = must(cri().call(&Images::ImageStatus, request));
    EXPECT_THAT(reply.info().at("info"), testing::StartsWith(R"({"imageSpec":{)"));
    pb::ListImagesRequest filtered;
    filtered.mutable_filter()->mutable_image()->set_image(name);
    EXPECT_EQ(must(cri().call(&Images::ListImages, filtered)).images_size(), 1) << name;
  }
  pb::ImageStatusRequest absent;
  absent.mutable_image()->set_image(TestHost::image("absent"));
  EXPECT_FALSE(must(cri().call(&Images::ImageStatus, absent)).has_image());

  const auto usage = must(cri().call(&Images::ImageFsInfo, pb::ImageFsInfoRequest()));
  ASSERT_EQ(usage.image_filesystems_size(), 1);
  EXPECT_GT(usage.image_filesystems(0).used_bytes().value(), 500'000U);
  EXPECT_GT(usage.image_filesystems(0).inodes_used().value(), 0U);
  EXPECT_GT(usage.image_filesystems(0).timestamp(), 0);
  EXPECT_TRUE(usage.image_filesystems(0).fs_id().mountpoint().starts_with(host().root()));
  ASSERT_EQ(usage.container_filesystems_size(), 1);
  EXPECT_EQ(usage.container_filesystems(0).SerializeAsString(), usage.image_filesystems(0).SerializeAsString())
      << "writable layers are there, too";
}

TEST_F(ApiTest, AnImageInUseLosesItsNameAndItsContainerGoesOn) {
  const auto config = host().pod_config("pod");
  const auto pod = must(cri().run_pod(config));
  const auto id = must(cri().run(pod, host().shell_config("main", "exec sleep 1000"), config));
  pb::RemoveImageRequest request;
  request.mutable_image()->set_image(TestHost::image("busybox"));
  for (int i = 0; i < 2; ++i) EXPECT_TRUE(ok(cri().call(&Images::RemoveImage, request)));
  EXPECT_EQ(must(cri().shell(id, "cat /data/kept")), "kept\n");
  EXPECT_TRUE(fails(cri().create(pod, host().shell_config("second", "true"), config), Code::kNotFound, "busybox"));
  must(cri().end_pod(pod));
  EXPECT_TRUE(ok(cri().pull(TestHost::image("busybox"))));
}

TEST_F(ApiTest, PullsThatCannotBeAreExplained) {
  EXPECT_TRUE(fails(cri().pull(TestHost::image("absent")), Code::kNotFound, "absent"));
  EXPECT_TRUE(fails(cri().pull("127.0.0.1:5000/busybox:no-such-tag"), Code::kNotFound, "no-such-tag"));
  EXPECT_TRUE(fails(cri().pull("127.0.0.1:5999/busybox:latest"), Code::kUnavailable, "127.0.0.1:5999"));
  for (const auto* bad : {"", "library/UPPER", "127.0.0.1:5000/a b", "127.0.0.1:5000/x@sha256:short", ":tag"}) {
    EXPECT_TRUE(fails(cri().pull(bad), Code::kInvalid)) << bad;
  }
  const auto digest = "127.0.0.1:5000/busybox@sha256:" + std::string(64, '0');
  EXPECT_TRUE(fails(cri().pull(digest), Code::kNotFound));
}

TEST_F(ApiTest, PullsOfOneImageAtTheSameTimeJoin) {
  pb::RemoveImageRequest request;
  request.mutable_image()->set_image(TestHost::image("configured"));
  must(cri().call(&Images::RemoveImage, request));
  std::vector<std::thread> threads;
  std::vector<Result<std::string>> ids(6, fail(Code::kInternal, "no answer"));
  for (auto& id : ids) threads.emplace_back([&id] { id = cri().pull(TestHost::image("configured")); });
  for (auto& thread : threads) thread.join();
  for (const auto& id : ids) {
    ASSERT_TRUE(ok(id));
    EXPECT_EQ(*id, *ids[0]);
  }
}

// As a second CNI plugin gives one: each is told, that of the default route apart.
TEST_F(ApiTest, EachInterfaceOfAPodIsTold) {
  auto config = host().pod_config("pod");
  config.mutable_linux()->mutable_security_context()->set_privileged(true);
  const auto pod = must(cri().run_pod(config));
  auto container = host().shell_config("main", "exec sleep 1000");
  container.mutable_linux()->mutable_security_context()->set_privileged(true);
  const auto id = must(cri().run(pod, container, config));
  must(cri().shell(id,
                   "ip link add net1 type veth && ip link set veth0 up && ip link set net1 up && ip addr add "
                   "192.0.2.1/24 dev net1 && ip neigh add 192.0.2.9 lladdr 02:00:00:00:00:09 dev net1 && "
                   "echo word | nc -u -w 1 192.0.2.9 9 || true"));
  pb::PodSandboxStatsRequest request;
  request.set_pod_sandbox_id(pod);
  std::map<std::string, std::uint64_t> sent;
  EXPECT_TRUE(wait_until(std::chrono::seconds(40), [&] {
    const auto network = must(cri().call(&Runtime::PodSandboxStats, request)).stats().linux().network();
    EXPECT_EQ(network.default_interface().name(), "eth0");
    for (const auto& link : network.interfaces()) sent[link.name()] = link.tx_bytes().value();
    return sent["net1"] > 0;
  }));
  EXPECT_EQ(sent.size(), 2U) << "net1 and its other end, but not eth0 and the loopback";
  must(cri().end_pod(pod));
}

TEST_F(ApiTest, UsageFigures) {
  const auto config = host().pod_config("pod");
  const auto pod = must(cri().run_pod(config));
  auto busy_config = host().shell_config("busy",
                                         "dd if=/dev/zero of=/tmp/file bs=1M count=8 2>/dev/null; "
                                         "nc -w 1 $(ip route | awk '/default/ {print $3}') 1; while true; do :; done");
  (*busy_config.mutable_labels())["app"] = "busy";
  const auto busy = must(cri().run(pod, busy_config, config));
  const auto idle = must(cri().run(pod, host().shell_config("idle", "exec sleep 1000"), config));
  const auto created = must(cri().create(pod, host().shell_config("created", "true"), config));

  pb::ContainerStatsRequest request;
  request.set_container_id(busy);
  pb::ContainerStats stats;
  EXPECT_TRUE(wait_until(std::chrono::seconds(40), [&] {
    stats = must(cri().call(&Runtime::ContainerStats, request)).stats();
    return stats.cpu().usage_core_nano_seconds().value() > 100'000'000 && stats.memory().usage_bytes().value() > 0;
  })) << stats.ShortDebugString();
  EXPECT_EQ(stats.attributes().id(), busy);
  EXPECT_EQ(stats.attributes().metadata().name(), "busy");
  EXPECT_EQ(stats.attributes().labels().at("app"), "busy");
  EXPECT_GT(stats.memory().working_set_bytes().value(), 0U);
  EXPECT_GT(stats.memory().rss_bytes().value(), 0U);
  EXPECT_GT(stats.memory().page_faults().value(), 0U);
  EXPECT_GT(stats.cpu().timestamp(), 0);

  const auto ids = [](const pb::ContainerStatsFilter& filter) {
    pb::ListContainerStatsRequest list;
    *list.mutable_filter() = filter;
    std::set<std::string> found;
    const auto answer = must(cri().call(&Runtime::ListContainerStats, list));
    for (const auto& one : answer.stats()) found.insert(one.attributes().id());
    return found;
  };
  EXPECT_EQ(ids({}), (std::set<std::string>{busy, idle}));
  pb::ContainerStatsFilter filter;
  (*filter.mutable_label_selector())["app"] = "busy";
  EXPECT_EQ(ids(filter), std::set<std::string>{busy});
  pb::ContainerStatsFilter by_pod;
  by_pod.set_pod_sandbox_id(pod);
  EXPECT_EQ(ids(by_pod).size(), 2U);

  pb::PodSandboxStatsRequest of_pod;
  of_pod.set_pod_sandbox_id(pod);
  pb::PodSandboxStats figures;
  EXPECT_TRUE(wait_until(std::chrono::seconds(40), [&] {
    figures = must(cri().call(&Runtime::PodSandboxStats, of_pod)).stats();
    return figures.linux().cpu().usage_nano_cores().value() > 100'000'000;
  })) << figures.ShortDebugString();
  EXPECT_EQ(figures.attributes().id(), pod);
  EXPECT_EQ(figures.attributes().metadata().name(), "pod");
  EXPECT_GT(figures.linux().cpu().usage_core_nano_seconds().value(), 100'000'000U);
  EXPECT_GT(figures.linux().memory().working_set_bytes().value(), 0U);
  EXPECT_GE(figures.linux().process().process_count().value(), 2U);
  EXPECT_EQ(figures.linux().network().default_interface().name(), "eth0");
  EXPECT_GT(figures.linux().network().default_interface().rx_bytes().value(), 0U);
  EXPECT_GT(figures.linux().network().default_interface().tx_bytes().value(), 0U);
  EXPECT_EQ(figures.linux().containers_size(), 2) << "those that run";
  const auto pods_of = [](const std::string& name) {
    pb::ListPodSandboxStatsRequest list;
    list.mutable_filter()->set_id(name);
    return must(cri().call(&Runtime::ListPodSandboxStats, list)).stats_size();
  };
  EXPECT_EQ(pods_of(""), 1);
  EXPECT_EQ(pods_of(pod.substr(0, 12)), 1);
  EXPECT_EQ(pods_of(std::string(64, 'e')), 0);
  const auto streamed = read_stream<pb::StreamPodSandboxStatsResponse>(
      [](auto* c) { return cri().runtime().StreamPodSandboxStats(c, {}); });
  ASSERT_EQ(streamed.size(), 1U);
  EXPECT_EQ(streamed[0].pod_sandbox_stats(0).attributes().id(), pod);
  const auto metrics = must(cri().call(&Runtime::ListPodSandboxMetrics, pb::ListPodSandboxMetricsRequest()));
  ASSERT_EQ(metrics.pod_metrics_size(), 1);
  EXPECT_EQ(metrics.pod_metrics(0).pod_sandbox_id(), pod);
  EXPECT_EQ(metrics.pod_metrics(0).container_metrics_size(), 2);
  std::set<std::string> described;
  const auto descriptors = must(cri().call(&Runtime::ListMetricDescriptors, pb::ListMetricDescriptorsRequest()));
  for (const auto& descriptor : descriptors.descriptors()) described.insert(descriptor.name());
  std::set<std::string> told;
  for (const auto& metric : metrics.pod_metrics(0).metrics()) told.insert(metric.name());
  for (const auto& one : metrics.pod_metrics(0).container_metrics()) {
    for (const auto& metric : one.metrics()) told.insert(metric.name());
  }
  // cgroup v1 counts no pressure.
  const bool pressure = os::exists("/sys/fs/cgroup/cpu.pressure") || os::exists("/sys/fs/cgroup/cgroup.controllers");
  if (!pressure) std::erase_if(described, [](const auto& name) { return name.starts_with("container_pressure_"); });
  EXPECT_EQ(told, described) << "of a pod that runs each is there";
  EXPECT_EQ(stats.cpu().has_psi(), pressure);
  EXPECT_EQ(stats.memory().has_psi(), pressure);
  EXPECT_EQ(stats.io().has_psi(), pressure);
  EXPECT_EQ(figures.linux().cpu().has_psi(), pressure);
  EXPECT_EQ(figures.linux().io().has_psi(), pressure);
  const auto metrics_stream = read_stream<pb::StreamPodSandboxMetricsResponse>(
      [](auto* c) { return cri().runtime().StreamPodSandboxMetrics(c, {}); });
  ASSERT_EQ(metrics_stream.size(), 1U);
  EXPECT_EQ(metrics_stream[0].pod_sandbox_metrics(0).pod_sandbox_id(), pod);
  of_pod.set_pod_sandbox_id(std::string(64, 'e'));
  EXPECT_TRUE(fails(cri().call(&Runtime::PodSandboxStats, of_pod), Code::kNotFound));

  request.set_container_id(created);
  EXPECT_TRUE(ok(cri().call(&Runtime::ContainerStats, request)));
  request.set_container_id(std::string(64, 'e'));
  EXPECT_TRUE(fails(cri().call(&Runtime::ContainerStats, request), Code::kNotFound));
}

}  // namespace
}  // namespace berth::test
