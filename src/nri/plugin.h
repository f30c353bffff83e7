#pragma once
#include <atomic>
#include <chrono>
#include <condition_variable>
#include <functional>
#include <memory>
#include <string>
#include <string_view>

#include "base/clock.h"
#include "base/result.h"
#include "base/thread_annotations.h"
#include "base/unique_fd.h"
#include "nri/mux.h"
#include "nri/v1alpha1/api.pb.h"
#include "ttrpc/client.h"
#include "ttrpc/reactor.h"
#include "ttrpc/server.h"
#include "ttrpc/typed.h"

namespace berth::nri {

namespace api = ::nri::pkg::api::v1alpha1;

/// Bit of an event in a plugin's mask.
[[nodiscard]] constexpr std::uint32_t event_bit(api::Event event) {
  return 1U << (static_cast<unsigned>(event) - 1);
}
inline constexpr std::uint32_t kAllEvents = event_bit(api::LAST) - 1;
/// "StartContainer": the event's name, which is the name of its call.
[[nodiscard]] std::string_view event_name(api::Event event);

/// One plugin as long as it is connected. Unless said otherwise thread-safe. It is asked one thing at a time, in the
/// order of asking; one that gives no answer in time, or no sense, is closed, and whoever waits for its turn then goes
/// on without it.
class Plugin final : public std::enable_shared_from_this<Plugin> {
 public:
  using Ptr = std::shared_ptr<Plugin>;
  using UpdateReply = ttrpc::TypedResponder<api::UpdateContainersResponse>;

  /// What its owner does about it; all run on the reactor's thread and must not block.
  struct Owner {
    std::function<void(const Ptr&)> registered;  ///< once, if it does in time
    /// It wants containers changed. The reply is to be given on the reactor's thread.
    std::function<void(const Ptr&, api::UpdateContainersRequest, UpdateReply)> update;
    std::function<void(const Ptr&, const Error& reason)> gone;  ///< once
  };
  struct Settings {
    std::string index;   ///< of a pre-installed plugin, two digits; empty: it will say
    std::string name;    ///< likewise
    std::string config;  ///< for Configure
    std::chrono::milliseconds registration_timeout{5000};
    std::chrono::milliseconds request_timeout{2000};
  };

  /// Speaks to the plugin at the other end of `trunk`, which it takes. On the reactor's thread. Errors: by errno.
  [[nodiscard]] static Result<Ptr> attach(ttrpc::Reactor& reactor, UniqueFd trunk, Settings settings, Owner owner);
  Plugin(ttrpc::Reactor& reactor, Settings settings, Owner owner)
      : reactor_(reactor), settings_(std::move(settings)), owner_(std::move(owner)) {}
  ~Plugin();
  Plugin(const Plugin&) = delete;
  Plugin& operator=(const Plugin&) = delete;
  Plugin(Plugin&&) = delete;
  Plugin& operator=(Plugin&&) = delete;

  /// "10-logger"; before it has registered, what it is known by.
  [[nodiscard]] std::string name() const BERTH_EXCLUDES(mutex_);
  [[nodiscard]] std::string index() const BERTH_EXCLUDES(mutex_);
  [[nodiscard]] std::string base_name() const BERTH_EXCLUDES(mutex_);
  [[nodiscard]] const Settings& settings() const { return settings_; }

  /// What it wants: a mask, or 0 for everything.
  void subscribe(std::uint32_t events) {
    judges_ = (events & event_bit(api::VALIDATE_CONTAINER_ADJUSTMENT)) != 0;
    events_ = events == 0 ? kAllEvents : events;
  }
  /// It asked to validate, in so many words: no container without its consent.
  [[nodiscard]] bool judges() const { return judges_; }
  [[nodiscard]] std::uint32_t events() const { return events_; }
  [[nodiscard]] bool wants(api::Event event) const { return (events_ & event_bit(event)) != 0; }
  /// It does not know the call of this event.
  void unsubscribe(api::Event event) { events_ &= ~event_bit(event); }
  /// It knows StateChange in the place of the call of this event. Answers true the first time.
  bool note_legacy(api::Event event) { return (legacy_.fetch_or(event_bit(event)) & event_bit(event)) == 0; }
  [[nodiscard]] bool legacy(api::Event event) const { return (legacy_ & event_bit(event)) != 0; }

