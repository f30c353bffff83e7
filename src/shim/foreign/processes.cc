#include "shim/foreign/processes.h"

#include <fcntl.h>
#include <sys/epoll.h>
#include <sys/stat.h>

#include <algorithm>
#include <csignal>

#include "base/log.h"
#include "containerd/runtime/task/v2/shim.pb.h"
#include "os/file.h"

namespace berth::shim::foreign {
namespace {

using std::chrono::milliseconds;

constexpr milliseconds kOutputGrace{500};
constexpr milliseconds kAnswerGrace{5'000};

}  // namespace

std::vector<UniqueFd> watch_outputs(const engine::Stdio& stdio) {
  std::vector<UniqueFd> ends;
  for (const int fd : {stdio.out, stdio.err}) {
    struct stat info{};
    if (fd < 0 || ::fstat(fd, &info) != 0 || !S_ISFIFO(info.st_mode)) continue;
    auto end = os::open_file("/proc/self/fd/" + std::to_string(fd), O_RDONLY | O_NONBLOCK);
    if (end) ends.push_back(std::move(*end));
  }
  return ends;
}

Processes::~Processes() {
  for (auto& [number, entry] : entries_) drop(entry);
}

Result<> Processes::add(Watched process) {
  for (const auto& [number, entry] : entries_) {
    if (entry.process.pid == process.pid && !entry.answered && !entry.abandoned) {
      return fail(Code::kCorrupt, "the shim tells pid " + std::to_string(process.pid) + " of two processes");
    }
  }
  const std::uint64_t number = ++last_;
  Entry& entry = entries_[number];
  entry.process = std::move(process);
  if (entry.process.pidfd.valid()) {
    auto watch = loop_.add_fd(entry.process.pidfd.get(), EPOLLIN, [this, number](std::uint32_t) { gone(number); });
    if (!watch) {
      entries_.erase(number);
      return fail(std::move(watch).error());
    }
    entry.gone = *watch;
  } else {
    loop_.post([this, number] { gone(number); });
  }
  ::containerd::task::v2::WaitRequest request;
  request.set_id(entry.process.id);
  request.set_exec_id(entry.process.exec_id);
  entry.process.link->call_later("Wait", request.SerializeAsString(),
                                 [this, number](Result<std::string> answer) { answered(number, std::move(answer)); });
  return {};
}

void Processes::answered(std::uint64_t number, Result<std::string> answer) {
  const auto found = entries_.find(number);
  if (found == entries_.end() || found->second.answered) return;
  Entry& entry = found->second;
  auto reply = answer ? ttrpc::from_bytes<::containerd::task::v2::WaitResponse>(*answer, Code::kCorrupt)
                      : Result<::containerd::task::v2::WaitResponse>(fail(std::move(answer).error()));
  if (!reply) {
    // That it is gone will be seen; what its code was nobody tells.
    log_warn("a shim does not tell how a process ends",
             {{"container", entry.process.id}, {"exec", entry.process.exec_id}, {"err", reply.error().text()}});
    return;
  }
  entry.answered = true;
  entry.code = static_cast<int>(std::min<std::uint32_t>(reply->exit_status(), 255));
  loop_.remove(std::exchange(entry.gone, event::WatchId{}));
  loop_.cancel(entry.timer);
  entry.timer = loop_.add_timer(entry.process.outputs.empty() ? milliseconds(0) : kOutputGrace,
                                [this, number, code = entry.code] { tell(number, code); });
  for (std::size_t i = 0; i < entry.process.outputs.size(); ++i) {
    // Nothing but the hang-up, which comes unasked.
    auto watch =
        loop_.add_fd(entry.process.outputs[i].get(), 0, [this, number, i](std::uint32_t) { output_closed(number, i); });
    entry.writing.push_back(watch ? *watch : event::WatchId{});
  }
}

void Processes::output_closed(std::uint64_t number, std::size_t index) {
  const auto found = entries_.find(number);
  if (found == entries_.end()) return;
  Entry& entry = found->second;
  loop_.remove(std::exchange(entry.writing[index], event::WatchId{}));
  const bool all = std::ranges::all_of(entry.writing, [](event::WatchId id) { return id == event::kNoWatch; });
  if (all) tell(number, entry.code);
}

void Processes::gone(std::uint64_t number) {
  const auto found = entries_.find(number);
  if (found == entries_.end() || found->second.answered) return;
  Entry& entry = found->second;
  loop_.remove(std::exchange(entry.gone, event::WatchId{}));
  if (entry.abandoned) return tell(number, 128 + SIGKILL);
  entry.timer = loop_.add_timer(kAnswerGrace, [this, number] {
    const auto late = entries_.find(number);
    if (late == entries_.end() || late->second.answered) return;
    on_hung_(late->second.process.link.get());
  });
}

void Processes::hold(const std::string& id, const Link* link, engine::process::Cgroup cgroup) {
  held_[id] = {link, std::move(cgroup)};
}

void Processes::abandon(const Link* link) {
  for (const auto& [id, held] : held_) {
    if (held.link != link) continue;
    if (auto killed = held.cgroup.kill_all(SIGKILL); !killed) {
      log_error("a container lives on without its shim", {{"container", id}, {"err", killed.error().text()}});
    }
  }
  std::vector<std::uint64_t> ended;
  for (auto& [number, entry] : entries_) {
    if (entry.process.link.get() != link || entry.answered) continue;
    entry.abandoned = true;
    // Otherwise its pidfd is still watched.
    if (entry.gone == event::kNoWatch) ended.push_back(number);
  }
  for (const std::uint64_t number : ended) tell(number, 128 + SIGKILL);
}

void Processes::tell(std::uint64_t number, int code) {
  const auto found = entries_.find(number);
  if (found == entries_.end()) return;
  Entry entry = std::move(found->second);
  entries_.erase(found);
  drop(entry);
  const Watched& process = entry.process;
  if (!process.exec_id.empty() && process.link->alive()) {
    ::containerd::task::v2::DeleteRequest request;
    request.set_id(process.id);
    request.set_exec_id(process.exec_id);
    process.link->call_later("Delete", request.SerializeAsString(), [](const Result<std::string>& answer) {
      if (!answer) log_debug("a shim keeps a process that has ended", {{"err", answer.error().text()}});
    });
  }
  ended_(process.pid, code);
}

std::optional<std::string> Processes::exec_id(const std::string& id, pid_t pid) const {
  for (const auto& [number, entry] : entries_) {
    if (entry.process.id == id && entry.process.pid == pid) return entry.process.exec_id;
  }
  return std::nullopt;
}

void Processes::forget(const std::string& id) {
  held_.erase(id);
  for (auto it = entries_.begin(); it != entries_.end();) {
    if (it->second.process.id != id) {
      ++it;
      continue;
    }
    drop(it->second);
    it = entries_.erase(it);
  }
}

void Processes::drop(Entry& entry) {
  loop_.remove(entry.gone);
  for (const event::WatchId watch : entry.writing) loop_.remove(watch);
  loop_.cancel(entry.timer);
}

}  // namespace berth::shim::foreign
