// A node under lasting churn: pods that come and go at a steady rate, exec probes in those that run, and the lists and
// figures that a kubelet asks for. The daemon's memory and descriptors stay where they are and nothing is left over.
// BERTH_SOAK_PODS (20), BERTH_SOAK_RATE (5 a second), BERTH_SOAK_SECONDS (15); the bar is 200, 5 and 1200.
#include <sqlite3.h>

#include <algorithm>
#include <atomic>
#include <deque>
#include <iostream>
#include <mutex>
#include <random>
#include <set>
#include <thread>

#include "figures.h"
#include "fixture.h"

namespace berth::test {
namespace {

using Clock = std::chrono::steady_clock;
using std::chrono::milliseconds;

constexpr unsigned kChurners = 8;
constexpr unsigned kProbers = 2;
// Timelines of this many removed pods are kept (cri/timeline.h): until they are full, memory grows as it should.
constexpr unsigned kRemembered = 200;
// A short run ends while they still fill; 20 KiB is a timeline's size in memory.
constexpr std::uint64_t kStillFillingKib = kRemembered * 20ULL;
constexpr unsigned kMaxFaults = 20;

struct Plain {
  static TestHostOptions options() { return {}; }
};

/// Rows of a table of the state database, or -1.
int rows_of(const std::string& path, const std::string& table) {
  sqlite3* db = nullptr;
  int count = -1;
  sqlite3_stmt* statement = nullptr;
  if (sqlite3_open_v2(path.c_str(), &db, SQLITE_OPEN_READONLY, nullptr) == SQLITE_OK) {
    sqlite3_busy_timeout(db, 5000);
    const std::string sql = "SELECT count(*) FROM " + table;
    if (sqlite3_prepare_v2(db, sql.c_str(), -1, &statement, nullptr) == SQLITE_OK &&
        sqlite3_step(statement) == SQLITE_ROW) {
      count = sqlite3_column_int(statement, 0);
    }
    sqlite3_finalize(statement);
  }
  sqlite3_close(db);
  return count;
}

class SoakTest : public HostTest<Plain> {
 protected:
  void SetUp() override {
    HostTest::SetUp();
    if (HasFatalFailure()) return;
    const auto first = must(one_pod());
    must(cri().end_pod(first.pod));
    before_ = look(host());
  }

  Result<Running> one_pod() {
    Running running{host().pod_config("pod" + std::to_string(next_++)), "", ""};
    const auto& config = running.config;
    BERTH_ASSIGN(running.pod, cri().run_pod(config), "pod");
    BERTH_ASSIGN(running.container, cri().run(running.pod, host().shell_config("main", "exec sleep 100000"), config),
                 "container");
    return running;
  }

  void fault(const std::string& text) {
    std::lock_guard lock(mutex_);
    if (faults_.size() < kMaxFaults) faults_.push_back(text);
  }
  bool too_many_faults() {
    std::lock_guard lock(mutex_);
    return faults_.size() >= kMaxFaults;
  }

  void add_one() {
    auto made = one_pod();
    if (!made) return fault(made.error().text());
    std::lock_guard lock(mutex_);
    running_.push_back(std::move(*made));
  }
  /// The oldest goes, a new one comes.
  void replace_one() {
    Running oldest;
    {
      std::lock_guard lock(mutex_);
      if (running_.empty()) return;
      oldest = std::move(running_.front());
      running_.pop_front();
    }
    if (const auto ended = cri().end_pod(oldest.pod); !ended) fault(ended.error().text());
    add_one();
    ++replaced_;
  }
  void probe_one(std::minstd_rand& random) {
    Running target;
    {
      std::lock_guard lock(mutex_);
      if (running_.empty()) return;
      target = running_[random() % running_.size()];
    }
    const auto answer = cri().exec(target.container, {"/bin/true"});
    ++probes_;
    if (answer && answer->exit_code() == 0) return;
    // One that has begun to go may refuse.
    std::lock_guard lock(mutex_);
    const bool stays = std::ranges::any_of(running_, [&](const Running& r) { return r.pod == target.pod; });
    if (stays && faults_.size() < kMaxFaults) {
      faults_.push_back("probe: " +
                        (answer ? "exit code " + std::to_string(answer->exit_code()) : answer.error().text()));
    }
  }
  /// What a kubelet asks for all the time.
  void list_all() {
    if (const auto pods = cri().pods(); !pods) fault(pods.error().text());
    if (const auto containers = cri().containers(); !containers) fault(containers.error().text());
    if (const auto stats = cri().call(&Runtime::ListContainerStats, pb::ListContainerStatsRequest()); !stats) {
      fault(stats.error().text());
    }
    if (const auto stats = cri().call(&Runtime::ListPodSandboxStats, pb::ListPodSandboxStatsRequest()); !stats) {
      fault(stats.error().text());
    }
  }

