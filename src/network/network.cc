#include "network/network.h"

#include <algorithm>
#include <set>

#include "base/thread_annotations.h"
#include "network/builtin_network.h"
#include "network/cni_network.h"
#include "network/sandbox_gate.h"

namespace berth::network {
namespace {

/// Chooses for each new pod; what a pod was added with, it is removed from.
class NodeNetwork final : public Network {
 public:
  NodeNetwork(std::unique_ptr<BuiltinNetwork> builtin, std::unique_ptr<CniNetwork> cni)
      : builtin_(std::move(builtin)), cni_(std::move(cni)) {}

  Result<Attachment> add(const PodNetwork& pod, std::stop_token stop) override {
    const SandboxGate::Pass pass(gate_, pod.sandbox_id);
    const auto config = cni_->config();
    if (builtin_->holds(pod.sandbox_id)) return builtin_->add(pod);
    if (!config.fault.empty()) return fail(Code::kPrecondition, "network configuration " + config.fault);
    if (config.conf) return cni_->add(*config.conf, pod, std::move(stop));
    // A retry of a pod whose first try was made by plugins that are no longer configured.
    BERTH_TRY(cni_->remove(pod), "take back the former network");
    return builtin_->add(pod);
  }

  Result<> remove(const PodNetwork& pod) override {
    const SandboxGate::Pass pass(gate_, pod.sandbox_id);
    // Both, whatever the first one says.
    auto plugins = cni_->remove(pod);
    auto builtin = builtin_->remove(pod.sandbox_id);
    return plugins ? builtin : plugins;
  }

  [[nodiscard]] std::vector<std::string> holders() const override {
    auto ids = builtin_->holders();
    for (auto& id : cni_->holders()) ids.push_back(std::move(id));
    std::ranges::sort(ids);
    ids.erase(std::ranges::unique(ids).begin(), ids.end());
    return ids;
  }

  Result<> teardown() override { return builtin_->teardown(); }
  Result<std::vector<std::string>> strays() override { return builtin_->strays(); }
  Result<> remove_stray(const std::string& link) override { return builtin_->remove_stray(link); }

  Result<> probe() override {
    const auto config = cni_->config();
    std::string fault;
    if (config.conf) {
      if (auto asked = cni_->check_status(*config.conf); !asked) fault = asked.error().text();
    }
    const MutexLock hold(mutex_);
    plugin_fault_ = fault;
    probed_ = config.conf;
    if (!fault.empty()) return fail(Code::kUnavailable, fault);
    return {};
  }

  [[nodiscard]] Status status() const override {
    const auto config = cni_->config();
    Status status;
    if (!config.fault.empty()) {
      status.reason = "InvalidNetworkConfiguration";
      status.message = config.fault;
    } else if (config.conf) {
      status.network = config.conf->name;
      const MutexLock hold(mutex_);
      // An answer about another configuration says nothing about this one.
      if (probed_ == config.conf) status.message = plugin_fault_;
      if (!status.message.empty()) status.reason = "NetworkPluginNotReady";
    } else {
      status.builtin = true;
      status.network = "berth";
      status.message = builtin_->fault();
      if (!status.message.empty()) status.reason = "BuiltinNetworkFailed";
    }
    status.ready = status.reason.empty();
    return status;
  }

 private:
  const std::unique_ptr<BuiltinNetwork> builtin_;
  const std::unique_ptr<CniNetwork> cni_;
  SandboxGate gate_;
  mutable Mutex mutex_;
  std::string plugin_fault_ BERTH_GUARDED_BY(mutex_);
  std::shared_ptr<const CniConf> probed_ BERTH_GUARDED_BY(mutex_);
};

}  // namespace

Result<std::unique_ptr<Network>> Network::open(NetworkOptions options) {
  BERTH_ASSIGN(auto builtin, BuiltinNetwork::open(options), "open the network");
  BERTH_ASSIGN(auto cni, CniNetwork::open(options), "open the network");
  std::unique_ptr<Network> network = std::make_unique<NodeNetwork>(std::move(builtin), std::move(cni));
  ignore(network->probe(), "status() tells it");
  return network;
}

}  // namespace berth::network
