#pragma once
#include <map>
#include <string>
#include <vector>

#include "base/result.h"
#include "nri/owners.h"
#include "nri/v1alpha1/api.pb.h"

namespace berth::nri {

/// A container that a plugin wants to end.
struct Eviction {
  std::string plugin;
  std::string container;
  std::string reason;
};

/// New limits of containers that are there, as plugins ask for them in answer to one event. Plugins that ask for the
/// same limit of the same container are a conflict.
class Updates final {
 public:
  /// `target`: the container that the event is about, and what it is to get; its limits change in place and it is no
  /// part of take(). Empty id: none.
  Updates(Owners& owners, std::string target, api::LinuxResources* resources)
      : owners_(owners), target_(std::move(target)), resources_(resources) {}

  /// Errors: kPrecondition a conflict; kInvalid an update without an id. An update that may fail is left out whole
  /// then.
  [[nodiscard]] Result<> add(const google::protobuf::RepeatedPtrField<api::ContainerUpdate>& updates,
                             const std::string& plugin);
  /// In the order in which they were first asked for.
  [[nodiscard]] std::vector<api::ContainerUpdate> take();
  [[nodiscard]] std::vector<api::ContainerUpdate> all() const;

 private:
  Owners& owners_;
  std::string target_;
  api::LinuxResources* resources_;
  std::vector<std::string> order_;
  std::map<std::string, api::ContainerUpdate, std::less<>> updates_;
};

/// Puts the limits that `asked` names into `into`, each in the name of `plugin`. Errors: kPrecondition a conflict;
/// `into` is half changed then.
[[nodiscard]] Result<> merge_resources(const api::LinuxResources& asked, api::LinuxResources& into, Owners& owners,
                                       const std::string& container, const std::string& plugin);

/// What all plugins together make of a container that is being created. After each answer the container of the request
/// is as changed so far, which is what the next plugin is asked about.
class Adjustment final {
 public:
  /// `request`: outlives this.
  explicit Adjustment(api::CreateContainerRequest& request);

  /// Errors: kPrecondition a conflict, or an update of the container that is being created; kInvalid.
  [[nodiscard]] Result<> add(const api::CreateContainerResponse& answer, const std::string& plugin);

  [[nodiscard]] const api::ContainerAdjustment& collected() const { return adjust_; }
  [[nodiscard]] const Owners& owners() const { return owners_; }
  [[nodiscard]] std::vector<api::ContainerUpdate> take_updates() { return updates_.take(); }
  [[nodiscard]] std::vector<api::ContainerUpdate> updates() const { return updates_.all(); }

 private:
  [[nodiscard]] Result<> add_process(const api::ContainerAdjustment& asked, const std::string& plugin);
  [[nodiscard]] Result<> add_linux(const api::LinuxContainerAdjustment& asked, const std::string& plugin);
  [[nodiscard]] Result<> add_linux_task(const api::LinuxContainerAdjustment& asked, const std::string& plugin);
  [[nodiscard]] Result<> add_namespaces(const api::LinuxContainerAdjustment& asked, const std::string& plugin);
  [[nodiscard]] Result<> add_rdt(const api::LinuxRdt& asked, const std::string& plugin);
  [[nodiscard]] Result<> add_args(const api::ContainerAdjustment& asked, const std::string& plugin);
  void add_hooks(const api::Hooks& asked, const std::string& plugin);
  [[nodiscard]] Result<> claim(api::Field field, const std::string& key, const std::string& plugin) {
    return owners_.claim(id_, field, key, plugin);
  }

  api::Container& container_;
  const std::string id_;
  api::ContainerAdjustment adjust_;
  Owners owners_;
  Updates updates_;
};

}  // namespace berth::nri
