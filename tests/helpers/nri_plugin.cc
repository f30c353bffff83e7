#include "nri_plugin.h"

#include <algorithm>
#include <array>
#include <latch>

#include "os/socket.h"

namespace berth::test {
namespace {

constexpr const char* kPluginService = "nri.pkg.api.v1alpha1.Plugin";
constexpr std::string_view kRuntimeService = "nri.pkg.api.v1alpha1.Runtime";
constexpr std::chrono::seconds kPatience{20};

constexpr std::array kAlways = {"CreateContainer", "UpdateContainer", "StopContainer", "UpdatePodSandbox",
                                "ValidateContainerAdjustment"};
constexpr std::array kSinceTwelve = {"RunPodSandbox",       "StopPodSandbox",  "RemovePodSandbox",
                                     "PostCreateContainer", "StartContainer",  "PostStartContainer",
                                     "PostUpdateContainer", "RemoveContainer", "PostUpdatePodSandbox"};

/// What the call is about: the requests of all events have the pod and the container in the same places.
std::string about(const std::string& method, const std::string& payload) {
  if (method == "StateChange") {
    nri_api::StateChangeEvent change;
    static_cast<void>(change.ParseFromString(payload));
    return nri_api::Event_Name(change.event()) + " " +
           (change.has_container() ? change.container().name() : change.pod().name());
  }
  if (method == "UpdatePodSandbox") {
    nri_api::UpdatePodSandboxRequest request;
    static_cast<void>(request.ParseFromString(payload));
    return request.pod().name();
  }
  nri_api::StartContainerRequest request;
  static_cast<void>(request.ParseFromString(payload));
  return request.has_container() ? request.container().name() : request.pod().name();
}

}  // namespace

NriPlugin::~NriPlugin() {
  disconnect();
  if (client_) client_->close();
  if (reactor_) reactor_->drain();
}

Result<> NriPlugin::start(const std::string& socket_path) {
  auto trunk = os::unix_connect(socket_path, kPatience);
  if (!trunk) return fail(std::move(trunk).error());
  return start(std::move(*trunk));
}

Result<> NriPlugin::start(UniqueFd trunk) {
  auto reactor = ttrpc::Reactor::create();
  if (!reactor) return fail(std::move(reactor).error());
  reactor_ = std::move(*reactor);
  {
    MutexLock lock(mutex_);
    connected_ = true;
  }
  Result<> made;
  std::latch done(1);
  reactor_->post([&] {
    nri::Mux::Ends ends;
    auto mux = nri::Mux::start(reactor_->loop(), std::move(trunk), ends, [this](const Error&) {
      MutexLock lock(mutex_);
      connected_ = false;
      changed_.notify_all();
    });
    if (mux) {
      mux_ = std::move(*mux);
      serve();
      made = server_->add_connection(std::move(ends.plugin));
      if (auto client = ttrpc::Client::adopt(*reactor_, std::move(ends.runtime))) client_ = std::move(*client);
    } else {
      made = fail(mux.error());
    }
    done.count_down();
  });
  done.wait();
  if (!made) return made;
  nri_api::RegisterPluginRequest request;
  request.set_plugin_name(options_.name);
  request.set_plugin_idx(options_.index);
  auto registered = ttrpc::call<nri_api::Empty>(*client_, kRuntimeService, "RegisterPlugin", request,
                                                ttrpc::CallOptions::within(kPatience));
  if (!registered) return fail(std::move(registered).error());
  MutexLock lock(mutex_);
  const auto joined = [this]() BERTH_REQUIRES(mutex_) { return in_sync_ || !connected_; };
  if (!changed_.wait_for(lock, kPatience, joined)) return fail(Code::kTimeout, "it was not told of the state");
  if (!in_sync_) return fail(Code::kUnavailable, "the runtime closed the connection");
  return {};
}

void NriPlugin::disconnect() {
  if (!reactor_) return;
  reactor_->post([this] {
    held_.clear();
    server_.reset();
    if (mux_) mux_->close();
    mux_.reset();
  });
  reactor_->drain();
  MutexLock lock(mutex_);
  connected_ = false;
}

void NriPlugin::serve() {
  server_ = std::make_unique<ttrpc::Server>(reactor_->loop());
  server_->handle(kPluginService, "Configure", [this](std::string_view payload, ttrpc::Responder responder) {
    if (hang_at_ == "Configure") return held_.push_back(std::move(responder));
    responder.respond(configure(payload));
  });
  server_->handle(kPluginService, "Synchronize", [this](std::string_view payload, ttrpc::Responder responder) {
    if (hang_at_ == "Synchronize") return held_.push_back(std::move(responder));
    responder.respond(synchronize(payload));
  });
  server_->handle(kPluginService, "Shutdown", [this](std::string_view, ttrpc::Responder responder) {
    note("Shutdown");
    responder.ok({});
  });
  for (const char* method : kAlways) serve_event(method);
  if (options_.old) {
    serve_event("StateChange");
  } else {
    for (const char* method : kSinceTwelve) serve_event(method);
  }
}

void NriPlugin::serve_event(const std::string& method) {
  server_->handle(kPluginService, method, [this, method](std::string_view bytes, ttrpc::Responder responder) {
    const std::string payload(bytes);
    note(method + " " + about(method, payload));
    if (hang_at_ == method) return held_.push_back(std::move(responder));
    const auto handler = handlers_.find(method);
    responder.respond(handler == handlers_.end() ? Result<std::string>(std::string()) : handler->second(payload));
  });
}

Result<std::string> NriPlugin::configure(std::string_view payload) {
  {
    MutexLock lock(mutex_);
    static_cast<void>(configuration_.ParseFromArray(payload.data(), static_cast<int>(payload.size())));
  }
  if (const auto handler = handlers_.find("Configure"); handler != handlers_.end()) {
    return handler->second(std::string(payload));
  }
  nri_api::ConfigureResponse reply;
  reply.set_events(options_.events);
  return reply.SerializeAsString();
}

Result<std::string> NriPlugin::synchronize(std::string_view payload) {
  nri_api::SynchronizeRequest request;
  static_cast<void>(request.ParseFromArray(payload.data(), static_cast<int>(payload.size())));
  nri_api::SynchronizeResponse reply;
  reply.set_more(request.more());
  {
    MutexLock lock(mutex_);
    synchronized_.MergeFrom(request);
    ++sync_messages_;
    if (!request.more()) {
      in_sync_ = true;
      changed_.notify_all();
    }
  }
  if (const auto handler = handlers_.find("Synchronize"); handler != handlers_.end()) {
    return handler->second(std::string(payload));
  }
  return reply.SerializeAsString();
}

void NriPlugin::note(const std::string& call) {
  MutexLock lock(mutex_);
  calls_.push_back(call);
  changed_.notify_all();
}

bool NriPlugin::connected() const {
  MutexLock lock(mutex_);
  return connected_;
}

std::vector<std::string> NriPlugin::calls() const {
  MutexLock lock(mutex_);
  return calls_;
}

std::size_t NriPlugin::count(const std::string& call) const {
  const auto all = calls();
  return static_cast<std::size_t>(std::ranges::count(all, call));
}

bool NriPlugin::wait_for(const std::string& call, std::chrono::milliseconds timeout) const {
  MutexLock lock(mutex_);
  const auto there = [&]() BERTH_REQUIRES(mutex_) { return std::ranges::find(calls_, call) != calls_.end(); };
  return changed_.wait_for(lock, timeout, there);
}

bool NriPlugin::wait_closed(std::chrono::milliseconds timeout) const {
  MutexLock lock(mutex_);
  const auto closed = [this]() BERTH_REQUIRES(mutex_) { return !connected_; };
  return changed_.wait_for(lock, timeout, closed);
}

nri_api::SynchronizeRequest NriPlugin::synchronized() const {
  MutexLock lock(mutex_);
  return synchronized_;
}

int NriPlugin::sync_messages() const {
  MutexLock lock(mutex_);
  return sync_messages_;
}

nri_api::ConfigureRequest NriPlugin::configuration() const {
  MutexLock lock(mutex_);
  return configuration_;
}

Result<nri_api::UpdateContainersResponse> NriPlugin::update(const nri_api::UpdateContainersRequest& request) {
  return ttrpc::call<nri_api::UpdateContainersResponse>(*client_, kRuntimeService, "UpdateContainers", request,
                                                        ttrpc::CallOptions::within(kPatience));
}

}  // namespace berth::test
