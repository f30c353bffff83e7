#include "bus.h"

#include <systemd/sd-bus.h>
#include <unistd.h>

#include <array>
#include <chrono>
#include <csignal>
#include <cstdlib>
#include <map>
#include <string_view>

#include "base/strings.h"
#include "os/file.h"

namespace berth::scope {

namespace {

constexpr const char* kService = "org.freedesktop.systemd1";
constexpr const char* kPath = "/org/freedesktop/systemd1";
constexpr const char* kManager = "org.freedesktop.systemd1.Manager";
/// A systemd that hangs is named before the caller's own patience ends. It answers nothing while it reloads, which
/// takes a second or two on a node with a thousand units.
constexpr std::chrono::microseconds kCallTimeout = std::chrono::seconds(6);
constexpr std::chrono::seconds kJobTimeout{10};

struct BusError {
  sd_bus_error value{};
  BusError() = default;
  BusError(const BusError&) = delete;
  BusError& operator=(const BusError&) = delete;
  ~BusError() { sd_bus_error_free(&value); }
  [[nodiscard]] bool is(const char* name) const { return sd_bus_error_has_name(&value, name) != 0; }
  [[nodiscard]] Error error(int result, std::string_view what) const {
    const int code = value.name != nullptr ? sd_bus_error_get_errno(&value) : -result;
    Error error = errno_error(code, what);
    if (value.message != nullptr) error = Error(error.code(), std::string(what) + ": " + value.message, code);
    if (is("org.freedesktop.systemd1.UnitExists")) error = std::move(error).as(Code::kExists);
    return error;
  }
};

struct Unref {
  void operator()(sd_bus_message* message) const { sd_bus_message_unref(message); }
};
using Message = std::unique_ptr<sd_bus_message, Unref>;

Result<Message> new_call(sd_bus* bus, const char* member) {
  sd_bus_message* message = nullptr;
  const int made = sd_bus_message_new_method_call(bus, &message, kService, kPath, kManager, member);
  if (made < 0) return fail_errno(-made, member);
  return Message(message);
}

Result<> append(int result) {
  if (result < 0) return fail_errno(-result, "build a message");
  return {};
}

/// The object path that a call answers with.
Result<std::string> path_in(sd_bus_message* reply) {
  const char* path = nullptr;
  const int read = sd_bus_message_read(reply, "o", &path);
  if (read < 0) return fail_errno(-read, "read a reply of systemd");
  return std::string(path);
}

Result<std::string> call_for_path(sd_bus* bus, sd_bus_message* message, BusError& error, const char* what) {
  sd_bus_message* reply = nullptr;
  const int called = sd_bus_call(bus, message, 0, &error.value, &reply);
  const Message owner(reply);
  if (called < 0) return fail(error.error(called, what));
  return path_in(reply);
}

/// `member`: the process that a new scope is made around; 0: none.
Result<> append_properties(sd_bus_message* message, const std::vector<Property>& properties, bool all, pid_t member) {
  BERTH_TRY(append(sd_bus_message_open_container(message, SD_BUS_TYPE_ARRAY, "(sv)")), "properties");
  if (member != 0) {
    BERTH_TRY(append(sd_bus_message_append(message, "(sv)", "PIDs", "au", 1, static_cast<std::uint32_t>(member))),
              "properties");
  }
  for (const auto& property : properties) {
    if (all || !property.optional) BERTH_TRY(append_property(message, property), "properties");
  }
  return append(sd_bus_message_close_container(message));
}

/// What systemd answers to a property that it does not know, or a value that it does not know.
bool is_refusal(const Error& error) {
  return error.errno_value() == EROFS || error.errno_value() == EINVAL;
}

/// Whose manager is meant below a user namespace: the first number outside that ours stands for.
uid_t owner() {
  constexpr std::size_t kMapLimit = 64U << 10;
  const auto map = os::read_file("/proc/self/uid_map", kMapLimit);
  const std::uint64_t own = ::geteuid();
  for (const auto line : split(map ? *map : std::string(), '\n')) {
    std::vector<std::uint64_t> numbers;
    for (const auto word : split(line, ' ')) {
      if (const auto number = parse_number<std::uint64_t>(word)) numbers.push_back(*number);
    }
    if (numbers.size() == 3 && own >= numbers[0] && own - numbers[0] < numbers[2]) {
      return static_cast<uid_t>(numbers[1] + own - numbers[0]);
    }
  }
  return ::geteuid();
}

Result<sd_bus*> open_address(const std::string& address, bool bus_client) {
  sd_bus* bus = nullptr;
  int done = sd_bus_new(&bus);
  if (done >= 0) done = sd_bus_set_address(bus, address.c_str());
  if (done >= 0 && bus_client) done = sd_bus_set_bus_client(bus, 1);
  if (done >= 0) done = sd_bus_set_method_call_timeout(bus, kCallTimeout.count());
  if (done >= 0) done = sd_bus_start(bus);
  if (done >= 0) return bus;
  sd_bus_unref(bus);
  return fail_errno(-done, address);
}

struct Address {
  std::string text;
  bool bus_client = false;  ///< a bus with a driver, not the manager itself
};

std::vector<Address> addresses(bool user) {
  const auto variable = [](const char* name) {
    const char* const value = ::getenv(name);  // NOLINT(concurrency-mt-unsafe): one thread
    return std::string(value == nullptr ? "" : value);
  };
  if (!user) {
    const std::string bus = variable("DBUS_SYSTEM_BUS_ADDRESS");
    return {{"unix:path=/run/systemd/private", false},
            {bus.empty() ? "unix:path=/run/dbus/system_bus_socket" : bus, true}};
  }
  std::string folder = variable("XDG_RUNTIME_DIR");
  if (folder.empty()) folder = "/run/user/" + std::to_string(owner());
  const std::string bus = variable("DBUS_SESSION_BUS_ADDRESS");
  return {{bus.empty() ? "unix:path=" + folder + "/bus" : bus, true},
          {"unix:path=" + folder + "/systemd/private", false}};
}

}  // namespace

/// Jobs that have ended, and how.
struct Manager::Jobs {
  std::map<std::string, std::string, std::less<>> results;

