// What pulling an image takes: Berth and containerd over CRI, skopeo into containers-storage, and the limit of any
// puller of an unmodified image (pull_limit.cc), alternately in one run, each time into an empty store. Images are made
// from this machine's files and served by docker-registry, all in network and mount namespaces of its own and on a
// journaled ext4 of its own; before each pull the page cache is filled (pull_ground.h says why). CPU time is the
// daemon's and its children's, user and system; neither the registry's nor what the kernel's threads write. Needs root,
// docker-registry and skopeo; usage: bench_pull --bin FOLDER [--kinds usr,small] [--runtimes berth,containerd,limit]
// [--rounds 3] [--scale PERCENT] [--start] [--keep] [--work FOLDER] [--no-fill]. A whole run takes half an hour and 24
// GB.
#include <signal.h>
#include <sys/mount.h>
#include <unistd.h>

#include <CLI/CLI.hpp>
#include <algorithm>
#include <cmath>
#include <cstdio>
#include <filesystem>

#include "base/strings.h"
#include "isolation.h"
#include "os/file.h"
#include "process.h"
#include "pull_ground.h"
#include "pull_images.h"
#include "pull_limit.h"
#include "pull_runtime.h"
#include "wait.h"

namespace berth::bench {
namespace {

struct Options {
  std::string bin;
  std::string work = "/var/tmp/berth-bench-pull";
  std::vector<std::string> kinds = {"usr", "usr-zstd", "small", "huge", "files"};
  std::vector<std::string> runtimes = {"berth", "containerd", "limit"};
  unsigned rounds = 3;
  unsigned scale = 100;
  unsigned disk_gb = 24;
  bool start = false;
  bool keep = false;
  bool no_fill = false;
};

std::string cgroup_of(pid_t supervisor) {
  return "/berth-bench-pull-" + std::to_string(supervisor);
}

/// containerd's shims, CNI's cache and skopeo know no other places than these.
Result<> hide_folders(const std::string& work) {
  for (const std::string place : {"/run", "/var/lib"}) {
    const std::string copy = work + "/hidden" + place;
    BERTH_TRY(os::make_dirs(copy), "hide " + place);
    if (::mount(copy.c_str(), place.c_str(), nullptr, MS_BIND, nullptr) != 0) return fail_errno(errno, "hide " + place);
  }
  return {};
}

Result<test::Process> start_registry(const Ground& ground) {
  const std::string config =
      "version: 0.1\nlog: {level: error, accesslog: {disabled: true}}\nstorage: {filesystem: "
      "{rootdirectory: " +
      ground.disk() + "/registry}}\nhttp: {addr: " + kPullRegistry + "}\n";
  const std::string path = ground.work() + "/registry.yml";
  BERTH_TRY(os::write_file_atomic(path, config), "registry");
  BERTH_ASSIGN(auto registry, test::Process::start({"docker-registry", "serve", path}, ground.work() + "/registry.log"),
               "registry");
  const bool up = test::wait_until(std::chrono::seconds(60), [&registry] {
    if (!registry.alive()) return true;
    const auto ran = test::run_program({"curl", "-fsS", "-m", "5", std::string("http://") + kPullRegistry + "/v2/"});
    return ran && ran->code == 0;
  });
  if (up && registry.alive()) return registry;
  return fail(Code::kUnavailable, "registry: " + os::read_file(ground.work() + "/registry.log", 1U << 20).value_or(""));
}

class Bench {
 public:
  Bench(const Options& options, Ground ground) : options_(options), ground_(std::move(ground)) {}
  Result<> run();

 private:
  using Rounds = std::vector<std::vector<Sample>>;  ///< by runtime
  Result<> make_images() const;
  Result<> measure_kind(const Kind& kind);
  Result<Sample> measure_one(Runtime& runtime, const Kind& kind, const spec::Manifest& manifest);
  void print(const Kind& kind, const spec::Manifest& manifest, const Rounds& rounds) const;
  void print_ratios(std::size_t base, const Rounds& rounds) const;

