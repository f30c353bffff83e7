#include "client.h"

#include <grpcpp/create_channel.h>
#include <grpcpp/security/credentials.h>

#include "base/clock.h"

namespace berth::cli {

Client::Client(std::string socket_path) : socket_path_(std::move(socket_path)) {
  grpc::ChannelArguments arguments;
  arguments.SetMaxReceiveMessageSize(-1);
  const auto channel = grpc::CreateCustomChannel("unix:" + socket_path_, grpc::InsecureChannelCredentials(), arguments);
  runtime_ = pb::RuntimeService::NewStub(channel);
  images_ = pb::ImageService::NewStub(channel);
  operators_ = ::berth::v1::Operator::NewStub(channel);
}

Error Client::explain(const grpc::Status& status) const {
  auto error = rpc::from_status(status);
  const bool no_daemon =
      error.code() == Code::kUnavailable && error.text().find("failed to connect") != std::string::npos;
  if (!no_daemon) return error;
  return {Code::kUnavailable,
          "cannot reach berthd at " + socket_path_ + ": is it running? (--address names another socket)"};
}

namespace {

template <class Item>
Result<Item> only_match(const std::vector<Item>& matches, const std::string& kind, const std::string& name) {
  if (matches.empty()) return fail(Code::kNotFound, "no " + kind + " \"" + name + "\"");
  if (matches.size() > 1) {
    return fail(Code::kInvalid,
                "\"" + name + "\" means " + std::to_string(matches.size()) + " " + kind + "s: give more of the id");
  }
  return matches.front();
}

}  // namespace

Result<pb::PodSandbox> find_pod(Client& client, const std::string& name) {
  BERTH_ASSIGN(const auto pods,
               client.call(client.runtime(), &pb::RuntimeService::Stub::ListPodSandbox, pb::ListPodSandboxRequest()),
               "list pods");
  std::vector<pb::PodSandbox> matches;
  for (const auto& pod : pods.items()) {
    if (pod.id() == name) return pod;
    if (pod.metadata().name() == name || (!name.empty() && pod.id().starts_with(name))) matches.push_back(pod);
  }
  return only_match(matches, "pod", name);
}

Result<pb::Container> find_container(Client& client, const std::string& name) {
  BERTH_ASSIGN(const auto list,
               client.call(client.runtime(), &pb::RuntimeService::Stub::ListContainers, pb::ListContainersRequest()),
               "list containers");
  std::vector<pb::Container> matches;
  for (const auto& container : list.containers()) {
    if (container.id() == name) return container;
    if (container.metadata().name() == name || (!name.empty() && container.id().starts_with(name))) {
      matches.push_back(container);
    }
  }
  if (matches.empty()) {
    if (auto pod = find_pod(client, name)) {
      for (const auto& container : list.containers()) {
        if (container.pod_sandbox_id() == pod->id()) matches.push_back(container);
      }
    }
  }
  return only_match(matches, "container", name);
}

std::string short_id(const std::string& id) {
  const auto colon = id.find(':');
  return (colon == std::string::npos ? id : id.substr(colon + 1)).substr(0, 13);
}

std::string age(std::int64_t since_ns) {
  if (since_ns <= 0) return "-";
  const std::int64_t seconds = std::max<std::int64_t>(0, (wall_now_ns() - since_ns) / 1'000'000'000);
  const auto say = [](std::int64_t n, const char* unit) {
    return std::to_string(n) + " " + unit + (n == 1 ? "" : "s") + " ago";
  };
  if (seconds < 120) return say(seconds, "second");
  if (seconds < 7200) return say(seconds / 60, "minute");
  if (seconds < 172800) return say(seconds / 3600, "hour");
  return say(seconds / 86400, "day");
}

}  // namespace berth::cli
