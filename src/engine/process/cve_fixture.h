#pragma once
#include <fcntl.h>
#include <gtest/gtest.h>
#include <sched.h>
#include <sys/mman.h>
#include <sys/stat.h>
#include <unistd.h>

#include <atomic>
#include <chrono>
#include <csignal>
#include <filesystem>
#include <functional>
#include <new>

#include "engine/process/test_container.h"
#include "os/process_attr.h"

/// What the tests of known holes share: a folder of the host that must not change, and a process to race against.
namespace berth::engine::process::testing {

namespace fs = std::filesystem;

inline constexpr int kRounds = 200;
inline constexpr std::chrono::seconds kRaceTime{3};

/// A process that exchanges two names as fast as it can. Not a thread: what clone3 copies of a program may not hold
/// another thread's locks. It dies with the test.
class Swapper {
 public:
  Swapper(const std::string& one, const std::string& other) {
    void* const page = ::mmap(nullptr, sizeof(Shared), PROT_READ | PROT_WRITE, MAP_SHARED | MAP_ANONYMOUS, -1, 0);
    if (page == MAP_FAILED) std::abort();
    shared_ = new (page) Shared;
    auto cloned = os::clone_process({});
    if (!cloned) std::abort();
    if (cloned->pid == 0) swap(one.c_str(), other.c_str());
    pidfd_ = std::move(cloned->pidfd);
  }
  Swapper(const Swapper&) = delete;
  Swapper& operator=(const Swapper&) = delete;
  ~Swapper() {
    EXPECT_TRUE(os::pidfd_signal(pidfd_.get(), SIGKILL).has_value());
    EXPECT_TRUE(os::reap_pidfd(pidfd_.get()).has_value());
    ::munmap(shared_, sizeof(Shared));
  }
  void go() { shared_->wanted = true; }
  /// Returns when it has stopped: the names stay as they are.
  void pause() {
    shared_->wanted = false;
    while (shared_->busy) ::sched_yield();
  }
  [[nodiscard]] int count() const { return shared_->count; }

 private:
  struct Shared {
    std::atomic<bool> wanted = false;
    std::atomic<bool> busy = false;
    std::atomic<int> count = 0;
  };
  [[noreturn]] void swap(const char* one, const char* other) {
    if (!os::set_parent_death_signal(SIGKILL)) ::_exit(1);
    while (true) {
      shared_->busy = true;
      while (shared_->wanted) {
        if (::renameat2(AT_FDCWD, one, AT_FDCWD, other, RENAME_EXCHANGE) == 0) ++shared_->count;
      }
      shared_->busy = false;
      ::sched_yield();
    }
  }

  Shared* shared_ = nullptr;
  UniqueFd pidfd_;
};

struct Attempt {
  bool made = false;
  std::string text;  ///< what it wrote, or why it was refused
};

inline spec::Mount bind_of(const std::string& source, std::string to, std::vector<std::string> options = {"bind"}) {
  spec::Mount entry;
  entry.destination = std::move(to);
  entry.type = "bind";
  entry.source = source;
  entry.options = std::move(options);
  return entry;
}

inline void drop_mounts(spec::Spec& spec, std::string_view below) {
  std::erase_if(spec.mounts, [below](const auto& mount) { return mount.destination.starts_with(below); });
}

/// Beside the bundle's root lies `outside`, a folder of the host that no container is given: any change of it, be it
/// undone, fails the test.
class CveTest : public EngineTest {
 protected:
  void SetUp() override {
    EngineTest::SetUp();
    make_dir(outside());
    write(outside() + "/ptmx", "decoy\n");
    write(outside() + "/keep", "kept\n");
    before_ = listing();
  }
  void TearDown() override {
    EXPECT_EQ(listing(), before_) << "the host was changed";
    EngineTest::TearDown();
  }
  std::string rootfs() { return bundle_.path() + "/rootfs"; }
  std::string outside() { return bundle_.path() + "/outside"; }
  /// A host folder that containers may be given.
  std::string volume() { return bundle_.path() + "/volume"; }