  /// One call, in its turn, within the request timeout from then on. Errors: kUnavailable it is gone, or has just been
  /// closed for a hang or for nonsense; kUnsupported it does not know the call; kExhausted a message over 4 MiB; else
  /// what it answers. Blocks.
  template <ttrpc::Message Reply, ttrpc::Message Request>
  [[nodiscard]] Result<Reply> call(std::string_view method, const Request& request) {
    const Turn turn(*this);
    return call_in_turn<Reply>(method, request, std::chrono::steady_clock::now() + settings_.request_timeout);
  }

  /// Holds the plugin's turn: for several calls that nothing may come between.
  class Turn final {
   public:
    explicit Turn(Plugin& plugin) : plugin_(plugin) { plugin_.take_turn(); }
    ~Turn() { plugin_.give_turn(); }
    Turn(const Turn&) = delete;
    Turn& operator=(const Turn&) = delete;
    Turn(Turn&&) = delete;
    Turn& operator=(Turn&&) = delete;

   private:
    Plugin& plugin_;
  };
  template <ttrpc::Message Reply, ttrpc::Message Request>
  [[nodiscard]] Result<Reply> call_in_turn(std::string_view method, const Request& request, SteadyTime deadline) {
    auto bytes = ttrpc::to_bytes(request);
    if (!bytes) return fail(std::move(bytes).error());
    auto answer = call_bytes(method, *bytes, deadline);
    if (!answer) return fail(std::move(answer).error());
    auto reply = ttrpc::from_bytes<Reply>(*answer, Code::kCorrupt);
    if (!reply) return close_for(method, reply.error());
    return reply;
  }

  /// Ends the connection, sooner or later. Idempotent, does not wait.
  void close(const Error& reason);
  [[nodiscard]] bool closed() const { return closed_; }
  /// Tells it that we end; `answered` runs once on the reactor's thread, whatever it says.
  void say_shutdown(std::function<void()> answered);

 private:
  Result<> start(UniqueFd trunk);  // the rest of these: reactor's thread
  void serve();
  Result<> register_as(const api::RegisterPluginRequest& request);
  /// close(), once it has had time to read why.
  void turn_away(const Error& reason);
  void shut(const Error& reason);

  Result<std::string> call_bytes(std::string_view method, const std::string& payload, SteadyTime deadline);
  std::unexpected<Error> close_for(std::string_view method, const Error& why);
  void take_turn() BERTH_EXCLUDES(mutex_);
  void give_turn() BERTH_EXCLUDES(mutex_);

  ttrpc::Reactor& reactor_;
  const Settings settings_;
  Owner owner_;                            // reactor
  std::shared_ptr<Mux> mux_;               // reactor
  std::unique_ptr<ttrpc::Server> server_;  // reactor
  event::TimerId registration_{};          // reactor
  bool registered_ = false;                // reactor
  std::unique_ptr<ttrpc::Client> client_;  // set by start(), before anybody else has this
  std::atomic<std::uint32_t> events_{0};
  std::atomic<std::uint32_t> legacy_{0};
  std::atomic<bool> judges_{false};
  std::atomic<bool> closed_{false};

  mutable Mutex mutex_;
  std::condition_variable_any free_;
  std::string index_ BERTH_GUARDED_BY(mutex_);
  std::string base_name_ BERTH_GUARDED_BY(mutex_);
  std::uint64_t next_ticket_ BERTH_GUARDED_BY(mutex_) = 0;
  std::uint64_t serving_ BERTH_GUARDED_BY(mutex_) = 0;
};

/// Two digits. Source: the NRI API.
[[nodiscard]] bool is_plugin_index(std::string_view index);
/// Letters, digits and "_.+-", at least one, at most 255. Source: the NRI API.
[[nodiscard]] bool is_plugin_name(std::string_view name);

}  // namespace berth::nri
