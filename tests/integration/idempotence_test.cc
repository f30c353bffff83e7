// What the CRI API says of repeats: every RPC twice over, on ids that are unknown, removed, half made, alive and ended.
#include <gmock/gmock.h>
#include <google/protobuf/descriptor.h>

#include <functional>
#include <map>
#include <optional>
#include <set>
#include <thread>

#include "checkpoint_fixture.h"

namespace berth::test {
namespace {

struct Node {
  static TestHostOptions options() { return {.images = {"busybox", "configured"}}; }
};

/// How a call ends; nothing: well.
using Outcome = std::optional<Code>;
constexpr Outcome kOk = std::nullopt;
constexpr Outcome kGone = Code::kNotFound;
constexpr Outcome kBad = Code::kInvalid;
constexpr Outcome kState = Code::kPrecondition;
constexpr Outcome kNotBuilt = Code::kUnsupported;

/// How a call and the same one again end.
struct Twice {
  Outcome first;
  Outcome second;
  Twice(Outcome both) : first(both), second(both) {}  // NOLINT(google-explicit-constructor): tables read better
  Twice(Outcome one, Outcome two) : first(one), second(two) {}
};

template <class T>
Outcome outcome(const Result<T>& result) {
  return result ? kOk : Outcome(result.error().code());
}
std::string text(const Outcome& outcome) {
  return outcome ? std::string(code_name(*outcome)) : "success";
}

using Call = std::function<Outcome(const std::string& id)>;
/// An RPC and how it ends for each of a table's subjects, in their order.
struct Row {
  std::string rpc;
  Call call;
  std::vector<Twice> expected;
};

class IdempotenceTest : public HostTest<Node> {
 protected:
  void SetUp() override {
    HostTest<Node>::SetUp();
    config_ = host().pod_config("pod");
    pod_ = must(cri().run_pod(config_));
  }

  template <class Request, class Reply>
  static Call of_container(grpc::Status (Runtime::*method)(grpc::ClientContext*, const Request&, Reply*),
                           Request request = {}) {
    return [method, request](const std::string& id) mutable {
      request.set_container_id(id);
      return outcome(cri().call(method, request));
    };
  }
  template <class Request, class Reply>
  static Call of_pod(grpc::Status (Runtime::*method)(grpc::ClientContext*, const Request&, Reply*)) {
    return [method](const std::string& id) {
      Request request;
      request.set_pod_sandbox_id(id);
      return outcome(cri().call(method, request));
    };
  }
  template <class Request, class Reply>
  static Call of_image(grpc::Status (Images::*method)(grpc::ClientContext*, const Request&, Reply*)) {
    return [method](const std::string& name) {
      Request request;
      request.mutable_image()->set_image(name);
      return outcome(cri().call(method, request));
    };
  }

  /// Each row's call on a fresh one of each subject, and once more.
  static void run(const std::vector<std::string>& subjects, const std::vector<Row>& rows,
                  const std::function<std::string(const std::string& subject)>& make) {
    for (const auto& row : rows) {
      ASSERT_EQ(row.expected.size(), subjects.size()) << row.rpc;
      for (std::size_t i = 0; i < subjects.size(); ++i) {
        const auto id = make(subjects[i]);
        const auto first = row.call(id);
        const auto second = row.call(id);
        EXPECT_EQ(text(first), text(row.expected[i].first)) << row.rpc << ", " << subjects[i];
        EXPECT_EQ(text(second), text(row.expected[i].second)) << row.rpc << " again, " << subjects[i];
      }
    }
  }

  static std::string unknown() { return std::string(64, 'e'); }
  [[nodiscard]] static pb::ContainerConfig sleeper(const std::string& name) {
    return host().shell_config(name, "exec sleep 1000");
  }
  std::string next_name() { return "c" + std::to_string(++names_); }
  std::string container(const std::string& subject);
  std::string pod(const std::string& subject);