  /// `work` again and again in `threads` threads, together `rate` times a second, until `end`.
  void at_rate(std::vector<std::thread>& all, unsigned threads, double rate, Clock::time_point end,
               const std::function<void(std::minstd_rand&)>& work) {
    for (unsigned t = 0; t < threads; ++t) {
      all.emplace_back([this, t, threads, rate, end, work] {
        const std::chrono::duration<double> period(threads / rate);
        const auto begin = Clock::now() + std::chrono::duration_cast<Clock::duration>(period * t / threads);
        std::minstd_rand random(t + 1);
        for (unsigned i = 0;; ++i) {
          const auto due = begin + std::chrono::duration_cast<Clock::duration>(period * i);
          if (std::max(due, Clock::now()) >= end || too_many_faults()) return;
          std::this_thread::sleep_until(due);
          work(random);
        }
      });
    }
  }
  void fill(unsigned pods) {
    std::atomic<unsigned> left = pods;
    std::vector<std::thread> threads;
    for (unsigned t = 0; t < kChurners; ++t) {
      threads.emplace_back([&] {
        for (unsigned n = left; n > 0; n = left) {
          if (left.compare_exchange_strong(n, n - 1)) add_one();
        }
      });
    }
    for (auto& thread : threads) thread.join();
  }
  /// Nobody remembers more than is there, and the last removed ones.
  void check_bounds(std::size_t pods) {
    std::set<std::string> shown;
    const auto answer = must(cri().call(&Runtime::ListContainerStats, pb::ListContainerStatsRequest()));
    for (const auto& stats : answer.stats()) shown.insert(stats.attributes().id());
    std::set<std::string> there;
    for (const auto& container : must(cri().containers())) there.insert(container.id());
    EXPECT_EQ(shown, there);
    EXPECT_EQ(there.size(), pods);
    EXPECT_EQ(must(cri().pods()).size(), pods);
    const auto db = host().root() + "/state.db";
    EXPECT_EQ(rows_of(db, "sandbox"), static_cast<int>(pods));
    EXPECT_EQ(rows_of(db, "container"), static_cast<int>(pods));
    const auto removed = next_ - pods;
    EXPECT_EQ(rows_of(db, "timeline"), static_cast<int>(pods + std::min<std::size_t>(removed, kRemembered)));
  }
  void check_fsck() {
    const auto ran =
        must(run_program({TestHost::program("berth"), "--address", host().socket(), "fsck"}, std::chrono::minutes(5)));
    EXPECT_EQ(ran.out, "everything has an owner\n") << ran.err;
    EXPECT_EQ(ran.code, 0);
  }

