#include "cri/handler_features.h"

#include <algorithm>
#include <chrono>
#include <utility>

#include "base/strings.h"
#include "os/file.h"
#include "os/spawn.h"
#include "spec/json_text.h"

namespace berth::cri {

namespace {

using spec::Json;

constexpr std::chrono::seconds kPatience{5};
constexpr const char* kPath = "PATH=/usr/local/sbin:/usr/local/bin:/usr/sbin:/usr/bin:/sbin:/bin";

bool lists(const Json* list, std::string_view word) {
  if (list == nullptr) return false;
  return std::ranges::any_of(list->items(), [word](const Json& item) { return item.as_string() == word; });
}

const Json* at(const Json& from, std::initializer_list<std::string_view> names) {
  const Json* node = &from;
  for (const auto name : names) {
    if (node != nullptr) node = node->get(name);
  }
  return node;
}

Result<Json> object_of(std::string_view json) {
  auto tree = spec::parse_json(json);
  if (!tree) return fail(std::move(tree).error().as(Code::kCorrupt).in("features"));
  if (!tree->is_object()) return fail(Code::kCorrupt, "features: not a JSON object");
  return std::move(*tree);
}

HandlerFeatures none_of(const std::string& why) {
  return {.no_user_namespaces = why, .no_recursive_read_only = why};
}

Result<std::string> output_of(std::vector<std::string> argv, const std::string& cwd) {
  os::RunOptions run;
  run.spawn.argv = std::move(argv);
  run.spawn.env = {kPath};
  run.spawn.cwd = cwd;
  run.timeout = kPatience;
  BERTH_ASSIGN(auto output, os::run(std::move(run)), "features");
  if (output.exit_code == 0) return std::move(output.out);
  return fail(Code::kUnavailable, "features: exit code " + std::to_string(output.exit_code) + ": " +
                                      std::string(trim(output.err).substr(0, 256)));
}

}  // namespace

Result<HandlerFeatures> parse_shim_features(std::string_view json) {
  BERTH_ASSIGN(const Json tree, object_of(json), "shim");
  const Json* const user = tree.get("user_namespaces");
  const Json* const readonly = tree.get("recursive_read_only_mounts");
  if (user == nullptr || !user->as_string() || readonly == nullptr || !readonly->as_string()) {
    return fail(Code::kCorrupt, "shim: features: a member is missing");
  }
  return HandlerFeatures{.no_user_namespaces = std::string(*user->as_string()),
                         .no_recursive_read_only = std::string(*readonly->as_string())};
}

Result<HandlerFeatures> parse_runtime_features(std::string_view json) {
  BERTH_ASSIGN(const Json tree, object_of(json), "runtime");
  HandlerFeatures features{.no_user_namespaces = "", .no_recursive_read_only = ""};
  if (!lists(tree.get("mountOptions"), "rro")) {
    features.no_recursive_read_only = "the runtime does not list the mount option rro";
  }
  const Json* const idmap = at(tree, {"linux", "mountExtensions", "idmap", "enabled"});
  if (!lists(at(tree, {"linux", "namespaces"}), "user")) {
    features.no_user_namespaces = "the runtime does not list user namespaces";
  } else if (idmap == nullptr || !idmap->as_bool().value_or(false)) {
    features.no_user_namespaces = "the runtime does not offer id-mapped mounts";
  }
  return features;
}

HandlerFeatures probe_machine(const std::string& shim_path, const std::string& folder) {
  auto said = output_of({shim_path, "-id", "probe", "features"}, folder);
  if (!said) return none_of(said.error().text());
  auto features = parse_shim_features(*said);
  return features ? std::move(*features) : none_of(features.error().text());
}

Result<HandlerFeatures> probe_runtime(const std::string& binary) {
  auto said = output_of({binary, "features"}, "/");
  if (!said) return fail(std::move(said).error().in("the runtime does not tell its features"));
  return parse_runtime_features(*said);
}

void FeatureTable::set_machine(HandlerFeatures machine) {
  MutexLock lock(mutex_);
  machine_ = std::move(machine);
}

void FeatureTable::learn(const HandlerTable& table) {
  Runtimes before;
  {
    const MutexLock lock(mutex_);
    before = runtimes_;
  }
  Runtimes runtimes;
  for (const auto& [name, handler] : table.handlers) {
    if (!handler.shim.empty() || handler.binary.empty() || runtimes.contains(handler.binary)) continue;
    const std::string file = os::file_mark(handler.binary);
    const auto known = before.find(handler.binary);
    if (known != before.end() && !file.empty() && known->second.file == file) {
      runtimes.insert(*known);
      continue;
    }
    auto features = probe_runtime(handler.binary);
    if (features) {
      runtimes.emplace(handler.binary, Asked{std::move(*features), file});
      continue;
    }
    const Code code = features.error().code();
    const bool answered = code == Code::kUnavailable || code == Code::kCorrupt;
    runtimes.emplace(handler.binary, Asked{none_of(features.error().text()), answered ? file : std::string()});
  }
  const MutexLock lock(mutex_);
  runtimes_ = std::move(runtimes);
}

HandlerFeatures FeatureTable::of(const Handler& handler) const {
  if (!handler.shim.empty()) return none_of("a shim of another maker, which does not say what it can");
  MutexLock lock(mutex_);
  if (handler.ours()) return machine_;
  const auto found = runtimes_.find(handler.binary);
  if (found == runtimes_.end()) return none_of("the runtime was not asked yet");
  // The root file system and the namespaces are ours, whatever the runtime can.
  HandlerFeatures features = found->second.features;
  if (features.user_namespaces()) features.no_user_namespaces = machine_.no_user_namespaces;
  return features;
}

}  // namespace berth::cri
