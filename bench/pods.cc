// Pods per CRI server, alternately in one run: time of each step, CPU time per pod, exec, and pods at once.
// Usage: bench_pods --image IMAGE [--runs N] [--batch N] --peer NAME=SOCKET=CGROUP ...   (tools/bench starts the peers)
#include <unistd.h>

#include <CLI/CLI.hpp>
#include <algorithm>
#include <cstdio>
#include <thread>
#include <vector>

#include "base/strings.h"
#include "cri_driver.h"
#include "os/file.h"

namespace berth::bench {
namespace {

struct Samples {
  std::vector<double> run, create, start, up, down, exec, cpu;
};

double median(std::vector<double> values) {
  if (values.empty()) return 0;
  std::sort(values.begin(), values.end());
  const auto middle = values.size() / 2;
  return values.size() % 2 == 1 ? values[middle] : (values[middle - 1] + values[middle]) / 2;
}

double ms(Micros time) {
  return static_cast<double>(time.count()) / 1000.0;
}

Result<> one_pod(Driver& driver, int index, Samples& samples) {
  PodTimes times;
  BERTH_ASSIGN(const auto cpu_before, driver.cpu_ns(), "cpu");
  BERTH_ASSIGN(const auto pod, driver.up(index, times), "up");
  BERTH_ASSIGN(const auto cpu_after, driver.cpu_ns(), "cpu");
  BERTH_ASSIGN(const auto exec, driver.exec(pod), "exec");
  BERTH_TRY(driver.down(pod, times), "down");
  if (index == 0) return {};  // the first one warms caches up and is not counted
  samples.run.push_back(ms(times.run));
  samples.create.push_back(ms(times.create));
  samples.start.push_back(ms(times.start));
  samples.up.push_back(ms(times.up));
  samples.down.push_back(ms(times.down));
  samples.exec.push_back(ms(exec));
  samples.cpu.push_back(static_cast<double>(cpu_after - cpu_before) / 1e6);
  return {};
}

// `count` pods, `width` at a time; the wall time until the last one runs, in milliseconds.
Result<double> batch(Driver& driver, int count, int width) {
  std::vector<Result<Pod>> pods(static_cast<std::size_t>(count), fail(Code::kInternal, "not started"));
  const auto begin = std::chrono::steady_clock::now();
  std::vector<std::thread> threads;
  for (int t = 0; t < width; ++t) {
    threads.emplace_back([&driver, &pods, t, count, width] {
      for (int i = t; i < count; i += width) {
        PodTimes times;
        pods[static_cast<std::size_t>(i)] = driver.up(10'000 + i, times);
      }
    });
  }
  for (auto& thread : threads) thread.join();
  const auto took = std::chrono::duration_cast<Micros>(std::chrono::steady_clock::now() - begin);
  for (auto& pod : pods) {
    if (!pod) return fail(pod.error());
    PodTimes times;
    BERTH_TRY(driver.down(*pod, times), "down");
  }
  return ms(took);
}

void print_row(const std::string& name, const Samples& s) {
  std::printf("%-24s %8.1f %8.1f %8.1f %8.1f %8.1f %8.1f %10.1f\n", name.c_str(), median(s.run), median(s.create),
              median(s.start), median(s.up), median(s.down), median(s.exec), median(s.cpu));
}

Result<> compare(std::vector<Driver>& drivers, int runs, int batch_size) {
  std::vector<Samples> samples(drivers.size());
  for (auto& driver : drivers) BERTH_TRY(driver.pull(), "pull");
  for (int i = 0; i <= runs; ++i) {
    for (std::size_t d = 0; d < drivers.size(); ++d) BERTH_TRY(one_pod(drivers[d], i, samples[d]), "pod");
  }
  std::printf("medians of %d pods each, alternately; ms\n", runs);
  std::printf("%-24s %8s %8s %8s %8s %8s %8s %10s\n", "", "run", "create", "start", "up", "down", "exec", "cpu/pod");
  for (std::size_t d = 0; d < drivers.size(); ++d) print_row(drivers[d].peer().name, samples[d]);
  for (std::size_t d = 1; d < drivers.size(); ++d) {
    std::vector<double> ratios;
    for (std::size_t i = 0; i < samples[0].up.size(); ++i) ratios.push_back(samples[d].up[i] / samples[0].up[i]);
    std::printf("%s: up %.1f times faster than %s at the median (pair by pair %.1f), CPU %.1f times less\n",
                drivers[0].peer().name.c_str(), median(samples[d].up) / median(samples[0].up),
                drivers[d].peer().name.c_str(), median(ratios), median(samples[d].cpu) / median(samples[0].cpu));
  }
  if (batch_size > 0) {
    std::printf("\n%d pods, 5 at a time, until all run; ms\n", batch_size);
    for (auto& driver : drivers) {
      BERTH_ASSIGN(const double took, batch(driver, batch_size, 5), "batch");
      std::printf("%-24s %8.0f\n", driver.peer().name.c_str(), took);
    }
  }
  return {};
}

}  // namespace
}  // namespace berth::bench

int main(int argc, char** argv) {
  CLI::App app("Compares CRI servers pod by pod", "bench_pods");
  std::string image;
  std::vector<std::string> peers;
  int runs = 30;
  int batch_size = 50;
  app.add_option("--image", image)->required();
  app.add_option("--peer", peers, "NAME=SOCKET=CGROUP; the first is the one compared to the others")->required();
  app.add_option("--runs", runs)->capture_default_str();
  app.add_option("--batch", batch_size)->capture_default_str();
  CLI11_PARSE(app, argc, argv);
  auto drivers = berth::bench::make_drivers(peers, image, 1);
  if (!drivers) {
    std::fprintf(stderr, "bench_pods: %s\n", drivers.error().text().c_str());
    return 2;
  }
  const auto done = berth::bench::compare(*drivers, runs, batch_size);
  if (!done) {
    std::fprintf(stderr, "bench_pods: %s\n", done.error().text().c_str());
    return 1;
  }
  return 0;
}