  static inline std::atomic<unsigned> next_ = 0;  // pods made on the host
  std::atomic<unsigned> replaced_ = 0;
  std::atomic<unsigned> probes_ = 0;
  std::mutex mutex_;
  std::deque<Running> running_;  // oldest first
  std::vector<std::string> faults_;
  HostState before_;
};

/// Medians of the first and the last quarter.
std::pair<std::uint64_t, std::uint64_t> quarters(const std::vector<std::uint64_t>& samples) {
  const auto quarter = static_cast<std::ptrdiff_t>(std::max<std::size_t>(samples.size() / 4, 1));
  if (samples.empty()) return {0, 0};
  return {median({samples.begin(), samples.begin() + quarter}), median({samples.end() - quarter, samples.end()})};
}

TEST_F(SoakTest, MemoryAndDescriptorsStayFlatUnderChurn) {
  const unsigned pods = setting("BERTH_SOAK_PODS", 20);
  const unsigned rate = std::max(setting("BERTH_SOAK_RATE", 5), 1U);
  const std::chrono::seconds length(std::max(setting("BERTH_SOAK_SECONDS", 15), 8U));
  fill(pods);
  ASSERT_EQ(faults_, std::vector<std::string>());

  const auto begin = Clock::now();
  const auto end = begin + length;
  std::vector<std::thread> threads;
  at_rate(threads, kChurners, rate, end, [this](auto&) { replace_one(); });
  // A probe every ten seconds in each pod is what Kubernetes does by default.
  at_rate(threads, kProbers, std::max(pods / 10.0, 5.0), end, [this](auto& random) { probe_one(random); });
  std::vector<std::uint64_t> rss;
  std::vector<std::uint64_t> fds;
  for (auto next = begin; next < end && !too_many_faults(); next += std::chrono::seconds(1)) {
    std::this_thread::sleep_until(next);
    list_all();
    const bool warm = Clock::now() - begin >= length / 4 || replaced_ >= kRemembered + pods;
    if (!warm) continue;
    const auto now = figures_of(host().daemon_pid());
    rss.push_back(now.rss_kib);
    fds.push_back(now.fds);
    if (rss.size() % 30 == 1) {
      std::cout << rss.size() << ": RSS " << now.rss_kib << " KiB (" << now.anonymous_kib << " allocated), " << now.fds
                << " fds, " << replaced_ << " replaced, " << probes_ << " probes" << std::endl;
    }
  }
  for (auto& thread : threads) thread.join();
  const std::chrono::duration<double> took = Clock::now() - begin;

  const auto [rss_first, rss_last] = quarters(rss);
  const auto [fds_first, fds_last] = quarters(fds);
  std::cout << pods << " pods, " << replaced_ << " replaced in " << took.count() << " s (" << replaced_ / took.count()
            << " a second), " << probes_ << " probes; medians of the first and last quarter: RSS " << rss_first
            << " and " << rss_last << " KiB, fds " << fds_first << " and " << fds_last << std::endl;
  EXPECT_EQ(faults_, std::vector<std::string>());
  EXPECT_GT(replaced_, 0U);
  EXPECT_GT(probes_, 0U);
  const bool filled = replaced_ > 2 * (kRemembered + pods);
  EXPECT_LE(rss_last, rss_first * 105 / 100 + (filled ? 0 : kStillFillingKib));
  // Each replacement, probe and list under way holds a few for its time.
  EXPECT_LE(fds_last, fds_first + kChurners + kProbers);
  check_bounds(pods);
  check_fsck();
  must(cri().end_all());
  check_fsck();
  EXPECT_EQ(leftovers(host(), before_, std::chrono::seconds(60)), "");
}

TEST_F(SoakTest, NoMoreIsRememberedThanWhatIsThereAndTheLastRemovedPods) {
  const auto why = [](const std::string& name) {
    return must(run_program({TestHost::program("berth"), "--address", host().socket(), "why", name})).code;
  };
  constexpr unsigned kPods = 2 * kChurners;  // so that nobody finds none
  const std::string first = "pod" + std::to_string(next_.load());
  fill(kPods);
  std::vector<std::thread> threads;
  for (unsigned t = 0; t < kChurners; ++t) {
    threads.emplace_back([this] {
      while (replaced_ < kRemembered + kPods && !too_many_faults()) replace_one();
    });
  }
  for (auto& thread : threads) thread.join();
  ASSERT_EQ(faults_, std::vector<std::string>());
  check_bounds(kPods);
  EXPECT_NE(why(first), 0) << "more than " << kRemembered << " pods went after it";
  EXPECT_EQ(why("pod" + std::to_string(next_ - 1)), 0);
  must(cri().end_all());
  check_bounds(0);
  EXPECT_EQ(leftovers(host(), before_), "");
}

}  // namespace
}  // namespace berth::test
