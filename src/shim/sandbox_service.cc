#include <sched.h>
#include <sys/utsname.h>
#include <unistd.h>

#include <memory>
#include <string>
#include <utility>
#include <vector>

#include "base/clock.h"
#include "containerd/runtime/sandbox/v1/sandbox.pb.h"
#include "os/namespace.h"
#include "shim/metrics.h"
#include "shim/services.h"
#include "ttrpc/typed.h"

// containerd's sandbox API. The sandbox is this process: there is no other one that would hold a pod, so it is
// "started" when it is asked to be, and what ends it is the end of its containers.
namespace berth::shim {
namespace {

namespace pb = ::containerd::runtime::sandbox::v1;

constexpr const char* kService = "containerd.runtime.sandbox.v1.Sandbox";
// As containerd's CRI plugin compares them.
constexpr const char* kWordReady = "SANDBOX_READY";
constexpr const char* kWordNotReady = "SANDBOX_NOTREADY";

void set_time(berth::wkt::Timestamp* time, std::int64_t ns) {
  constexpr std::int64_t kNsPerSecond = 1'000'000'000;
  time->set_seconds(ns / kNsPerSecond);
  time->set_nanos(static_cast<std::int32_t>(ns % kNsPerSecond));
}

std::string architecture(std::string_view machine) {
  if (machine == "x86_64") return "amd64";
  if (machine == "aarch64") return "arm64";
  return std::string(machine);
}

class Sandbox final {
 public:
  Sandbox(Pod& pod, std::function<void()> shut_down) : pod_(pod), shut_down_(std::move(shut_down)) {}

  Result<pb::CreateSandboxResponse> create(const pb::CreateSandboxRequest& request);
  Result<pb::StartSandboxResponse> start(const std::string& id);
  Result<pb::StopSandboxResponse> stop(const std::string& id);
  void wait(const std::string& id, ttrpc::TypedResponder<pb::WaitSandboxResponse> responder);
  Result<pb::SandboxStatusResponse> status(const pb::SandboxStatusRequest& request);
  Result<pb::PingResponse> ping(const std::string& id);
  Result<pb::SandboxMetricsResponse> metrics(const std::string& id);
  Result<pb::PlatformResponse> platform(const std::string& id);
  void shut_down(const std::string& id, ttrpc::TypedResponder<pb::ShutdownSandboxResponse> responder);

 private:
  // kNone --create--> kCreated --start--> kReady --stop--> kStopped
  enum class State : std::uint8_t { kNone, kCreated, kReady, kStopped };

  [[nodiscard]] Result<> check(const std::string& id) const;
  void end();
  [[nodiscard]] pb::WaitSandboxResponse ending() const;

