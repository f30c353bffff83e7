#include "network/network.h"

#include "network/builtin_network.h"
#include "network/sandbox_gate.h"

namespace berth::network {
namespace {

class NodeNetwork final : public Network {
 public:
  explicit NodeNetwork(std::unique_ptr<BuiltinNetwork> builtin) : builtin_(std::move(builtin)) {}

  Result<Attachment> add(const PodNetwork& pod, std::stop_token /*stop*/) override {
    const SandboxGate::Pass pass(gate_, pod.sandbox_id);
    return builtin_->add(pod);
  }
  Result<> remove(const PodNetwork& pod) override {
    const SandboxGate::Pass pass(gate_, pod.sandbox_id);
    return builtin_->remove(pod.sandbox_id);
  }
  [[nodiscard]] std::vector<std::string> holders() const override { return builtin_->holders(); }
  Result<> teardown() override { return builtin_->teardown(); }
  [[nodiscard]] Status status() const override {
    Status status;
    status.builtin = true;
    status.network = "berth";
    status.message = builtin_->fault();
    status.ready = status.message.empty();
    if (!status.ready) status.reason = "BuiltinNetworkFailed";
    return status;
  }

 private:
  const std::unique_ptr<BuiltinNetwork> builtin_;
  SandboxGate gate_;
};

}  // namespace

Result<std::unique_ptr<Network>> Network::open(NetworkOptions options) {
  BERTH_ASSIGN(auto builtin, BuiltinNetwork::open(options), "open the network");
  return std::unique_ptr<Network>(std::make_unique<NodeNetwork>(std::move(builtin)));
}

}  // namespace berth::network
