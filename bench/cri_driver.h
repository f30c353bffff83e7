#pragma once
#include <chrono>
#include <memory>
#include <string>
#include <vector>

#include "base/result.h"
#include "cri/runtime/v1/api.grpc.pb.h"

namespace berth::bench {

namespace pb = ::runtime::v1;
using Micros = std::chrono::microseconds;

/// One CRI server under measurement.
struct Peer {
  std::string name;
  std::string socket;
  /// The cgroup below which the daemon and all its pods run, for CPU time; its cpuacct.usage is read.
  std::string cgroup;
  /// The folder of its pods' logs; empty: /tmp/berth-bench-logs-NAME.
  std::string logs{};
};

/// How long the steps of one pod took, as the client saw them.
struct PodTimes {
  Micros run{};
  Micros create{};
  Micros start{};
  Micros up{};
  Micros down{};  ///< StopContainer without grace, RemoveContainer, StopPodSandbox, RemovePodSandbox
};

struct Pod {
  std::string sandbox_id;
  std::string container_id;
};

/// Drives one CRI server the way a kubelet does: the same requests to every peer.
class Driver {
 public:
  Driver(Peer peer, std::string image);

  [[nodiscard]] const Peer& peer() const { return peer_; }
  Result<> pull();
  /// What the containers of later pods run, instead of `sleep`.
  void set_command(std::vector<std::string> command) { command_ = std::move(command); }
  /// Starts a pod with one container running `sleep` or set_command()'s. `index` makes its name unique.
  /// `volume`: a folder of the host for /volume; empty: none.
  Result<Pod> up(int index, PodTimes& times, const std::string& volume = "");
  Result<> down(const Pod& pod, PodTimes& times);
  /// The median-worthy time of one ExecSync of /bin/true in `pod`.
  Result<Micros> exec(const Pod& pod);
  /// What a program of the container says, by ExecSync with a deadline of two minutes. kInternal: it fails.
  Result<std::string> output(const Pod& pod, const std::vector<std::string>& argv);
  /// For other calls. Thread-safe.
  [[nodiscard]] pb::RuntimeService::Stub& runtime() const { return *runtime_; }
  [[nodiscard]] pb::ImageService::Stub& images() const { return *images_; }
  /// CPU time of the daemon, its shims and its pods so far, in nanoseconds.
  [[nodiscard]] Result<std::uint64_t> cpu_ns() const;

 private:
  template <class Request, class Reply>
  Result<Reply> call(grpc::Status (pb::RuntimeService::Stub::*method)(grpc::ClientContext*, const Request&, Reply*),
                     const Request& request, const char* what);

  Peer peer_;
  std::string image_;
  std::vector<std::string> command_ = {"/bin/sleep", "1000000"};
  std::unique_ptr<pb::RuntimeService::Stub> runtime_;
  std::unique_ptr<pb::ImageService::Stub> images_;
};

/// A driver for each text "NAME=SOCKET=CGROUP". kInvalid: one is not of that form, or there are fewer than `at_least`.
Result<std::vector<Driver>> make_drivers(const std::vector<std::string>& peers, const std::string& image,
                                         std::size_t at_least);

}  // namespace berth::bench