  Pod& pod_;
  std::function<void()> shut_down_;
  State state_ = State::kNone;
  std::int64_t created_at_ns_ = 0;
  std::int64_t exited_at_ns_ = 0;
  std::vector<std::shared_ptr<ttrpc::TypedResponder<pb::WaitSandboxResponse>>> waiters_;
};

Result<> Sandbox::check(const std::string& id) const {
  if (id == pod_.options().sandbox_id && state_ != State::kNone) return {};
  return fail(Code::kNotFound, "sandbox " + id.substr(0, 255) + " does not exist");
}

Result<pb::CreateSandboxResponse> Sandbox::create(const pb::CreateSandboxRequest& request) {
  if (request.sandbox_id() != pod_.options().sandbox_id) {
    return fail(Code::kInvalid, "sandbox_id: this shim was started for " + pod_.options().sandbox_id);
  }
  if (state_ != State::kNone) return fail(Code::kExists, "sandbox " + request.sandbox_id() + " exists");
  if (!request.netns_path().empty()) {
    // The namespace lives as long as this process then.
    BERTH_ASSIGN(const UniqueFd network, os::open_namespace(request.netns_path(), CLONE_NEWNET), "netns_path");
    BERTH_TRY(os::join_namespaces(network.get(), CLONE_NEWNET), "netns_path");
  }
  state_ = State::kCreated;
  created_at_ns_ = wall_now_ns();
  return pb::CreateSandboxResponse();
}

Result<pb::StartSandboxResponse> Sandbox::start(const std::string& id) {
  BERTH_TRY(check(id), "start");
  if (state_ != State::kCreated) return fail(Code::kPrecondition, "sandbox " + id + " was started before");
  state_ = State::kReady;
  pb::StartSandboxResponse reply;
  reply.set_pid(static_cast<std::uint32_t>(::getpid()));
  set_time(reply.mutable_created_at(), created_at_ns_);
  return reply;
}

pb::WaitSandboxResponse Sandbox::ending() const {
  pb::WaitSandboxResponse reply;
  set_time(reply.mutable_exited_at(), exited_at_ns_);
  return reply;
}

void Sandbox::end() {
  pod_.remove_all();
  if (state_ == State::kStopped) return;
  state_ = State::kStopped;
  exited_at_ns_ = wall_now_ns();
  for (const auto& waiter : std::exchange(waiters_, {})) waiter->ok(ending());
}

Result<pb::StopSandboxResponse> Sandbox::stop(const std::string& id) {
  BERTH_TRY(check(id), "stop");
  end();
  return pb::StopSandboxResponse();
}

void Sandbox::wait(const std::string& id, ttrpc::TypedResponder<pb::WaitSandboxResponse> responder) {
  constexpr std::size_t kMaxWaiters = 1024;
  if (auto known = check(id); !known) return responder.error(known.error());
  if (state_ == State::kStopped) return responder.ok(ending());
  if (waiters_.size() >= kMaxWaiters) return responder.error(Error(Code::kExhausted, "too many wait for the sandbox"));
  waiters_.push_back(std::make_shared<ttrpc::TypedResponder<pb::WaitSandboxResponse>>(std::move(responder)));
}

Result<pb::SandboxStatusResponse> Sandbox::status(const pb::SandboxStatusRequest& request) {
  BERTH_TRY(check(request.sandbox_id()), "status");
  pb::SandboxStatusResponse reply;
  reply.set_sandbox_id(request.sandbox_id());
  reply.set_pid(static_cast<std::uint32_t>(::getpid()));
  reply.set_state(state_ == State::kReady ? kWordReady : kWordNotReady);
  set_time(reply.mutable_created_at(), created_at_ns_);
  if (state_ == State::kStopped) set_time(reply.mutable_exited_at(), exited_at_ns_);
  if (request.verbose()) (*reply.mutable_info())["version"] = BERTH_VERSION;
  return reply;
}

Result<pb::PingResponse> Sandbox::ping(const std::string& id) {
  BERTH_TRY(check(id), "ping");
  return pb::PingResponse();
}

Result<pb::PlatformResponse> Sandbox::platform(const std::string& id) {
  BERTH_TRY(check(id), "platform");
  utsname names{};
  if (::uname(&names) != 0) return fail_errno(errno, "uname");
  pb::PlatformResponse reply;
  reply.mutable_platform()->set_os("linux");
  reply.mutable_platform()->set_architecture(architecture(names.machine));
  return reply;
}

Result<pb::SandboxMetricsResponse> Sandbox::metrics(const std::string& id) {
  BERTH_TRY(check(id), "metrics");
  engine::Stats sum;
  for (const auto& [name, container] : pod_.containers()) {
    const auto figures = container->engine->stats();
    if (!figures) continue;  // it is ending
    sum.cpu_usage_ns += figures->cpu_usage_ns;
    sum.cpu_user_ns += figures->cpu_user_ns;
    sum.cpu_system_ns += figures->cpu_system_ns;
    sum.memory_usage_bytes += figures->memory_usage_bytes;
    sum.memory_working_set_bytes += figures->memory_working_set_bytes;
    sum.memory_rss_bytes += figures->memory_rss_bytes;
    sum.pids += figures->pids;
  }
  pb::SandboxMetricsResponse reply;
  auto* metric = reply.mutable_metrics();
  set_time(metric->mutable_timestamp(), wall_now_ns());
  metric->set_id(id);
  metric->mutable_data()->set_type_url(kMetricsType);
  metric->mutable_data()->set_value(cgroup_metrics(sum));
  return reply;
}

void Sandbox::shut_down(const std::string& id, ttrpc::TypedResponder<pb::ShutdownSandboxResponse> responder) {
  if (auto known = check(id); !known) return responder.error(known.error());
  end();
  responder.ok(pb::ShutdownSandboxResponse());
  shut_down_();
}

}  // namespace

void serve_sandbox_api(ttrpc::Server& server, Pod& pod, std::function<void()> shut_down) {
  const auto box = std::make_shared<Sandbox>(pod, std::move(shut_down));
  ttrpc::handle_now<pb::CreateSandboxRequest, pb::CreateSandboxResponse>(
      server, kService, "CreateSandbox", [box](const auto& r) { return box->create(r); });
  ttrpc::handle_now<pb::StartSandboxRequest, pb::StartSandboxResponse>(
      server, kService, "StartSandbox", [box](const auto& r) { return box->start(r.sandbox_id()); });
  ttrpc::handle_now<pb::PlatformRequest, pb::PlatformResponse>(
      server, kService, "Platform", [box](const auto& r) { return box->platform(r.sandbox_id()); });
  ttrpc::handle_now<pb::StopSandboxRequest, pb::StopSandboxResponse>(
      server, kService, "StopSandbox", [box](const auto& r) { return box->stop(r.sandbox_id()); });
  ttrpc::handle_later<pb::WaitSandboxRequest, pb::WaitSandboxResponse>(
      server, kService, "WaitSandbox",
      [box](const auto& r, auto responder) { box->wait(r.sandbox_id(), std::move(responder)); });
  ttrpc::handle_now<pb::SandboxStatusRequest, pb::SandboxStatusResponse>(
      server, kService, "SandboxStatus", [box](const auto& r) { return box->status(r); });
  ttrpc::handle_now<pb::PingRequest, pb::PingResponse>(server, kService, "PingSandbox",
                                                       [box](const auto& r) { return box->ping(r.sandbox_id()); });
  ttrpc::handle_later<pb::ShutdownSandboxRequest, pb::ShutdownSandboxResponse>(
      server, kService, "ShutdownSandbox",
      [box](const auto& r, auto responder) { box->shut_down(r.sandbox_id(), std::move(responder)); });
  ttrpc::handle_now<pb::SandboxMetricsRequest, pb::SandboxMetricsResponse>(
      server, kService, "SandboxMetrics", [box](const auto& r) { return box->metrics(r.sandbox_id()); });
}

}  // namespace berth::shim
