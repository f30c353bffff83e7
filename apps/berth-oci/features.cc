#include <seccomp.h>

#include <array>

#include "commands.h"
#include "engine/process/scheduling.h"
#include "os/caps.h"
#include "os/seccomp.h"
#include "output.h"
#include "spec/json_text.h"

namespace berth::oci {

namespace {

template <class List>
void write_list(spec::JsonWriter& json, std::string_view name, const List& list) {
  json.key(name).begin_array();
  for (const auto& entry : list) json.string(entry);
  json.end_array();
}

void write_seccomp(spec::JsonWriter& json) {
  json.key("seccomp").begin_object().key("enabled").boolean(true);
  write_list(json, "actions", os::seccomp_action_names());
  write_list(json, "operators", os::seccomp_op_names());
  write_list(json, "archs", os::seccomp_arch_names());
  write_list(json, "knownFlags", os::seccomp_flag_names());
  write_list(json, "supportedFlags", os::seccomp_flag_names());
  json.end_object();
}

void write_linux(spec::JsonWriter& json) {
  json.key("linux").begin_object();
  write_list(json, "namespaces", std::array{"cgroup", "ipc", "mount", "network", "pid", "time", "user", "uts"});
  write_list(json, "capabilities", os::cap_names());
  json.key("cgroup").begin_object();
  json.key("v1").boolean(true).key("v2").boolean(true).key("systemd").boolean(true).key("systemdUser").boolean(true);
  json.key("rdma").boolean(true).end_object();
  write_seccomp(json);
  json.key("apparmor").begin_object().key("enabled").boolean(true).end_object();
  json.key("selinux").begin_object().key("enabled").boolean(true).end_object();
  json.key("intelRdt").begin_object().key("enabled").boolean(true).key("schemata").boolean(true);
  json.key("monitoring").boolean(true).end_object();
  json.key("memoryPolicy").begin_object();
  write_list(json, "modes", engine::process::memory_policy_modes());
  write_list(json, "flags", engine::process::memory_policy_flags());
  json.end_object();
  json.key("mountExtensions")
      .begin_object()
      .key("idmap")
      .begin_object()
      .key("enabled")
      .boolean(true)
      .end_object()
      .end_object();
  json.key("netDevices").begin_object().key("enabled").boolean(true).end_object();
  json.end_object();
}

}  // namespace

/// Source: runtime-spec features.md and features-linux.md.
Result<int> run_features(Context& /*context*/) {
  spec::JsonWriter json;
  json.begin_object().key("ociVersionMin").string("1.0.0").key("ociVersionMax").string("1.3.0");
  write_list(json, "hooks",
             std::array{"prestart", "createRuntime", "createContainer", "startContainer", "poststart", "poststop"});
  write_list(json, "mountOptions", std::array{"async",       "atime",          "bind",        "defaults",
                                              "dev",         "diratime",       "dirsync",     "exec",
                                              "idmap",       "iversion",       "lazytime",    "loud",
                                              "mand",        "noatime",        "nodev",       "nodiratime",
                                              "noexec",      "noiversion",     "nolazytime",  "nomand",
                                              "norelatime",  "nostrictatime",  "nosuid",      "nosymfollow",
                                              "private",     "ratime",         "rbind",       "rdev",
                                              "rdiratime",   "relatime",       "rexec",       "ridmap",
                                              "rnoatime",    "rnodev",         "rnodiratime", "rnoexec",
                                              "rnorelatime", "rnostrictatime", "rnosuid",     "rnosymfollow",
                                              "ro",          "rprivate",       "rrelatime",   "rro",
                                              "rrw",         "rshared",        "rslave",      "rstrictatime",
                                              "rsuid",       "rsymfollow",     "runbindable", "rw",
                                              "shared",      "silent",         "slave",       "strictatime",
                                              "suid",        "symfollow",      "sync",        "tmpcopyup",
                                              "unbindable"});
  write_linux(json);
  json.key("annotations").begin_object();
  const scmp_version* const seccomp = ::seccomp_version();
  json.key("io.github.seccomp.libseccomp.version")
      .string(std::to_string(seccomp->major) + "." + std::to_string(seccomp->minor) + "." +
              std::to_string(seccomp->micro));
  json.key("org.opencontainers.runc.checkpoint.enabled").string("true");
  json.key("org.berth.version").string(BERTH_VERSION).end_object();
  write_list(json, "potentiallyUnsafeConfigAnnotations", std::array{"org.systemd.property."});
  json.end_object();
  print(pretty_json(json.take()) + "\n");
  return 0;
}

}  // namespace berth::oci
