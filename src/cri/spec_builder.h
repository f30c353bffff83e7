#pragma once
#include <cstdint>
#include <map>
#include <optional>
#include <string>
#include <string_view>
#include <vector>

#include "cri/cgroup_names.h"
#include "cri/host_facts.h"
#include "cri/image_user.h"
#include "cri/records.h"
#include "cri/user_namespace.h"
#include "image/store.h"
#include "spec/image.h"
#include "spec/runtime.h"

/// From a CRI request to an OCI specification: pure functions. What has to be looked up (image files, devices, seccomp
/// files, existence of volumes) is looked up before, by container_create.cc.
namespace berth::cri {

/// A device of the request, looked up, with its permissions.
struct GrantedDevice {
  spec::Device device;
  std::string access;  ///< of "rwm"
};

/// The pod as its containers see it.
struct PodFacts {
  std::string sandbox_id;
  std::string pod_dir;
  std::string cgroup_parent;
  CgroupDriver cgroup_driver = CgroupDriver::kCgroupfs;
  pid_t shim_pid = 0;  ///< its namespaces are the pod's
  bool host_network = false;
  pid_t init_pid = 0;           ///< of the pod's pid namespace; 0: it has none
  std::optional<PodIds> ids{};  ///< of its user namespace
};

/// The layers of the images that a container mounts, by index of the mount that names the image.
using ImageVolumes = std::map<int, image::RootfsMount>;

struct SpecInput {
  const pb::PodSandboxConfig& pod;
  const pb::ContainerConfig& container;
  const spec::ImageConfig& image;
  const HostFacts& host;
  PodFacts facts{};
  std::string container_id{};
  ResolvedUser user{};
  std::vector<GrantedDevice> devices{};
  std::vector<spec::Device> host_devices{};  ///< for a privileged container
  ImageVolumes image_volumes{};
  std::optional<spec::Seccomp> localhost_seccomp{};  ///< when the request names a file
  pid_t target_pid = 0;                              ///< with pid mode TARGET: init of that container
};

struct SpecOutput {
  spec::Spec spec;
  std::vector<std::string> warnings;  ///< what could not be given as asked, for the log
};

/// Errors: kInvalid a request that cannot be; kUnsupported what Berth or this machine does not offer; both name the
/// field.
[[nodiscard]] Result<SpecOutput> build_spec(const SpecInput& input);

// ---- its parts, each with a file and tests of its own ----

/// args, env, cwd, user, capabilities, no_new_privileges (spec_process.cc). Docker's rules for ENTRYPOINT and CMD.
[[nodiscard]] Result<spec::Process> build_process(const SpecInput& input, std::vector<std::string>& warnings);
/// Capabilities of the container (spec_process.cc).
[[nodiscard]] Result<spec::Capabilities> build_capabilities(const pb::LinuxContainerSecurityContext& security,
                                                            const HostFacts& host, std::vector<std::string>& warnings);
/// Standard mounts, the pod's files, the request's mounts; parents before children (spec_mounts.cc).
[[nodiscard]] Result<std::vector<spec::Mount>> build_mounts(const SpecInput& input);
/// Whether a mount of the request is of an image and not of the host.
[[nodiscard]] inline bool is_image_volume(const pb::Mount& mount) {
  return mount.has_image() && !mount.image().image().empty();
}
/// Limits as OCI resources, without devices; also for UpdateContainerResources (spec_resources.cc).
[[nodiscard]] Result<spec::Resources> build_resources(const pb::LinuxContainerResources& limits, const HostFacts& host);
/// Devices, their rules, namespaces, profiles, paths (spec_linux.cc).
[[nodiscard]] Result<spec::Linux> build_linux(const SpecInput& input, const spec::Process& process);
[[nodiscard]] Result<std::optional<spec::Seccomp>> build_seccomp(const SpecInput& input, const spec::Process& process);

/// Whether a label can be had: kUnsupported where SELinux is active. Where it is not, a label is passed over, as by
/// containerd and CRI-O.
[[nodiscard]] Result<> check_selinux(const pb::SELinuxOption& option, const HostFacts& host);

/// Which seccomp profile the request asks for, the deprecated path read as well. Errors: kInvalid.
struct SeccompChoice {
  pb::SecurityProfile::ProfileType type = pb::SecurityProfile::Unconfined;
  std::string localhost_path;
};
[[nodiscard]] Result<SeccompChoice> seccomp_choice(const pb::LinuxContainerSecurityContext& security);

/// A seccomp profile file: the OCI `linux.seccomp` object, which is also how Docker writes its own. Errors: kInvalid.
[[nodiscard]] Result<spec::Seccomp> parse_seccomp_profile(std::string_view json);

/// "/kubepods/pod1" of a CRI cgroup_parent or a default; kInvalid for one with ".." in it.
[[nodiscard]] Result<std::string> cgroup_parent_path(std::string_view parent);

/// The kernel's number of "SIGTERM", "term" or "15"; nothing for no signal.
[[nodiscard]] std::optional<int> signal_number(std::string_view name);
/// That of a CRI signal: its numbers are not the kernel's. Nothing for SIGNAL_RUNTIME_DEFAULT.
[[nodiscard]] std::optional<int> signal_number(pb::Signal signal);
/// The CRI's signal for a kernel number.
[[nodiscard]] pb::Signal cri_signal(int number);

}  // namespace berth::cri
