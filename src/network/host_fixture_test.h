#pragma once
#include <gtest/gtest.h>

#include <functional>
#include <map>
#include <string>
#include <vector>

#include "base/unique_fd.h"
#include "network/network.h"

namespace berth::network {

/// For tests: a "node" that is a network namespace of its own with an uplink to an "outside" one (192.0.2.1 and .2/24),
/// pods that are namespaces, and sockets between them. All of it goes with the descriptors. Needs root.
class TestHost {
 public:
  /// Empty when all is made; else why not (for GTEST_SKIP).
  [[nodiscard]] std::string make();

  static constexpr const char* kNodeAddress = "192.0.2.1";
  static constexpr const char* kOutsideAddress = "192.0.2.2";

  [[nodiscard]] int node() const { return node_.get(); }
  [[nodiscard]] int outside() const { return outside_.get(); }
  /// The namespace of pod `name`, made at first use.
  int pod(const std::string& name);
  void kill_pod(const std::string& name) { pods_.erase(name); }
  /// What Network gets for that pod.
  PodNetwork request(const std::string& name, std::vector<PortMapping> ports = {});

  /// Runs on a thread in the node's namespace, as the daemon does.
  void on_node(const std::function<void()>& work) const { in(node(), work); }
  static void in(int netns_fd, const std::function<void()>& work);
  /// What a program says, run in the namespace; the test fails when it does.
  static std::string output_of(int netns_fd, const std::vector<std::string>& argv);
  /// Names of all links on the node but lo and the uplink.
  [[nodiscard]] std::vector<std::string> links() const;
  [[nodiscard]] std::string rules() const { return output_of(node(), {"nft", "list", "ruleset"}); }

 private:
  UniqueFd node_;
  UniqueFd outside_;
  std::map<std::string, UniqueFd> pods_;
};

/// A TCP listener or a UDP socket on every address of the namespace.
class TestServer {
 public:
  TestServer(int netns_fd, const std::string& protocol, std::uint16_t port);
  /// Connects from another namespace, sends a word and gets it back: the client's address as the server saw it, or what
  /// failed ("connect: ..."). Waits for each step at most `wait_ms`.
  [[nodiscard]] std::string talk(int from_netns_fd, const std::string& address, std::uint16_t port,
                                 int wait_ms = 10'000) const;

 private:
  std::string talk_tcp(int client, int wait_ms) const;
  std::string talk_udp(int client, int wait_ms) const;
  bool tcp_;
  UniqueFd socket_;
};

}  // namespace berth::network
