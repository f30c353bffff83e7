// Every failpoint of the daemon and the shim kills its process while a pod lives its life; nothing is lost, doubled or
// left behind. Each point has two lives; then points are drawn at random until BERTH_RECOVERY_KILLS (300) kills were
// made; BERTH_RECOVERY_SEED repeats a former order, BERTH_RECOVERY_POINTS="a,b" takes these points alone.
#include <algorithm>
#include <cstdlib>
#include <fstream>
#include <iostream>
#include <map>
#include <random>
#include <sstream>
#include <thread>

#include "base/strings.h"
#include "failpoint_list.h"
#include "fixture.h"
#include "kubelet.h"
#include "os/file.h"

namespace berth::test {
namespace {

constexpr unsigned kWorkers = 4;
constexpr unsigned kCniWorker = kWorkers - 1;  // its pods are on a network of CNI plugins
// Without ipMasq: the reference plugin forgets that rule when the pod's namespace is gone before its DEL.
constexpr const char* kConflist = R"({"cniVersion": "1.0.0", "name": "matrix", "plugins": [
  {"type": "bridge", "bridge": "cni-matrix0", "isGateway": true,
   "ipam": {"type": "host-local", "dataDir": "@DIR@/ipam", "ranges": [[{"subnet": "10.92.0.0/16"}]]}},
  {"type": "portmap", "capabilities": {"portMappings": true}}]})";
constexpr unsigned kRounds = 2;
constexpr unsigned kDefaultKills = 300;
constexpr unsigned kMaxFaults = 20;  // after so many a worker gives up: more say no more

std::string variable(const char* name) {
  const char* text = std::getenv(name);  // NOLINT(concurrency-mt-unsafe): nobody sets it
  return text == nullptr ? "" : text;
}

/// What must happen before a point is reached at all.
Kubelet::Plan plan_for(const std::string& point) {
  static const std::map<std::string, std::string> kBefore = {
      {"recover.loaded", "start.stored"},          {"recover.containers", "create.recorded"},
      {"recover.unowned", "stop.begun"},           {"recover.attached", "stop.signalled"},
      {"recover.taken-over", "start.started"},     {"recover.pod-shim", "run.shim-started"},
      {"recover.pod-network", "run.attached"},     {"recover.pod-folder", "run.finish"},
      {"recover.container-shim", "create.made"},   {"recover.container-rootfs", "create.shim"},
      {"recover.pod-cgroups", "run.shim-started"},
  };
  Kubelet::Plan plan;
  plan.points = {point};
  if (const auto found = kBefore.find(point); found != kBefore.end()) plan.points.push_back(found->second);
  plan.shim_dies = point.starts_with("shim-death.") || point.starts_with("shim.clear.") || point == "recover.pod-died";
  plan.alone = point == "recover.pod-died";
  plan.init_dies = point == "shim.pod-init.ended" || point == "pod-end.recorded";
  plan.shared_pids = plan.init_dies || point == "shim.pod-init.made";
  plan.shim_dies = plan.shim_dies || plan.init_dies;
  return plan;
}

struct Share {
  unsigned number = 0;
  unsigned seed = 0;
  unsigned kills = 0;  // at least
  std::string result;
};

bool is_of_cni(const std::string& point) {
  return point.starts_with("cni.");
}
bool is_of_builtin(const std::string& point) {
  return point.starts_with("network.") || point.starts_with("lease.");
}

/// Draws plans: first this worker's part of the points, in kRounds rounds; then any, often two at once.
class Draw final {
 public:
  Draw(const Share& share, std::vector<std::string> points)
      : random_(share.seed + share.number), all_(std::move(points)) {
    std::mt19937 same(share.seed);  // NOLINT(cert-msc51-cpp): one order for all workers
    auto order = all_;
    std::ranges::shuffle(order, same);
    const bool cni = share.number == kCniWorker;
    for (unsigned round = 0; round < kRounds; ++round) {
      for (std::size_t i = 0; i < order.size(); ++i) {
        if (is_of_cni(order[i]) ? cni : !cni && i % kCniWorker == share.number) first_.push_back(order[i]);
      }
    }
    // One network's points are never reached on the other.
    std::erase_if(all_, [cni](const std::string& point) { return cni ? is_of_builtin(point) : is_of_cni(point); });
  }
  [[nodiscard]] bool empty() const { return all_.empty(); }
  [[nodiscard]] bool first_rounds() const { return next_ < first_.size(); }
  Kubelet::Plan next() {
    if (first_rounds()) return plan_for(first_[next_++]);
    auto plan = plan_for(any());
    if (random_() % 2 == 0) add(plan, any());
    if (random_() % 8 == 0) plan.shim_dies = true;
    return plan;
  }

 private:
  const std::string& any() { return all_[random_() % all_.size()]; }
  static void add(Kubelet::Plan& plan, const std::string& point) {
    const auto more = plan_for(point);
    for (const auto& name : more.points) {
      if (std::ranges::find(plan.points, name) == plan.points.end()) plan.points.push_back(name);
    }
    plan.shim_dies = plan.shim_dies || more.shim_dies;
    plan.alone = plan.alone || more.alone;
    plan.shared_pids = plan.shared_pids || more.shared_pids;
    plan.init_dies = plan.init_dies || more.init_dies;
  }

  std::mt19937 random_;
  std::vector<std::string> all_;
  std::vector<std::string> first_;
  std::size_t next_ = 0;
};

std::vector<std::string> wanted_points() {
  const auto only = variable("BERTH_RECOVERY_POINTS");
  std::vector<std::string> names;
  if (!only.empty()) {
    for (const auto name : split(only, ',')) names.emplace_back(name);
    return names;
  }
  for (const auto& point : must(all_failpoints())) {
    // checkpoint_kill_test has those, where criu works.
    if (!point.needs_criu) names.push_back(point.name);
  }
  return names;
}

