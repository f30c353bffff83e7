#pragma once
#include <gtest/gtest.h>
#include <sys/wait.h>

#include <cstdlib>
#include <fstream>
#include <memory>
#include <string>
#include <vector>

#include "engine/process/process_engine.h"
#include "os/clone.h"
#include "os/file.h"
#include "os/pidfd.h"

/// What the root tests of the engine share: a busybox root, a specification as Kubernetes would write it, and running a
/// script in a container of it.
namespace berth::engine::process::testing {

inline std::string unique_name() {
  static int counter = 0;
  return "berth-test-" + std::to_string(::getpid()) + "-" + std::to_string(++counter);
}

class Bundle {
 public:
  Bundle() : name_(unique_name()), path_("/tmp/" + name_) {
    const std::string bin = path_ + "/rootfs/bin";
    EXPECT_TRUE(os::make_dirs(bin).has_value());
    const std::string script =
        "cp /bin/busybox " + bin +
        "/busybox && for a in sh cat ls mount id sleep true false echo stat test mkdir touch "
        "grep hostname umount kill ps wc readlink chmod env tty mknod dd seq tail head ip date yes sed awk; do ln -s "
        "busybox " +
        bin + "/$a; done; mkdir -p " + path_ + "/rootfs/etc " + path_ +
        "/rootfs/tmp; echo 'root:x:0:0:root:/root:/bin/sh\nweb:x:1000:1000::/home/web:/bin/sh' > " + path_ +
        "/rootfs/etc/passwd";
    EXPECT_EQ(std::system(script.c_str()), 0);  // NOLINT: a test's own fixed words
  }
  Bundle(const Bundle&) = delete;
  Bundle& operator=(const Bundle&) = delete;
  ~Bundle() { EXPECT_TRUE(os::remove_tree(path_).has_value()) << path_; }
  [[nodiscard]] const std::string& name() const { return name_; }
  [[nodiscard]] const std::string& path() const { return path_; }

