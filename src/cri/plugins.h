#pragma once
#include <condition_variable>
#include <functional>
#include <map>
#include <memory>
#include <string>
#include <vector>

#include "base/result.h"
#include "base/thread_annotations.h"
#include "cri/operation.h"
#include "cri/plugin_view.h"
#include "cri/records.h"
#include "cri/registry.h"
#include "cri/workers.h"
#include "nri/apply.h"
#include "nri/nri.h"

namespace berth::cri {

/// The service's side of NRI: which event follows which step of a pod's life. With NRI off, or with no plugin that
/// wants the event, each call is a comparison and builds nothing. A plugin may refuse what begins (a sandbox, a
/// container, its start, an update); what ends is only told. Thread-safe; calls block for the plugins' timeouts at
/// most.
class Plugins final {
 public:
  using Passage = nri::Nri::Passage;

  struct Needs {
    Registry* registry = nullptr;
    Workers* workers = nullptr;
    std::function<std::string(const ContainerRecord&)> bundle;  ///< its folder
    /// New limits for a container that is there.
    std::function<Result<>(const std::string& id, const nri_api::LinuxResources& limits)> update;
    std::function<Result<>(const nri::Eviction&)> evict;
    std::function<bool(const std::string& path)> cgroup_exists;
    nri::Machine machine{};
    std::vector<std::string> cdi_dirs{};
  };

  /// Turns NRI on, without plugins yet. Once, before anything else here is called, or never.
  void open(nri::Options options, ttrpc::Reactor& reactor, Needs needs);
  /// Plugins may come. Blocks until the pre-installed ones have joined.
  void start();
  /// Before the workers end.
  void stop();

  /// While a pod or container is being made, or is going: from before the event to after the record's change.
  [[nodiscard]] Passage making(const std::string& id) { return nri_ ? nri_->making(id) : Passage(); }
  [[nodiscard]] Passage going(const std::string& id) { return nri_ ? nri_->going(id) : Passage(); }

  Result<> run_pod(Operation& operation, const Passage& passage, const SandboxRecord& pod);
  /// The pod comes to nothing after run_pod().
  void undo_pod(const SandboxRecord& pod);
  Result<> update_pod(Operation& operation, const SandboxRecord& pod, const pb::LinuxContainerResources& overhead,
                      const pb::LinuxContainerResources& resources);
  /// The same for its end: it was updated.
  void pod_updated(const SandboxRecord& pod);
  void stop_pod(Operation& operation, const SandboxRecord& pod);
  void remove_pod(Operation& operation, const SandboxRecord& pod);

  /// Changes `spec`, and what of the record follows from it. Errors: a plugin, a conflict or a validator refuses.
  Result<> create(Operation& operation, const Passage& passage, const SandboxRecord& pod, ContainerRecord& container,
                  spec::Spec& spec);
  /// The container comes to nothing, in create() or later.
  void undo_create(const SandboxRecord& pod, const ContainerRecord& container);
  void created(const ContainerRecord& container) { tell(nri_api::POST_CREATE_CONTAINER, container); }
  Result<> start_container(Operation& operation, const ContainerRecord& container);
  void started(const ContainerRecord& container) { tell(nri_api::POST_START_CONTAINER, container); }
  /// `limits`: what is asked for, which plugins may change. Answers whether they were asked.
  Result<bool> update_container(Operation& operation, const ContainerRecord& container,
                                nri_api::LinuxResources& limits);
  void updated(const ContainerRecord& container) { tell(nri_api::POST_UPDATE_CONTAINER, container); }
  /// It has ended: told once, by whoever sees it first, on a worker.
  void ended(const std::string& id) BERTH_EXCLUDES(mutex_);
  /// The same, now: it has been told when this returns.
  void tell_ended(const std::string& id) BERTH_EXCLUDES(mutex_);
  /// Before its record says that it is being removed; a container that was being removed before is not told of again.
  void remove_container(Operation& operation, const ContainerRecord& container);
  /// Its record is gone.
  void forget(const std::string& id) BERTH_EXCLUDES(mutex_);

  [[nodiscard]] const nri::Machine& machine() const { return needs_.machine; }
  [[nodiscard]] std::vector<std::string> names() const { return nri_ ? nri_->names() : std::vector<std::string>(); }
  [[nodiscard]] bool on() const { return nri_ != nullptr; }

 private:
  /// CDI devices that plugins ask for. Errors: kInvalid, and those of find_devices() and apply_edits(), each with
  /// plugin and device.
  Result<> add_cdi_devices(const nri::Created& made, const ContainerRecord& container, spec::Spec& spec) const;
  /// Errors: kUnsupported, with the plugin: a path that nobody would remove.
  [[nodiscard]] Result<> check_cgroups_path(const nri::Created& made, const SandboxRecord& pod,
                                            const std::string& container, const std::string& path) const;
  [[nodiscard]] bool wanted(nri_api::Event event) const { return nri_ && nri_->wanted(event); }
  [[nodiscard]] nri::NodeState state(const nri::UnderWay& under_way) const;
  [[nodiscard]] nri_api::Container view(const ContainerRecord& container) const;
  /// Of the container's pod; an empty one when it is gone.
  [[nodiscard]] nri_api::PodSandbox pod_of(const ContainerRecord& container) const;
  void tell(nri_api::Event event, const ContainerRecord& container);

  Needs needs_;
  std::unique_ptr<nri::Nri> nri_;
  Mutex mutex_;
  std::condition_variable_any told_;
  // Containers whose end is being told (false) or has been (true), until they are removed.
  std::map<std::string, bool, std::less<>> ended_ BERTH_GUARDED_BY(mutex_);
};

}  // namespace berth::cri
