#include "peer_host.h"

#include <fcntl.h>
#include <sys/mount.h>
#include <sys/stat.h>
#include <unistd.h>

#include <algorithm>
#include <cstdlib>

#include "base/strings.h"
#include "isolation.h"
#include "os/cgroup.h"
#include "os/file.h"
#include "wait.h"

namespace berth::test {

namespace {

constexpr std::chrono::seconds kCommandTimeout{60};
constexpr std::chrono::seconds kSettleTimeout{20};
constexpr std::size_t kSmall = 1U << 20;

std::string bin_folder() {
  const char* const folder = std::getenv("BERTH_BIN_DIR");  // NOLINT(concurrency-mt-unsafe): set before main
  return folder != nullptr ? folder : "build/release/bin";
}

/// Removes the test's cgroups in every hierarchy; the programs of a failed test are ended first.
bool remove_cgroups(const std::string& path) {
  const auto layout = os::find_cgroups("/sys/fs/cgroup");
  if (!layout) return false;
  return wait_until(kSettleTimeout, [&] {
    bool gone = true;
    for (const auto& hierarchy : layout->hierarchies) {
      gone = os::remove_cgroup(hierarchy.root.get(), path).has_value() && gone;
    }
    return gone;
  });
}

}  // namespace

std::vector<Runtime> runtimes() {
  std::vector<Runtime> all{{"berth-oci", bin_folder() + "/berth-oci"}};
  if (os::exists("/usr/sbin/runc")) all.push_back({"runc", "/usr/sbin/runc"});
  return all;
}

std::string runtime_name(const ::testing::TestParamInfo<Runtime>& parameter) {
  return parameter.param.name == "berth-oci" ? "berth" : parameter.param.name;
}

Result<> prepare_node() {
  // crun refuses the v2 hierarchy beside v1's, but makes its folders there: not on the machine's tmpfs below.
  if (::mount("berth-test", "/sys/fs/cgroup/unified", "tmpfs", MS_NOSUID | MS_NODEV, "mode=755") != 0 &&
      errno != ENOENT) {
    return fail_errno(errno, "cover the v2 hierarchy");
  }
  for (const auto& [place, mode] : {std::pair{"/run", "mode=755"}, {"/dev/shm", "mode=1777"}}) {
    if (::mount("berth-test", place, "tmpfs", MS_NOSUID | MS_NODEV, mode) != 0)
      return fail_errno(errno, std::string("tmpfs on ") + place);
  }
  ::umask(022);
  // What the tests set themselves: of two entries of one name the first would count.
  for (const char* variable : {"HOME", "USER", "TMPDIR", "XDG_RUNTIME_DIR"})
    ::unsetenv(variable);  // NOLINT: one thread
  return {};
}

std::vector<std::string> state_of(const Runtime& runtime) {
  return os::list_dir("/run/" + runtime.name).value_or(std::vector<std::string>());
}

std::string cgroup_value(const std::string& pid, const std::string& controller, const std::string& file) {
  const auto text = os::read_file("/proc/" + pid + "/cgroup", kSmall).value_or("");
  for (const auto line : split(text, '\n')) {
    const auto at = line.find(":" + controller + ":");
    if (at == std::string_view::npos) continue;
    const std::string path(line.substr(line.rfind(':') + 1));
    return std::string(
        trim(os::read_file("/sys/fs/cgroup/" + controller + path + "/" + file, kSmall).value_or("none")));
  }
  return "no " + controller;
}

void PeerTest::SetUp() {
  static int counter = 0;
  name_ = "berth-test-" + std::to_string(::getpid()) + "-" + std::to_string(++counter);
  folder_ = "/tmp/" + name_;
  ASSERT_TRUE(os::make_dirs(folder_ + "/home").has_value());
  ASSERT_EQ(::mount("berth-test", folder_.c_str(), "tmpfs", MS_NOSUID, "mode=755"), 0);
  ASSERT_TRUE(os::make_dirs(folder_ + "/home").has_value());
  ASSERT_TRUE(os::make_dirs(folder_ + "/tmp").has_value());
  // A limit that this machine lets everybody have: runc fails where one cannot be raised.
  write("containers.conf",
        "[containers]\ndefault_ulimits = [\"nofile=1000:1000\", \"nproc=1000:1000\"]\n"
        "[engine]\ncgroup_manager = \"cgroupfs\"\nevents_logger = \"none\"\n"
        "runtime_supports_json = [\"berth-oci\", \"runc\"]\n");
  write("storage.conf",
        "[storage]\ndriver = \"vfs\"\nrunroot = \"" + folder_ + "/run\"\ngraphroot = \"" + folder_ + "/graph\"\n");
  make_image();
}

void PeerTest::TearDown() {
  if (imported_) {
    podman({"pod", "rm", "--all", "--force", "--time", "0"});
    podman({"rm", "--all", "--force", "--time", "0"});
  }
  EXPECT_TRUE(wait_until(kSettleTimeout, [this] { return state_of(runtime()).empty(); })) << "the runtime keeps state";
  EXPECT_TRUE(remove_cgroups("/" + name_)) << "a process or cgroup is left below " << name_;
  // podman's locks are one file for all storages of a user.
  for (const auto& file : os::list_dir("/dev/shm").value_or(std::vector<std::string>()))
    EXPECT_TRUE(os::remove_file("/dev/shm/" + file).has_value());
  // Also what is mounted below: containers that a failed test left.
  EXPECT_EQ(::umount2(folder_.c_str(), MNT_DETACH), 0);
  EXPECT_TRUE(os::remove_tree(folder_).has_value());
}

std::vector<std::string> PeerTest::environment() const {
  return {"HOME=" + folder_ + "/home", "CONTAINERS_CONF=" + folder_ + "/containers.conf",
          "CONTAINERS_STORAGE_CONF=" + folder_ + "/storage.conf", "TMPDIR=" + folder_ + "/tmp", "USER=root"};
}

Ran PeerTest::run(std::vector<std::string> words) {
  const std::string what = join(words, " ");
  auto ran = run_program(std::move(words), kCommandTimeout, environment());
  EXPECT_TRUE(ran.has_value()) << what << ": " << (ran ? "" : ran.error().text());
  return ran ? std::move(*ran) : Ran{-1, "", ""};
}

std::vector<std::string> PeerTest::podman_words(const std::string& runtime_path, const std::string& place) {
  return {"podman",    "--runtime",        runtime_path, "--root",           place + "/graph",
          "--runroot", place + "/run",     "--tmpdir",   place + "/libpod",  "--storage-driver",
          "vfs",       "--cgroup-manager", "cgroupfs",   "--events-backend", "none"};
}

Ran PeerTest::podman(std::vector<std::string> words) {
  auto all = podman_words(runtime().path, folder_);
  const bool makes = words[0] == "run" || words[0] == "create";
  const bool makes_pod = words.size() > 1 && words[0] == "pod" && words[1] == "create";
  if (makes) words.insert(words.begin() + 1, {"--cgroup-parent", "/" + name_});
  if (makes_pod) words.insert(words.begin() + 2, {"--cgroup-parent", "/" + name_});
  all.insert(all.end(), words.begin(), words.end());
  return run(std::move(all));
}

std::string PeerTest::must(std::vector<std::string> words) {
  const std::string what = join(words, " ");
  const Ran ran = podman(std::move(words));
  EXPECT_EQ(ran.code, 0) << "podman " << what << "\n" << ran.err;
  return std::string(trim(ran.out));
}

std::vector<std::string> PeerTest::run_words(std::vector<std::string> all, const std::vector<std::string>& flags,
                                             const std::vector<std::string>& words) {
  const bool network =
      std::ranges::any_of(flags, [](const auto& flag) { return flag == "--network" || flag == "--pod"; });
  if (!network) all.insert(all.end(), {"--network", "none"});
  all.insert(all.end(), flags.begin(), flags.end());
  all.emplace_back(kImage);
  all.insert(all.end(), words.begin(), words.end());
  return all;
}

Ran PeerTest::run_once(const std::vector<std::string>& flags, const std::vector<std::string>& words) {
  return podman(run_words({"run", "--rm"}, flags, words));
}

std::string PeerTest::start(const std::string& container, const std::vector<std::string>& flags,
                            const std::vector<std::string>& words) {
  return must(run_words({"run", "--detach", "--name", container}, flags, words));
}

Ran PeerTest::in(const std::string& container, const std::string& script) {
  return podman({"exec", container, "sh", "-c", script});
}

void PeerTest::write(const std::string& file, const std::string& text) {
  ASSERT_TRUE(os::write_file_atomic(folder_ + "/" + file, text).has_value());
}

void PeerTest::make_image() {
  const std::string script =
      "mkdir -p \"$0\"/image/bin \"$0\"/image/etc \"$0\"/image/tmp \"$0\"/image/root && cd \"$0\"/image && chmod 1777 "
      "tmp && "
      "cp /bin/busybox bin && for a in sh ls cat sleep echo true id env touch mkdir ps kill grep hostname mount wc "
      "head stat "
      "readlink tty pwd test; do ln -s busybox bin/$a; done && "
      "printf 'root:x:0:0:root:/root:/bin/sh\\nweb:x:1000:1000::/tmp:/bin/sh\\n' > etc/passwd && "
      "printf 'root:x:0:\\nweb:x:1000:\\n' > etc/group && tar -cf ../image.tar .";
  const Ran ran = run({"sh", "-c", script, folder_});
  ASSERT_EQ(ran.code, 0) << ran.err;
}

void PeerTest::import_image() {
  imported_ = true;
  must({"import", folder_ + "/image.tar", kImage});
}

}  // namespace berth::test