  const Options options_;
  Ground ground_;
  std::vector<std::unique_ptr<Runtime>> runtimes_;
};

double median(const std::vector<Sample>& samples, double Sample::* field) {
  std::vector<double> values;
  for (const auto& sample : samples) {
    if (!std::isnan(sample.*field)) values.push_back(sample.*field);
  }
  if (values.empty()) return kNone;
  std::ranges::sort(values);
  const auto middle = values.size() / 2;
  return values.size() % 2 == 1 ? values[middle] : (values[middle - 1] + values[middle]) / 2;
}

struct Column {
  const char* name;
  double Sample::* field;
  int decimals;
  double least = 0;  ///< what is less is noise, and no ratio is made of it
};
constexpr Column kColumns[] = {
    {"CPU s", &Sample::cpu_s, 2},       {"wall s", &Sample::wall_s, 2},
    {"peak MiB", &Sample::peak_mib, 1}, {"+idle MiB", &Sample::more_mib, 1, 0.5},
    {"disk MiB", &Sample::disk_mib, 1}, {"rmi CPU s", &Sample::remove_cpu_s, 3, 0.002},
    {"rmi s", &Sample::remove_s, 3},    {"first ms", &Sample::first_ms, 1},
    {"list ms", &Sample::list_ms, 1},   {"read ms", &Sample::read_ms, 1},
};

void print_cell(double value, int decimals) {
  if (std::isnan(value)) {
    std::printf(" %9s", "-");
  } else {
    std::printf(" %9.*f", decimals, value);
  }
}

Result<> Bench::make_images() const {
  const std::string made = ground_.disk() + "/made";
  BERTH_TRY(os::make_dirs(made), "images");
  const MakeOptions make{ground_.disk() + "/layouts", options_.bin + "/../bench", options_.scale};
  auto wanted = options_.kinds;
  wanted.emplace_back("pause");
  for (const auto& kind : wanted) {
    const std::string mark = made + "/" + kind + "-" + std::to_string(options_.scale);
    if (os::exists(mark)) continue;
    std::fprintf(stderr, "making %s\n", kind.c_str());
    BERTH_TRY(make_and_push(kind, make), "image " + kind);
    BERTH_TRY(ground_.sync(), "image " + kind);
    BERTH_TRY(os::write_file_atomic(mark, "", 0644, os::Sync::kYes), "image " + kind);
  }
  return {};
}

Result<Sample> Bench::measure_one(Runtime& runtime, const Kind& kind, const spec::Manifest& manifest) {
  const std::string image = image_name(kind.name, options_.scale);
  Sample sample;
  BERTH_TRY(runtime.prepare(), "prepare");
  BERTH_TRY(ground_.sync(), "prepare");
  if (!options_.no_fill) BERTH_TRY(ground_.fill(), "prepare");
  BERTH_TRY(read_blobs(ground_.disk() + "/registry", manifest), "prepare");
  const bool stores = !runtime.store().empty();
  const std::uint64_t used = ground_.used();
  std::uint64_t before = 0;
  if (stores) {
    BERTH_ASSIGN(before, disk_usage(runtime.store()), "prepare");
  }
  BERTH_TRY(runtime.pull(image, sample), "pull");
  if (stores) {
    // What a runtime has left dirty is written before it is removed again.
    BERTH_TRY(ground_.sync(), "after the pull");
    BERTH_ASSIGN(const auto after, disk_usage(runtime.store()), "after the pull");
    sample.disk_mib = (static_cast<double>(after) - static_cast<double>(before)) / 1024 / 1024;
    if (options_.start) BERTH_TRY(runtime.start(image, kind.command, sample), "container");
    BERTH_TRY(runtime.remove(image, ground_, used, sample), "removal");
  }
  BERTH_TRY(runtime.finish(), "end");
  return sample;
}

Result<> Bench::measure_kind(const Kind& kind) {
  BERTH_ASSIGN(const auto manifest, manifest_of(image_name(kind.name, options_.scale)), kind.name);
  Rounds rounds(runtimes_.size());
  for (unsigned round = 0; round < options_.rounds; ++round) {
    for (std::size_t i = 0; i < runtimes_.size(); ++i) {
      // Each round begins with another one, so that nobody always follows the same.
      const std::size_t at = (i + round) % runtimes_.size();
      auto& runtime = *runtimes_[at];
      BERTH_ASSIGN(const auto sample, measure_one(runtime, kind, manifest), runtime.name() + ", " + kind.name);
      rounds[at].push_back(sample);
      std::fprintf(stderr, "%s, round %u: %s: CPU %.2f s, wall %.2f s\n", kind.name.c_str(), round + 1,
                   runtime.name().c_str(), sample.cpu_s, sample.wall_s);
    }
  }
  print(kind, manifest, rounds);
  return {};
}

void Bench::print(const Kind& kind, const spec::Manifest& manifest, const Rounds& rounds) const {
  std::uint64_t packed = 0;
  for (const auto& layer : manifest.layers) packed += layer.size;
  const auto note = [&manifest](const char* name) {
    const auto found = manifest.annotations.find(name);
    return found == manifest.annotations.end() ? 0 : parse_number<std::uint64_t>(found->second).value_or(0);
  };
  std::printf("\n%s: %s; %zu layers, %.1f MB, unpacked %.1f MB in %llu entries; medians of %u rounds\n",
              kind.name.c_str(), kind.text.c_str(), manifest.layers.size(), static_cast<double>(packed) / 1e6,
              static_cast<double>(note("bench.unpacked")) / 1e6, static_cast<unsigned long long>(note("bench.entries")),
              options_.rounds);
  std::printf("%-24s", "");
  for (const auto& column : kColumns) std::printf(" %9s", column.name);
  std::printf("\n");
  for (std::size_t i = 0; i < runtimes_.size(); ++i) {
    std::printf("%-24s", runtimes_[i]->name().c_str());
    for (const auto& column : kColumns) print_cell(median(rounds[i], column.field), column.decimals);
    std::printf("\n");
  }
  for (std::size_t i = 1; i < runtimes_.size(); ++i) print_ratios(i, rounds);
  std::fflush(stdout);
}

/// The first runtime's figures by those of another one.
void Bench::print_ratios(std::size_t base, const Rounds& rounds) const {
  std::printf("%-24s", (runtimes_[0]->name() + "/" + runtimes_[base]->name()).c_str());
  for (const auto& column : kColumns) {
    const double other = median(rounds[base], column.field);
    print_cell(other > column.least ? median(rounds[0], column.field) / other : kNone, 2);
  }
  std::printf("\n");
}

Result<> Bench::run() {
  const RuntimeOptions runtime{&ground_, options_.bin, cgroup_of(::getppid()), options_.scale};
  for (const auto& name : options_.runtimes) {
    BERTH_ASSIGN(auto made, make_runtime(name, runtime), "runtime");
    runtimes_.push_back(std::move(made));
  }
  BERTH_TRY(hide_folders(ground_.work()), "places");
  BERTH_ASSIGN(const auto registry, start_registry(ground_), "registry");
  BERTH_TRY(make_images(), "images");
  for (const auto& kind : kinds()) {
    if (std::ranges::find(options_.kinds, kind.name) != options_.kinds.end()) BERTH_TRY(measure_kind(kind), kind.name);
  }
  return {};
}

int measure(const Options& options) {
  auto ground = Ground::make(options.work, options.disk_gb);
  if (!ground) {
    std::fprintf(stderr, "bench_pull: %s\n", ground.error().text().c_str());
    return 1;
  }
  const auto done = Bench(options, std::move(*ground)).run();
  if (done) return 0;
  std::fprintf(stderr, "bench_pull: %s\n", done.error().text().c_str());
  return 1;
}

}  // namespace
}  // namespace berth::bench