  pb::PodSandboxConfig config_;
  std::string pod_;
  unsigned names_ = 0;
};

const std::vector<std::string> kContainers = {"unknown", "empty",   "removed", "created",
                                              "broken",  "running", "exited",  "of a stopped pod"};

std::string IdempotenceTest::container(const std::string& subject) {
  if (subject == "unknown") return unknown();
  if (subject == "empty") return {};
  if (subject == "broken") {
    return must(cri().create(pod_, host().container_config(next_name(), "busybox", {"/no/such/program"}), config_));
  }
  auto config = config_;
  auto sandbox = pod_;
  if (subject == "of a stopped pod") {
    config = host().pod_config(next_name());
    sandbox = must(cri().run_pod(config));
  }
  const auto id = must(cri().create(sandbox, sleeper(next_name()), config));
  if (subject == "created") return id;
  if (subject == "removed") {
    must(cri().remove(id));
    return id;
  }
  must(cri().start(id));
  if (subject == "exited") must(cri().stop(id, 0));
  if (subject == "of a stopped pod") must(cri().stop_pod(sandbox));
  return id;
}

const std::vector<std::string> kPods = {"unknown", "empty", "removed", "ready", "stopped"};

std::string IdempotenceTest::pod(const std::string& subject) {
  if (subject == "unknown") return unknown();
  if (subject == "empty") return {};
  const auto config = host().pod_config(next_name());
  const auto id = must(cri().run_pod(config));
  must(cri().run(id, sleeper("main"), config));
  if (subject == "stopped") must(cri().stop_pod(id));
  if (subject == "removed") must(cri().end_pod(id));
  return id;
}

TEST_F(IdempotenceTest, CallsOnContainers) {
  pb::ExecSyncRequest exec_sync;
  exec_sync.add_cmd("true");
  pb::ExecRequest exec;
  exec.add_cmd("true");
  exec.set_stdout(true);
  pb::AttachRequest attach;
  attach.set_stdout(true);
  pb::UpdateContainerResourcesRequest update;
  update.mutable_linux()->set_cpu_shares(512);
  pb::CheckpointContainerRequest checkpoint;
  checkpoint.set_location(host().dir() + "/checkpoint.tar");
  //                                        unknown, empty, removed, created, broken, running, exited, of a stopped pod
  run(kContainers,
      {
          {"StartContainer",
           of_container(&Runtime::StartContainer),
           {kGone, kBad, kGone, kOk, {kBad, kState}, kOk, kState, kState}},
          {"StopContainer", of_container(&Runtime::StopContainer), {kOk, kBad, kOk, kOk, kOk, kOk, kOk, kOk}},
          {"RemoveContainer", of_container(&Runtime::RemoveContainer), {kOk, kBad, kOk, kOk, kOk, kOk, kOk, kOk}},
          {"ContainerStatus", of_container(&Runtime::ContainerStatus), {kGone, kBad, kGone, kOk, kOk, kOk, kOk, kOk}},
          {"ContainerStats", of_container(&Runtime::ContainerStats), {kGone, kBad, kGone, kOk, kOk, kOk, kOk, kOk}},
          {"UpdateContainerResources",
           of_container(&Runtime::UpdateContainerResources, update),
           {kGone, kBad, kGone, kOk, kState, kOk, kState, kState}},
          {"ReopenContainerLog",
           of_container(&Runtime::ReopenContainerLog),
           {kGone, kBad, kGone, kState, kState, kOk, kState, kState}},
          {"ExecSync",
           of_container(&Runtime::ExecSync, exec_sync),
           {kGone, kBad, kGone, kState, kState, kOk, kState, kState}},
          {"Exec", of_container(&Runtime::Exec, exec), {kGone, kBad, kGone, kState, kState, kOk, kState, kState}},
          {"CheckpointContainer",
           of_container(&Runtime::CheckpointContainer, checkpoint),
           {kGone, kBad, kGone, kState, kState, criu_works() ? kOk : kNotBuilt, kState, kState}},
          {"Attach", of_container(&Runtime::Attach, attach), {kGone, kBad, kGone, kState, kState, kOk, kState, kState}},
      },
      [this](const std::string& subject) { return container(subject); });
}

TEST_F(IdempotenceTest, CallsOnPods) {
  const auto create = [](const std::string& id) {
    return outcome(cri().create(id, sleeper("another"), host().pod_config("pod")));
  };
  run(kPods,
      {
          // unknown, empty, removed, ready, stopped
          {"StopPodSandbox", of_pod(&Runtime::StopPodSandbox), {kOk, kBad, kOk, kOk, kOk}},
          {"RemovePodSandbox", of_pod(&Runtime::RemovePodSandbox), {kOk, kBad, kOk, kOk, kOk}},
          {"PodSandboxStatus", of_pod(&Runtime::PodSandboxStatus), {kGone, kBad, kGone, kOk, kOk}},
          {"PodSandboxStats", of_pod(&Runtime::PodSandboxStats), {kGone, kBad, kGone, kOk, kOk}},
          {"UpdatePodSandboxResources", of_pod(&Runtime::UpdatePodSandboxResources), {kGone, kBad, kGone, kOk, kState}},
          {"PortForward", of_pod(&Runtime::PortForward), {kGone, kBad, kGone, kOk, kState}},
          {"CreateContainer", create, {kGone, kBad, kGone, kOk, kState}},
          {"CheckpointPod", of_pod(&Runtime::CheckpointPod), {kBad, kBad, kBad, kBad, kBad}},  // without containers
      },
      [this](const std::string& subject) { return pod(subject); });
}

TEST_F(IdempotenceTest, CallsOnImages) {
  const auto make = [](const std::string& subject) -> std::string {
    if (subject == "unknown") return TestHost::image("absent");
    if (subject == "empty") return {};
    if (subject == "unknown digest") return "127.0.0.1:5000/busybox@sha256:" + std::string(64, '0');
    const auto name = TestHost::image("configured");
    must(cri().pull(name));
    if (subject == "present") return name;
    pb::RemoveImageRequest remove;
    remove.mutable_image()->set_image(name);
    must(cri().call(&Images::RemoveImage, remove));
    return name;
  };
  run({"unknown", "empty", "unknown digest", "removed", "present"},
      {
          {"ImageStatus", of_image(&Images::ImageStatus), {kOk, kBad, kOk, kOk, kOk}},
          {"RemoveImage", of_image(&Images::RemoveImage), {kOk, kBad, kOk, kOk, kOk}},
          {"PullImage", of_image(&Images::PullImage), {kGone, kBad, kGone, kOk, kOk}},
      },
      make);
  for (const auto& id : {std::string(64, '0'), "sha256:" + std::string(64, '0')}) {
    EXPECT_EQ(of_image(&Images::RemoveImage)(id), kOk) << "an id that nobody has";
    EXPECT_EQ(of_image(&Images::RemoveImage)(id), kOk) << "an id that nobody has";
  }
}

TEST_F(IdempotenceTest, ARunOfAPodAgain) {
  EXPECT_EQ(must(cri().run_pod(config_)), pod_);
  must(cri().stop_pod(pod_));
  const auto next = must(cri().run_pod(config_));
  EXPECT_NE(next, pod_) << "what has stopped does not come back";
  EXPECT_EQ(must(cri().run_pod(config_)), next);
  auto attempt = config_;
  attempt.mutable_metadata()->set_attempt(1);
  EXPECT_NE(must(cri().run_pod(attempt)), next);
  pb::RunPodSandboxRequest bad;
  for (int i = 0; i < 2; ++i) EXPECT_EQ(outcome(cri().call(&Runtime::RunPodSandbox, bad)), kBad);
  EXPECT_EQ(must(cri().pods()).size(), 3U);
}

/// An RPC without an id.
using Plain = std::function<Outcome()>;
template <class Stub, class Request, class Reply>
Plain plain(CriClient& client, grpc::Status (Stub::*method)(grpc::ClientContext*, const Request&, Reply*)) {
  return [&client, method] { return outcome(client.call(method, Request())); };
}
/// Reads all, or as many messages as `most`, and leaves.
template <class Reply, class Open>
Plain stream(Open open, std::size_t most = 1000) {
  return [open, most]() -> Outcome {
    grpc::ClientContext context;
    context.set_deadline(std::chrono::system_clock::now() + CriClient::kTimeout);
    const auto reader = open(&context);
    std::size_t count = 0;
    for (Reply message; count < most && reader->Read(&message); ++count) {
    }
    if (count == most) context.TryCancel();
    const auto status = reader->Finish();
    return status.ok() || count == most ? kOk : Outcome(rpc::from_status(status).code());
  };
}

std::map<std::string, Plain> streams(CriClient& client) {
  auto& runtime = client.runtime();
  auto& images = client.images();
  return {
      {"StreamPodSandboxes",
       stream<pb::StreamPodSandboxesResponse>([&](auto* c) { return runtime.StreamPodSandboxes(c, {}); })},
      {"StreamContainers",
       stream<pb::StreamContainersResponse>([&](auto* c) { return runtime.StreamContainers(c, {}); })},
      {"StreamContainerStats",
       stream<pb::StreamContainerStatsResponse>([&](auto* c) { return runtime.StreamContainerStats(c, {}); })},
      {"StreamPodSandboxStats",
       stream<pb::StreamPodSandboxStatsResponse>([&](auto* c) { return runtime.StreamPodSandboxStats(c, {}); })},
      {"StreamPodSandboxMetrics",
       stream<pb::StreamPodSandboxMetricsResponse>([&](auto* c) { return runtime.StreamPodSandboxMetrics(c, {}); })},
      {"StreamImages", stream<pb::StreamImagesResponse>([&](auto* c) { return images.StreamImages(c, {}); })},
      {"GetContainerEvents",
       stream<pb::ContainerEventResponse>([&](auto* c) { return runtime.GetContainerEvents(c, {}); }, 1)},
  };
}

std::map<std::string, Plain> plain_calls(CriClient& client) {
  return {
      {"Version", plain(client, &Runtime::Version)},
      {"Status", plain(client, &Runtime::Status)},
      {"RuntimeConfig", plain(client, &Runtime::RuntimeConfig)},
      {"UpdateRuntimeConfig", plain(client, &Runtime::UpdateRuntimeConfig)},
      {"ListPodSandbox", plain(client, &Runtime::ListPodSandbox)},
      {"ListContainers", plain(client, &Runtime::ListContainers)},
      {"ListContainerStats", plain(client, &Runtime::ListContainerStats)},
      {"ListPodSandboxStats", plain(client, &Runtime::ListPodSandboxStats)},
      {"ListMetricDescriptors", plain(client, &Runtime::ListMetricDescriptors)},
      {"ListPodSandboxMetrics", plain(client, &Runtime::ListPodSandboxMetrics)},
      {"ListImages", plain(client, &Images::ListImages)},
      {"ImageFsInfo", plain(client, &Images::ImageFsInfo)},
  };
}

/// Without all that they need.
std::map<std::string, Plain> empty_calls(CriClient& client) {
  return {
      {"RestorePod", plain(client, &Runtime::RestorePod)},
  };
}

TEST_F(IdempotenceTest, CallsWithoutAnId) {
  must(cri().run(pod_, sleeper("main"), config_));
  auto good = plain_calls(cri());
  good.merge(streams(cri()));
  for (int i = 0; i < 2; ++i) {
    for (const auto& [rpc, call] : good) EXPECT_EQ(text(call()), text(kOk)) << rpc;
    for (const auto& [rpc, call] : empty_calls(cri())) EXPECT_EQ(text(call()), text(kBad)) << rpc;
  }
}

TEST_F(IdempotenceTest, NoCallIsMissingHere) {
  std::set<std::string> here = {"RunPodSandbox",
                                "StopPodSandbox",
                                "RemovePodSandbox",
                                "PodSandboxStatus",
                                "PodSandboxStats",
                                "PortForward",
                                "UpdatePodSandboxResources",
                                "CreateContainer",
                                "StartContainer",
                                "StopContainer",
                                "RemoveContainer",
                                "ContainerStatus",
                                "ContainerStats",
                                "UpdateContainerResources",
                                "ReopenContainerLog",
                                "ExecSync",
                                "Exec",
                                "Attach",
                                "CheckpointContainer",
                                "CheckpointPod",
                                "ImageStatus",
                                "RemoveImage",
                                "PullImage"};
  for (const auto& map : {plain_calls(cri()), streams(cri()), empty_calls(cri())}) {
    for (const auto& [rpc, call] : map) here.insert(rpc);
  }
  std::set<std::string> all;
  for (const auto* name : {"runtime.v1.RuntimeService", "runtime.v1.ImageService"}) {
    const auto* service = google::protobuf::DescriptorPool::generated_pool()->FindServiceByName(name);
    ASSERT_NE(service, nullptr) << name;
    for (int i = 0; i < service->method_count(); ++i) all.insert(service->method(i)->name());
  }
  EXPECT_EQ(here, all);
}

TEST_F(IdempotenceTest, EndsAskedForByManyAtOnce) {
  const auto at_once = [](const Call& end, const Call& look, const std::string& id) {
    std::vector<std::thread> threads;
    std::vector<std::pair<Outcome, Outcome>> seen(5);
    for (auto& [ended, after] : seen) {
      threads.emplace_back([&] {
        ended = end(id);
        after = look(id);
      });
    }
    for (auto& thread : threads) thread.join();
    for (const auto& [ended, after] : seen) {
      EXPECT_EQ(text(ended), text(kOk));
      EXPECT_EQ(text(after), text(kGone)) << "there after an answer that it is removed";
    }
  };
  at_once(of_container(&Runtime::RemoveContainer), of_container(&Runtime::ContainerStatus), container("running"));
  at_once(of_pod(&Runtime::RemovePodSandbox), of_pod(&Runtime::PodSandboxStatus), pod("ready"));
  const auto image = [](const std::string& id) {
    pb::ImageStatusRequest status;
    status.mutable_image()->set_image(id);
    const auto found = cri().call(&Images::ImageStatus, status);
    return found && !found->has_image() ? kGone : outcome(found);
  };
  at_once(of_image(&Images::RemoveImage), image, must(cri().pull(TestHost::image("configured"))));
}

TEST_F(IdempotenceTest, AnImageHasOneIdUnderAllItsNamesAndGoesWithAnyOfThem) {
  const std::string elsewhere = "localhost:5000/configured:latest";
  const auto id = must(cri().pull(TestHost::image("configured")));
  EXPECT_EQ(must(cri().pull(elsewhere)), id);
  const auto status = [](const std::string& name) {
    pb::ImageStatusRequest request;
    request.mutable_image()->set_image(name);
    return must(cri().call(&Images::ImageStatus, request)).image();
  };
  EXPECT_EQ(status(elsewhere).id(), id);
  EXPECT_THAT(status(id).repo_tags(), testing::UnorderedElementsAre(TestHost::image("configured"), elsewhere));
  auto wanted = host().container_config("main", "configured");
  wanted.mutable_image()->set_image(elsewhere);
  const auto container = must(cri().run(pod_, wanted, config_));
  EXPECT_EQ(must(cri().status(container)).image_id(), id);
  EXPECT_EQ(must(cri().containers()).at(0).image_id(), id);
  EXPECT_EQ(of_image(&Images::RemoveImage)(elsewhere), kOk);
  for (const auto& name : {elsewhere, TestHost::image("configured"), id}) {
    EXPECT_TRUE(status(name).id().empty()) << name;
  }
  EXPECT_EQ(must(cri().shell(container, "echo on")), "on\n") << "what runs keeps its layers";
}

}  // namespace
}  // namespace berth::test
