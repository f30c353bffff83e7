#include "cri/shim_link.h"

#include <algorithm>
#include <csignal>
#include <thread>

#include "berth/wkt/wkt.pb.h"
#include "containerd/runtime/task/v2/shim.pb.h"
#include "ttrpc/typed.h"

namespace berth::cri {

namespace {

namespace task = ::containerd::task::v2;
namespace bs = ::berth::shim::v1;
using std::chrono::milliseconds;

constexpr std::string_view kTask = "containerd.task.v2.Task";
constexpr std::string_view kShim = "berth.shim.v1.Shim";
// What an OCI resources object in an Any is called (containerd's typeurl).
constexpr const char* kResourcesType = "types.containerd.io/opencontainers/runtime-spec/1/LinuxResources";

// A shim answers these within milliseconds; longer is a shim that hangs.
constexpr milliseconds kShort{10'000};
constexpr milliseconds kEventPark{3'600'000};
constexpr milliseconds kEventGrace{30'000};
constexpr milliseconds kPurgePause{5};
// From the end of a checkpoint's time to the answer: criu is ended and the containers go on.
constexpr milliseconds kCheckpointGrace{15'000};
// Below the frame limit, with room for the message around it.
constexpr std::uint64_t kPiece = 3U << 20;

template <class Reply, class Request>
Result<Reply> call(ttrpc::Client& client, std::string_view service, std::string_view method, const Request& request,
                   milliseconds timeout) {
  auto reply = ttrpc::call<Reply>(client, service, method, request, ttrpc::CallOptions::within(timeout));
  if (!reply) return fail(std::move(reply).error().in("shim " + std::string(method)));
  return reply;
}

}  // namespace

Result<std::shared_ptr<ShimLink>> ShimLink::connect(ttrpc::Reactor& reactor, const std::string& socket_path,
                                                    milliseconds timeout) {
  BERTH_ASSIGN(auto client, ttrpc::Client::connect(reactor, socket_path, timeout), "connect to the shim");
  return std::shared_ptr<ShimLink>(new ShimLink(std::move(client)));
}

Result<bs::PodInfoResponse> ShimLink::pod_info(milliseconds timeout) {
  return call<bs::PodInfoResponse>(*client_, kShim, "PodInfo", ::berth::wkt::Empty(), timeout);
}

Result<pid_t> ShimLink::create(const std::string& id, const std::string& bundle, const image::RootfsMount& rootfs,
                               const ShimStdio& stdio, const std::string& checkpoint, milliseconds timeout) {
  task::CreateTaskRequest request;
  request.set_id(id);
  request.set_bundle(bundle);
  auto* mount = request.add_rootfs();
  mount->set_type(rootfs.type);
  mount->set_source(rootfs.source);
  for (const auto& option : rootfs.options) mount->add_options(option);
  request.set_terminal(stdio.terminal);
  request.set_stdin(stdio.in);
  request.set_stdout(stdio.out);
  request.set_stderr(stdio.err);
  request.set_checkpoint(checkpoint);
  auto reply = call<task::CreateTaskResponse>(*client_, kTask, "Create", request, timeout);
  if (!reply) return fail(std::move(reply).error());
  return static_cast<pid_t>(reply->pid());
}

Result<pid_t> ShimLink::start(const std::string& id) {
  task::StartRequest request;
  request.set_id(id);
  auto reply = call<task::StartResponse>(*client_, kTask, "Start", request, kLong);
  if (!reply) return fail(std::move(reply).error());
  return static_cast<pid_t>(reply->pid());
}

Result<> ShimLink::kill(const std::string& id, int signal, bool all) {
  task::KillRequest request;
  request.set_id(id);
  request.set_signal(static_cast<std::uint32_t>(signal));
  request.set_all(all);
  auto reply = call<::berth::wkt::Empty>(*client_, kTask, "Kill", request, kShort);
  if (!reply) return fail(std::move(reply).error());
  return {};
}

Result<ShimExit> ShimLink::remove(const std::string& id) {
  task::DeleteRequest request;
  request.set_id(id);
  auto reply = call<task::DeleteResponse>(*client_, kTask, "Delete", request, kLong);
  if (!reply) return fail(std::move(reply).error());
  const auto& at = reply->exited_at();
  return ShimExit{reply->exit_status(), at.seconds() * 1'000'000'000 + at.nanos()};
}

Result<> ShimLink::purge(const std::string& id) {
  const auto deadline = std::chrono::steady_clock::now() + kShort;
  for (;;) {
    auto killed = kill(id, SIGKILL, true);
    ignore(killed, "the removal says whether something is left");
    auto removed = remove(id);
    if (removed || removed.error().code() == Code::kNotFound) return {};
    // A killed process is running until the kernel has ended it, which no call of the shim waits for without an event.
    const bool running = removed.error().code() == Code::kPrecondition;
    if (!running || std::chrono::steady_clock::now() >= deadline) return fail(std::move(removed).error());
    std::this_thread::sleep_for(kPurgePause);
  }
}

Result<> ShimLink::update(const std::string& id, const std::string& resources_json) {
  task::UpdateTaskRequest request;
  request.set_id(id);
  request.mutable_resources()->set_type_url(kResourcesType);
  request.mutable_resources()->set_value(resources_json);
  auto reply = call<::berth::wkt::Empty>(*client_, kTask, "Update", request, kShort);
  if (!reply) return fail(std::move(reply).error());
  return {};
}

Result<bs::ExecSyncResponse> ShimLink::exec_sync(const bs::ExecSyncRequest& request, SteadyTime deadline,
                                                 std::stop_token stop) {
  ttrpc::CallOptions options;
  if (deadline != SteadyTime::max()) options.deadline = deadline;
  options.stop = std::move(stop);
  auto reply = ttrpc::call<bs::ExecSyncResponse>(*client_, kShim, "ExecSync", request, options);
  if (!reply) return fail(std::move(reply).error().in("shim ExecSync"));
  return reply;
}

Result<std::string> ShimLink::read_exec_output(std::uint64_t token, bool stderr_stream, std::uint64_t size,
                                               bool release, SteadyTime deadline) {
  std::string output;
  output.reserve(size);
  ttrpc::CallOptions options;
  if (deadline != SteadyTime::max()) options.deadline = deadline;
  do {
    bs::ReadExecOutputRequest request;
    request.set_token(token);
    request.set_stderr_stream(stderr_stream);
    request.set_offset(output.size());
    request.set_length(std::min<std::uint64_t>(kPiece, size - output.size()));
    request.set_release(release && output.size() + request.length() >= size);
    auto reply = ttrpc::call<bs::ReadExecOutputResponse>(*client_, kShim, "ReadExecOutput", request, options);
    if (!reply) return fail(std::move(reply).error().in("shim ReadExecOutput"));
    if (reply->data().empty()) break;
    output.append(reply->data(), 0, size - output.size());
  } while (output.size() < size);
  return output;
}

Result<> ShimLink::reopen_log(const std::string& id) {
  bs::ReopenLogRequest request;
  request.set_container_id(id);
  auto reply = call<::berth::wkt::Empty>(*client_, kShim, "ReopenLog", request, kShort);
  if (!reply) return fail(std::move(reply).error());
  return {};
}

Result<bs::ContainerStatsResponse> ShimLink::stats(const std::string& id, milliseconds timeout) {
  bs::ContainerStatsRequest request;
  request.set_container_id(id);
  return call<bs::ContainerStatsResponse>(*client_, kShim, "ContainerStats", request, timeout);
}

Result<> ShimLink::checkpoint(const bs::CheckpointRequest& request) {
  // The shim's own limit comes first: what it says names the step.
  const milliseconds limit = milliseconds(request.timeout_ms()) + kCheckpointGrace;
  auto reply = call<::berth::wkt::Empty>(*client_, kShim, "Checkpoint", request, limit);
  if (!reply) return fail(std::move(reply).error());
  return {};
}

Result<> ShimLink::shutdown(bool now) {
  task::ShutdownRequest request;
  request.set_now(now);
  auto reply = call<::berth::wkt::Empty>(*client_, kTask, "Shutdown", request, kShort);
  if (!reply) return fail(std::move(reply).error());
  return {};
}

void ShimLink::wait_event(std::uint64_t seq, Events events) {
  bs::WaitEventRequest request;
  request.set_after_seq(seq);
  request.set_timeout_ms(static_cast<std::uint64_t>(kEventPark.count()));
  ttrpc::call_async<bs::WaitEventResponse>(*client_, kShim, "WaitEvent", request, std::move(events),
                                           ttrpc::CallOptions::within(kEventPark + kEventGrace));
}

void ShimLink::stats_async(const std::string& id, milliseconds timeout, Stats stats) {
  bs::ContainerStatsRequest request;
  request.set_container_id(id);
  ttrpc::call_async<bs::ContainerStatsResponse>(*client_, kShim, "ContainerStats", request, std::move(stats),
                                                ttrpc::CallOptions::within(timeout));
}

}  // namespace berth::cri