 private:
  std::string name_;
  std::string path_;
};

inline spec::Spec default_spec(const Bundle& bundle, std::vector<std::string> args) {
  spec::Spec spec;
  spec.oci_version = "1.0.2";
  spec.root = spec::Root{.path = "rootfs", .readonly = false, .extra = {}};
  spec.hostname = "berth-test";
  spec::Process process;
  process.args = std::move(args);
  process.env = {"PATH=/bin", "TERM=dumb"};
  process.cwd = "/";
  const std::vector<std::string> caps{"CAP_CHOWN",      "CAP_DAC_OVERRIDE",    "CAP_FSETID", "CAP_FOWNER",
                                      "CAP_MKNOD",      "CAP_NET_RAW",         "CAP_SETGID", "CAP_SETUID",
                                      "CAP_SETFCAP",    "CAP_SETPCAP",         "CAP_KILL",   "CAP_AUDIT_WRITE",
                                      "CAP_SYS_CHROOT", "CAP_NET_BIND_SERVICE"};
  process.capabilities = spec::Capabilities{
      .bounding = caps, .effective = caps, .inheritable = {}, .permitted = caps, .ambient = {}, .extra = {}};
  spec.process = std::move(process);
  const auto mount = [&spec](const char* to, const char* type, std::vector<std::string> options) {
    spec::Mount entry;
    entry.destination = to;
    entry.type = type;
    entry.source = type;
    entry.options = std::move(options);
    spec.mounts.push_back(std::move(entry));
  };
  mount("/proc", "proc", {"nosuid", "noexec", "nodev"});
  mount("/dev", "tmpfs", {"nosuid", "strictatime", "mode=755", "size=65536k"});
  mount("/dev/pts", "devpts", {"nosuid", "noexec", "newinstance", "ptmxmode=0666", "mode=0620", "gid=5"});
  mount("/dev/mqueue", "mqueue", {"nosuid", "noexec", "nodev"});
  mount("/sys", "sysfs", {"nosuid", "noexec", "nodev", "ro"});
  mount("/sys/fs/cgroup", "cgroup", {"nosuid", "noexec", "nodev", "relatime", "ro"});
  spec::Linux config;
  for (const auto type : {spec::NamespaceType::kPid, spec::NamespaceType::kNetwork, spec::NamespaceType::kMount,
                          spec::NamespaceType::kIpc, spec::NamespaceType::kUts, spec::NamespaceType::kCgroup}) {
    spec::Namespace entry;
    entry.type = type;
    config.namespaces.push_back(entry);
  }
  config.masked_paths = {"/proc/kcore", "/proc/keys", "/proc/acpi", "/sys/firmware", "/does/not/exist"};
  config.readonly_paths = {"/proc/sys", "/proc/bus", "/does/not/exist"};
  config.cgroups_path = "/" + bundle.name();
  spec.linux = std::move(config);
  return spec;
}

struct Outcome {
  int code = -1;
  std::string out;
};

/// Runs the container to its end with what it writes collected; removes it.
inline Outcome run_container(ProcessEngine& engine, const Bundle& bundle, spec::Spec spec) {
  Outcome outcome;
  auto pipe = os::make_pipe();
  EXPECT_TRUE(pipe.has_value());
  CreateRequest request;
  request.id = bundle.name();
  request.bundle = bundle.path();
  request.spec = std::move(spec);
  request.stdio = {-1, pipe->write.get(), pipe->write.get()};
  request.shared_root = bundle.path() + "/shared-root";
  request.die_with_parent = true;
  auto container = engine.create_process(std::move(request));
  if (!container) {
    ADD_FAILURE() << container.error().text();
    return outcome;
  }
  pipe->write.reset();
  const auto started = (*container)->start();
  EXPECT_TRUE(started.has_value()) << started.error().text();
  auto text = os::read_all(pipe->read.get(), 1U << 20);
  EXPECT_TRUE(text.has_value());
  outcome.out = text.value_or("");
  outcome.code = os::reap_pidfd((*container)->init().pidfd.get()).value_or(-1);
  const auto removed = (*container)->remove();
  EXPECT_TRUE(removed.has_value()) << removed.error().text();
  return outcome;
}

inline Outcome run_script(ProcessEngine& engine, const Bundle& bundle, const std::string& script) {
  return run_container(engine, bundle, default_spec(bundle, {"/bin/sh", "-c", script}));
}

inline std::vector<std::string> lines_of(const std::string& path) {
  std::ifstream file(path);
  std::vector<std::string> lines;
  for (std::string line; std::getline(file, line);) lines.push_back(line);
  return lines;
}

/// The mounts of this process's namespace but those of other tests, which come and go beside this one.
inline std::vector<std::string> mounts_now(const std::string& bundle_name) {
  auto lines = lines_of("/proc/self/mountinfo");
  std::erase_if(lines, [&bundle_name](const std::string& line) {
    return line.find("berth-test-") != std::string::npos && line.find(bundle_name) == std::string::npos;
  });
  return lines;
}

/// A bundle and an engine; after each test no mount and no cgroup of it may be left.
class EngineTest : public ::testing::Test {
 protected:
  void SetUp() override { mounts_before_ = mounts_now(bundle_.name()); }
  void TearDown() override {
    EXPECT_EQ(mounts_now(bundle_.name()), mounts_before_);
    for (const char* hierarchy : {"memory", "pids", "freezer", "cpuset", "devices", "cpu"}) {
      EXPECT_FALSE(os::exists("/sys/fs/cgroup/" + std::string(hierarchy) + "/" + bundle_.name()));
    }
  }
  Outcome run(const std::string& script) { return run_script(*engine_, bundle_, script); }
  Outcome run(spec::Spec spec) { return run_container(*engine_, bundle_, std::move(spec)); }
  spec::Spec script_spec(const std::string& script) { return default_spec(bundle_, {"/bin/sh", "-c", script}); }
  /// Expects the creation to fail; the error's text.
  Error refused(spec::Spec spec) {
    CreateRequest request;
    request.id = bundle_.name();
    request.bundle = bundle_.path();
    request.spec = std::move(spec);
    auto made = engine_->create_process(std::move(request));
    if (made) {
      ADD_FAILURE() << "was created";
      EXPECT_TRUE((*made)->remove().has_value());
      return Error(Code::kInternal, "created");
    }
    return made.error();
  }
  std::unique_ptr<ProcessContainer> create(spec::Spec spec, Stdio stdio = {}) {
    CreateRequest request;
    request.id = bundle_.name();
    request.bundle = bundle_.path();
    request.spec = std::move(spec);
    request.stdio = stdio;
    request.shared_root = bundle_.path() + "/shared-root";
    request.die_with_parent = true;
    auto made = engine_->create_process(std::move(request));
    EXPECT_TRUE(made.has_value()) << made.error().text();
    return made ? std::move(*made) : nullptr;
  }
  /// Removes it and reaps init.
  static void finish(ProcessContainer& container) {
    const auto removed = container.remove();
    EXPECT_TRUE(removed.has_value()) << removed.error().text();
    EXPECT_TRUE(os::reap_pidfd(container.init().pidfd.get()).has_value());
  }

  Bundle bundle_;
  std::unique_ptr<ProcessEngine> engine_ = make_process_engine();
  std::vector<std::string> mounts_before_;
};

}  // namespace berth::engine::process::testing
