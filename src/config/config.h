#pragma once
#include <cstdint>
#include <map>
#include <string>
#include <string_view>
#include <vector>

#include "base/result.h"

namespace berth::config {

inline constexpr std::string_view kDefaultPath = "/etc/berth/config.toml";

/// What runs the pods of one RuntimeClass handler: an engine of our shim, or any containerd shim v2.
struct Handler {
  std::string engine{};  ///< "process", "external", "vm", "unikernel", "wasm" or "sandbox"; empty when `shim` is set
  std::string binary{};  ///< of engine "external" or of a shim of runc's kind: the OCI command-line runtime, absolute
  std::string root{};    ///< its state folder, absolute; empty: one in each pod's folder, or the shim's choice
  std::string shim{};    ///< a shim v2 of another maker, absolute; empty: an engine of ours
  bool operator==(const Handler&) const = default;
};

/// The configuration of a node: every key of config.toml with its default. Sections of the file are the structs here.
/// After load() each value is in the range that its comment names.
struct Config {
  std::string root = "/var/lib/berth";           ///< persistent files, absolute
  std::string state = "/run/berth";              ///< runtime files, absolute
  std::string listen = "/run/berth/berth.sock";  ///< the CRI socket: absolute, at most 107 bytes; "unix://" is dropped
  std::string log_level = "info";                ///< "debug", "info", "warn" or "error"

  struct Cgroup {
    std::string driver = "cgroupfs";  ///< "cgroupfs", "systemd", or "auto": systemd where it runs
    /// Of pods for which the kubelet names none: a path, absolute and without "..", or under systemd a slice. Empty:
    /// "/berth" or "berth.slice".
    std::string parent{};
    bool operator==(const Cgroup&) const = default;
  } cgroup;

  struct Network {
    std::string conf_dir = "/etc/cni/net.d";
    std::vector<std::string> bin_dirs = {"/opt/cni/bin", "/usr/lib/cni"};  ///< absolute, searched in this order
    std::string bridge = "berth0";                                         ///< at most 15 bytes
    std::string subnet = "10.88.0.0/16";  ///< IPv4, the network's own address, /8 to /30
    unsigned mtu = 0;                     ///< 0: the kernel's; else 68 to 65535
    bool masquerade = true;
    bool host_ports = true;
    unsigned plugin_timeout_s = 60;  ///< 1 to 3600
    bool operator==(const Network&) const = default;
  } network;

  struct Image {
    std::string platform{};                          ///< "os/arch[/variant]"; empty: this machine's
    std::string default_registry = "docker.io";      ///< host[:port]
    std::vector<std::string> insecure_registries{};  ///< host[:port] or "*.domain[:port]" allowed over http
    std::string layers = "auto";                     ///< "auto", "erofs" or "directory"
    unsigned max_parallel_layers = 3;                ///< 1 to 64
    unsigned pull_progress_timeout_s = 60;         ///< 1 to 3600: a download that moves no byte for so long is given up
    std::uint64_t max_layer_bytes = 64ULL << 30;   ///< of one layer, unpacked; at least 1 MiB
    std::string hosts_dir = "/etc/berth/certs.d";  ///< HOST[:PORT]/hosts.toml and certificates; absolute, empty: none
    std::string auth_file{};  ///< Docker's config.json, for pulls that bring no login; absolute, empty: none
    bool operator==(const Image&) const = default;
  } image;

  struct Log {
    std::uint64_t max_line_bytes = 16384;  ///< 1024 to 1048576: longer lines of a container are split
    bool operator==(const Log&) const = default;
  } log;