  static int removed(sd_bus_message* message, void* self, sd_bus_error* /*error*/) {
    std::uint32_t number = 0;
    const char* job = nullptr;
    const char* unit = nullptr;
    const char* result = nullptr;
    const int read = sd_bus_message_read(message, "uoss", &number, &job, &unit, &result);
    if (read >= 0) static_cast<Jobs*>(self)->results.insert_or_assign(job, result);
    return 0;
  }
};

void Manager::Close::operator()(sd_bus* bus) const {
  sd_bus_flush_close_unref(bus);
}

Result<Manager> Manager::connect(bool user) {
  std::string tried;
  for (const auto& address : addresses(user)) {
    auto bus = open_address(address.text, address.bus_client);
    if (!bus) {
      tried.append(tried.empty() ? "" : "; ").append(bus.error().text());
      continue;
    }
    Manager manager(*bus);
    manager.jobs_ = std::make_shared<Jobs>();
    const int matched =
        sd_bus_match_signal(*bus, nullptr, nullptr, kPath, kManager, "JobRemoved", Jobs::removed, manager.jobs_.get());
    BusError error;
    // The private socket's peer hears everything anyway.
    const int subscribed =
        matched < 0 ? matched
                    : sd_bus_call_method(*bus, kService, kPath, kManager, "Subscribe", &error.value, nullptr, nullptr);
    if (subscribed >= 0 || error.is("org.freedesktop.systemd1.AlreadySubscribed")) return manager;
    const Error why = error.error(subscribed, address.text);
    // Who hangs on one way hangs on the other.
    if (why.code() == Code::kTimeout) {
      return fail(Error(why).as(Code::kUnavailable).in("systemd does not answer"));
    }
    tried.append(tried.empty() ? "" : "; ").append(why.text());
  }
  return fail(Code::kUnavailable, std::string("no systemd ") + (user ? "of the user" : "of the system") +
                                      " can be reached on its socket or the bus: " + tried);
}

Result<> Manager::wait_for(const std::string& job) {
  const auto until = std::chrono::steady_clock::now() + kJobTimeout;
  while (true) {
    const auto found = jobs_->results.find(job);
    if (found != jobs_->results.end()) {
      if (found->second == "done") return {};
      return fail(Code::kInternal, "systemd's job ended with \"" + found->second + "\"");
    }
    const auto left = std::chrono::duration_cast<std::chrono::microseconds>(until - std::chrono::steady_clock::now());
    if (left.count() <= 0) return fail(Code::kTimeout, "systemd's job does not end");
    const int processed = sd_bus_process(bus_.get(), nullptr);
    if (processed < 0) return fail_errno(-processed, "systemd's connection");
    if (processed > 0) continue;
    const int waited = sd_bus_wait(bus_.get(), static_cast<std::uint64_t>(left.count()));
    if (waited < 0 && waited != -EINTR) return fail_errno(-waited, "systemd's connection");
  }
}

Result<std::string> Manager::start_once(const std::string& unit, const std::vector<Property>& properties, bool all,
                                        pid_t member) {
  BERTH_ASSIGN(const Message message, new_call(bus_.get(), "StartTransientUnit"), "start");
  BERTH_TRY(append(sd_bus_message_append(message.get(), "ss", unit.c_str(), "fail")), "start");
  BERTH_TRY(append_properties(message.get(), properties, all, member), "start");
  BERTH_TRY(append(sd_bus_message_append(message.get(), "a(sa(sv))", 0)), "start");
  BusError error;
  return call_for_path(bus_.get(), message.get(), error, "start the unit");
}

Result<std::string> Manager::start(const std::string& unit, const std::vector<Property>& properties, pid_t member) {
  auto job = start_once(unit, properties, true, member);
  bool all = true;
  bool cleared = false;
  while (!job) {
    if (all && is_refusal(job.error())) {
      all = false;
    } else if (!cleared && job.error().code() == Code::kExists) {
      // Perhaps only the memory of one that failed.
      cleared = true;
      BusError unwanted;
      sd_bus_call_method(bus_.get(), kService, kPath, kManager, "ResetFailedUnit", &unwanted.value, nullptr, "s",
                         unit.c_str());
    } else {
      return fail(std::move(job).error().in(unit));
    }
    job = start_once(unit, properties, all, member);
  }
  BERTH_TRY(wait_for(*job), unit);
  BERTH_ASSIGN(const Message message, new_call(bus_.get(), "GetUnit"), unit);
  BERTH_TRY(append(sd_bus_message_append(message.get(), "s", unit.c_str())), unit);
  BusError error;
  BERTH_ASSIGN(const std::string path, call_for_path(bus_.get(), message.get(), error, "look the unit up"), unit);
  char* group = nullptr;
  const int read = sd_bus_get_property_string(bus_.get(), kService, path.c_str(), "org.freedesktop.systemd1.Scope",
                                              "ControlGroup", &error.value, &group);
  if (read < 0) return fail(error.error(read, "read ControlGroup").in(unit));
  std::string text(group);
  ::free(group);  // NOLINT(cppcoreguidelines-no-malloc): sd_bus_get_property_string's contract
  if (!text.starts_with('/')) return fail(Code::kUnsupported, unit + " has no control group");
  return text;
}

Result<> Manager::set(const std::string& unit, const std::vector<Property>& properties) {
  Result<> done;
  for (const bool all : {true, false}) {
    BERTH_ASSIGN(const Message message, new_call(bus_.get(), "SetUnitProperties"), unit);
    BERTH_TRY(append(sd_bus_message_append(message.get(), "sb", unit.c_str(), 1)), unit);
    BERTH_TRY(append_properties(message.get(), properties, all, 0), unit);
    BusError error;
    const int called = sd_bus_call(bus_.get(), message.get(), 0, &error.value, nullptr);
    if (called >= 0) return {};
    done = fail(error.error(called, "set properties").in(unit));
    if (!is_refusal(done.error())) break;
  }
  return done;
}

Result<> Manager::stop(const std::string& unit) {
  if (unit.ends_with(".scope")) {
    // Else systemd asks politely first, which pid 1 of a namespace need not hear, and waits for a minute and a half.
    BusError unwanted;
    sd_bus_call_method(bus_.get(), kService, kPath, kManager, "KillUnit", &unwanted.value, nullptr, "ssi", unit.c_str(),
                       "all", SIGKILL);
  }
  BERTH_ASSIGN(const Message message, new_call(bus_.get(), "StopUnit"), unit);
  BERTH_TRY(append(sd_bus_message_append(message.get(), "ss", unit.c_str(), "replace")), unit);
  BusError error;
  auto job = call_for_path(bus_.get(), message.get(), error, "stop the unit");
  // An empty scope ends by itself.
  if (!job && !error.is("org.freedesktop.systemd1.NoSuchUnit")) return fail(std::move(job).error().in(unit));
  if (job) BERTH_TRY(wait_for(*job), unit);
  BusError reset;
  const int done = sd_bus_call_method(bus_.get(), kService, kPath, kManager, "ResetFailedUnit", &reset.value, nullptr,
                                      "s", unit.c_str());
  if (done < 0 && !reset.is("org.freedesktop.systemd1.NoSuchUnit")) {
    return fail(reset.error(done, "forget the failure").in(unit));
  }
  return {};
}

}  // namespace berth::scope
