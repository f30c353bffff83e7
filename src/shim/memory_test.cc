#include <gtest/gtest.h>

#include <cstdlib>
#include <iostream>
#include <map>

#include "base/strings.h"
#include "os/file.h"
#include "os/pidfd.h"
#include "shim/run_support.h"

// What twenty idle pods cost. One number is promised (docs/shim.md); the table says where it goes.
namespace berth::shim {
namespace {

using test::RunTest;
namespace task = test::task;

constexpr int kPods = 20;
constexpr double kBudgetKib = 0.4 * 1024;

std::map<std::string, double> rollup_kib(pid_t pid) {
  std::map<std::string, double> values;
  const std::string text = test::slurp("/proc/" + std::to_string(pid) + "/smaps_rollup");
  for (const std::string_view line : split(text, '\n')) {
    const std::size_t colon = line.find(':');
    if (colon == std::string_view::npos) continue;
    std::string_view value = trim(line.substr(colon + 1));
    if (!value.ends_with(" kB")) continue;
    value.remove_suffix(3);
    if (const auto number = parse_number<long>(value))
      values[std::string(line.substr(0, colon))] = static_cast<double>(*number);
  }
  return values;
}

class MemoryTest : public RunTest {
 protected:
  struct Pod {
    os::Child shim;
    std::unique_ptr<ttrpc::Client> client;
  };

  // A pod with one running container in a folder below the test's.
  Pod start_pod(int number) {
    const std::string name = "p" + std::to_string(number);
    const std::string pod_folder = folder() + "/" + name;
    const std::string id = "c" + std::to_string(number);
    EXPECT_TRUE(os::make_dirs(pod_folder));
    EXPECT_TRUE(os::write_file_atomic(pod_folder + "/sandbox.json",
                                      R"({"version":1,"sandbox_id":")" + name +
                                          R"(","hostname":"h","ipc":"pod","uts":"pod","shm_size_bytes":67108864})"));
    auto ready = os::make_pipe();
    os::SpawnOptions options;
    options.argv = {program_, "-id", name, "serve"};
    options.cwd = pod_folder;
    options.fds = {{ready->write.get(), 1}, {2, 2}};
    Pod pod;
    auto child = os::spawn(options);
    EXPECT_TRUE(child);
    pod.shim = std::move(*child);
    ready->write.reset();
    EXPECT_TRUE(os::read_all(ready->read.get(), 4096)->ends_with("/shim.sock\n"));
    auto client = ttrpc::Client::connect(*reactor_, pod_folder + "/shim.sock", std::chrono::seconds(5));
    EXPECT_TRUE(client);
    pod.client = std::move(*client);
    spec::Spec spec = make_spec(id, "sleep 1000");
    spec.process->args = {"/bin/sleep", "1000"};
    write_bundle(id, spec);
    EXPECT_TRUE(
        ttrpc::call<task::CreateTaskResponse>(*pod.client, "containerd.task.v2.Task", "Create", create_request(id)));
    task::StartRequest start;
    start.set_id(id);
    const auto started = ttrpc::call<task::StartResponse>(*pod.client, "containerd.task.v2.Task", "Start", start);
    EXPECT_TRUE(started);
    // As the daemon has it: one parked call.
    test::own::WaitEventRequest wait;
    wait.set_timeout_ms(600'000);
    wait.set_after_seq(2);
    ttrpc::call_async<test::own::WaitEventResponse>(*pod.client, "berth.shim.v1.Shim", "WaitEvent", wait, [](auto) {});
    return pod;
  }
};

TEST_F(MemoryTest, TwentyIdlePods) {
  std::vector<Pod> pods;
  for (int i = 0; i < kPods; ++i) pods.push_back(start_pod(i));
  // The pages come back a moment after the last request; what an idle pod costs is what it settles at.
  double total = 0;
  const auto quiet = std::chrono::steady_clock::now() + std::chrono::seconds(1);
  ASSERT_TRUE(eventually([&] { return std::chrono::steady_clock::now() > quiet; }));
  for (const Pod& pod : pods) total += rollup_kib(pod.shim.pid)["Pss"];
  for (const auto& [name, value] : rollup_kib(pods.back().shim.pid)) {
    if (value > 0) std::cout << "  " << name << " " << value << " KiB\n";
  }
  std::cout << "PSS of a shim, mean of " << kPods << ": " << total / kPods << " KiB\n";
  if (const char* keep = std::getenv("BERTH_SMAPS"); keep != nullptr) {  // NOLINT(concurrency-mt-unsafe)
    ignore(os::write_file_atomic(keep, test::slurp("/proc/" + std::to_string(pods.back().shim.pid) + "/smaps")),
           "by hand");
  }
  EXPECT_LE(total / kPods, kBudgetKib);
  for (Pod& pod : pods) {
    task::ShutdownRequest request;
    request.set_now(true);
    EXPECT_TRUE(ttrpc::call<test::Empty>(*pod.client, "containerd.task.v2.Task", "Shutdown", request));
    EXPECT_EQ(os::wait_exit(pod.shim).value_or(-1), 0);
    pod.client->close();
  }
}

}  // namespace
}  // namespace berth::shim