constexpr std::pair<const char*, unsigned Tally::*> kNumbers[] = {
    {"lives", &Tally::lives},           {"daemon-kills", &Tally::daemon_kills},
    {"shim-kills", &Tally::shim_kills}, {"orphans", &Tally::orphans},
    {"doubles", &Tally::doubles},       {"lost-codes", &Tally::lost_codes},
    {"lost-lines", &Tally::lost_lines}, {"leaked-addresses", &Tally::leaked_addresses},
    {"other", &Tally::other},
};

std::string to_text(const Tally& tally) {
  std::string text;
  for (const auto& [name, member] : kNumbers) {
    text.append("number ").append(name).append(" ").append(std::to_string(tally.*member)).append("\n");
  }
  for (const auto& point : tally.fired) text.append("fired ").append(point).append("\n");
  for (auto fault : tally.faults) {
    std::ranges::replace(fault, '\n', '\x01');
    text.append("fault ").append(fault).append("\n");
  }
  return text;
}

void add_text(Tally& tally, const std::string& text) {
  for (const auto line : split(text, '\n')) {
    const auto space = line.find(' ');
    if (space == std::string_view::npos) continue;
    const auto kind = line.substr(0, space);
    std::string rest(line.substr(space + 1));
    if (kind == "fired") tally.fired.insert(rest);
    if (kind == "fault") {
      std::ranges::replace(rest, '\x01', '\n');
      tally.faults.push_back(rest);
    }
    if (kind != "number") continue;
    for (const auto& [name, member] : kNumbers) {
      const std::string begin = std::string(name) + " ";
      if (rest.starts_with(begin)) tally.*member += parse_number<unsigned>(rest.substr(begin.size())).value_or(0);
    }
  }
}

/// A worker's program: lives on a host of its own until its share is done.
void work(const Share& share) {
  Tally tally;
  const bool cni = share.number == kCniWorker;
  const auto host = must(TestHost::start({.conflist = cni ? kConflist : "", .images = {"logger"}, .failpoints = true}));
  must(host->cri().pull(TestHost::image("logger")));
  // What the first pod makes for all of them is there when the others are compared.
  auto first = host->pod_config("first");
  first.add_port_mappings()->set_host_port(8079);
  first.mutable_port_mappings(0)->set_container_port(80);
  const auto pod = must(host->cri().run_pod(first));
  must(host->cri().run(pod, host->container_config("main", "logger"), first));
  must(host->cri().end_pod(pod));
  const auto before = look(*host);
  Kubelet kubelet(*host, before, tally);
  Draw draw(share, wanted_points());
  for (unsigned i = 0; !draw.empty() && (draw.first_rounds() || tally.kills() < share.kills); ++i) {
    if (tally.faults.size() >= kMaxFaults) break;
    kubelet.live("life" + std::to_string(i), draw.next());
    must(os::write_file_atomic(share.result, to_text(tally)));
  }
}

std::string share_text(const Share& share) {
  return std::to_string(share.number) + " " + std::to_string(share.seed) + " " + std::to_string(share.kills) + " " +
         share.result;
}

TEST(RecoveryMatrix, NothingIsLostWhereverAProcessIsKilled) {
  if (const auto text = variable("BERTH_RECOVERY_SHARE"); !text.empty()) {
    Share share;
    std::istringstream(text) >> share.number >> share.seed >> share.kills >> share.result;
    return work(share);
  }
  const auto points = wanted_points();
  const unsigned kills = parse_number<unsigned>(variable("BERTH_RECOVERY_KILLS"))
                             .value_or(variable("BERTH_RECOVERY_POINTS").empty() ? kDefaultKills : 0);
  const unsigned seed = parse_number<unsigned>(variable("BERTH_RECOVERY_SEED")).value_or(std::random_device{}());
  std::cout << "seed " << seed << ", " << points.size() << " points" << std::endl;
  std::string folder = "/tmp/berth-matrix-XXXXXX";
  ASSERT_NE(::mkdtemp(folder.data()), nullptr);
  Tally tally;
  std::array<Result<Ran>, kWorkers> ran;
  {
    std::vector<std::jthread> threads;
    for (unsigned i = 0; i < kWorkers; ++i) {
      threads.emplace_back([i, seed, kills, &folder, &ran] {
        const Share share{i, seed, (kills + kWorkers - 1) / kWorkers, folder + "/" + std::to_string(i)};
        ran[i] = run_program({"/proc/self/exe", "--gtest_filter=RecoveryMatrix.*"}, std::chrono::hours(2),
                             {"BERTH_RECOVERY_SHARE=" + share_text(share)});
      });
    }
  }
  for (unsigned i = 0; i < kWorkers; ++i) {
    EXPECT_TRUE(ok(ran[i]));
    if (ran[i]) {
      EXPECT_EQ(ran[i]->code, 0) << ran[i]->out << ran[i]->err;
    }
    add_text(tally, os::read_file(folder + "/" + std::to_string(i), 64U << 20).value_or(""));
  }
  EXPECT_TRUE(ok(os::remove_tree(folder)));
  for (const auto& [name, member] : kNumbers) std::cout << name << " " << tally.*member << "\n";
  std::cout << "points " << tally.fired.size() << " of " << points.size() << std::endl;
  for (const auto& fault : tally.faults) ADD_FAILURE() << fault;
  for (const auto& point : points) EXPECT_TRUE(tally.fired.contains(point)) << point << " was never reached";
  EXPECT_GE(tally.kills(), kills);
}

}  // namespace
}  // namespace berth::test
