#include "base/strings.h"
#include "commands.h"
#include "os/file.h"

namespace berth::oci {

namespace {

constexpr std::size_t kResourcesLimit = 1U << 20;

template <class N>
Result<> set_number(const Args& args, std::string_view flag, std::optional<N>& target) {
  const auto text = args.value(flag);
  if (!text) return {};
  target = parse_number<N>(*text);
  if (!target) return fail(Code::kInvalid, "--" + std::string(flag) + ": \"" + *text + "\" is no number in range");
  return {};
}

Result<spec::Resources> resources_of_flags(const Args& args) {
  spec::MemoryResources memory;
  BERTH_TRY(set_number(args, "memory", memory.limit), "update");
  BERTH_TRY(set_number(args, "memory-reservation", memory.reservation), "update");
  BERTH_TRY(set_number(args, "memory-swap", memory.swap), "update");
  spec::CpuResources cpu;
  BERTH_TRY(set_number(args, "cpu-period", cpu.period), "update");
  BERTH_TRY(set_number(args, "cpu-quota", cpu.quota), "update");
  BERTH_TRY(set_number(args, "cpu-burst", cpu.burst), "update");
  BERTH_TRY(set_number(args, "cpu-share", cpu.shares), "update");
  BERTH_TRY(set_number(args, "cpu-rt-period", cpu.realtime_period), "update");
  BERTH_TRY(set_number(args, "cpu-rt-runtime", cpu.realtime_runtime), "update");
  BERTH_TRY(set_number(args, "cpu-idle", cpu.idle), "update");
  cpu.cpus = args.value_or("cpuset-cpus", "");
  cpu.mems = args.value_or("cpuset-mems", "");
  spec::PidsResources pids;
  BERTH_TRY(set_number(args, "pids-limit", pids.limit), "update");
  spec::BlockIoResources io;
  BERTH_TRY(set_number(args, "blkio-weight", io.weight), "update");
  spec::Resources resources;
  resources.memory = std::move(memory);
  resources.cpu = std::move(cpu);
  if (pids.limit) resources.pids = std::move(pids);
  resources.block_io = std::move(io);
  return resources;
}

Result<spec::Resources> resources_of(const Args& args) {
  const auto path = args.value("resources");
  if (!path) return resources_of_flags(args);
  BERTH_ASSIGN(const std::string text,
               *path == "-" ? os::read_all(0, kResourcesLimit) : os::read_file(*path, kResourcesLimit), "--resources");
  return spec::parse_resources(text);
}

}  // namespace

Result<int> run_update(Context& context) {
  const std::string id = context.args.rest()[0];
  BERTH_ASSIGN(const UniqueFd lock, context.store.lock(id), "update");
  const std::string l3_cache_schema = context.args.value_or("l3-cache-schema", "");
  const std::string mem_bw_schema = context.args.value_or("mem-bw-schema", "");
  const bool rdt = !l3_cache_schema.empty() || !mem_bw_schema.empty();
  auto found = find_container(context.store, context.engine, id, rdt);
  if (!found) return fail(std::move(found).error());
  if (status_of(*found) == spec::Status::kStopped) return fail(Code::kPrecondition, "container not running");
  BERTH_ASSIGN(const spec::Resources resources, resources_of(context.args), "update");
  if (rdt) BERTH_TRY(found->container->update_rdt(l3_cache_schema, mem_bw_schema), "update");
  BERTH_TRY(found->container->update(resources), "update");
  return 0;
}

}  // namespace berth::oci
