#include <unistd.h>

#include <csignal>
#include <cstring>

#include "base/strings.h"
#include "commands.h"
#include "notify_socket.h"
#include "os/pidfd.h"

namespace berth::oci {

namespace {

/// "9", "KILL", "SIGKILL", "sigkill".
Result<int> signal_number(const std::string& text) {
  if (const auto number = parse_number<int>(text)) {
    if (*number >= 0 && *number < NSIG) return *number;
    return fail(Code::kInvalid, "unknown signal \"" + text + "\"");
  }
  std::string name = to_lower(text);
  if (name.starts_with("sig")) name.erase(0, 3);
  if (name.starts_with("rtmin+")) {
    const auto above = parse_number<int>(std::string_view(name).substr(6));
    if (above && *above >= 0 && SIGRTMIN + *above <= SIGRTMAX) return SIGRTMIN + *above;
  }
  for (int signal = 1; signal < SIGRTMIN; ++signal) {
    const char* const known = ::sigabbrev_np(signal);
    if (known != nullptr && to_lower(known) == name) return signal;
  }
  return fail(Code::kInvalid, "unknown signal \"" + text + "\"");
}

Result<Found> find(Context& context, bool with_spec) {
  return find_container(context.store, context.engine, context.args.rest()[0], with_spec);
}

}  // namespace

Result<int> run_start(Context& context) {
  const std::string id = context.args.rest()[0];
  BERTH_ASSIGN(UniqueFd lock, context.store.lock(id), "start");
  auto found = find(context, true);
  if (!found) return fail(std::move(found).error());
  auto notify = NotifySocket::from_environment(context.store.folder(id));
  if (notify) BERTH_TRY(notify->bind(), "start");
  auto started = found->container->start();
  if (!started) return fail(std::move(started).error());
  lock.reset();  // while the program gets ready it can be killed and deleted
  if (notify) notify->wait_and_warn(found->container->init());
  return 0;
}

Result<int> run_kill(Context& context) {
  const auto operands = context.args.rest();
  auto found = find(context, false);
  if (!found) return fail(std::move(found).error());
  BERTH_ASSIGN(const int signal, signal_number(operands.size() > 1 ? operands[1] : "SIGTERM"), "kill");
  const bool all = context.args.on("all");
  auto done = found->container->kill(signal, all);
  // With --all a container that has ended is no error: nothing is what had to be left (as runc).
  if (!done && all && done.error().code() == Code::kNotFound) return 0;
  if (!done) return fail(std::move(done).error());
  return 0;
}

Result<int> run_delete(Context& context) {
  const std::string id = context.args.rest()[0];
  const bool force = context.args.on("force");
  auto lock = context.store.lock(id);
  if (!lock) {
    if (force && lock.error().code() == Code::kNotFound) return 0;
    return fail(std::move(lock).error());
  }
  auto found = find(context, false);
  if (!found) {
    // Killed before it wrote its state: there is a folder and no container.
    if (force || found.error().code() != Code::kNotFound) BERTH_TRY(context.store.remove(id), "delete");
    if (force) return 0;
    return fail(std::move(found).error());
  }
  const spec::Status status = status_of(*found);
  if (!force && (status == spec::Status::kRunning || status == spec::Status::kPaused)) {
    return fail(Code::kPrecondition,
                "cannot delete container " + id + " that is not stopped: " + std::string(spec::status_name(status)));
  }
  // Hooks are run at the end: only then the configuration is needed, and a broken one must not keep the rest.
  if (auto whole = find(context, true)) found = std::move(whole);
  BERTH_TRY(found->container->remove(), "delete");
  BERTH_TRY(context.store.remove(id), "delete");
  return 0;
}

Result<int> run_pause(Context& context) {
  auto found = find(context, false);
  if (!found) return fail(std::move(found).error());
  const spec::Status status = status_of(*found);
  if (status != spec::Status::kRunning && status != spec::Status::kCreated) {
    return fail(Code::kPrecondition, "container not running or created: " + std::string(spec::status_name(status)));
  }
  BERTH_TRY(found->container->pause(), "pause");
  return 0;
}

Result<int> run_resume(Context& context) {
  auto found = find(context, false);
  if (!found) return fail(std::move(found).error());
  if (status_of(*found) != spec::Status::kPaused) return fail(Code::kPrecondition, "container not paused");
  BERTH_TRY(found->container->resume(), "resume");
  return 0;
}

}  // namespace berth::oci
