// How plugins come and go: by the socket, or started from the plugin folder.
#include <sys/epoll.h>
#include <unistd.h>

#include <algorithm>
#include <filesystem>
#include <latch>
#include <utility>

#include "base/log.h"
#include "nri/nri.h"
#include "os/file.h"
#include "os/pidfd.h"
#include "os/socket.h"
#include "os/spawn.h"

namespace berth::nri {
namespace {

using std::chrono::milliseconds;

constexpr std::size_t kMaxPlugins = 64;
// How long the listener rests when the process is out of descriptors.
constexpr milliseconds kListenPause{100};
// From the end of its connection until a plugin that we started is killed.
constexpr milliseconds kChildEnd{1000};
constexpr milliseconds kShutdownAnswer{500};
// After SIGKILL: more only where it hangs in the kernel.
constexpr milliseconds kKilledEnd{2000};
// Of one Synchronize message: well below what ttrpc carries.
constexpr std::size_t kMaxSyncBytes = 3U << 20;

/// The plugin and what it has started in its process group.
void end_child(const os::Child& child, milliseconds patience) {
  ignore(os::wait_readable(child.pidfd.get(), patience), "it is killed, whatever became of it");
  os::kill_group(child);
  const auto ended = os::wait_readable(child.pidfd.get(), kKilledEnd);
  if (ended && *ended) {
    ignore(os::wait_exit(child), "a plugin's exit code says nothing");
  } else {
    log_warn("a killed NRI plugin has not ended", {{"pid", child.pid}});
  }
}

/// Pods and containers in messages that ttrpc can carry; at least one.
class SyncMessages {
 public:
  template <class Object>
  void add(const Object& object, google::protobuf::RepeatedPtrField<Object>* (api::SynchronizeRequest::*list)()) {
    const std::size_t size = object.ByteSizeLong() + 16;
    if (size > kMaxSyncBytes) {
      log_warn("too large for an NRI plugin to be told of", {{"id", object.id()}, {"bytes", size}});
      return;
    }
    if (bytes_ + size > kMaxSyncBytes) {
      messages.emplace_back();
      bytes_ = 0;
    }
    *(messages.back().*list)()->Add() = object;
    bytes_ += size;
  }
  std::vector<api::SynchronizeRequest> messages{1};

