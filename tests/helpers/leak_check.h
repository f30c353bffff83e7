#pragma once
#include <sys/types.h>

#include <chrono>
#include <set>
#include <string>
#include <vector>

namespace berth::test {

class TestHost;

/// What a node holds, one line for each thing; two of them can be compared. Names, not numbers that change by
/// themselves. The lines begin with what they are:
///   mount (of PID 1, and of the server)    link    rule    netns-fd (that the server holds open)
///   cgroup (below the host's parent)       process (ours, a container's, a child of the server)      file
struct HostState {
  std::multiset<std::string> lines;
};

/// Looks now. Files are those below state, root/network, root/images/containers and root/images/tmp.
[[nodiscard]] HostState look(const TestHost& host);
/// The mounts alone: of PID 1 and of the server.
[[nodiscard]] std::multiset<std::string> mounts(const TestHost& host);
/// "" when both are the same; else one line for each difference, "+ " now and not before, "- " the other way round.
[[nodiscard]] std::string difference(const std::multiset<std::string>& before, const std::multiset<std::string>& now);
/// Looks until nothing differs from `before`, at most `timeout`: the kernel takes veth pairs and namespaces down after
/// the fact. The last difference; "" when there is none.
[[nodiscard]] std::string leftovers(const TestHost& host, const HostState& before,
                                    std::chrono::milliseconds timeout = std::chrono::seconds(20));

/// Processes that belong to the host but are not this process, the server or the registry: those that run below its
/// folder, name it in their arguments, or are in one of its cgroups.
[[nodiscard]] std::vector<pid_t> processes_of(const TestHost& host);
/// The shim of a pod, whichever daemon started it; 0 when there is none.
[[nodiscard]] pid_t shim_of(const std::string& pod_id);

/// The folders of cgroup_parent() and of what is below it in every mounted hierarchy, the v2 one of a hybrid layout
/// included. Parents before children.
[[nodiscard]] std::vector<std::string> cgroups_of(const TestHost& host);

}  // namespace berth::test
