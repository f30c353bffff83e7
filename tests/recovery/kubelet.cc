#include "kubelet.h"

#include <signal.h>
#include <sqlite3.h>

#include <algorithm>
#include <array>
#include <cstdio>
#include <map>
#include <thread>

#include "base/strings.h"
#include "log_lines.h"
#include "os/file.h"
#include "wait.h"

namespace berth::test {
namespace {

using std::chrono::milliseconds;
using std::chrono::seconds;

constexpr seconds kPatience{60};
constexpr milliseconds kDying{300};  // from the end of a connection to the end of its process
constexpr unsigned kMaxAttempts = 8;
constexpr unsigned kMaxDeaths = 20;
constexpr int kMainCode = 7;
constexpr int kServedCode = 5;
constexpr int kKilled = 128 + SIGKILL;

/// Rows of the state database, or -1.
int records_of(const std::string& path) {
  sqlite3* db = nullptr;
  if (sqlite3_open_v2(path.c_str(), &db, SQLITE_OPEN_READONLY, nullptr) != SQLITE_OK) {
    sqlite3_close(db);
    return -1;
  }
  sqlite3_busy_timeout(db, 5000);
  int count = -1;
  sqlite3_stmt* statement = nullptr;
  const char* sql = "SELECT (SELECT count(*) FROM sandbox) + (SELECT count(*) FROM container)";
  if (sqlite3_prepare_v2(db, sql, -1, &statement, nullptr) == SQLITE_OK && sqlite3_step(statement) == SQLITE_ROW) {
    count = sqlite3_column_int(statement, 0);
  }
  sqlite3_finalize(statement);
  sqlite3_close(db);
  return count;
}

/// Both networks keep a file for each address that is held, called by it.
unsigned addresses_in(const std::string& folder) {
  const auto names = os::list_dir(folder);
  if (!names) return 0;
  return static_cast<unsigned>(std::ranges::count_if(*names, [](const std::string& name) {
    return !name.empty() && name.find_first_not_of("0123456789.") == std::string::npos;
  }));
}

unsigned leases_of(const TestHost& host) {
  return addresses_in(host.root() + "/network/leases") + addresses_in(host.dir() + "/ipam/matrix");
}

/// The init of a pod with one pid namespace: a child of its shim.
pid_t init_of(pid_t shim) {
  const auto number = std::to_string(shim);
  const auto children = os::read_file("/proc/" + number + "/task/" + number + "/children", 4096).value_or("");
  for (const auto word : split(children, ' ')) {
    const auto name = os::read_file("/proc/" + std::string(word) + "/comm", 64);
    if (name && *name == "berth-pod-init\n") return parse_number<pid_t>(word).value_or(shim);
  }
  return shim;
}

/// What is there now and was not before. Mounts of the machine's first process count only when they are of this host:
/// others mount things, too. The shared bridge may go, between two pods.
std::string more_than_before(const TestHost& host, const HostState& before) {
  std::string text;
  const auto now = look(host);
  for (const auto line : split(difference(before.lines, now.lines), '\n')) {
    if (!line.starts_with("+ ")) continue;
    if (line.starts_with("+ mount of PID 1") && !line.contains(host.dir())) continue;
    text.append(line).append("\n");
  }
  return text;
}

}  // namespace

void Kubelet::fault(unsigned Tally::* what, const std::string& text) {
  ++(tally_.*what);
  std::string points;
  for (const auto& point : plan_.points) points += " " + point + (host_.fired(point) ? "(fired)" : "");
  tally_.faults.push_back("[" + name_ + points + (plan_.shim_dies ? " shim dies" : "") + "] " + text);
}

bool Kubelet::revive() {
  if (!wait_until(kDying, [this] { return !host_.daemon_alive(); })) return false;
  for (unsigned tries = 0; tries < kMaxDeaths; ++tries) {
    ++deaths_;
    const auto started = host_.start_daemon();
    if (started) return true;
    if (host_.daemon_alive()) {
      fault(&Tally::other, "the daemon does not become ready: " + started.error().text());
      return true;
    }
  }
  fault(&Tally::other, "the daemon dies at each start: " + host_.daemon_log(2000));
  return true;
}

void Kubelet::count_fired() {
  unsigned in_daemon = 0;
  for (const auto& point : plan_.points) {
    if (!host_.fired(point)) continue;
    tally_.fired.insert(point);
    if (point.starts_with("shim.")) {
      ++tally_.shim_kills;
    } else {
      ++in_daemon;
    }
  }
  tally_.daemon_kills += in_daemon;
  const unsigned ours = in_daemon + (killed_alone_ ? 1 : 0);
  if (deaths_ != ours) {
    fault(&Tally::other, "the daemon died " + std::to_string(deaths_) + " times, " + std::to_string(ours) +
                             " of them by us: " + host_.daemon_log(2000));
  }
}

bool Kubelet::pod_is_ready() {
  for (int tries = 0; tries < 5; ++tries) {
    const auto status = host_.cri().pod_status(pod_);
    if (status) return status->state() == pb::SANDBOX_READY;
    if (status.error().code() == Code::kNotFound) return false;
    revive();
  }
  return false;
}

std::optional<std::string> Kubelet::drive(const char* what, const std::function<Result<std::string>()>& call) {
  const auto deadline = std::chrono::steady_clock::now() + kPatience;
  std::string last;
  while (std::chrono::steady_clock::now() < deadline) {
    auto answer = call();
    if (answer) {
      check_singles(what);
      return *answer;
    }
    last = answer.error().text();
    if (revive()) continue;
    if (!pod_is_ready()) return std::nullopt;
    std::this_thread::sleep_for(milliseconds(20));
  }
  fault(&Tally::other, std::string(what) + " does not come to an end: " + last);
  return std::nullopt;
}

void Kubelet::insist(const char* what, const std::function<Result<>()>& call) {
  const auto deadline = std::chrono::steady_clock::now() + kPatience;
  Result<> answer;
  do {
    answer = call();
    if (answer) return;
    if (!revive()) std::this_thread::sleep_for(milliseconds(20));
  } while (std::chrono::steady_clock::now() < deadline);
  fault(&Tally::other, std::string(what) + " does not come to an end: " + answer.error().text());
}

pb::ContainerConfig Kubelet::config_of(const std::string& name, const std::string& script) {
  auto config = host_.container_config(name, "logger", {"/bin/sh", "-c", script});
  config.mutable_metadata()->set_attempt(config_.metadata().attempt());
  if (plan_.shared_pids) {
    config.mutable_linux()->mutable_security_context()->mutable_namespace_options()->set_pid(pb::POD);
  }
  config.set_log_path(name + "." + std::to_string(config_.metadata().attempt()) + ".log");
  return config;
}

std::optional<std::string> Kubelet::create(const pb::ContainerConfig& config) {
  return drive("CreateContainer", [&] { return host_.cri().create(pod_, config, config_); });
}

// As a kubelet sees it: a start that failed is looked at in the container's status.
bool Kubelet::start(const std::string& id) {
  const auto started = drive("StartContainer", [&]() -> Result<std::string> {
    auto answer = host_.cri().start(id);
    if (answer) return std::string();
    const auto status = host_.cri().status(id);
    if (status && (status->state() == pb::CONTAINER_RUNNING || status->state() == pb::CONTAINER_EXITED)) {
      return std::string();
    }
    return fail(answer.error());
  });
  return started.has_value();
}

std::optional<pb::ContainerStatus> Kubelet::wait_exited(const std::string& id) {
  const auto deadline = std::chrono::steady_clock::now() + kPatience;
  while (std::chrono::steady_clock::now() < deadline) {
    auto status = host_.cri().status(id);
    if (!status) {
      if (revive()) continue;
      if (status.error().code() == Code::kNotFound) break;
    } else if (status->state() == pb::CONTAINER_EXITED) {
      return *status;
    }
    std::this_thread::sleep_for(milliseconds(5));
  }
  fault(&Tally::other, "container " + id.substr(0, 13) + " does not exit");
  return std::nullopt;
}

void Kubelet::check_singles(const char* when) {
  const auto pods = host_.cri().pods();
  const auto containers = host_.cri().containers();
  if (!pods || !containers) return;  // just died: looked at after the next step
  std::map<std::string, unsigned> count;
  for (const auto& pod : *pods) {
    if (pod.state() == pb::SANDBOX_READY) ++count["READY sandboxes of " + pod.metadata().uid()];
    ++count["sandboxes of " + pod.metadata().uid() + " attempt " + std::to_string(pod.metadata().attempt())];
  }
  for (const auto& container : *containers) {
    ++count["containers " + container.metadata().name() + " attempt " + std::to_string(container.metadata().attempt()) +
            " of " + container.pod_sandbox_id().substr(0, 13)];
  }
  for (const auto& [what, number] : count) {
    if (number > 1) fault(&Tally::doubles, std::to_string(number) + " " + what + " after " + when);
  }
}

void Kubelet::check_exit(const pb::ContainerStatus& status, int code) {
  // What only the shim held goes with it: the code until it is noted, and what the pipe still holds until it is
  // drained.
  const bool unnoted = host_.fired("shim.exit.reaped");
  const bool undrained = unnoted || host_.fired("shim.exit.noted");
  if (status.exit_code() == code) {
    logs_.back().whole = !undrained;
    return;
  }
  const std::string told = status.metadata().name() + " is told to have ended with " +
                           std::to_string(status.exit_code()) + " " + status.reason() + " " + status.message();
  if (status.exit_code() != kKilled || pod_is_ready()) return fault(&Tally::lost_codes, told);
  // The shim has died; the program counts as killed with it unless its log says that it had ended.
  const auto lines = read_log(logs_.back().path);
  if (!unnoted && lines && check_numbered(*lines).empty()) fault(&Tally::lost_codes, told);
}

Kubelet::End Kubelet::run_main() {
  auto config = config_of("main", "/bin/log_writer 100000 200; exit " + std::to_string(kMainCode));
  // Of the same image: it must be held once more, and let go.
  auto& volume = *config.add_mounts();
  *volume.mutable_image() = config.image();
  volume.set_container_path("/image");
  const auto id = create(config);
  if (!id) return End::kPodLost;
  logs_.push_back({config_.log_directory() + "/" + config.log_path(), false});
  if (!start(*id)) return End::kPodLost;
  const auto status = wait_exited(*id);
  if (!status) return End::kPodLost;
  check_exit(*status, kMainCode);
  return End::kDone;
}

Kubelet::End Kubelet::run_served() {
  auto config = config_of("served", "trap 'kill -TERM $p; wait $p; exit " + std::to_string(kServedCode) +
                                        "' TERM; /bin/log_writer 2000 & p=$!; wait $p");
  const auto id = create(config);
  if (!id) return End::kPodLost;
  const std::string path = config_.log_directory() + "/" + config.log_path();
  logs_.push_back({path, false});
  if (!start(*id)) return End::kPodLost;
  // The trap stands when the writer writes.
  (void)wait_until(seconds(5), [&] { return os::read_file(path, 64U << 20).value_or("").contains("line 20"); });
  pb::UpdateContainerResourcesRequest update;
  update.set_container_id(*id);
  update.mutable_linux()->set_cpu_shares(512);
  const auto updated = drive("UpdateContainerResources", [&]() -> Result<std::string> {
    BERTH_TRY(host_.cri().call(&Runtime::UpdateContainerResources, update), "update");
    return std::string();
  });
  if (!updated) return End::kPodLost;
  pb::UpdatePodSandboxResourcesRequest resize;
  resize.set_pod_sandbox_id(pod_);
  resize.mutable_resources()->set_cpu_shares(512);
  const auto resized = drive("UpdatePodSandboxResources", [&]() -> Result<std::string> {
    BERTH_TRY(host_.cri().call(&Runtime::UpdatePodSandboxResources, resize), "resize");
    return std::string();
  });
  if (!resized) return End::kPodLost;
  std::rename(path.c_str(), (path + ".1").c_str());
  pb::ReopenContainerLogRequest reopen;
  reopen.set_container_id(*id);
  const auto reopened = drive("ReopenContainerLog", [&]() -> Result<std::string> {
    BERTH_TRY(host_.cri().call(&Runtime::ReopenContainerLog, reopen), "reopen");
    return std::string();
  });
  if (!reopened) return End::kPodLost;
  const auto stopped = drive("StopContainer", [&]() -> Result<std::string> {
    BERTH_TRY(host_.cri().stop(*id, 20), "stop");
    return std::string();
  });
  if (!stopped) return End::kPodLost;
  const auto status = wait_exited(*id);
  if (!status) return End::kPodLost;
  check_exit(*status, kServedCode);
  const auto removed = drive("RemoveContainer", [&]() -> Result<std::string> {
    BERTH_TRY(host_.cri().remove(*id), "remove");
    return std::string();
  });
  return removed ? End::kDone : End::kPodLost;
}

Kubelet::End Kubelet::run_broken() {
  auto config = host_.container_config("broken", "logger", {"/no/such/program"});
  config.mutable_metadata()->set_attempt(config_.metadata().attempt());
  const auto id = create(config);
  if (!id || !start(*id)) return End::kPodLost;
  const auto status = wait_exited(*id);
  if (!status) return End::kPodLost;
  if (status->reason() != "StartError" && pod_is_ready()) {
    fault(&Tally::lost_codes, "broken ended as " + status->reason() + ", " + std::to_string(status->exit_code()));
  }
  return End::kDone;
}

Kubelet::End Kubelet::run_stubborn() {
  const auto id = create(config_of("stubborn", "trap '' TERM; exec sleep 1000"));
  return id && start(*id) ? End::kDone : End::kPodLost;
}

// The end of a shim, seen by the daemon or found by the next one.
Kubelet::End Kubelet::kill_shim() {
  const pid_t shim = shim_of(pod_);
  if (shim == 0) return End::kDone;
  if (plan_.alone) {
    if (host_.daemon_alive()) killed_alone_ = true;
    host_.kill9_daemon();
  }
  ::kill(plan_.init_dies ? init_of(shim) : shim, SIGKILL);
  if (!wait_until(kPatience, [this] {
        const auto status = host_.cri().pod_status(pod_);
        if (!status) revive();
        return status && status->state() == pb::SANDBOX_NOTREADY;
      })) {
    fault(&Tally::other, "the pod stays READY without its shim or init");
  }
  return End::kDone;
}

Kubelet::End Kubelet::attempt(unsigned number) {
  config_.mutable_metadata()->set_attempt(number);
  pod_.clear();
  const auto deadline = std::chrono::steady_clock::now() + kPatience;
  while (pod_.empty()) {
    const auto id = host_.cri().run_pod(config_);
    if (id) {
      pod_ = *id;
    } else if (!revive()) {
      // The shim may have died while it was started: the next attempt follows, as from a kubelet.
      return End::kPodLost;
    }
    if (std::chrono::steady_clock::now() >= deadline) return End::kPodLost;
  }
  check_singles("RunPodSandbox");
  for (const auto step : {&Kubelet::run_main, &Kubelet::run_served, &Kubelet::run_broken, &Kubelet::run_stubborn}) {
    if ((this->*step)() == End::kPodLost) return End::kPodLost;
  }
  return plan_.shim_dies ? kill_shim() : End::kDone;
}

/// Stops and removes every sandbox of the pod.
void Kubelet::clear() {
  const auto each = [this](const char* what, Result<> (CriClient::*call)(const std::string&)) {
    insist(what, [&]() -> Result<> {
      BERTH_ASSIGN(const auto pods, host_.cri().pods(), "list");
      for (const auto& pod : pods) {
        if (pod.metadata().uid() == config_.metadata().uid()) BERTH_TRY((host_.cri().*call)(pod.id()), what);
      }
      return {};
    });
  };
  each("StopPodSandbox", &CriClient::stop_pod);
  each("RemovePodSandbox", &CriClient::remove_pod);
}

void Kubelet::check_log(const Written& log) {
  std::vector<LogLine> lines;
  for (const auto& path : {log.path + ".1", log.path}) {
    if (!os::exists(path)) continue;
    auto part = read_log(path);
    if (!part) return fault(&Tally::lost_lines, part.error().text());
    lines.insert(lines.end(), part->begin(), part->end());
  }
  const auto wrong = check_numbered(lines, log.whole);
  if (!wrong.empty()) fault(&Tally::lost_lines, log.path + ": " + wrong);
}

void Kubelet::check_end() {
  const auto pods = host_.cri().pods();
  const auto containers = host_.cri().containers();
  if (!pods || !pods->empty() || !containers || !containers->empty()) {
    fault(&Tally::orphans, "the daemon still shows pods or containers");
  }
  for (const auto& log : logs_) check_log(log);
  if (!wait_until(seconds(5), [this] { return leases_of(host_) == 0; })) {
    fault(&Tally::leaked_addresses, std::to_string(leases_of(host_)) + " addresses are held");
  }
  if (!wait_until(seconds(5), [this] { return records_of(host_.root() + "/state.db") == 0; })) {
    fault(&Tally::orphans, std::to_string(records_of(host_.root() + "/state.db")) + " records stay");
  }
  std::string left;
  if (!wait_until(seconds(20), [&] { return (left = more_than_before(host_, before_)).empty(); })) {
    fault(&Tally::orphans, left + "--- the server's log ends:\n" + host_.daemon_log(3000));
  }
}

void Kubelet::live(const std::string& name, const Plan& plan) {
  name_ = name;
  plan_ = plan;
  deaths_ = 0;
  killed_alone_ = false;
  logs_.clear();
  config_ = host_.pod_config(name);
  if (plan.shared_pids) {
    config_.mutable_linux()->mutable_security_context()->mutable_namespace_options()->set_pid(pb::POD);
  }
  auto& port = *config_.add_port_mappings();
  port.set_container_port(80);
  port.set_host_port(8080);
  for (const auto& point : plan.points) {
    if (const auto armed = host_.arm(point, "kill"); !armed) fault(&Tally::other, armed.error().text());
  }
  ++tally_.lives;
  unsigned number = 0;
  while (attempt(number) == End::kPodLost && ++number < kMaxAttempts) clear();
  if (number == kMaxAttempts) fault(&Tally::other, "no attempt of the pod came to its end");
  clear();
  // One that was about to die of it in the background.
  if (!host_.daemon_alive()) revive();
  check_end();
  count_fired();
  if (const auto done = host_.disarm(); !done) fault(&Tally::other, done.error().text());
  ignore(os::remove_tree(host_.logs(name)), "the host's folder goes as a whole");
}

}  // namespace berth::test
