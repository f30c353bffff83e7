#include "nri/nri.h"

#include <algorithm>
#include <optional>
#include <utility>

#include "base/log.h"
#include "nri/validator.h"

namespace berth::nri {
namespace {

constexpr std::size_t kMaxWords = 1024;  // of what a plugin says in an error

/// What a plugin has against it, as an error of ours.
Error refusal(const Plugin& plugin, api::Event event, const Error& said) {
  std::string words = said.text().substr(0, kMaxWords);
  std::ranges::replace_if(words, [](char c) { return static_cast<unsigned char>(c) < 0x20 || c == 0x7F; }, ' ');
  // A plain error of a Go program comes without a code, which is no fault of ours.
  const Code code = said.code() == Code::kInternal ? Code::kPrecondition : said.code();
  return Error(code, "NRI plugin " + plugin.name() + ": " + std::string(event_name(event)) + ": " + words);
}

}  // namespace

Nri::Passage& Nri::Passage::operator=(Passage&& other) noexcept {
  std::swap(nri_, other.nri_);
  std::swap(id_, other.id_);
  std::swap(making_, other.making_);
  std::swap(plugins_, other.plugins_);
  return *this;
}

Nri::Passage::~Passage() {
  if (nri_ == nullptr) return;
  MutexLock lock(nri_->mutex_);
  nri_->under_way_.erase(id_);
}

Nri::Passage Nri::pass(std::string id, bool making) {
  Passage passage;
  MutexLock lock(mutex_);
  under_way_[id] = making;
  passage.nri_ = this;
  passage.id_ = std::move(id);
  passage.making_ = making;
  passage.plugins_ = plugins_;
  return passage;
}

Nri::PluginList Nri::plugins() const {
  MutexLock lock(mutex_);
  return plugins_;
}

std::vector<std::string> Nri::names() const {
  std::vector<std::string> names;
  for (const auto& plugin : plugins()) names.push_back(plugin->name());
  return names;
}

void Nri::recount() {
  std::uint32_t wanted = 0;
  for (const auto& plugin : plugins_) wanted |= plugin->events();
  wanted_ = wanted;
}

template <class Reply, class Request>
Result<std::optional<Reply>> Nri::ask_for(Plugin& plugin, api::Event event, const Request& request) {
  if (plugin.closed() || !plugin.wants(event)) return std::optional<Reply>();
  auto answer = plugin.call<Reply>(event_name(event), request);
  if (answer) return std::optional<Reply>(std::move(*answer));
  if (plugin.closed()) return std::optional<Reply>();
  if (answer.error().code() != Code::kUnsupported) return fail(refusal(plugin, event, answer.error()));
  log_warn("an NRI plugin subscribed to what it does not know",
           {{"plugin", plugin.name()}, {"event", event_name(event)}});
  plugin.unsubscribe(event);
  return std::optional<Reply>();
}

Result<> Nri::ask_one(Plugin& plugin, api::Event event, const api::PodSandbox& pod, const api::Container* container) {
  if (plugin.closed() || !plugin.wants(event)) return {};
  if (!plugin.legacy(event)) {
    // The requests of all events of a container have the same two fields, and those of a pod the first of them.
    api::StartContainerRequest request;
    *request.mutable_pod() = pod;
    if (container != nullptr) *request.mutable_container() = *container;
    const auto answer = plugin.call<api::Empty>(event_name(event), request);
    if (answer || plugin.closed()) return {};
    if (answer.error().code() != Code::kUnsupported) return fail(refusal(plugin, event, answer.error()));
    if (plugin.note_legacy(event)) {
      log_info("an NRI plugin is told by StateChange, since it knows no call of its own",
               {{"plugin", plugin.name()}, {"event", event_name(event)}});
    }
  }
  api::StateChangeEvent change;
  change.set_event(event);
  *change.mutable_pod() = pod;
  if (container != nullptr) *change.mutable_container() = *container;
  const auto answer = plugin.call<api::Empty>("StateChange", change);
  if (answer || plugin.closed()) return {};
  if (answer.error().code() != Code::kUnsupported) return fail(refusal(plugin, event, answer.error()));
  plugin.unsubscribe(event);
  return {};
}

Result<> Nri::ask(const Passage& passage, api::Event event, const api::PodSandbox& pod,
                  const api::Container* container) {
  for (const auto& plugin : passage.plugins_) BERTH_TRY(ask_one(*plugin, event, pod, container), "NRI");
  return {};
}

Result<> Nri::ask(api::Event event, const api::PodSandbox& pod, const api::Container* container) {
  for (const auto& plugin : plugins()) BERTH_TRY(ask_one(*plugin, event, pod, container), "NRI");
  return {};
}

void Nri::tell(api::Event event, const api::PodSandbox& pod, const api::Container* container) {
  for (const auto& plugin : plugins()) {
    if (auto told = ask_one(*plugin, event, pod, container); !told) {
      log_warn("an NRI plugin failed, going on", {{"sandbox", pod.id()}, {"err", told.error().text()}});
    }
  }
}

bool Nri::create_wanted(const Passage& passage) const {
  return options_.validator.enabled || std::ranges::any_of(passage.plugins_, [](const Plugin::Ptr& plugin) {
           return plugin->wants(api::CREATE_CONTAINER) || plugin->wants(api::VALIDATE_CONTAINER_ADJUSTMENT);
         });
}

Result<Created> Nri::create_container(const Passage& passage, const api::PodSandbox& pod,
                                      const api::Container& container) {
  Created created;
  api::CreateContainerRequest request;
  *request.mutable_pod() = pod;
  *request.mutable_container() = container;
  Adjustment adjustment(request);
  for (const auto& plugin : passage.plugins_) {
    auto answer = ask_for<api::CreateContainerResponse>(*plugin, api::CREATE_CONTAINER, request);
    if (!answer) return fail(std::move(answer).error());
    if (!*answer) continue;
    BERTH_TRY(adjustment.add(**answer, plugin->name()), "NRI");
    for (const auto& evict : (*answer)->evict()) {
      created.evictions.push_back({plugin->name(), evict.container_id(), evict.reason()});
    }
  }
  *request.mutable_container() = container;
  BERTH_TRY(validate(passage.plugins_, request, adjustment), "NRI");
  created.adjust = adjustment.collected();
  created.owners = adjustment.owners();
  created.updates = adjustment.take_updates();
  return created;
}

Result<> Nri::validate(const PluginList& plugins, const api::CreateContainerRequest& before,
                       const Adjustment& adjustment) {
  const auto validates = [](const Plugin::Ptr& plugin) { return plugin->wants(api::VALIDATE_CONTAINER_ADJUSTMENT); };
  if (!options_.validator.enabled && std::ranges::none_of(plugins, validates)) return {};
  api::ValidateContainerAdjustmentRequest request;
  *request.mutable_pod() = before.pod();
  *request.mutable_container() = before.container();
  *request.mutable_adjust() = adjustment.collected();
  *request.mutable_owners() = adjustment.owners().all();
  for (const auto& update : adjustment.updates()) *request.add_update() = update;
  for (const auto& plugin : plugins) {
    if (plugin->closed()) continue;
    auto& instance = *request.add_plugins();
    instance.set_name(plugin->base_name());
    instance.set_index(plugin->index());
  }
  BERTH_TRY(validate_adjustment(options_.validator, request, adjustment.owners()), "NRI validator");
  for (const auto& plugin : plugins) {
    if (!validates(plugin)) continue;
    const auto answer =
        ask_for<api::ValidateContainerAdjustmentResponse>(*plugin, api::VALIDATE_CONTAINER_ADJUSTMENT, request);
    if (!answer) return fail(answer.error());
    // One whose word is needed and who cannot give it has not agreed.
    if (!*answer && plugin->closed() && plugin->judges()) {
      return fail(Code::kUnavailable, "the NRI validator " + plugin->name() + " has ended without an answer");
    }
    if (*answer && (*answer)->reject()) {
      const Error said(Code::kDenied, (*answer)->reason().empty() ? "it gave no reason" : (*answer)->reason());
      return fail(refusal(*plugin, api::VALIDATE_CONTAINER_ADJUSTMENT, said));
    }
  }
  return {};
}

Result<std::vector<api::ContainerUpdate>> Nri::update_container(const api::PodSandbox& pod,
                                                                const api::Container& container,
                                                                api::LinuxResources& resources,
                                                                std::vector<Eviction>& evictions) {
  api::UpdateContainerRequest request;
  *request.mutable_pod() = pod;
  *request.mutable_container() = container;
  *request.mutable_linux_resources() = resources;
  Owners owners;
  Updates updates(owners, container.id(), request.mutable_linux_resources());
  for (const auto& plugin : plugins()) {
    auto answer = ask_for<api::UpdateContainerResponse>(*plugin, api::UPDATE_CONTAINER, request);
    if (!answer) return fail(std::move(answer).error());
    if (!*answer) continue;
    BERTH_TRY(updates.add((*answer)->update(), plugin->name()), "NRI");
    for (const auto& evict : (*answer)->evict()) {
      evictions.push_back({plugin->name(), evict.container_id(), evict.reason()});
    }
  }
  resources = request.linux_resources();
  return updates.take();
}

std::vector<api::ContainerUpdate> Nri::stop_container(const api::PodSandbox& pod, const api::Container& container) {
  api::StopContainerRequest request;
  *request.mutable_pod() = pod;
  *request.mutable_container() = container;
  Owners owners;
  Updates updates(owners, {}, nullptr);
  for (const auto& plugin : plugins()) {
    const auto answer = ask_for<api::StopContainerResponse>(*plugin, api::STOP_CONTAINER, request);
    auto done = answer ? Result<>() : Result<>(fail(answer.error()));
    if (answer && *answer) done = updates.add((*answer)->update(), plugin->name());
    if (!done) {
      log_warn("an NRI plugin failed, going on", {{"container", container.id()}, {"err", done.error().text()}});
    }
  }
  return updates.take();
}

Result<> Nri::update_pod(const api::PodSandbox& pod, const api::LinuxResources& overhead,
                         const api::LinuxResources& resources) {
  api::UpdatePodSandboxRequest request;
  *request.mutable_pod() = pod;
  *request.mutable_overhead_linux_resources() = overhead;
  *request.mutable_linux_resources() = resources;
  for (const auto& plugin : plugins()) {
    const auto answer = ask_for<api::UpdatePodSandboxResponse>(*plugin, api::UPDATE_POD_SANDBOX, request);
    if (!answer) return fail(answer.error());
  }
  return {};
}

void Nri::carry_out(const std::vector<api::ContainerUpdate>& updates, const std::vector<Eviction>& evictions) {
  for (const auto& update : updates) {
    auto done = host_.update(update);
    if (!done && !update.ignore_failure()) {
      log_warn("an update that an NRI plugin asked for failed",
               {{"container", update.container_id()}, {"err", done.error().text()}});
    }
  }
  for (const auto& eviction : evictions) {
    if (auto done = host_.evict(eviction); !done) {
      log_warn("a container that an NRI plugin wants to end stays",
               {{"plugin", eviction.plugin}, {"container", eviction.container}, {"err", done.error().text()}});
    }
  }
}

}  // namespace berth::nri
