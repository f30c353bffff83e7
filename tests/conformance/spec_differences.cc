#include "spec_differences.h"

#include <algorithm>
#include <iterator>

namespace berth::test {

namespace {

constexpr Difference kAll[] = {
    {"berth-oci", "Lifecycle.ACreatedOneIsNotDeleted", "it is deleted",
     "runc's command line ends a created container at delete, and its callers count on it"},
    {"runc", "Lifecycle.ACreatedOneIsNotDeleted", "it is deleted",
     "runc's command line ends a created container at delete, and its callers count on it"},
    {"crun", "Lifecycle.ACreatedOneIsNotDeleted", "it is deleted",
     "runc's command line ends a created container at delete, and its callers count on it"},
    {"runc", "Lifecycle.AVersionMustBeGiven", "no ociVersion is not refused", "does not look at ociVersion"},
    {"runc", "Lifecycle.AVersionMustBeOne", "an ociVersion that is none is not refused", "does not look at ociVersion"},
    {"crun", "Lifecycle.KillOfAnUnknownSignalIsAnError", "NOSUCH", "answers that it was sent; nothing is"},
    {"crun", "Program.ArgumentsMustBeGiven", "no args is not refused", "takes a process without args"},
    {"crun", "Program.TheWorkingFolderMustBeAbsolute", "a relative cwd is not refused", "takes it as below the root"},
    {"runc", "Program.IdsMayBeAsHighAsTheKernels", "must be in range 0-2147483647", "allows half of the kernel's ids"},
    {"runc", "Program.ALimitIsGivenOnce", "a limit given twice is not refused", "takes it"},
    {"crun", "Program.ALimitIsGivenOnce", "a limit given twice is not refused", "takes it"},
    {"runc", "Program.IoPriorityIsSet", "seen[\"io_", "older than ioPriority (specification 1.1)"},
    {"crun", "Program.IoPriorityIsSet", "seen[\"io_", "older than ioPriority (specification 1.1)"},
    {"runc", "Program.TheSchedulerIsSet", "seen[\"", "older than scheduler (specification 1.1)"},
    {"crun", "Program.TheSchedulerIsSet", "seen[\"", "older than scheduler (specification 1.1)"},
    {"runc", "Program.AnUnknownSchedulerIsRefused", "an unknown policy is not refused",
     "older than scheduler (specification 1.1)"},
    {"crun", "Program.AnUnknownSchedulerIsRefused", "an unknown policy is not refused",
     "older than scheduler (specification 1.1)"},
    {"runc", "Program.TheDomainnameIsSet", "domainname", "older than domainname (specification 1.1)"},
    {"runc", "Program.PersonalityIsSet", "x86_64", "has no personality"},
    {"runc", "Program.PersonalityIsSet", "PER_LINUX32", "has no personality"},
    {"runc", "Program.AnUnknownPersonalityIsRefused", "an unknown personality is not refused", "has no personality"},
    {"runc", "Program.MemoryPolicyIsSet", "bind:0", "older than memoryPolicy (specification 1.3)"},
    {"crun", "Program.MemoryPolicyIsSet", "bind:0", "older than memoryPolicy (specification 1.3)"},
    {"runc", "Program.AnExecsProcessorsAreThoseAskedFor", "Cpus_allowed_list",
     "older than execCPUAffinity (specification 1.2.1)"},
    {"crun", "Program.AnExecsProcessorsAreThoseAskedFor", "Cpus_allowed_list",
     "older than execCPUAffinity (specification 1.2.1)"},
    {"crun", "Mounts.LinksAreNotFollowedWhenSaid", "mount `tmpfs` to `home`", "does not know nosymfollow"},
    {"runc", "Mounts.DefaultsIsAnOption", "data: defaults",
     "defaults is handed to the file system, which does not know it"},
    {"crun", "Mounts.TheLastOfTwoOppositesCounts", "Value of: options",
     "options that clear an attribute clear nothing"},
    {"runc", "Mounts.OptionsOfTheFileSystem", "755 7 8", "a tmpfs gets the mode of the folder that it covers"},
    {"crun", "Mounts.EachPropagation", "propagation_of(mount_at(report(), \"/home\"))",
     "shared and unbindable are private in the end"},
    {"crun", "Mounts.ARecursiveBindTakesWhatIsBelow", "mount_setattr `/home`",
     "the kernel refuses what it asks for rnoatime"},
    {"runc", "Mounts.TheRootsPropagationIsTheConfiguredOne", "propagation_of(mount_at(report(), \"/\"))",
     "the root is private in the end"},
    {"crun", "Mounts.AnUnknownPropagationIsRefused", "an unknown propagation is not refused", "ignores it"},
    {"crun", "Mounts.AMountLabelWithoutSelinuxIsRefused", "a mount label is not refused", "ignores it"},
    {"crun", "Namespaces.ATypeIsGivenOnce", "a type given twice is not refused", "takes it"},
    {"runc", "Namespaces.TimeOffsetsAreSet", "does not exist", "older than time namespaces (specification 1.1)"},
    {"crun", "Namespaces.TimeOffsetsAreSet", "no report: ", "its init ends before the container is made"},
    {"runc", "Namespaces.AUserNamespaceIsJoined", "no uid mappings found",
     "wants mappings for a namespace that has its own"},
    {"runc", "Namespaces.AMountMayHaveMappingsOfItsOwn", "65534", "older than idmapped mounts (specification 1.1)"},
    {"runc", "Resources.MemoryOfTcp", "memory.kmem.tcp.limit_in_bytes", "does not set kernelTCP"},
    {"runc", "Resources.ProcessorsInBursts", "cpu.cfs_burst_us", "older than burst (specification 1.1)"},
    {"crun", "Resources.ProcessorsInBursts", "cpu.cfs_burst_us", "older than burst (specification 1.1)"},
    {"runc", "Resources.ProcessorsThatAreIdle", "cpu.idle", "older than idle (specification 1.1)"},
    {"crun", "Resources.NumberOfProcessesUnlimited", "pids.max", "writes -1 as it is"},
    {"crun", "Resources.NumberOfProcessesUnlimited", "cgroups are left", "a failed create leaves the cgroups"},
    {"crun", "Resources.HugePagesWithoutTheirControllerAreRefused", "cgroups are left",
     "a failed create leaves the cgroups"},
    {"crun", "Resources.NetworkClassWithoutItsControllerIsRefused", "cgroups are left",
     "a failed create leaves the cgroups"},
    {"crun", "Resources.IntelRdtWithoutResctrlIsRefused", "intelRdt is not refused", "ignores it"},
    {"runc", "Seccomp.ItIsThereWithoutNoNewPrivilegesToo", "panic", "its init crashes when the filter refuses getppid"},
    {"runc", "Seccomp.FlagsAreTaken", "seccomp flags are not yet supported", "takes no flags yet"},
    {"runc", "Hooks.TheyRunInOrder", "log()", "runs poststart at the end of create"},
    {"runc", "Hooks.TheyRunInOrder", "Value of: text", "runs poststart at the end of create"},
    {"crun", "Hooks.TheyRunInOrder", "Value of: text", "start does not wait for startContainer before poststart"},
    {"crun", "Hooks.EachIsGivenTheState", "bundle()", "startContainer hooks are told bundle \"/\""},
    {"runc", "Hooks.TheStateSaysHowFarItIs", "poststart", "runs poststart at the end of create"},
    {"crun", "Hooks.TheStateSaysHowFarItIs", "state_of_hook(", "says created for creating"},
    {"runc", "Hooks.AFailureBeforeTheProgramEndsIt", "startContainer hook fails is not refused",
     "start does not wait for startContainer hooks; the program does not run"},
    {"crun", "Hooks.AFailureBeforeTheProgramEndsIt", "startContainer hook fails is not refused",
     "start does not wait for startContainer hooks; the program does not run"},
    {"runc", "Hooks.AFailureAfterTheProgramBeganIsAWarning", "create_and_start",
     "runs poststart at the end of create and fails it"},
    {"runc", "Hooks.AFailureAfterTheProgramBeganIsAWarning", "a failed poststart hook ends it",
     "runs poststart at the end of create and fails it"},
    {"runc", "Hooks.AFailureAfterTheEndDoesNotKeepIt", "log()", "the first failed poststop hook is the last"},
    {"crun", "Hooks.ThePathMustBeAbsolute", "a relative path is not refused", "takes it as of the working folder"},
};

}  // namespace

std::span<const Difference> all_differences() {
  return kAll;
}

std::vector<Difference> differences(std::string_view runtime, std::string_view rule) {
  std::vector<Difference> found;
  std::ranges::copy_if(all_differences(), std::back_inserter(found),
                       [&](const Difference& row) { return row.runtime == runtime && row.rule == rule; });
  return found;
}

}  // namespace berth::test
