#include <unistd.h>

#include <span>
#include <string_view>
#include <vector>

#include "base/log.h"
#include "base/strings.h"
#include "bus.h"
#include "os/file.h"

// berth-scope: what the engine and the daemon ask of systemd where that makes the cgroups. `start` stays in the scope
// that it made, so that this is there and not empty, until its standard input ends: then somebody else is in it, or
// nobody ever will be and systemd drops it. With `--pid` the scope is made around that process, and there is nothing to
// wait for.
namespace {

using berth::Code;
using berth::Result;

constexpr std::size_t kNothingMuch = 4096;
constexpr int kUsage = 64;        // EX_USAGE, and the others of sysexits(3)
constexpr int kUnavailable = 69;  // EX_UNAVAILABLE
constexpr int kExists = 73;       // EX_CANTCREAT
constexpr int kDenied = 77;       // EX_NOPERM

constexpr const char* kUsageText =
    "usage: berth-scope start [--pid PID] [--user] UNIT [?]NAME:TYPE=VALUE...   (prints the control group; without "
    "--pid waits for end of input)\n"
    "       berth-scope set [--user] UNIT [?]NAME:TYPE=VALUE...\n"
    "       berth-scope stop [--user] UNIT\n";

struct CommandLine {
  std::string_view word;
  pid_t pid = 0;  ///< 0: our own
  bool user = false;
  std::string unit;
  std::vector<berth::scope::Property> properties;
};

Result<CommandLine> parse(std::span<char* const> words) {
  CommandLine line;
  if (words.empty()) return berth::fail(Code::kInvalid, kUsageText);
  line.word = words[0];
  words = words.subspan(1);
  if (words.size() > 1 && std::string_view(words[0]) == "--pid" && line.word == "start") {
    const auto pid = berth::parse_number<pid_t>(words[1]);
    if (!pid || *pid <= 0) return berth::fail(Code::kInvalid, kUsageText);
    line.pid = *pid;
    words = words.subspan(2);
  }
  if (!words.empty() && std::string_view(words[0]) == "--user") {
    line.user = true;
    words = words.subspan(1);
  }
  if (words.empty() || (line.word != "start" && line.word != "set" && line.word != "stop")) {
    return berth::fail(Code::kInvalid, kUsageText);
  }
  line.unit = words[0];
  for (const char* word : words.subspan(1)) {
    BERTH_ASSIGN(auto property, berth::scope::parse_property(word), "command line");
    line.properties.push_back(std::move(property));
  }
  return line;
}

Result<> run(std::span<char* const> words) {
  BERTH_ASSIGN(const CommandLine line, parse(words), "berth-scope");
  BERTH_ASSIGN(berth::scope::Manager manager, berth::scope::Manager::connect(line.user), line.unit);
  if (line.word == "set") return manager.set(line.unit, line.properties);
  if (line.word == "stop") return manager.stop(line.unit);
  BERTH_ASSIGN(const std::string group,
               manager.start(line.unit, line.properties, line.pid == 0 ? ::getpid() : line.pid), "start");
  BERTH_TRY(berth::os::write_all(STDOUT_FILENO, group + "\n"), "answer");
  if (line.pid != 0) return {};
  berth::ignore(berth::os::read_all(STDIN_FILENO, kNothingMuch), "the end of the input is what is waited for");
  return {};
}

int exit_code(Code code) {
  switch (code) {
    case Code::kInvalid:
      return kUsage;
    case Code::kUnavailable:
      return kUnavailable;
    case Code::kExists:
      return kExists;
    case Code::kDenied:
      return kDenied;
    default:
      return 1;
  }
}

}  // namespace

int main(int argc, char** argv) {
  const auto done = run({argv + 1, static_cast<std::size_t>(argc > 0 ? argc - 1 : 0)});
  if (done) return 0;
  berth::ignore(berth::os::write_all(STDERR_FILENO, done.error().text() + "\n"), "nobody reads");
  return exit_code(done.error().code());
}