 private:
  std::size_t bytes_ = 0;
};

}  // namespace

void Nri::start() {
  start_preinstalled();
  listen();
}

Nri::~Nri() {
  stop();
}

void Nri::stop() {
  std::map<const Plugin*, Plugin::Ptr> connected;
  std::map<const Plugin*, os::Child> children;
  {
    MutexLock lock(mutex_);
    if (std::exchange(stopping_, true)) return;
    connected = connected_;
    children = std::move(children_);
    children_.clear();
    settled_.notify_all();
  }
  reactor_.post([this] {
    reactor_.loop().cancel(listener_rest_);
    if (!listener_) return;
    reactor_.loop().remove(listener_watch_);
    listener_.reset();
    ignore(os::remove_file(options_.socket), "the next daemon replaces it");
  });
  const auto answers = std::make_shared<std::latch>(static_cast<std::ptrdiff_t>(connected.size()));
  for (const auto& [key, plugin] : connected) plugin->say_shutdown([answers] { answers->count_down(); });
  const auto deadline = std::chrono::steady_clock::now() + kShutdownAnswer;
  while (!answers->try_wait() && std::chrono::steady_clock::now() < deadline) {
    reactor_.drain();
    ::usleep(1000);
  }
  for (const auto& [key, plugin] : connected) plugin->close(Error(Code::kCancelled, "the daemon ends"));
  reactor_.drain();
  for (const auto& [key, child] : children) end_child(child, milliseconds(100));
}

void Nri::listen() {
  if (options_.socket.empty()) return;
  const std::string folder = std::filesystem::path(options_.socket).parent_path();
  auto made = os::make_dirs(folder, 0700);
  auto socket = made ? os::unix_listen(options_.socket, {.mode = 0600}) : Result<UniqueFd>(fail(made.error()));
  if (!socket) {
    log_warn("NRI plugins cannot connect", {{"socket", options_.socket}, {"err", socket.error().text()}});
    return;
  }
  const auto shared = std::make_shared<UniqueFd>(std::move(*socket));
  reactor_.post([this, shared] {
    listener_ = std::move(*shared);
    const int fd = listener_.get();
    auto watch = reactor_.loop().add_fd(fd, EPOLLIN, [this, fd](std::uint32_t) { accept_ready(fd); });
    if (watch) listener_watch_ = *watch;
    if (!watch) log_error("NRI plugins cannot connect", {{"err", watch.error().text()}});
  });
}

void Nri::accept_ready(int listener_fd) {
  auto accepted = os::accept_connection(listener_fd);
  if (!accepted) {
    // The connection still waits and would wake the loop at once, again and again.
    log_warn("an NRI plugin cannot connect", {{"err", accepted.error().text()}});
    ignore(reactor_.loop().modify_fd(listener_watch_, 0), "at worst the loop tries again at once");
    listener_rest_ = reactor_.loop().add_timer(kListenPause, [this] {
      ignore(reactor_.loop().modify_fd(listener_watch_, EPOLLIN), "the listener is gone, or the daemon ends");
    });
    return;
  }
  if (!*accepted) return;
  const auto peer = os::peer_credentials((**accepted).get());
  if (!peer || peer->uid != ::geteuid()) {
    log_warn("an NRI plugin of another user is refused", {{"uid", peer ? static_cast<long>(peer->uid) : -1L}});
    return;
  }
  Plugin::Settings settings;
  settings.registration_timeout = options_.registration_timeout;
  settings.request_timeout = options_.request_timeout;
  auto plugin = attach(std::move(**accepted), std::move(settings));
  if (!plugin) log_warn("an NRI plugin cannot be served", {{"err", plugin.error().text()}});
}

Result<Plugin::Ptr> Nri::attach(UniqueFd trunk, Plugin::Settings settings) {
  {
    MutexLock lock(mutex_);
    if (stopping_) return fail(Code::kCancelled, "the daemon ends");
    if (connected_.size() >= kMaxPlugins) return fail(Code::kExhausted, "there are too many plugins");
  }
  Plugin::Owner owner;
  owner.registered = [this](const Plugin::Ptr& plugin) { host_.run([this, plugin] { admit(plugin); }); };
  owner.gone = [this](const Plugin::Ptr& plugin, const Error& reason) { leave(plugin, reason); };
  owner.update = [this](const Plugin::Ptr& plugin, api::UpdateContainersRequest request, Plugin::UpdateReply reply) {
    update_asked(plugin, std::move(request), std::move(reply));
  };
  auto plugin = Plugin::attach(reactor_, std::move(trunk), std::move(settings), std::move(owner));
  if (!plugin) return plugin;
  {
    MutexLock lock(mutex_);
    if (!stopping_) {
      connected_.emplace(plugin->get(), *plugin);
      return plugin;
    }
  }
  const Error ending(Code::kCancelled, "the daemon ends");
  (*plugin)->close(ending);
  return fail(ending);
}

void Nri::start_preinstalled() {
  if (options_.plugin_dir.empty()) return;
  std::vector<std::string> faults;
  const auto found = find_preinstalled(options_.plugin_dir, options_.config_dir, faults);
  for (const auto& fault : faults) log_warn("a pre-installed NRI plugin is passed over", {{"err", fault}});
  for (const auto& plugin : found) launch_one(plugin);
  if (found.empty()) return;
  reactor_.drain();
  MutexLock lock(mutex_);
  const auto all = [this]() BERTH_REQUIRES(mutex_) { return awaited_.empty() || stopping_; };
  settled_.wait(lock, all);  // each ends by itself: at its registration timeout, or at that of its requests
}

void Nri::launch_one(const Preinstalled& found) {
  auto launched = launch(found);
  if (!launched) {
    log_warn("a pre-installed NRI plugin does not start", {{"plugin", found.path}, {"err", launched.error().text()}});
    return;
  }
  const auto shared = std::make_shared<Launched>(std::move(*launched));
  reactor_.post([this, shared, found] {
    Plugin::Settings settings{.index = found.index, .name = found.name, .config = found.config};
    settings.registration_timeout = options_.registration_timeout;
    settings.request_timeout = options_.request_timeout;
    auto plugin = attach(std::move(shared->trunk), std::move(settings));
    if (!plugin) {
      log_warn("a pre-installed NRI plugin cannot be served", {{"err", plugin.error().text()}});
      host_.run([shared] { end_child(shared->child, milliseconds(0)); });
      return;
    }
    {
      MutexLock lock(mutex_);
      if (!stopping_) {
        children_.emplace(plugin->get(), std::move(shared->child));
        awaited_.insert(plugin->get());
        return;
      }
    }
    // stop() has not seen it.
    host_.run([shared] { end_child(shared->child, milliseconds(0)); });
  });
}

void Nri::admit(const Plugin::Ptr& plugin) {
  auto joined = configure(*plugin);
  std::vector<api::ContainerUpdate> updates;
  if (joined) {
    auto asked = join(plugin);
    if (asked) updates = std::move(*asked);
    if (!asked) joined = fail(std::move(asked).error());
  }
  if (!joined) return plugin->close(joined.error());
  log_info("an NRI plugin has joined", {{"plugin", plugin->name()}, {"events", plugin->events()}});
  // The daemon's start waits for that, and what carries updates out may wait for the start.
  settled(plugin);
  carry_out(updates, {});
}

Result<> Nri::configure(Plugin& plugin) {
  api::ConfigureRequest request;
  request.set_config(plugin.settings().config);
  request.set_runtime_name(options_.runtime_name);
  request.set_runtime_version(options_.runtime_version);
  request.set_registration_timeout(options_.registration_timeout.count());
  request.set_request_timeout(options_.request_timeout.count());
  request.set_nri_version("v0.12.2");  // that of the API we speak
  auto answer = plugin.call<api::ConfigureResponse>("Configure", request);
  if (!answer) return fail(std::move(answer).error().in("Configure"));
  const auto events = static_cast<std::uint32_t>(answer->events());
  if ((events & ~kAllEvents) != 0) {
    return fail(Code::kInvalid, "it subscribed to events that there are not: " + std::to_string(events & ~kAllEvents));
  }
  plugin.subscribe(events);
  return {};
}

Result<std::vector<api::ContainerUpdate>> Nri::join(const Plugin::Ptr& plugin) {
  // From the moment it is in the list, others wait for its turn: what happens meanwhile it is told after the state.
  const Plugin::Turn turn(*plugin);
  UnderWay under_way;
  {
    MutexLock lock(mutex_);
    if (stopping_ || !connected_.contains(plugin.get())) return fail(Code::kUnavailable, "it is gone");
    const auto place =
        std::ranges::upper_bound(plugins_, plugin->index(), {}, [](const auto& p) { return p->index(); });
    plugins_.insert(place, plugin);
    recount();
    for (const auto& [id, making] : under_way_) (making ? under_way.making : under_way.going).insert(id);
  }
  auto updates = synchronize(*plugin, host_.state(under_way));
  if (updates) return updates;
  MutexLock lock(mutex_);
  std::erase(plugins_, plugin);
  recount();
  return updates;
}

Result<std::vector<api::ContainerUpdate>> Nri::synchronize(Plugin& plugin, const NodeState& state) {
  SyncMessages all;
  for (const auto& pod : state.pods) all.add(pod, &api::SynchronizeRequest::mutable_pods);
  for (const auto& container : state.containers) all.add(container, &api::SynchronizeRequest::mutable_containers);
  std::vector<api::ContainerUpdate> updates;
  for (std::size_t i = 0; i < all.messages.size(); ++i) {
    auto& message = all.messages[i];
    message.set_more(i + 1 < all.messages.size());
    const auto deadline = std::chrono::steady_clock::now() + plugin.settings().request_timeout;
    auto answer = plugin.call_in_turn<api::SynchronizeResponse>("Synchronize", message, deadline);
    if (!answer) return fail(std::move(answer).error().in("Synchronize"));
    if (message.more() && (!answer->more() || answer->update_size() > 0)) {
      return fail(Code::kUnsupported, "Synchronize: it does not take the state in several messages");
    }
    for (const auto& update : answer->update()) updates.push_back(update);
  }
  return updates;
}

void Nri::settled(const Plugin::Ptr& plugin) {
  MutexLock lock(mutex_);
  awaited_.erase(plugin.get());
  settled_.notify_all();
}

void Nri::leave(const Plugin::Ptr& plugin, const Error& reason) {
  std::shared_ptr<os::Child> child;
  bool ending = false;
  {
    MutexLock lock(mutex_);
    ending = stopping_;
    connected_.erase(plugin.get());
    std::erase(plugins_, plugin);
    recount();
    if (auto node = children_.extract(plugin.get())) child = std::make_shared<os::Child>(std::move(node.mapped()));
    awaited_.erase(plugin.get());
    settled_.notify_all();
  }
  if (!ending) log_warn("an NRI plugin is gone", {{"plugin", plugin->name()}, {"err", reason.text()}});
  if (child) host_.run([child] { end_child(*child, kChildEnd); });
}

void Nri::update_asked(const Plugin::Ptr& plugin, api::UpdateContainersRequest request, Plugin::UpdateReply reply) {
  const auto answer = std::make_shared<Plugin::UpdateReply>(std::move(reply));
  host_.run([this, plugin, answer, request = std::move(request)] {
    api::UpdateContainersResponse response;
    for (const auto& update : request.update()) {
      auto done = host_.update(update);
      if (done || update.ignore_failure()) continue;
      log_warn("an update that an NRI plugin asked for failed",
               {{"plugin", plugin->name()}, {"container", update.container_id()}, {"err", done.error().text()}});
      *response.add_failed() = update;
    }
    std::vector<Eviction> evictions;
    for (const auto& evict : request.evict()) {
      evictions.push_back({plugin->name(), evict.container_id(), evict.reason()});
    }
    carry_out({}, evictions);
    reactor_.post([answer, response = std::move(response)] { answer->ok(response); });
  });
}

}  // namespace berth::nri