  static void make_dir(const std::string& path) { ASSERT_TRUE(os::make_dirs(path).has_value()) << path; }
  static void write(const std::string& path, const std::string& text) {
    make_dir(fs::path(path).parent_path());
    ASSERT_TRUE(os::write_file_atomic(path, text).has_value()) << path;
  }
  static void link(const std::string& target, const std::string& path) {
    make_dir(fs::path(path).parent_path());
    ASSERT_EQ(::symlink(target.c_str(), path.c_str()), 0) << path;
  }
  static std::string text_of(const std::string& path) { return os::read_file(path, 1U << 20).value_or("?"); }

  /// Names, owners, modes and times of change in `outside`, its own included.
  std::string listing() {
    std::string text;
    const auto add = [&text](const std::string& path) {
      struct stat st{};
      EXPECT_EQ(::lstat(path.c_str(), &st), 0);
      text += path + " " + std::to_string(st.st_mode) + " " + std::to_string(st.st_uid) + " " +
              std::to_string(st.st_size) + " " + std::to_string(st.st_ctim.tv_sec) + "." +
              std::to_string(st.st_ctim.tv_nsec) + "\n";
    };
    add(outside());
    for (const auto& entry : fs::recursive_directory_iterator(outside())) add(entry.path());
    return text;
  }

  /// Runs it to its end; `created` is called between create and start. With a terminal the output is /tmp/out.
  Attempt attempt(spec::Spec spec, const std::function<void()>& created = [] {}) {
    auto pipe = os::make_pipe();
    const auto null = os::open_file("/dev/null", O_RDWR);
    const bool terminal = spec.process->terminal;
    CreateRequest request;
    request.id = bundle_.name();
    request.bundle = bundle_.path();
    request.spec = std::move(spec);
    if (!terminal) request.stdio = {null->get(), pipe->write.get(), pipe->write.get()};
    request.die_with_parent = true;
    auto made = engine_->create_process(std::move(request));
    created();
    if (!made) return {false, made.error().text()};
    pipe->write.reset();
    const UniqueFd console = terminal ? (*made)->take_console() : UniqueFd();
    Attempt result;
    const auto started = (*made)->start();
    result.made = started.has_value();
    result.text = started ? os::read_all(pipe->read.get(), 1U << 20).value_or("") : started.error().text();
    EXPECT_TRUE(os::reap_pidfd((*made)->init().pidfd.get()).has_value());
    EXPECT_TRUE((*made)->remove().has_value());
    if (terminal && started) result.text = text_of(rootfs() + "/tmp/out");
    return result;
  }

  /// `once` (which must pause the swapping when it looks) until the rounds or the time are over.
  void race(Swapper& swapper, const std::function<void()>& once) {
    const auto end = std::chrono::steady_clock::now() + kRaceTime;
    int rounds = 0;
    for (; rounds < kRounds && std::chrono::steady_clock::now() < end && !HasFailure(); ++rounds) {
      swapper.go();
      once();
      swapper.pause();
    }
    EXPECT_GT(swapper.count(), rounds) << "nothing raced";
    RecordProperty("rounds", rounds);
  }

  Outcome exec(ProcessContainer& container, const spec::Process& process) {
    auto pipe = os::make_pipe();
    ExecRequest request;
    request.process = process;
    request.stdio = {-1, pipe->write.get(), pipe->write.get()};
    auto started = container.exec(request);
    if (!started) return {-1, started.error().text()};
    pipe->write.reset();
    Outcome outcome;
    outcome.out = os::read_all(pipe->read.get(), 1U << 20).value_or("");
    outcome.code = os::reap_pidfd(started->pidfd.get()).value_or(-1);
    return outcome;
  }

 private:
  std::string before_;
};

/// What lies at /vol/a is now a folder of the volume, now a link to a folder of the host.
class VolumeRace : public CveTest {
 protected:
  void SetUp() override {
    CveTest::SetUp();
    make_dir(volume() + "/a");
    link(outside(), volume() + "/b");
    write(bundle_.path() + "/payload/mark", "payload\n");
  }
  spec::Spec with_volume(const std::string& script) {
    auto spec = script_spec(script);
    spec.mounts.push_back(bind_of(volume(), "/vol", {"rbind"}));
    return spec;
  }
};

}  // namespace berth::engine::process::testing
