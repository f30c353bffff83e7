#include "nri/plugin.h"

#include <algorithm>
#include <utility>

#include "base/log.h"

namespace berth::nri {
namespace {

constexpr std::string_view kPluginService = "nri.pkg.api.v1alpha1.Plugin";
constexpr const char* kRuntimeService = "nri.pkg.api.v1alpha1.Runtime";
// Unsolicited updates that one plugin may have under way.
constexpr std::size_t kMaxInFlight = 16;
constexpr std::size_t kMaxName = 255;
// For the error that a registration is answered with.
constexpr std::chrono::milliseconds kReadingTime{100};

}  // namespace

std::string_view event_name(api::Event event) {
  switch (event) {
    case api::RUN_POD_SANDBOX:
      return "RunPodSandbox";
    case api::STOP_POD_SANDBOX:
      return "StopPodSandbox";
    case api::REMOVE_POD_SANDBOX:
      return "RemovePodSandbox";
    case api::CREATE_CONTAINER:
      return "CreateContainer";
    case api::POST_CREATE_CONTAINER:
      return "PostCreateContainer";
    case api::START_CONTAINER:
      return "StartContainer";
    case api::POST_START_CONTAINER:
      return "PostStartContainer";
    case api::UPDATE_CONTAINER:
      return "UpdateContainer";
    case api::POST_UPDATE_CONTAINER:
      return "PostUpdateContainer";
    case api::STOP_CONTAINER:
      return "StopContainer";
    case api::REMOVE_CONTAINER:
      return "RemoveContainer";
    case api::UPDATE_POD_SANDBOX:
      return "UpdatePodSandbox";
    case api::POST_UPDATE_POD_SANDBOX:
      return "PostUpdatePodSandbox";
    case api::VALIDATE_CONTAINER_ADJUSTMENT:
      return "ValidateContainerAdjustment";
    default:
      return "?";
  }
}

bool is_plugin_index(std::string_view index) {
  return index.size() == 2 && std::ranges::all_of(index, [](char c) { return c >= '0' && c <= '9'; });
}

bool is_plugin_name(std::string_view name) {
  return !name.empty() && name.size() <= kMaxName && std::ranges::all_of(name, [](char c) {
    return (c >= 'a' && c <= 'z') || (c >= 'A' && c <= 'Z') || (c >= '0' && c <= '9') ||
           std::string_view("_.+-").find(c) != std::string_view::npos;
  });
}

Result<Plugin::Ptr> Plugin::attach(ttrpc::Reactor& reactor, UniqueFd trunk, Settings settings, Owner owner) {
  auto plugin = std::make_shared<Plugin>(reactor, std::move(settings), std::move(owner));
  BERTH_TRY(plugin->start(std::move(trunk)), "NRI plugin");
  return plugin;
}

Plugin::~Plugin() = default;

Result<> Plugin::start(UniqueFd trunk) {
  {
    MutexLock lock(mutex_);
    index_ = settings_.index;
    base_name_ = settings_.name;
  }
  const std::weak_ptr<Plugin> weak = weak_from_this();
  Mux::Ends ends;
  auto mux = Mux::start(reactor_.loop(), std::move(trunk), ends, [weak](const Error& reason) {
    if (const auto self = weak.lock()) self->shut(reason);
  });
  if (!mux) return fail(std::move(mux).error());
  mux_ = std::move(*mux);
  auto client = ttrpc::Client::adopt(reactor_, std::move(ends.plugin));
  if (!client) return fail(std::move(client).error());
  client_ = std::move(*client);
  serve();
  BERTH_TRY(server_->add_connection(std::move(ends.runtime)), "serve");
  registration_ = reactor_.loop().add_timer(settings_.registration_timeout, [weak] {
    if (const auto self = weak.lock()) {
      self->shut(Error(Code::kTimeout, "it did not register within " +
                                           std::to_string(self->settings_.registration_timeout.count()) + " ms"));
    }
  });
  return {};
}

void Plugin::serve() {
  ttrpc::ServerOptions options;
  options.max_in_flight = kMaxInFlight;
  server_ = std::make_unique<ttrpc::Server>(reactor_.loop(), std::move(options));
  const std::weak_ptr<Plugin> weak = weak_from_this();
  ttrpc::handle_now<api::RegisterPluginRequest, api::Empty>(
      *server_, kRuntimeService, "RegisterPlugin",
      [weak](const api::RegisterPluginRequest& request) -> Result<api::Empty> {
        const auto self = weak.lock();
        if (!self) return fail(Code::kUnavailable, "closing");
        auto done = self->register_as(request);
        if (!done) {
          self->turn_away(done.error());
          return fail(std::move(done).error());
        }
        return api::Empty();
      });
  ttrpc::handle_later<api::UpdateContainersRequest, api::UpdateContainersResponse>(
      *server_, kRuntimeService, "UpdateContainers",
      [weak](const api::UpdateContainersRequest& request, UpdateReply reply) {
        const auto self = weak.lock();
        if (!self || !self->registered_) return reply.error(Error(Code::kPrecondition, "it has not registered"));
        if (self->owner_.update) self->owner_.update(self, request, std::move(reply));
      });
}

Result<> Plugin::register_as(const api::RegisterPluginRequest& request) {
  if (registered_) return fail(Code::kPrecondition, "it has registered before");
  // One that we started is called what its file is called.
  if (settings_.index.empty()) {
    if (!is_plugin_name(request.plugin_name())) return fail(Code::kInvalid, "its name is no name of a plugin");
    if (!is_plugin_index(request.plugin_idx())) return fail(Code::kInvalid, "its index is not two digits");
    MutexLock lock(mutex_);
    index_ = request.plugin_idx();
    base_name_ = request.plugin_name();
  }
  registered_ = true;
  reactor_.loop().cancel(registration_);
  // After the answer: a plugin need not understand calls before it.
  reactor_.post([self = shared_from_this()] {
    if (self->owner_.registered && !self->closed_) self->owner_.registered(self);
  });
  return {};
}

std::string Plugin::index() const {
  MutexLock lock(mutex_);
  return index_;
}

std::string Plugin::base_name() const {
  MutexLock lock(mutex_);
  return base_name_;
}

std::string Plugin::name() const {
  MutexLock lock(mutex_);
  return base_name_.empty() ? "that has not registered" : index_ + "-" + base_name_;
}

void Plugin::take_turn() {
  MutexLock lock(mutex_);
  const std::uint64_t ticket = next_ticket_++;
  const auto mine = [this, ticket]() BERTH_REQUIRES(mutex_) { return serving_ == ticket; };
  free_.wait(lock, mine);
}

void Plugin::give_turn() {
  MutexLock lock(mutex_);
  ++serving_;
  free_.notify_all();
}

std::unexpected<Error> Plugin::close_for(std::string_view method, const Error& why) {
  const Error reason(Code::kUnavailable, std::string(method) + ": " + why.text());
  close(reason);
  return fail(reason);
}

Result<std::string> Plugin::call_bytes(std::string_view method, const std::string& payload, SteadyTime deadline) {
  if (closed_) return fail(Code::kUnavailable, "it is gone");
  ttrpc::CallOptions options;
  options.deadline = deadline;
  auto answer = client_->call(kPluginService, method, payload, options);
  if (answer) return answer;
  // A status of the same name that the plugin itself has answered is no fault of the connection.
  const bool hangs = answer.error().code() == Code::kTimeout && std::chrono::steady_clock::now() >= deadline;
  if (hangs) {
    return close_for(
        method, Error(Code::kTimeout, "no answer within " + std::to_string(settings_.request_timeout.count()) + " ms"));
  }
  if (!client_->alive() || answer.error().code() == Code::kCorrupt) return close_for(method, answer.error());
  return answer;
}

void Plugin::say_shutdown(std::function<void()> answered) {
  client_->call_async(kPluginService, "Shutdown", {},
                      [answered = std::move(answered)](const Result<std::string>&) { answered(); });
}

void Plugin::turn_away(const Error& reason) {
  closed_ = true;
  const std::weak_ptr<Plugin> weak = weak_from_this();
  reactor_.loop().add_timer(kReadingTime, [weak, reason] {
    if (const auto self = weak.lock()) self->shut(reason);
  });
}

void Plugin::close(const Error& reason) {
  closed_ = true;
  // Not at once, also on the reactor's thread: it may be one of the server's handlers that asks.
  reactor_.post([self = shared_from_this(), reason] { self->shut(reason); });
}

void Plugin::shut(const Error& reason) {
  const Owner owner = std::exchange(owner_, {});
  if (!mux_) return;
  closed_ = true;
  reactor_.loop().cancel(registration_);
  client_->close();
  server_.reset();
  std::exchange(mux_, nullptr)->close();
  if (owner.gone) owner.gone(shared_from_this(), reason);
}

}  // namespace berth::nri
