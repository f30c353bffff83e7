#include <algorithm>

#include "base/strings.h"
#include "commands.h"
#include "engine/process/mount_plan.h"
#include "os/spawn.h"
#include "output.h"
#include "spec/json_text.h"

namespace berth::oci {

namespace {

std::string rootfs_of(const Found& found) {
  if (!found.spec.root) return {};
  return engine::process::in_bundle(found.spec.root->path, found.record.bundle);
}

/// The user's name by number; the number where the static program may not ask (no NSS): reads /etc/passwd alone.
std::string owner_name(std::uint32_t uid) {
  return uid == 0 ? std::string("root") : std::string("#").append(std::to_string(uid));
}

/// runc's form of the state, which adds rootfs, created and owner to the specification's.
void write_state(spec::JsonWriter& json, const Found& found) {
  const spec::Status status = status_of(found);
  json.begin_object().key("ociVersion").string(found.spec.oci_version).key("id").string(found.record.id);
  json.key("pid").number(status == spec::Status::kStopped ? 0 : found.record.pid);
  json.key("status").string(spec::status_name(status)).key("bundle").string(found.record.bundle);
  json.key("rootfs").string(rootfs_of(found)).key("created").string(found.record.created);
  if (!found.spec.annotations.empty()) {
    json.key("annotations").begin_object();
    for (const auto& [name, value] : found.spec.annotations) json.key(name).string(value);
    json.end_object();
  }
  json.key("owner").string(found.record.owner == 0 ? "" : owner_name(found.record.owner)).end_object();
}

void pad(std::string& line, std::string_view text, std::size_t width) {
  line.append(text);
  line.append(text.size() < width ? width - text.size() : 2, ' ');
}

Result<std::vector<Found>> find_all(Context& context) {
  BERTH_ASSIGN(const auto ids, context.store.list(), "list");
  std::vector<Found> all;
  for (const auto& id : ids) {
    auto found = find_container(context.store, context.engine, id, true);
    // One that is being made or deleted right now is not there yet, or any more.
    if (found) all.push_back(std::move(*found));
  }
  return all;
}

}  // namespace

Result<int> run_state(Context& context) {
  auto found = find_container(context.store, context.engine, context.args.rest()[0], true);
  if (!found) return fail(std::move(found).error());
  spec::JsonWriter json;
  write_state(json, *found);
  print(pretty_json(json.take()) + "\n");
  return 0;
}

Result<int> run_list(Context& context) {
  const std::string format = context.args.value_or("format", "table");
  if (context.args.on("quiet")) {
    BERTH_ASSIGN(const auto ids, context.store.list(), "list");
    for (const auto& id : ids) print(id + "\n");
    return 0;
  }
  BERTH_ASSIGN(const auto all, find_all(context), "list");
  if (format == "json") {
    spec::JsonWriter json;
    json.begin_array();
    for (const auto& found : all) write_state(json, found);
    json.end_array();
    print(json.take() + "\n");
    return 0;
  }
  if (format != "table") return fail(Code::kInvalid, "invalid format option");
  std::size_t id_width = 12;
  std::size_t bundle_width = 12;
  for (const auto& found : all) {
    id_width = std::max(id_width, found.record.id.size() + 2);
    bundle_width = std::max(bundle_width, found.record.bundle.size() + 2);
  }
  constexpr std::size_t kColumn = 12;
  constexpr std::size_t kTimeColumn = 32;
  const auto row = [&](std::string_view id, std::string_view pid, std::string_view status, std::string_view bundle,
                       std::string_view created, std::string_view owner) {
    std::string line;
    pad(line, id, id_width);
    pad(line, pid, kColumn);
    pad(line, status, kColumn);
    pad(line, bundle, bundle_width);
    pad(line, created, kTimeColumn);
    print(line + std::string(owner) + "\n");
  };
  row("ID", "PID", "STATUS", "BUNDLE", "CREATED", "OWNER");
  for (const auto& found : all) {
    const spec::Status status = status_of(found);
    row(found.record.id, std::to_string(status == spec::Status::kStopped ? 0 : found.record.pid),
        spec::status_name(status), found.record.bundle, found.record.created, owner_name(found.record.owner));
  }
  return 0;
}

Result<int> run_ps(Context& context) {
  const auto operands = context.args.rest();
  auto found = find_container(context.store, context.engine, operands[0], false);
  if (!found) return fail(std::move(found).error());
  BERTH_ASSIGN(const auto pids, found->container->pids(), "ps");
  const std::string format = context.args.value_or("format", "table");
  if (format == "json") {
    spec::JsonWriter json;
    json.begin_array();
    for (const pid_t pid : pids) json.number(pid);
    json.end_array();
    print(json.take() + "\n");
    return 0;
  }
  if (format != "table") return fail(Code::kInvalid, "invalid format option");
  os::RunOptions options;
  options.spawn.argv = {"ps"};
  for (char* const word : operands.subspan(1)) options.spawn.argv.emplace_back(word);
  if (operands.size() == 1) options.spawn.argv.emplace_back("-ef");
  options.spawn.env = {"PATH=/usr/local/sbin:/usr/local/bin:/usr/sbin:/usr/bin:/sbin:/bin"};
  constexpr std::size_t kOutputLimit = 16U << 20;
  options.output_limit = kOutputLimit;
  BERTH_ASSIGN(const os::RunOutput output, os::run(std::move(options)), "ps");
  if (output.exit_code != 0) return fail(Code::kInvalid, "ps: " + std::string(trim(output.err)));
  // The column "PID" of ps's own head line tells which rows are the container's.
  const auto lines = split(output.out, '\n');
  const auto words = [](std::string_view line) {
    std::vector<std::string_view> found_words;
    for (const auto word : split(line, ' ')) {
      if (!word.empty()) found_words.push_back(word);
    }
    return found_words;
  };
  const auto head = words(lines[0]);
  const auto column = static_cast<std::size_t>(std::ranges::find(head, "PID") - head.begin());
  if (column == head.size()) return fail(Code::kInvalid, "couldn't find PID field in ps output");
  print(std::string(lines[0]) + "\n");
  for (const auto line : std::span(lines).subspan(1)) {
    const auto fields = words(line);
    if (fields.size() <= column) continue;
    const auto pid = parse_number<pid_t>(fields[column]);
    if (pid && std::ranges::find(pids, *pid) != pids.end()) print(std::string(line) + "\n");
  }
  return 0;
}

}  // namespace berth::oci
