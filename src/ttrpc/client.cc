#include "ttrpc/client.h"

#include <condition_variable>

#include "os/socket.h"
#include "ttrpc/client_connection.h"

namespace berth::ttrpc {
namespace {

// Where a blocked caller and the reactor meet.
struct Waiter {
  Mutex mutex;
  std::condition_variable_any changed;
  std::optional<Result<std::string>> result BERTH_GUARDED_BY(mutex);

  void set(Result<std::string> value) {
    MutexLock lock(mutex);
    result = std::move(value);
    changed.notify_all();
  }
  // Waits for the result as long as `options` says; false: gave up.
  bool wait(const CallOptions& options) {
    MutexLock lock(mutex);
    const auto done = [this]() BERTH_REQUIRES(mutex) { return result.has_value(); };
    if (options.deadline) return changed.wait_until(lock, options.stop, *options.deadline, done);
    return changed.wait(lock, options.stop, done);
  }
  Result<std::string> take() {
    MutexLock lock(mutex);
    const auto done = [this]() BERTH_REQUIRES(mutex) { return result.has_value(); };
    changed.wait(lock, done);
    return std::move(*result);
  }
};

std::string name_of(std::string_view service, std::string_view method) {
  return std::string(service).append("/").append(method);
}

}  // namespace

Client::Client(std::shared_ptr<ClientConnection> connection) : connection_(std::move(connection)) {}

Client::~Client() {
  close();
}

Result<std::unique_ptr<Client>> Client::connect(Reactor& reactor, const std::string& path,
                                                std::chrono::milliseconds timeout, ClientOptions options) {
  BERTH_ASSIGN(UniqueFd socket, os::unix_connect(path, timeout), "ttrpc client");
  return adopt(reactor, std::move(socket), std::move(options));
}

Result<std::unique_ptr<Client>> Client::adopt(Reactor& reactor, UniqueFd socket, ClientOptions options) {
  BERTH_TRY(os::set_nonblocking(socket.get(), true), "ttrpc client");
  auto connection = std::make_shared<ClientConnection>(reactor, std::move(socket), std::move(options));
  connection->start();
  return std::unique_ptr<Client>(new Client(std::move(connection)));
}

Result<std::string> Client::call(std::string_view service, std::string_view method, std::string_view payload,
                                 const CallOptions& options) {
  const auto connection = connection_;
  if (connection->reactor().is_current_thread()) {
    return fail(Code::kPrecondition, "blocking ttrpc call on the reactor's thread: " + name_of(service, method));
  }
  if (options.stop.stop_requested()) return fail(Code::kCancelled, name_of(service, method) + " was cancelled");
  const auto waiter = std::make_shared<Waiter>();
  auto id = connection->begin(service, method, payload, options,
                              [waiter](Result<std::string> reply) { waiter->set(std::move(reply)); });
  if (!id) return fail(std::move(id).error());
  if (!waiter->wait(options) && connection->abandon(*id)) {
    if (options.stop.stop_requested()) return fail(Code::kCancelled, name_of(service, method) + " was cancelled");
    return fail(Code::kTimeout, name_of(service, method) + " gave no answer before the deadline");
  }
  // Also after giving up too late: the reactor holds the result already.
  return waiter->take();
}

CallId Client::call_async(std::string_view service, std::string_view method, std::string_view payload,
                          Callback callback, const CallOptions& options) {
  auto shared = std::make_shared<Callback>(std::move(callback));
  auto id = connection_->begin(service, method, payload, options,
                               [shared](Result<std::string> reply) { (*shared)(std::move(reply)); });
  if (!id) {
    connection_->reactor().post([shared, error = std::move(id).error()]() { (*shared)(fail(error)); });
    return CallId{0};
  }
  if (options.deadline) connection_->arm(*id, *options.deadline);
  return CallId{*id};
}

void Client::cancel(CallId id) {
  if (id == CallId{0}) return;
  connection_->give_up(static_cast<std::uint32_t>(id), Error(Code::kCancelled, "the ttrpc call was cancelled"));
}

void Client::close() {
  connection_->close();
}

bool Client::alive() const {
  return connection_->alive();
}

}  // namespace berth::ttrpc