int main(int argc, char** argv) {
  CLI::App app("What pulling an image takes", "bench_pull");
  berth::bench::Options options;
  app.add_option("--bin", options.bin, "the folder of berthd; bench_walk is in its neighbour bench")->required();
  app.add_option("--work", options.work, "a folder for everything")->capture_default_str();
  app.add_option("--kinds", options.kinds, "of images")->delimiter(',')->capture_default_str();
  app.add_option("--runtimes", options.runtimes,
                 "the first is compared with the others: berth, containerd, containerd+pigz, containerd+igzip, skopeo, "
                 "limit")
      ->delimiter(',')
      ->capture_default_str();
  app.add_option("--rounds", options.rounds)->capture_default_str()->check(CLI::Range(1, 1000));
  app.add_option("--scale", options.scale, "percent of the images' sizes")
      ->capture_default_str()
      ->check(CLI::Range(1, 100));
  app.add_option("--disk-gb", options.disk_gb, "at most")->capture_default_str();
  app.add_flag("--start", options.start, "run a container of each image, too");
  app.add_flag("--keep", options.keep, "keep the disk with the images for the next run");
  app.add_flag("--no-fill", options.no_fill, "do not fill the page cache: quicker, and not to be trusted");
  CLI11_PARSE(app, argc, argv);
  for (const auto& name : options.kinds) {
    const auto& all = berth::bench::kinds();
    if (std::ranges::none_of(all, [&name](const auto& kind) { return kind.name == name; })) {
      std::fprintf(stderr, "bench_pull: no kind of image is called %s\n", name.c_str());
      return 2;
    }
  }
  options.work = berth::clean_path(std::filesystem::absolute(options.work).string());
  options.bin = berth::clean_path(std::filesystem::absolute(options.bin).string());
  // The first process cleans up when the second one, which measures, has ended, however it did.
  bool inside = false;
  const int code = berth::test::run_isolated(argc, argv, {}, [&options, &inside] {
    inside = true;
    return berth::bench::measure(options);
  });
  if (inside) return code;
  ::signal(SIGPIPE, SIG_IGN);
  berth::bench::clear_cgroups(berth::bench::cgroup_of(::getpid()));
  berth::bench::clear_ground(options.work, options.keep);
  return code;
}
