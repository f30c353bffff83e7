#include "shim/run_support.h"

#include <fcntl.h>
#include <sys/stat.h>
#include <unistd.h>

#include <csignal>
#include <cstdlib>
#include <filesystem>
#include <thread>

#include "os/file.h"
#include "os/pidfd.h"

namespace berth::shim::test {
namespace {

constexpr const char* kBusybox = "/usr/bin/busybox";
int counter = 0;

std::string own_children() {
  return slurp("/proc/self/task/" + std::to_string(::getpid()) + "/children");
}

}  // namespace

std::string slurp(const std::string& path) {
  auto text = os::read_file(path, 64U << 20);
  return text ? *text : text.error().text();
}

bool gone(std::uint32_t pid) {
  const auto status = os::read_file("/proc/" + std::to_string(pid) + "/stat", 4096);
  return !status || status->find(") Z ") != std::string::npos;
}

void RunTest::SetUp() {
  if (::geteuid() != 0) GTEST_SKIP() << "needs root";
  if (!os::exists(kBusybox)) GTEST_SKIP() << "needs " << kBusybox << " (package busybox-static)";
  const char* folder_of_programs = std::getenv("BERTH_BIN_DIR");  // NOLINT(concurrency-mt-unsafe)
  program_ = std::string(folder_of_programs != nullptr ? folder_of_programs : "bin") + "/containerd-shim-berth-v2";
  ASSERT_TRUE(os::exists(program_)) << program_;
  // The caller's umask is no business of the shim's.
  ::umask(022);
  folder_ = std::make_unique<TempFolder>();
  ASSERT_FALSE(folder().empty());
  ASSERT_EQ(::chmod(folder().c_str(), 0755), 0);
  cgroup_ = "berth-test-" + std::to_string(::getpid()) + "-" + std::to_string(++counter);
  mounts_before_ = slurp("/proc/self/mountinfo");
  make_layers();
  auto reactor = ttrpc::Reactor::create();
  ASSERT_TRUE(reactor);
  reactor_ = std::move(*reactor);
  children_before_ = own_children();
}

void RunTest::TearDown() {
  if (folder_ == nullptr) return;
  if (client_ != nullptr && client_->alive()) {
    task::ShutdownRequest request;
    request.set_now(true);
    EXPECT_TRUE(call<Empty>("Shutdown", request));
  }
  if (shim_.pid > 0) {
    const auto ended = os::wait_readable(shim_.pidfd.get(), std::chrono::seconds(20));
    EXPECT_TRUE(ended && *ended) << "the shim does not end";
    if (!ended || !*ended) ignore(os::pidfd_signal(shim_.pidfd.get(), SIGKILL), "last resort");
    EXPECT_EQ(os::wait_exit(shim_).value_or(-1), 0);
  }
  client_.reset();
  reactor_.reset();
  EXPECT_EQ(slurp("/proc/self/mountinfo"), mounts_before_);
  EXPECT_EQ(own_children(), children_before_);
  for (const std::string& path : left_cgroups()) ADD_FAILURE() << "left: " << path;
  EXPECT_FALSE(os::exists(folder() + "/shim.sock"));
  const auto live = os::list_dir(folder() + "/live");
  if (live && !live->empty()) ADD_FAILURE() << "left: " << live->front();
  // The empty parents that the tests' cgroups were in; the daemon owns a pod's.
  for (const auto& controller : std::filesystem::directory_iterator("/sys/fs/cgroup")) {
    ::rmdir((controller.path() / cgroup_).c_str());
  }
  ::rmdir(("/sys/fs/cgroup/" + cgroup_).c_str());
}

std::vector<std::string> RunTest::left_cgroups() const {
  std::vector<std::string> left;
  std::vector<std::string> roots = {"/sys/fs/cgroup/" + cgroup_};
  for (const auto& controller : std::filesystem::directory_iterator("/sys/fs/cgroup")) {
    roots.push_back((controller.path() / cgroup_).string());
  }
  for (const std::string& root : roots) {
    std::error_code error;
    for (const auto& entry : std::filesystem::directory_iterator(root, error)) {
      if (entry.is_directory()) left.push_back(entry.path().string());
    }
  }
  return left;
}

void RunTest::make_layers() const {
  // The upper one of two read-only layers has the program, the lower one the mount points.
  for (const char* name : {"lower/proc", "lower/dev", "lower/tmp", "lower/etc", "upper-layer/bin"}) {
    ASSERT_TRUE(os::make_dirs(folder() + "/layers/" + name));
  }
  std::filesystem::copy_file(kBusybox, folder() + "/layers/upper-layer/bin/busybox");
  for (const char* name : {"sh", "cat", "sleep", "echo", "stty", "hostname", "ls", "grep", "tail", "kill", "seq",
                           "head", "dd", "id", "touch", "wc", "tr"}) {
    std::filesystem::create_symlink("busybox", folder() + "/layers/upper-layer/bin/" + name);
  }
}

std::string RunTest::default_sandbox() const {
  return R"({"version":1,"sandbox_id":"pod1","hostname":"web-0","ipc":"pod","uts":"pod","shm_size_bytes":1048576,)"
         R"("log_max_line_bytes":1000,"cgroup_parent":"/)" +
         cgroup_ + "\"}";
}