  struct Runtime {
    std::string shim{};                           ///< our shim, absolute; empty: beside berthd, else in PATH
    std::string default_handler = "berth";        ///< of pods without a RuntimeClass; one of `handlers`
    std::uint64_t exec_output_limit = 16U << 20;  ///< bytes that one ExecSync keeps; 4096 to 1 GiB
    unsigned stats_period_s = 10;                 ///< 1 to 3600
    /// Where CDI files are; absolute, a later one goes before an earlier one. Empty: no CDI devices.
    std::vector<std::string> cdi_dirs = {"/etc/cdi", "/var/run/cdi"};
    /// Folders of OCI hooks, absolute; a file of a later one takes the place of its namesake in an earlier one.
    std::vector<std::string> hooks_dirs = {"/usr/share/containers/oci/hooks.d", "/etc/containers/oci/hooks.d"};
    bool operator==(const Runtime&) const = default;
  } runtime;

  struct Stream {
    std::string program{};              ///< berth-stream, absolute; empty: beside berthd, else in PATH
    std::string address = "127.0.0.1";  ///< IPv4 or IPv6 that exec, attach and port-forward sessions are served on
    unsigned port = 0;                  ///< 0: any
    std::string tls_cert{};             ///< PEM files, both or none; absolute
    std::string tls_key{};
    bool operator==(const Stream&) const = default;
  } stream;

  /// Node Resource Interface.
  struct Nri {
    bool enabled = true;
    std::string socket = "/var/run/nri/nri.sock";  ///< absolute, at most 107 bytes; empty: plugins cannot connect
    std::string plugin_dir = "/opt/nri/plugins";   ///< of pre-installed plugins, absolute; empty: none
    std::string config_dir = "/etc/nri/conf.d";    ///< of their configuration, absolute
    unsigned registration_timeout_ms = 5000;       ///< 10 to 600000
    unsigned request_timeout_ms = 2000;            ///< 10 to 600000
    bool default_validator = false;                ///< the rest is its
    bool reject_oci_hook_adjustment = false;
    bool reject_runtime_default_seccomp_adjustment = false;
    bool reject_unconfined_seccomp_adjustment = false;
    bool reject_custom_seccomp_adjustment = false;
    bool reject_namespace_adjustment = false;
    bool reject_sysctl_adjustment = false;
    std::vector<std::string> required_plugins{};  ///< "logger" or "10-logger": without them no container is created
    std::string tolerate_missing_plugins_annotation{};
    bool operator==(const Nri&) const = default;
  } nri;

  std::map<std::string, Handler, std::less<>> handlers = {{"berth", {.engine = "process"}}};

  bool operator==(const Config&) const = default;
};

/// One value from the command line; wins over every file.
struct Flag {
  std::string key;    ///< "root", "network.mtu"; not of handlers
  std::string value;  ///< a list is separated by commas
  std::string name;   ///< "--root", for messages and dump()
};

struct LoadOptions {
  std::string path{kDefaultPath};  ///< absolute or relative to the working directory
  bool path_is_explicit = false;   ///< a person named it: it must be there
  std::vector<Flag> flags{};
};

struct Loaded {
  Config config;
  std::vector<std::string> files{};                           ///< that were read, in order
  std::map<std::string, std::string, std::less<>> origins{};  ///< key to "FILE:LINE" or "flag NAME"; absent: default

  /// Every value in force, as a config.toml that loads to the same, each with its origin in a comment.
  [[nodiscard]] std::string dump() const;
};

/// Reads the file, then `*.toml` of its drop-in folder sorted by name ("/etc/berth/config.toml":
/// "/etc/berth/config.d/"), then the flags; a later value replaces an earlier one, lists whole. All or nothing. Blocks
/// on disk. Thread-safe. Errors name every fault there is, one a line, with "FILE:LINE: "; the code is theirs when they
/// agree, else kInvalid: kInvalid syntax, unknown key (with a suggestion), wrong type or range; kNotFound `path` named
/// and not there; kDenied; kExhausted a file above 1 MiB.
[[nodiscard]] Result<Loaded> load(const LoadOptions& options);

/// The same for one text that stands for a file called `name`.
[[nodiscard]] Result<Loaded> load_text(std::string_view text, std::string_view name);

}  // namespace berth::config
