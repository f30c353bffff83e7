#pragma once
#include <atomic>
#include <condition_variable>
#include <functional>
#include <map>
#include <memory>
#include <set>
#include <string>
#include <vector>

#include "base/result.h"
#include "base/thread_annotations.h"
#include "nri/adjustment.h"
#include "nri/options.h"
#include "nri/plugin.h"
#include "nri/preinstalled.h"
#include "ttrpc/reactor.h"

namespace berth::nri {

/// What a plugin that joins is told of.
struct NodeState {
  std::vector<api::PodSandbox> pods;
  std::vector<api::Container> containers;
};

/// Ids of pods and containers on their way in or out. To a plugin that joins, those that are being made are there
/// already, since it was not asked about them, and those that are going are not, since it will not be told.
struct UnderWay {
  std::set<std::string, std::less<>> making;
  std::set<std::string, std::less<>> going;
};

/// What NRI asks of the runtime. All but `run` may block and are called on threads of `run`.
struct Host {
  std::function<void(std::function<void()>)> run;  ///< runs it on a thread that may block; does not wait
  std::function<NodeState(const UnderWay&)> state;
  std::function<Result<>(const api::ContainerUpdate&)> update;
  std::function<Result<>(const Eviction&)> evict;
};

/// What CreateContainer came to.
struct Created {
  api::ContainerAdjustment adjust;
  Owners owners;
  std::vector<api::ContainerUpdate> updates;  ///< of other containers
  std::vector<Eviction> evictions;
};

/// The plugins of the node, in the order of their index. Thread-safe; calls block while plugins think, at most for the
/// request timeout each. With no plugin connected nothing is asked, nothing is built and nothing waits: see wanted().
class Nri final {
  using PluginList = std::vector<Plugin::Ptr>;

 public:
  /// Without plugins, until start().
  Nri(Options options, ttrpc::Reactor& reactor, Host host)
      : options_(std::move(options)), reactor_(reactor), host_(std::move(host)) {}
  /// Starts the pre-installed plugins, waits until each of them has been told of the state or has failed, which is
  /// bounded by the timeouts, and listens. What is wrong with a plugin, or with the socket, is logged and no failure.
  void start() BERTH_EXCLUDES(mutex_);
  /// After stop(), when the threads of Host::run have come to their end.
  ~Nri();
  Nri(const Nri&) = delete;
  Nri& operator=(const Nri&) = delete;
  Nri(Nri&&) = delete;
  Nri& operator=(Nri&&) = delete;
  /// Says Shutdown to all plugins, closes them and ends those that were started here. Calls under way fail at once.
  void stop() BERTH_EXCLUDES(mutex_);

  /// While one lives, something is being made or is going; the plugins of that moment are those that are asked.
  class Passage final {
   public:
    Passage() = default;
    Passage(Passage&& other) noexcept { *this = std::move(other); }
    Passage& operator=(Passage&& other) noexcept;
    Passage(const Passage&) = delete;
    Passage& operator=(const Passage&) = delete;
    ~Passage();

   private:
    friend class Nri;
    Nri* nri_ = nullptr;
    std::string id_;
    bool making_ = false;
    PluginList plugins_;
  };
  [[nodiscard]] Passage making(std::string id) BERTH_EXCLUDES(mutex_) { return pass(std::move(id), true); }
  [[nodiscard]] Passage going(std::string id) BERTH_EXCLUDES(mutex_) { return pass(std::move(id), false); }

  /// Whether some plugin has subscribed to it. Costs nothing.
  [[nodiscard]] bool wanted(api::Event event) const { return (wanted_ & event_bit(event)) != 0; }
  /// Whether create_container() would ask anybody: a plugin of the passage that changes or judges, though it may have
  /// ended just now, or the built-in validator.
  [[nodiscard]] bool create_wanted(const Passage& passage) const;

  /// Asks those that a passage found. Errors: kPrecondition, or what the plugin says, with its name; the first one ends
  /// it. `container` may be nullptr for events of pods.
  [[nodiscard]] Result<> ask(const Passage& passage, api::Event event, const api::PodSandbox& pod,
                             const api::Container* container);
  /// The same, of those that are there.
  [[nodiscard]] Result<> ask(api::Event event, const api::PodSandbox& pod, const api::Container* container)
      BERTH_EXCLUDES(mutex_);
  /// Tells; what plugins have against it is logged.
  void tell(api::Event event, const api::PodSandbox& pod, const api::Container* container) BERTH_EXCLUDES(mutex_);

