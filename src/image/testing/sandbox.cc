#include "image/testing/sandbox.h"

#include <linux/netlink.h>
#include <signal.h>
#include <sys/syscall.h>
#include <unistd.h>

#include <algorithm>
#include <chrono>
#include <cstdio>
#include <cstdlib>
#include <filesystem>
#include <thread>

#include "image/http.h"
#include "image/tree.h"
#include "os/file.h"
#include "os/link.h"
#include "os/netns.h"
#include "os/tcp.h"

namespace berth::image::testing {
namespace {

void must(const Result<>& result) {
  if (result) return;
  std::fprintf(stderr, "test set-up: %s\n", result.error().text().c_str());
  std::abort();
}

}  // namespace

Sandbox::Sandbox() {
  std::string name = "/tmp/berth-image-XXXXXX";
  if (::mkdtemp(name.data()) == nullptr) std::abort();
  dir_ = name;
  auto netns = os::create_netns();
  if (!netns) must(fail(netns.error()));
  netns_ = std::move(*netns);
  must(os::run_in_netns(netns_.get(), []() -> Result<> {
    BERTH_ASSIGN(auto socket, os::NetlinkSocket::open(NETLINK_ROUTE), "netlink");
    os::NetlinkBatch batch;
    os::put_link_up(batch, "lo");
    return socket.transact(batch);
  }));
}

Sandbox::~Sandbox() {
  must(os::make_dirs(dir_ + "-spare"));
  must(remove_any_tree(dir_, dir_ + "-spare"));
  must(os::remove_tree(dir_ + "-spare"));
}

void Sandbox::run(const std::function<void()>& work) const {
  must(os::run_in_netns(netns_.get(), [&work]() -> Result<> {
    work();
    return {};
  }));
}

StoreOptions Sandbox::store_options() const {
  return options_in(dir_);
}

StoreOptions options_in(const std::string& dir) {
  StoreOptions out;
  out.root = dir + "/store";
  out.platform = "linux/amd64";
  out.progress_timeout_s = 3;
  out.hosts_dir = dir + "/certs.d";
  const char* layers = std::getenv("BERTH_TEST_LAYERS");
  if (layers != nullptr) out.layers = layers == std::string_view("erofs") ? LayersAs::kErofs : LayersAs::kDirectory;
  return out;
}

std::vector<std::string> leftovers(const std::string& store_root) {
  std::vector<std::string> out;
  for (const auto& entry : std::filesystem::recursive_directory_iterator(store_root)) {
    const std::string path = entry.path().lexically_relative(store_root).string();
    const bool is_frame = path.find('/') == std::string::npos;
    if (!is_frame) out.push_back(path);
  }
  std::sort(out.begin(), out.end());
  return out;
}

DockerRegistry::DockerRegistry(const std::string& dir, const Options& options) {
  {
    auto probe = os::tcp_listen("127.0.0.1", 0);  // a free port: the namespace is ours alone
    if (!probe) must(fail(probe.error()));
    port_ = os::local_port(probe->get()).value_or(0);
  }
  const std::string root = dir + "/registry-" + std::to_string(port_);
  must(os::make_dirs(root));
  std::string config =
      "version: 0.1\nlog:\n  level: error\n  accesslog:\n    disabled: true\nstorage:\n  filesystem:\n    "
      "rootdirectory: " +
      root + "\nhttp:\n  addr: " + host() + "\n";
  if (!options.cert.empty()) config += "  tls:\n    certificate: " + options.cert + "\n    key: " + options.key + "\n";
  if (!options.client_ca.empty()) config += "    clientcas:\n      - " + options.client_ca + "\n";
  if (!options.redirect_blobs.empty()) {
    config +=
        "middleware:\n  storage:\n    - name: redirect\n      options:\n        baseurl: " + options.redirect_blobs +
        "\n";
  }
  if (!options.htpasswd.empty()) config += "auth:\n  htpasswd:\n    realm: test\n    path: " + options.htpasswd + "\n";
  must(os::write_file_atomic(root + ".yml", config));
  os::SpawnOptions spawn;
  spawn.argv = {"docker-registry", "serve", root + ".yml"};
  spawn.env = {"PATH=/usr/bin:/bin"};
  spawn.cwd = dir;
  auto child = os::spawn(spawn);
  if (!child) must(fail(child.error()));
  child_ = std::move(*child);
  // Ready when it answers anything; asked again and again, because it has no way to say so.
  auto session = HttpSession::open({});
  auto url = parse_url((options.cert.empty() ? "http://" : "https://") + host() + "/v2/");
  for (int i = 0; i < 200; ++i) {
    HttpRequest request;
    request.url = *url;
    auto answer = (*session)->perform(request);
    if (answer || answer.error().kind == HttpFailure::Kind::kCertificate) return;
    std::this_thread::sleep_for(std::chrono::milliseconds(25));
  }
  must(fail(Code::kTimeout, "docker-registry does not answer"));
}

DockerRegistry::~DockerRegistry() {
  ::syscall(SYS_pidfd_send_signal, child_.pidfd.get(), SIGKILL, nullptr, 0);
  ignore(os::wait_exit(child_), "it was killed");
}

std::string run_program(std::vector<std::string> argv) {
  os::RunOptions options;
  options.spawn.argv = std::move(argv);
  options.spawn.env = {"PATH=/usr/sbin:/usr/bin:/sbin:/bin", "HOME=/nonexistent"};
  options.timeout = std::chrono::milliseconds(60'000);
  auto output = os::run(std::move(options));
  if (!output) return output.error().text();
  if (output->exit_code == 0) return {};
  return "exit " + std::to_string(output->exit_code) + ": " + output->out + output->err;
}

}  // namespace berth::image::testing
