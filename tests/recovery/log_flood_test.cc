// A container that logs 50 MB/s, while the daemon is away and while its log is rotated all the time: every byte is
// there, once and in order. BERTH_LOG_SECONDS (each half, 4) and BERTH_LOG_ROTATIONS (20) make it longer: 300 and 200
// are what is promised. What the writer has measured of its own writes is printed.
#include <fcntl.h>
#include <unistd.h>

#include <atomic>
#include <cstdlib>
#include <filesystem>
#include <mutex>
#include <thread>

#include "base/strings.h"
#include "fixture.h"
#include "os/file.h"
#include "steady_line.h"
#include "wait.h"

namespace berth::test {
namespace {

using std::chrono::steady_clock;

constexpr std::size_t kHeader = 41;  // "<time> stdout F "
constexpr std::size_t kEntry = kHeader - 1 + kSteadyLine;

unsigned from_environment(const char* name, unsigned otherwise) {
  const char* text = std::getenv(name);  // NOLINT(concurrency-mt-unsafe): nobody sets it
  return text == nullptr ? otherwise : parse_number<unsigned>(text).value_or(otherwise);
}

// Reads a log behind its writer, compares each entry, and gives the disk back what it has seen.
class Reader {
 public:
  // "" or what is wrong with the first entry that is.
  std::string open(const std::string& path) {
    file_.reset(::open(path.c_str(), O_RDWR | O_CLOEXEC));
    offset_ = punched_ = 0;
    return file_.valid() ? "" : "no " + path;
  }
  // Everything that is there now.
  std::string read() {
    for (;;) {
      const auto size = ::pread(file_.get(), buffer_.data(), buffer_.size(), offset_);
      if (size < static_cast<ssize_t>(kEntry)) return "";
      const auto count = static_cast<std::size_t>(size) / kEntry;
      for (std::size_t i = 0; i < count; ++i) {
        if (auto wrong = check({buffer_.data() + i * kEntry, kEntry}); !wrong.empty()) return wrong;
      }
      offset_ += static_cast<off_t>(count * kEntry);
      if (offset_ - punched_ < kPunch) continue;
      (void)::fallocate(file_.get(), FALLOC_FL_PUNCH_HOLE | FALLOC_FL_KEEP_SIZE, punched_, offset_ - punched_);
      punched_ = offset_;
    }
  }
  // Whether the file ends with a whole entry, all of them read.
  [[nodiscard]] bool at_end() const { return ::lseek(file_.get(), 0, SEEK_END) == offset_; }
  [[nodiscard]] unsigned long long lines() const { return next_; }

 private:
  static constexpr off_t kPunch = 16 << 20;
  std::string check(std::string_view entry) {
    steady_line(next_, expected_.data());
    const bool right =
        entry.substr(29, 11) == "Z stdout F " && entry.substr(kHeader - 1) == std::string_view(expected_);
    if (!right) return "line " + std::to_string(next_) + " is: " + std::string(entry.substr(0, 80));
    ++next_;
    return "";
  }

  UniqueFd file_;
  off_t offset_ = 0;
  off_t punched_ = 0;
  unsigned long long next_ = 0;
  std::string buffer_ = std::string(kEntry * 1024, '\0');
  std::string expected_ = std::string(kSteadyLine, '\0');
};

struct WithLogger {
  static TestHostOptions options() { return {.images = {"busybox", "logger"}}; }
};

class LogFloodTest : public HostTest<WithLogger> {
 protected:
  static std::string path() { return host().logs("flood") + "/main.log"; }
  // Follows the log from file to file until `over`; rotated files are removed when they have been read.
  void follow() {
    fault_ = reader_.open(path());
    while (fault_.empty()) {
      const unsigned rotated = rotated_;
      const bool last = over_;
      fault_ = reader_.read();
      if (read_ < rotated && fault_.empty()) {
        // The shim writes to the new file since before `rotated_` was raised: the old one is complete.
        if (!reader_.at_end()) fault_ = "rotated file " + std::to_string(read_ + 1) + " ends within an entry";
        std::filesystem::remove(path() + "." + std::to_string(++read_));
        const std::scoped_lock lock(names_);
        const auto next = path() + (read_ < rotated_ ? "." + std::to_string(read_ + 1) : "");
        if (fault_.empty()) fault_ = reader_.open(next);
      } else if (last) {
        if (fault_.empty() && !reader_.at_end()) fault_ = "the log ends within an entry";
        return;
      } else {
        std::this_thread::sleep_for(std::chrono::milliseconds(5));
      }
    }
  }

  std::mutex names_;  // of the log and its rotated files
  Reader reader_;
  std::string fault_;
  std::atomic<unsigned> rotated_ = 0;
  unsigned read_ = 0;
  std::atomic<bool> over_ = false;
};

TEST_F(LogFloodTest, NothingIsLostWithoutADaemonAndUnderRotation) {
  const std::chrono::seconds half(from_environment("BERTH_LOG_SECONDS", 4));
  const unsigned rotations = from_environment("BERTH_LOG_ROTATIONS", 20);
  const std::string report_dir = host().dir() + "/report";
  must(os::make_dirs(report_dir));
  const auto config = host().pod_config("flood");
  const auto pod = must(cri().run_pod(config));
  auto writer = host().container_config("main", "logger", {"/bin/steady_writer", "50", "0", "/report/report"});
  writer.add_mounts()->set_host_path(report_dir);
  writer.mutable_mounts(0)->set_container_path("/report");
  const auto id = must(cri().run(pod, writer, config));
  ASSERT_TRUE(wait_until(std::chrono::seconds(10), [] { return os::exists(path()); }));
  std::thread reader([this] { follow(); });

  host().kill9_daemon();
  std::this_thread::sleep_for(half);
  const auto back = host().start_daemon();
  EXPECT_TRUE(ok(back));
  const auto begun = steady_clock::now();
  for (unsigned i = 1; back && i <= rotations; ++i) {
    {
      const std::scoped_lock lock(names_);
      std::filesystem::rename(path(), path() + "." + std::to_string(i));
      pb::ReopenContainerLogRequest reopen;
      reopen.set_container_id(id);
      EXPECT_TRUE(ok(cri().call(&Runtime::ReopenContainerLog, reopen)));
      rotated_ = i;
    }
    std::this_thread::sleep_until(begun + half * i / rotations);
  }
  EXPECT_TRUE(ok(cri().stop(id, 30)));
  over_ = true;
  reader.join();
  EXPECT_EQ(fault_, "");
  const auto report = must(os::read_file(report_dir + "/report", 4096));
  std::printf("%s", report.c_str());
  EXPECT_TRUE(report.starts_with("lines " + std::to_string(reader_.lines()) + "\n")) << reader_.lines();
  EXPECT_GT(reader_.lines() * kSteadyLine, 50'000'000ULL * 2 * static_cast<std::size_t>(half.count()) * 9 / 10);
  must(cri().end_pod(pod));
}

}  // namespace
}  // namespace berth::test