void RunTest::start_shim(const std::string& sandbox_json) {
  if (!sandbox_json.empty()) {
    ASSERT_TRUE(os::write_file_atomic(folder() + "/sandbox.json", sandbox_json));
  }
  auto ready = os::make_pipe();
  ASSERT_TRUE(ready);
  os::SpawnOptions options;
  options.argv = {program_, "-namespace", "test", "-id", "pod1", "serve"};
  options.env = {"PATH=/usr/bin:/bin", "BERTH_RECORD_INTERVAL=1"};
  options.cwd = folder();
  options.fds = {{ready->write.get(), 1}, {2, 2}};
  options.new_session = true;
  auto child = os::spawn(options);
  ASSERT_TRUE(child) << child.error().text();
  shim_ = std::move(*child);
  ready->write.reset();
  const auto said = os::read_all(ready->read.get(), 4096);
  ASSERT_TRUE(said);
  ASSERT_EQ(*said, "unix://" + folder() + "/shim.sock\n");
  address_ = folder() + "/shim.sock";
  auto client = ttrpc::Client::connect(*reactor_, address_, std::chrono::seconds(5));
  ASSERT_TRUE(client) << client.error().text();
  client_ = std::move(*client);
}

void RunTest::kill_shim() {
  ASSERT_TRUE(os::pidfd_signal(shim_.pidfd.get(), SIGKILL));
  EXPECT_EQ(os::wait_exit(shim_).value_or(-1), 137);
  shim_ = {};
  client_->close();
}

spec::Spec RunTest::make_spec(const std::string& id, const std::string& script) const {
  spec::Spec spec;
  spec.oci_version = "1.1.0";
  spec.process.emplace();
  spec.process->args = {"/bin/sh", "-c", script};
  spec.process->env = {"PATH=/bin"};
  spec.process->cwd = "/";
  spec.root.emplace();
  spec.root->path = "rootfs";
  spec::Mount proc;
  proc.destination = "/proc";
  proc.type = proc.source = "proc";
  spec::Mount dev;
  dev.destination = "/dev";
  dev.type = dev.source = "tmpfs";
  dev.options = {"nosuid", "mode=755"};
  spec::Mount pts;
  pts.destination = "/dev/pts";
  pts.type = pts.source = "devpts";
  pts.options = {"newinstance", "ptmxmode=0666", "mode=0620"};
  spec.mounts = {proc, dev, pts};
  spec.linux.emplace();
  spec.linux->cgroups_path = cgroup(id);
  for (const auto type : {spec::NamespaceType::kPid, spec::NamespaceType::kMount}) {
    spec.linux->namespaces.push_back({type, {}, {}});
  }
  return spec;
}

