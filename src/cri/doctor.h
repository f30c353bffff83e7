#pragma once
#include <string>
#include <vector>

#include "cri/cgroup_names.h"
#include "cri/handler_features.h"
#include "cri/handlers.h"
#include "cri/host_facts.h"
#include "cri/probe.h"
#include "cri/runtime/v1/api.pb.h"
#include "network/network.h"
#include "os/cgroup.h"

/// What this node can do, found out by trying: for `berth doctor`, and in part for Status, so that both say the same.
namespace berth::cri {

namespace pb = ::runtime::v1;

// ---- from memory or by a look at a file: also Status' own sources ----

/// The condition "RuntimeReady": whether pods can be made at all.
[[nodiscard]] Probe probe_runtime(const os::CgroupLayout& cgroups, std::size_t sandboxes, std::size_t containers);
/// The condition "NetworkReady".
[[nodiscard]] Probe probe_network(const network::Status& status);
/// A handler's features as Status has them.
[[nodiscard]] pb::RuntimeHandlerFeatures features_of(const HandlerFeatures& features);
/// `own`: of our own engine, which alone has user namespaces on the host's network.
[[nodiscard]] pb::RuntimeFeatures runtime_features(const HandlerFeatures& own);
/// Each handler: its program is there, and its features.
[[nodiscard]] std::vector<Probe> probe_handlers(const HandlerTable& table, const FeatureTable& features);

// ---- by asking the kernel and the disk ----

/// File systems, system calls and limits of the kernel that pods want. Makes nothing that outlives the call.
[[nodiscard]] std::vector<Probe> probe_kernel(const HostFacts& host);
/// Our own shim's program.
[[nodiscard]] Probe probe_shim(const std::string& path);
/// Mode, controllers, and what they lack.
[[nodiscard]] Probe probe_cgroups(const os::CgroupLayout& cgroups, const HostFacts& host);
/// Who makes the cgroups of new pods, and whether that one can be asked.
[[nodiscard]] Probe probe_driver(CgroupDriver driver, const std::string& scope_program, const std::string& parent);
/// AppArmor and SELinux.
[[nodiscard]] Probe probe_security(const HostFacts& host);
/// Free space and inodes where `path` lies. `name`: of the probe. Blocks where that file system does.
[[nodiscard]] Probe probe_space(std::string name, const std::string& path);
/// Whether `program` is in one of the folders where such programs are; not the environment's PATH, which is read by
/// nobody while threads run. `use`: what it is for.
[[nodiscard]] Probe probe_program(const std::string& program, const std::string& use);

}  // namespace berth::cri
