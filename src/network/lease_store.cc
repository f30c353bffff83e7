#include "network/lease_store.h"

#include <fcntl.h>

#include <algorithm>

#include "base/failpoint.h"
#include "base/ids.h"
#include "base/log.h"
#include "base/strings.h"
#include "os/file.h"

// A lease file is named by the address and holds lines:
//   berth-lease 1
//   sandbox <id>
//   port <protocol> <host port> <container port> <host ip or *>      none or more
//   end
// The last line tells a whole file from the beginning of one.
namespace berth::network {
namespace {

constexpr std::string_view kMagic = "berth-lease ";
constexpr std::string_view kVersion = "1";
constexpr std::size_t kMaxLeaseBytes = 256U << 10;
constexpr std::size_t kMaxPorts = 4096;
constexpr const char* kLastFile = "last_reserved";
constexpr const char* kLockFile = "lock";

Result<PortMapping> parse_port(const std::vector<std::string_view>& words) {
  if (words.size() != 5) return fail(Code::kCorrupt, "a port line of a lease has not five words");
  const auto host = parse_number<std::uint16_t>(words[2]);
  const auto container = parse_number<std::uint16_t>(words[3]);
  if (!host || !container) return fail(Code::kCorrupt, "a port of a lease is no number");
  PortMapping port;
  port.protocol = std::string(words[1]);
  port.host_port = *host;
  port.container_port = *container;
  if (words[4] != "*") port.host_ip = std::string(words[4]);
  return port;
}

Result<UniqueFd> lock_folder(const std::string& dir) {
  BERTH_ASSIGN(auto fd, os::open_file(dir + "/" + kLockFile, O_RDWR | O_CREAT, 0600), "lock the leases");
  BERTH_ASSIGN(const bool ours, os::try_lock(fd.get()), "lock " + dir);
  if (!ours) return fail(Code::kPrecondition, dir + " is in use by another daemon");
  return fd;
}

}  // namespace

std::string format_lease(const Lease& lease) {
  std::string text = std::string(kMagic) + std::string(kVersion) + "\nsandbox " + lease.sandbox_id + "\n";
  for (const auto& port : lease.ports) {
    text += "port " + port.protocol + " " + std::to_string(port.host_port) + " " + std::to_string(port.container_port) +
            " " + (port.host_ip.empty() ? "*" : port.host_ip) + "\n";
  }
  return text + "end\n";
}

Result<Lease> parse_lease(std::string_view text, os::Ipv4 address) {
  const auto lines = split(text, '\n');
  if (lines.size() < 4 || !lines[0].starts_with(kMagic)) return fail(Code::kCorrupt, "not a lease");
  if (lines[0].substr(kMagic.size()) != kVersion) {
    return fail(Code::kUnsupported, "a lease of version " + std::string(lines[0].substr(kMagic.size())));
  }
  if (lines[lines.size() - 2] != "end" || !lines.back().empty()) return fail(Code::kCorrupt, "a lease without its end");
  if (!lines[1].starts_with("sandbox ")) return fail(Code::kCorrupt, "a lease without a sandbox");
  Lease lease{std::string(lines[1].substr(8)), address, {}};
  if (!valid_id(lease.sandbox_id)) return fail(Code::kCorrupt, "a lease with a bad sandbox id");
  if (lines.size() > kMaxPorts + 4) return fail(Code::kCorrupt, "a lease with too many ports");
  for (std::size_t i = 2; i + 2 < lines.size(); ++i) {
    const auto words = split(lines[i], ' ');
    if (words.front() != "port") return fail(Code::kCorrupt, "a lease with an unknown line");
    BERTH_ASSIGN(auto port, parse_port(words), "read a lease");
    lease.ports.push_back(std::move(port));
  }
  return lease;
}

bool ports_collide(const PortMapping& a, const PortMapping& b) {
  const auto any = [](const PortMapping& p) { return p.host_ip.empty() || p.host_ip == "0.0.0.0"; };
  return a.protocol == b.protocol && a.host_port == b.host_port && (any(a) || any(b) || a.host_ip == b.host_ip);
}

Result<std::unique_ptr<LeaseStore>> LeaseStore::open(std::string dir, os::Ipv4Subnet subnet) {
  if (subnet.prefix < 8 || subnet.prefix > 30) {
    return fail(Code::kInvalid, "subnet " + os::format_ipv4_subnet(subnet) + " must be between /8 and /30");
  }
  BERTH_TRY(os::make_dirs(dir, 0700), "make the folder of leases");
  BERTH_ASSIGN(auto lock, lock_folder(dir), "open the leases");
  std::unique_ptr<LeaseStore> store(new LeaseStore(std::move(dir), subnet, std::move(lock)));
  const MutexLock hold(store->mutex_);
  BERTH_TRY(store->load(), "read the leases");
  return store;
}

Result<> LeaseStore::load() {
  BERTH_ASSIGN(const auto names, os::list_dir(dir_), "list");
  for (const auto& name : names) {
    if (name == kLockFile || name == kLastFile) continue;
    const auto address = os::parse_ipv4(name);
    if (!address) {
      log_warn("a file among the leases is none", {{"file", dir_ + "/" + name}});
      continue;
    }
    BERTH_TRY(load_one(name, *address), dir_ + "/" + name);
  }
  const std::string last_path = dir_ + "/" + kLastFile;
  if (auto text = os::read_file(last_path, 64)) {
    const auto last = os::parse_ipv4(trim(*text));
    if (last && subnet_.contains(*last)) last_ = *last;
  }
  BERTH_ASSIGN(last_file_, os::open_file(last_path, O_WRONLY | O_CREAT, 0600), "open the last address");
  return {};
}

Result<> LeaseStore::load_one(const std::string& name, os::Ipv4 address) {
  BERTH_ASSIGN(const auto text, os::read_file(dir_ + "/" + name, kMaxLeaseBytes), "read");
  auto lease = parse_lease(text, address);
  if (lease && by_sandbox_.contains(lease->sandbox_id)) {
    lease = fail(Code::kCorrupt, "a second lease of " + lease->sandbox_id);
  }
  if (!lease && lease.error().code() == Code::kUnsupported) return fail(std::move(lease).error());
  if (!lease) {
    // Cut by a crash in the middle of writing it: nothing was made for it yet.
    log_warn("an unreadable lease is dropped", {{"file", dir_ + "/" + name}, {"error", lease.error().text()}});
    return os::remove_file(dir_ + "/" + name);
  }
  by_address_.emplace(address, lease->sandbox_id);
  by_sandbox_.emplace(lease->sandbox_id, std::move(*lease));
  return {};
}

// The first address in [from, end) that is not in `held`: at most one step for each held one.
template <class Held>
std::optional<os::Ipv4> first_gap(const Held& held, os::Ipv4 from, os::Ipv4 end) {
  for (auto it = held.lower_bound(from); from < end && it != held.end() && it->first == from; ++it) ++from.value;
  if (from < end) return from;
  return std::nullopt;
}

// Once round the subnet, from the address after the last one on.
Result<os::Ipv4> LeaseStore::next_free() const {
  const os::Ipv4 first{subnet_.base.value + 2};
  const os::Ipv4 end = subnet_.broadcast();
  const os::Ipv4 start = std::clamp(os::Ipv4{last_.value + 1}, first, end);
  if (const auto gap = first_gap(by_address_, start, end)) return *gap;
  if (const auto gap = first_gap(by_address_, first, start)) return *gap;
  return fail(Code::kExhausted, "no address is free in " + os::format_ipv4_subnet(subnet_) + ": " +
                                    std::to_string(by_address_.size()) + " are held");
}

Result<> LeaseStore::check_ports(const std::vector<PortMapping>& ports) const {
  for (const auto& port : ports) {
    for (const auto& [id, lease] : by_sandbox_) {
      const auto taken = std::ranges::find_if(lease.ports, [&](const auto& held) { return ports_collide(port, held); });
      if (taken == lease.ports.end()) continue;
      return fail(Code::kExists,
                  "host port " + std::to_string(port.host_port) + "/" + port.protocol + " is held by sandbox " + id);
    }
  }
  return {};
}

std::string LeaseStore::path_of(os::Ipv4 address) const {
  return dir_ + "/" + os::format_ipv4(address);
}

Result<> LeaseStore::write(const Lease& lease) const {
  const std::string path = path_of(lease.address);
  BERTH_ASSIGN(const auto fd, os::open_file(path, O_WRONLY | O_CREAT | O_EXCL, 0600), "make a lease");
  crashpoint("lease.opened");
  if (auto written = os::write_all(fd.get(), format_lease(lease)); !written) {
    ignore(os::remove_file(path), "an unfinished lease is dropped at the next start");
    return fail(std::move(written).error().in("write " + path));
  }
  return {};
}

void LeaseStore::remember_last(os::Ipv4 address) {
  last_ = address;
  std::string text = os::format_ipv4(address);
  text.resize(sizeof "255.255.255.255", '\n');
  ignore(os::write_at(last_file_.get(), text, 0), "without it a restart reuses addresses a little earlier");
}

Result<Lease> LeaseStore::reserve(const std::string& sandbox_id, std::vector<PortMapping> ports) {
  if (!valid_id(sandbox_id)) return fail(Code::kInvalid, "not a sandbox id: " + sandbox_id);
  if (ports.size() > kMaxPorts) return fail(Code::kInvalid, "more than 4096 host ports for one pod");
  // Two small writes without a sync under the lock: the order on disk is the order in memory.
  const MutexLock hold(mutex_);
  if (by_sandbox_.contains(sandbox_id)) return fail(Code::kExists, "sandbox " + sandbox_id + " has a lease");
  BERTH_TRY(check_ports(ports), "reserve");
  BERTH_ASSIGN(const auto address, next_free(), "reserve");
  Lease lease{sandbox_id, address, std::move(ports)};
  BERTH_TRY(write(lease), "reserve " + os::format_ipv4(address));
  remember_last(address);
  by_address_.emplace(address, sandbox_id);
  by_sandbox_.emplace(sandbox_id, lease);
  return lease;
}

Result<> LeaseStore::release(const std::string& sandbox_id) {
  const MutexLock hold(mutex_);
  const auto found = by_sandbox_.find(sandbox_id);
  if (found == by_sandbox_.end()) return {};
  BERTH_TRY(os::remove_file(path_of(found->second.address)), "release the address");
  crashpoint("lease.released");
  by_address_.erase(found->second.address);
  by_sandbox_.erase(found);
  return {};
}

std::optional<Lease> LeaseStore::find(const std::string& sandbox_id) const {
  const MutexLock hold(mutex_);
  const auto found = by_sandbox_.find(sandbox_id);
  if (found == by_sandbox_.end()) return std::nullopt;
  return found->second;
}

std::vector<Lease> LeaseStore::all() const {
  const MutexLock hold(mutex_);
  std::vector<Lease> out;
  out.reserve(by_sandbox_.size());
  for (const auto& [id, lease] : by_sandbox_) out.push_back(lease);
  return out;
}

}  // namespace berth::network