void RunTest::write_bundle(const std::string& id, const spec::Spec& spec) const {
  for (const char* name : {"/rootfs", "/upper", "/work"}) ASSERT_TRUE(os::make_dirs(bundle(id) + name));
  ASSERT_TRUE(os::write_file_atomic(bundle(id) + "/config.json", spec::write_spec(spec)));
}

task::CreateTaskRequest RunTest::create_request(const std::string& id) const {
  task::CreateTaskRequest request;
  request.set_id(id);
  request.set_bundle(bundle(id));
  auto* mount = request.add_rootfs();
  mount->set_type("overlay");
  mount->set_source("overlay");
  const std::string layers = folder() + "/layers/";
  mount->add_options("lowerdir=" + layers + "upper-layer:" + layers + "lower");
  mount->add_options("upperdir=" + bundle(id) + "/upper");
  mount->add_options("workdir=" + bundle(id) + "/work");
  request.set_stdout("cri-log://" + log(id));
  request.set_stderr("cri-log://" + log(id));
  return request;
}

Result<task::CreateTaskResponse> RunTest::create(const std::string& id, const spec::Spec& spec) {
  write_bundle(id, spec);
  return call<task::CreateTaskResponse>("Create", create_request(id));
}

void RunTest::run(const std::string& id, const std::string& script) {
  const auto created = create(id, make_spec(id, script));
  ASSERT_TRUE(created) << created.error().text();
  const auto started = start(id);
  ASSERT_TRUE(started) << started.error().text();
  EXPECT_EQ(started->pid(), created->pid());
}

std::uint32_t RunTest::wait(const std::string& id, const std::string& exec_id) {
  task::WaitRequest request;
  request.set_id(id);
  request.set_exec_id(exec_id);
  const auto reply = call<task::WaitResponse>("Wait", request);
  EXPECT_TRUE(reply) << reply.error().text();
  if (!reply) return 9999;
  EXPECT_GT(reply->exited_at().seconds(), 1'600'000'000);
  return reply->exit_status();
}

Result<task::StartResponse> RunTest::start(const std::string& id, const std::string& exec_id) {
  task::StartRequest request;
  request.set_id(id);
  request.set_exec_id(exec_id);
  return call<task::StartResponse>("Start", request);
}

Result<task::DeleteResponse> RunTest::remove(const std::string& id, const std::string& exec_id) {
  task::DeleteRequest request;
  request.set_id(id);
  request.set_exec_id(exec_id);
  return call<task::DeleteResponse>("Delete", request);
}

Result<task::StateResponse> RunTest::state(const std::string& id, const std::string& exec_id) {
  task::StateRequest request;
  request.set_id(id);
  request.set_exec_id(exec_id);
  return call<task::StateResponse>("State", request);
}

Result<Empty> RunTest::kill(const std::string& id, int signal, const std::string& exec_id, bool all) {
  task::KillRequest request;
  request.set_id(id);
  request.set_exec_id(exec_id);
  request.set_signal(static_cast<std::uint32_t>(signal));
  request.set_all(all);
  return call<Empty>("Kill", request);
}

Result<own::ExecSyncResponse> RunTest::exec_sync(const std::string& id, const std::string& script,
                                                 std::uint64_t timeout_ms, std::uint64_t limit) {
  own::ExecSyncRequest request;
  request.set_container_id(id);
  request.set_process_json(spec::write_process(*make_spec(id, script).process));
  request.set_timeout_ms(timeout_ms);
  request.set_output_limit_bytes(limit);
  return own_call<own::ExecSyncResponse>("ExecSync", request);
}

own::PodInfoResponse RunTest::info() {
  auto reply = own_call<own::PodInfoResponse>("PodInfo", Empty());
  EXPECT_TRUE(reply) << reply.error().text();
  return reply ? *reply : own::PodInfoResponse();
}

bool RunTest::eventually(const std::function<bool()>& condition) {
  const auto deadline = std::chrono::steady_clock::now() + std::chrono::seconds(20);
  while (!condition()) {
    if (std::chrono::steady_clock::now() > deadline) return false;
    std::this_thread::sleep_for(std::chrono::milliseconds(5));
  }
  return true;
}

}  // namespace berth::shim::test
