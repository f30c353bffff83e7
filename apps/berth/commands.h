#pragma once
#include <cstdint>
#include <string>
#include <vector>

#include "base/result.h"

namespace berth::cli {

class Client;

/// What each command takes; main.cc fills these from the command line. A command's value is its exit code.

struct PullCommand {
  std::string image;
  std::string credentials;  ///< "user:password"
  bool quiet = false;
};
struct FetchedImage {
  std::string id;
  std::uint64_t size_bytes = 0;
};
/// Pulls with the progress on stderr.
Result<FetchedImage> fetch_image(Client& client, const PullCommand& command);
/// The same, and prints the image's id on stdout.
Result<int> pull(Client& client, const PullCommand& command);

struct VerifyCommand {
  std::vector<std::string> images;  ///< none: all
  bool repair = false;
};
/// Exit code 1: damage is left.
Result<int> verify_images(Client& client, const VerifyCommand& command);

struct ImagesCommand {
  bool quiet = false;
  bool digests = false;
  bool json = false;
};
Result<int> images(Client& client, const ImagesCommand& command);
Result<int> remove_images(Client& client, const std::vector<std::string>& names);

struct RunCommand {
  std::string image;
  std::vector<std::string> args;
  std::string name;
  std::string pod_namespace = "default";
  std::vector<std::string> ports;    ///< [ip:]host:container[/protocol]
  std::vector<std::string> env;      ///< NAME=value
  std::vector<std::string> volumes;  ///< /host:/container[:ro]
  std::string entrypoint;
  std::string user;
  std::string workdir;
  std::string memory;  ///< "64m"
  double cpus = 0;
  std::string runtime;
  std::string pull = "missing";
  std::string log_dir = "/var/log/berth";
  bool host_network = false;
  bool privileged = false;
  bool read_only = false;
  bool follow = false;
  bool remove = false;
};
Result<int> run(Client& client, const RunCommand& command);

struct ListCommand {
  bool all = false;
  bool quiet = false;
  bool json = false;
};
Result<int> pods(Client& client, const ListCommand& command);
Result<int> ps(Client& client, const ListCommand& command);

struct LogsCommand {
  std::string container;
  bool follow = false;
  bool timestamps = false;
  std::int64_t tail = -1;  ///< the last lines only; -1: all
};
Result<int> logs(Client& client, const LogsCommand& command);

struct ExecCommand {
  std::string container;
  std::vector<std::string> args;
  std::int64_t timeout_s = 0;
};
Result<int> exec(Client& client, const ExecCommand& command);

struct StopCommand {
  std::vector<std::string> names;
  std::int64_t timeout_s = 10;
};
Result<int> stop(Client& client, const StopCommand& command);

struct RemoveCommand {
  std::vector<std::string> names;
  bool force = false;
};
Result<int> remove(Client& client, const RemoveCommand& command);

Result<int> inspect(Client& client, const std::vector<std::string>& names);

struct WhyCommand {
  std::string object;
  bool json = false;
};
/// What happened to a pod, step by step.
Result<int> why(Client& client, const WhyCommand& command);

/// Looks for what nothing owns; ends with 1 when something of it is left.
Result<int> fsck(Client& client, bool repair);

struct DoctorCommand {
  std::string output = "text";  ///< or "json"
};
/// What the daemon finds when it tries what a node needs; ends with 1 when something is bad.
Result<int> doctor(Client& client, const DoctorCommand& command);

Result<int> version(Client& client);

}  // namespace berth::cli