  /// `container`: as its specification stands. Errors: a plugin refuses; a conflict (kPrecondition); a validator
  /// refuses (kDenied, kUnavailable).
  [[nodiscard]] Result<Created> create_container(const Passage& passage, const api::PodSandbox& pod,
                                                 const api::Container& container);
  /// `resources`: what is asked for, which plugins may change. Answers updates of other containers.
  [[nodiscard]] Result<std::vector<api::ContainerUpdate>> update_container(const api::PodSandbox& pod,
                                                                           const api::Container& container,
                                                                           api::LinuxResources& resources,
                                                                           std::vector<Eviction>& evictions)
      BERTH_EXCLUDES(mutex_);
  /// The container has ended. Answers updates of others; what plugins have against it is logged.
  [[nodiscard]] std::vector<api::ContainerUpdate> stop_container(const api::PodSandbox& pod,
                                                                 const api::Container& container)
      BERTH_EXCLUDES(mutex_);
  [[nodiscard]] Result<> update_pod(const api::PodSandbox& pod, const api::LinuxResources& overhead,
                                    const api::LinuxResources& resources) BERTH_EXCLUDES(mutex_);

  /// What plugins asked for besides, done by the host; failures are logged, those that may be are not.
  void carry_out(const std::vector<api::ContainerUpdate>& updates, const std::vector<Eviction>& evictions);

  /// "10-logger", in order.
  [[nodiscard]] std::vector<std::string> names() const BERTH_EXCLUDES(mutex_);

 private:
  // ---- nri.cc ----
  [[nodiscard]] PluginList plugins() const BERTH_EXCLUDES(mutex_);
  Passage pass(std::string id, bool making) BERTH_EXCLUDES(mutex_);
  Result<> ask_one(Plugin& plugin, api::Event event, const api::PodSandbox& pod, const api::Container* container);
  /// The reply, or nothing when the plugin is out of it (gone, closed, not subscribed, does not know the call).
  template <class Reply, class Request>
  Result<std::optional<Reply>> ask_for(Plugin& plugin, api::Event event, const Request& request);
  Result<> validate(const PluginList& plugins, const api::CreateContainerRequest& before, const Adjustment& adjustment);

  // ---- join.cc ----
  void listen();
  void accept_ready(int listener_fd);
  Result<Plugin::Ptr> attach(UniqueFd trunk, Plugin::Settings settings);
  void start_preinstalled() BERTH_EXCLUDES(mutex_);
  void launch_one(const Preinstalled& found) BERTH_EXCLUDES(mutex_);
  void admit(const Plugin::Ptr& plugin) BERTH_EXCLUDES(mutex_);
  Result<> configure(Plugin& plugin);
  Result<std::vector<api::ContainerUpdate>> join(const Plugin::Ptr& plugin) BERTH_EXCLUDES(mutex_);
  static Result<std::vector<api::ContainerUpdate>> synchronize(Plugin& plugin, const NodeState& state);
  void leave(const Plugin::Ptr& plugin, const Error& reason) BERTH_EXCLUDES(mutex_);
  void settled(const Plugin::Ptr& plugin) BERTH_EXCLUDES(mutex_);
  void update_asked(const Plugin::Ptr& plugin, api::UpdateContainersRequest request, Plugin::UpdateReply reply);
  void recount() BERTH_REQUIRES(mutex_);

  const Options options_;
  ttrpc::Reactor& reactor_;
  const Host host_;
  UniqueFd listener_;                // reactor
  event::WatchId listener_watch_{};  // reactor
  event::TimerId listener_rest_{};   // reactor
  std::atomic<std::uint32_t> wanted_{0};

  mutable Mutex mutex_;
  mutable std::condition_variable_any settled_;
  PluginList plugins_ BERTH_GUARDED_BY(mutex_);                              // joined, in order
  std::map<const Plugin*, Plugin::Ptr> connected_ BERTH_GUARDED_BY(mutex_);  // all of them
  std::map<const Plugin*, os::Child> children_ BERTH_GUARDED_BY(mutex_);
  std::set<const Plugin*> awaited_ BERTH_GUARDED_BY(mutex_);  // pre-installed ones that have not joined yet
  std::map<std::string, bool, std::less<>> under_way_ BERTH_GUARDED_BY(mutex_);  // true: being made
  bool stopping_ BERTH_GUARDED_BY(mutex_) = false;
};

}  // namespace berth::nri
