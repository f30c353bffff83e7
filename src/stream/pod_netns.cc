#include <sched.h>

#include "berth/shim/v1/shim.pb.h"
#include "berth/wkt/wkt.pb.h"
#include "os/namespace.h"
#include "stream/port_forward.h"

namespace berth::stream {
namespace {

constexpr std::chrono::milliseconds kPodInfo{10'000};

}  // namespace

PodNetns::PodNetns(const SessionContext& context, const SessionSpec& spec, Ready ready, std::function<void()> gone) {
  auto shim = ShimClient::connect(context.reactor, context.io, spec.shim_socket,
                                  [alive = std::weak_ptr(alive_), gone = std::move(gone)](const Error& /*why*/) {
                                    if (alive.lock()) gone();
                                  });
  if (!shim) {
    boost::asio::post(context.io, [ready = std::move(ready), error = shim.error()] { ready(fail(error)); });
    return;
  }
  shim_ = std::move(*shim);
  Result<> opened;
  if (!spec.host_network) {
    auto netns = os::open_namespace("/proc/" + std::to_string(shim_->pid()) + "/ns/net", CLONE_NEWNET);
    if (netns) netns_ = std::move(*netns);
    if (!netns) opened = fail(std::move(netns).error());
  }
  // It answers, so it lived when its number was looked up, and the number was its own.
  shim_->call<::berth::shim::v1::PodInfoResponse>(
      "berth.shim.v1.Shim", "PodInfo", ::berth::wkt::Empty(), kPodInfo,
      [alive = std::weak_ptr(alive_), ready = std::move(ready),
       opened = std::move(opened)](const Result<::berth::shim::v1::PodInfoResponse>& info) {
        if (!alive.lock()) return;
        ready(info ? opened : Result<>(fail(info.error())));
      });
}

}  // namespace berth::stream
