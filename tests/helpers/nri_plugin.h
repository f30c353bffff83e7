#pragma once
#include <chrono>
#include <condition_variable>
#include <functional>
#include <map>
#include <memory>
#include <string>
#include <vector>

#include "base/result.h"
#include "base/thread_annotations.h"
#include "base/unique_fd.h"
#include "nri/mux.h"
#include "nri/v1alpha1/api.pb.h"
#include "ttrpc/client.h"
#include "ttrpc/reactor.h"
#include "ttrpc/server.h"
#include "ttrpc/typed.h"

namespace berth::test {

namespace nri_api = ::nri::pkg::api::v1alpha1;

struct NriPluginOptions {
  std::string index = "10";
  std::string name = "test";
  std::int32_t events = 0;  ///< mask; 0: all
  /// As of before NRI 0.12: no calls of their own for most events, StateChange in their place.
  bool old = false;
};

/// An NRI plugin: it registers, remembers what it is told and answers as a test says. The plugin's end of the true
/// wire. Its handlers run on a thread of its own.
class NriPlugin final {
 public:
  explicit NriPlugin(NriPluginOptions options = {}) : options_(std::move(options)) {}
  ~NriPlugin();
  NriPlugin(const NriPlugin&) = delete;
  NriPlugin& operator=(const NriPlugin&) = delete;
  NriPlugin(NriPlugin&&) = delete;
  NriPlugin& operator=(NriPlugin&&) = delete;

  /// Before start(): how it answers `method`; without, it answers with an empty message.
  template <class Request, class Reply>
  void on(const std::string& method, std::function<Result<Reply>(const Request&)> handler) {
    handlers_[method] = [handler = std::move(handler)](const std::string& payload) -> Result<std::string> {
      Request request;
      if (!request.ParseFromString(payload)) return fail(Code::kInvalid, "malformed");
      auto reply = handler(request);
      if (!reply) return fail(std::move(reply).error());
      return reply->SerializeAsString();
    };
  }
  void on_create(std::function<Result<nri_api::CreateContainerResponse>(const nri_api::CreateContainerRequest&)> f) {
    on<nri_api::CreateContainerRequest, nri_api::CreateContainerResponse>("CreateContainer", std::move(f));
  }
  /// It never answers `method`.
  void hang_at(const std::string& method) { hang_at_ = method; }
  /// It answers `method` with bytes that are no message.
  void answer_nonsense(const std::string& method) {
    handlers_[method] = [](const std::string&) { return Result<std::string>(std::string("\xff\xff\xff")); };
  }

  /// Connects, registers and waits until it has been told of the state. kTimeout; what RegisterPlugin answers.
  Result<> start(const std::string& socket_path);
  /// The same over a connected socket.
  Result<> start(UniqueFd trunk);
  /// Ends its connection, as its death would.
  void disconnect();
  /// False once the runtime has closed the connection.
  [[nodiscard]] bool connected() const BERTH_EXCLUDES(mutex_);

  /// "StartContainer main": each call in the order of its coming, with the container's name, or the pod's.
  [[nodiscard]] std::vector<std::string> calls() const BERTH_EXCLUDES(mutex_);
  [[nodiscard]] std::size_t count(const std::string& call) const;
  /// Waits until `call` is among calls(). False after `timeout`.
  bool wait_for(const std::string& call, std::chrono::milliseconds timeout = std::chrono::seconds(20)) const
      BERTH_EXCLUDES(mutex_);
  bool wait_closed(std::chrono::milliseconds timeout = std::chrono::seconds(20)) const BERTH_EXCLUDES(mutex_);
  /// All that Synchronize told, of all its messages; how many these were.
  [[nodiscard]] nri_api::SynchronizeRequest synchronized() const BERTH_EXCLUDES(mutex_);
  [[nodiscard]] int sync_messages() const BERTH_EXCLUDES(mutex_);
  [[nodiscard]] nri_api::ConfigureRequest configuration() const BERTH_EXCLUDES(mutex_);
  /// Asks the runtime for updates, unasked.
  Result<nri_api::UpdateContainersResponse> update(const nri_api::UpdateContainersRequest& request);

 private:
  void serve();
  void serve_event(const std::string& method);
  Result<std::string> configure(std::string_view payload) BERTH_EXCLUDES(mutex_);
  Result<std::string> synchronize(std::string_view payload) BERTH_EXCLUDES(mutex_);
  void note(const std::string& call) BERTH_EXCLUDES(mutex_);

  const NriPluginOptions options_;
  std::map<std::string, std::function<Result<std::string>(const std::string&)>> handlers_;
  std::string hang_at_;
  std::unique_ptr<ttrpc::Reactor> reactor_;
  std::shared_ptr<nri::Mux> mux_;          // reactor
  std::unique_ptr<ttrpc::Server> server_;  // reactor
  std::vector<ttrpc::Responder> held_;     // reactor
  std::unique_ptr<ttrpc::Client> client_;

  mutable Mutex mutex_;
  mutable std::condition_variable_any changed_;
  std::vector<std::string> calls_ BERTH_GUARDED_BY(mutex_);
  nri_api::SynchronizeRequest synchronized_ BERTH_GUARDED_BY(mutex_);
  nri_api::ConfigureRequest configuration_ BERTH_GUARDED_BY(mutex_);
  int sync_messages_ BERTH_GUARDED_BY(mutex_) = 0;
  bool in_sync_ BERTH_GUARDED_BY(mutex_) = false;
  bool connected_ BERTH_GUARDED_BY(mutex_) = false;
};

}  // namespace berth::test
