#include "network/nft.h"

#include <arpa/inet.h>
#include <linux/netfilter.h>
#include <linux/netfilter/nf_tables.h>
#include <linux/netfilter/nfnetlink.h>
#include <linux/netlink.h>
#include <linux/rtnetlink.h>
#include <net/if.h>

#include <algorithm>
#include <array>
#include <bit>
#include <cerrno>
#include <cstring>

namespace berth::network::nft {
namespace {

// The type numbers that nft(8) keeps with a set, so that `nft list` shows it readably; the kernel only stores them.
constexpr std::uint32_t kTypeIpv4 = 7;
constexpr std::uint32_t kTypeProtocol = 12;
constexpr std::uint32_t kTypeService = 13;
constexpr std::uint32_t kTypeBits = 6;

constexpr std::uint32_t kReg = NFT_REG_1;
// 32-bit registers: the first one is the first quarter of NFT_REG_1.
constexpr std::uint32_t kQuarter2 = NFT_REG32_01;
constexpr std::uint32_t kQuarter3 = NFT_REG32_02;

constexpr std::uint32_t kSourceOffset = 12;
constexpr std::uint32_t kDestinationOffset = 16;
constexpr std::uint32_t kPortOffset = 2;

// Far below the 64 KiB that an attribute can hold.
constexpr std::size_t kElementsPerMessage = 256;

std::uint16_t message_type(std::uint16_t message) {
  return static_cast<std::uint16_t>((NFNL_SUBSYS_NFTABLES << 8) | message);
}

nfgenmsg family_header(std::uint8_t family, std::uint16_t resource = 0) {
  nfgenmsg header{};
  header.nfgen_family = family;
  header.version = NFNETLINK_V0;
  header.res_id = htons(resource);
  return header;
}

template <class T>
std::span<const std::byte> bytes_of(const T& value) {
  return std::as_bytes(std::span(&value, 1));
}

void put_data(os::NetlinkBatch& batch, std::uint16_t attribute, std::span<const std::byte> value) {
  const auto mark = batch.nest(attribute);
  batch.put(NFTA_DATA_VALUE, value);
  batch.end_nest(mark);
}

void put_padded(std::vector<std::byte>& out, std::span<const std::byte> value) {
  out.insert(out.end(), value.begin(), value.end());
  out.resize((out.size() + 3U) & ~std::size_t{3});
}

std::vector<std::byte> element_key(const PortElement& element) {
  std::vector<std::byte> key;
  put_padded(key, bytes_of(element.protocol));
  if (!element.any_address) put_padded(key, bytes_of(htonl(element.address.value)));
  put_padded(key, bytes_of(htons(element.port)));
  return key;
}

std::vector<std::byte> element_target(const PortElement& element) {
  std::vector<std::byte> target;
  put_padded(target, bytes_of(htonl(element.pod_address.value)));
  put_padded(target, bytes_of(htons(element.pod_port)));
  return target;
}

}  // namespace

std::size_t Expressions::open(std::string_view name) {
  const auto mark = batch_.nest(NFTA_LIST_ELEM);
  batch_.put_string(NFTA_EXPR_NAME, name);
  data_ = batch_.nest(NFTA_EXPR_DATA);
  return mark;
}

void Expressions::close(std::size_t mark) {
  batch_.end_nest(data_);
  batch_.end_nest(mark);
}

Expressions& Expressions::meta_load(std::uint32_t key, std::uint32_t reg) {
  const auto mark = open("meta");
  batch_.put_be32(NFTA_META_KEY, key);
  batch_.put_be32(NFTA_META_DREG, reg);
  close(mark);
  return *this;
}

Expressions& Expressions::payload_load(std::uint32_t base, std::uint32_t offset, std::uint32_t length,
                                       std::uint32_t reg) {
  const auto mark = open("payload");
  batch_.put_be32(NFTA_PAYLOAD_DREG, reg);
  batch_.put_be32(NFTA_PAYLOAD_BASE, base);
  batch_.put_be32(NFTA_PAYLOAD_OFFSET, offset);
  batch_.put_be32(NFTA_PAYLOAD_LEN, length);
  close(mark);
  return *this;
}

Expressions& Expressions::compare(bool equal, std::span<const std::byte> value) {
  const auto mark = open("cmp");
  batch_.put_be32(NFTA_CMP_SREG, kReg);
  batch_.put_be32(NFTA_CMP_OP, equal ? NFT_CMP_EQ : NFT_CMP_NEQ);
  put_data(batch_, NFTA_CMP_DATA, value);
  close(mark);
  return *this;
}

// reg = (reg & mask) ^ flip, both as they lie in memory.
Expressions& Expressions::bitwise(std::uint32_t mask, std::uint32_t flip) {
  const auto mark = open("bitwise");
  batch_.put_be32(NFTA_BITWISE_SREG, kReg);
  batch_.put_be32(NFTA_BITWISE_DREG, kReg);
  batch_.put_be32(NFTA_BITWISE_LEN, sizeof mask);
  put_data(batch_, NFTA_BITWISE_MASK, bytes_of(mask));
  put_data(batch_, NFTA_BITWISE_XOR, bytes_of(flip));
  close(mark);
  return *this;
}

Expressions& Expressions::interface_name(std::uint32_t key, std::string_view name) {
  std::array<char, IFNAMSIZ> padded{};
  std::ranges::copy(name.substr(0, padded.size() - 1), padded.begin());
  return meta_load(key, kReg).compare(true, std::as_bytes(std::span(padded)));
}
Expressions& Expressions::in_interface(std::string_view name) {
  return interface_name(NFT_META_IIFNAME, name);
}
Expressions& Expressions::out_interface(std::string_view name) {
  return interface_name(NFT_META_OIFNAME, name);
}

Expressions& Expressions::address(std::uint32_t offset, const os::Ipv4Subnet& subnet, bool equal) {
  payload_load(NFT_PAYLOAD_NETWORK_HEADER, offset, sizeof(std::uint32_t), kReg);
  if (subnet.prefix < 32) bitwise(htonl(subnet.mask()), 0);
  return compare(equal, bytes_of(htonl(subnet.base.value)));
}
Expressions& Expressions::source(const os::Ipv4Subnet& subnet, bool equal) {
  return address(kSourceOffset, subnet, equal);
}
Expressions& Expressions::destination(const os::Ipv4Subnet& subnet, bool equal) {
  return address(kDestinationOffset, subnet, equal);
}

Expressions& Expressions::destination_is_local() {
  const auto mark = open("fib");
  batch_.put_be32(NFTA_FIB_FLAGS, NFTA_FIB_F_DADDR);
  batch_.put_be32(NFTA_FIB_RESULT, NFT_FIB_RESULT_ADDRTYPE);
  batch_.put_be32(NFTA_FIB_DREG, kReg);
  close(mark);
  return compare(true, bytes_of(std::uint32_t{RTN_LOCAL}));
}

Expressions& Expressions::has_mark(std::uint32_t bit) {
  return meta_load(NFT_META_MARK, kReg).bitwise(bit, 0).compare(true, bytes_of(bit));
}

Expressions& Expressions::set_mark(std::uint32_t bit) {
  meta_load(NFT_META_MARK, kReg).bitwise(~bit, bit);
  const auto mark = open("meta");
  batch_.put_be32(NFTA_META_KEY, NFT_META_MARK);
  batch_.put_be32(NFTA_META_SREG, kReg);
  close(mark);
  return *this;
}

Expressions& Expressions::dnat_by_map(std::string_view map, bool with_address) {
  meta_load(NFT_META_L4PROTO, kReg);
  if (with_address) {
    payload_load(NFT_PAYLOAD_NETWORK_HEADER, kDestinationOffset, sizeof(std::uint32_t), kQuarter2);
  }
  payload_load(NFT_PAYLOAD_TRANSPORT_HEADER, kPortOffset, sizeof(std::uint16_t), with_address ? kQuarter3 : kQuarter2);
  auto mark = open("lookup");
  batch_.put_string(NFTA_LOOKUP_SET, map);
  batch_.put_be32(NFTA_LOOKUP_SREG, kReg);
  batch_.put_be32(NFTA_LOOKUP_DREG, kReg);
  close(mark);
  mark = open("nat");
  batch_.put_be32(NFTA_NAT_TYPE, NFT_NAT_DNAT);
  batch_.put_be32(NFTA_NAT_FAMILY, NFPROTO_IPV4);
  batch_.put_be32(NFTA_NAT_REG_ADDR_MIN, kReg);
  batch_.put_be32(NFTA_NAT_REG_PROTO_MIN, kQuarter2);
  close(mark);
  return *this;
}

Expressions& Expressions::masquerade() {
  close(open("masq"));
  return *this;
}

Expressions& Expressions::verdict(std::uint32_t code, std::string_view chain) {
  const auto mark = open("immediate");
  batch_.put_be32(NFTA_IMMEDIATE_DREG, NFT_REG_VERDICT);
  const auto data = batch_.nest(NFTA_IMMEDIATE_DATA);
  const auto inner = batch_.nest(NFTA_DATA_VERDICT);
  batch_.put_be32(NFTA_VERDICT_CODE, code);
  if (!chain.empty()) batch_.put_string(NFTA_VERDICT_CHAIN, chain);
  batch_.end_nest(inner);
  batch_.end_nest(data);
  close(mark);
  return *this;
}
Expressions& Expressions::drop() {
  return verdict(NF_DROP, {});
}
Expressions& Expressions::jump(std::string_view chain) {
  return verdict(std::bit_cast<std::uint32_t>(std::int32_t{NFT_JUMP}), chain);
}

Transaction::Transaction(std::string table) : table_(std::move(table)) {
  batch_.begin(NFNL_MSG_BATCH_BEGIN, 0, family_header(AF_UNSPEC, NFNL_SUBSYS_NFTABLES), "begin an nftables transaction",
               true);
  batch_.end();
}

void Transaction::begin(std::uint16_t message, std::uint16_t flags, std::string step) {
  batch_.begin(message_type(message), flags, family_header(NFPROTO_IPV4), "nftables: " + std::move(step));
}

void Transaction::add_table() {
  begin(NFT_MSG_NEWTABLE, NLM_F_CREATE, "add table ip " + table_);
  batch_.put_string(NFTA_TABLE_NAME, table_);
  batch_.put_be32(NFTA_TABLE_FLAGS, 0);
  batch_.end();
}

void Transaction::delete_table() {
  begin(NFT_MSG_DELTABLE, 0, "delete table ip " + table_);
  batch_.put_string(NFTA_TABLE_NAME, table_);
  batch_.end();
}

void Transaction::add_chain(const std::string& chain) {
  begin(NFT_MSG_NEWCHAIN, NLM_F_CREATE, "add chain " + chain);
  batch_.put_string(NFTA_CHAIN_TABLE, table_);
  batch_.put_string(NFTA_CHAIN_NAME, chain);
  batch_.end();
}

void Transaction::add_base_chain(const std::string& chain, const Hook& hook) {
  begin(NFT_MSG_NEWCHAIN, NLM_F_CREATE, "add " + hook.type + " chain " + chain);
  batch_.put_string(NFTA_CHAIN_TABLE, table_);
  batch_.put_string(NFTA_CHAIN_NAME, chain);
  const auto mark = batch_.nest(NFTA_CHAIN_HOOK);
  batch_.put_be32(NFTA_HOOK_HOOKNUM, hook.number);
  batch_.put_be32(NFTA_HOOK_PRIORITY, std::bit_cast<std::uint32_t>(hook.priority));
  batch_.end_nest(mark);
  batch_.put_string(NFTA_CHAIN_TYPE, hook.type);
  batch_.end();
}

void Transaction::add_port_map(const std::string& map, bool with_address) {
  begin(NFT_MSG_NEWSET, NLM_F_CREATE, "add map " + map);
  std::uint32_t key_type = kTypeProtocol;
  if (with_address) key_type = (key_type << kTypeBits) | kTypeIpv4;
  key_type = (key_type << kTypeBits) | kTypeService;
  batch_.put_string(NFTA_SET_TABLE, table_);
  batch_.put_string(NFTA_SET_NAME, map);
  batch_.put_be32(NFTA_SET_FLAGS, NFT_SET_MAP);
  batch_.put_be32(NFTA_SET_KEY_TYPE, key_type);
  batch_.put_be32(NFTA_SET_KEY_LEN, with_address ? 12 : 8);
  batch_.put_be32(NFTA_SET_DATA_TYPE, (kTypeIpv4 << kTypeBits) | kTypeService);
  batch_.put_be32(NFTA_SET_DATA_LEN, 8);
  batch_.put_be32(NFTA_SET_ID, ++next_map_id_);
  batch_.end();
}

void Transaction::elements(std::uint16_t message, std::uint16_t flags, const std::string& map,
                           std::span<const PortElement> elements) {
  while (!elements.empty()) {
    const auto part = elements.first(std::min(elements.size(), kElementsPerMessage));
    elements = elements.subspan(part.size());
    begin(message, flags, "change map " + map);
    batch_.put_string(NFTA_SET_ELEM_LIST_TABLE, table_);
    batch_.put_string(NFTA_SET_ELEM_LIST_SET, map);
    const auto list = batch_.nest(NFTA_SET_ELEM_LIST_ELEMENTS);
    for (const auto& element : part) {
      const auto mark = batch_.nest(NFTA_LIST_ELEM);
      put_data(batch_, NFTA_SET_ELEM_KEY, element_key(element));
      if (message == NFT_MSG_NEWSETELEM) put_data(batch_, NFTA_SET_ELEM_DATA, element_target(element));
      batch_.end_nest(mark);
    }
    batch_.end_nest(list);
    batch_.end();
  }
}

void Transaction::add_elements(const std::string& map, std::span<const PortElement> all) {
  elements(NFT_MSG_NEWSETELEM, NLM_F_CREATE, map, all);
}

void Transaction::delete_elements(const std::string& map, std::span<const PortElement> all) {
  elements(NFT_MSG_DELSETELEM, 0, map, all);
}

std::size_t Transaction::begin_rule(const std::string& chain) {
  begin(NFT_MSG_NEWRULE, NLM_F_CREATE | NLM_F_APPEND, "add a rule to chain " + chain);
  batch_.put_string(NFTA_RULE_TABLE, table_);
  batch_.put_string(NFTA_RULE_CHAIN, chain);
  return batch_.nest(NFTA_RULE_EXPRESSIONS);
}

void Transaction::end_rule(std::size_t mark) {
  batch_.end_nest(mark);
  batch_.end();
}

Result<> Transaction::commit(os::NetlinkSocket& netfilter) {
  batch_.begin(NFNL_MSG_BATCH_END, 0, family_header(AF_UNSPEC, NFNL_SUBSYS_NFTABLES), "end an nftables transaction",
               true);
  batch_.end();
  return netfilter.transact(batch_);
}

Result<std::uint32_t> generation(os::NetlinkSocket& netfilter) {
  os::NetlinkBatch batch;
  batch.begin(message_type(NFT_MSG_GETGEN), 0, family_header(AF_UNSPEC), "nftables: read the generation");
  batch.end();
  std::uint32_t id = 0;
  auto asked = netfilter.transact(batch, [&id](std::uint16_t, std::span<const std::byte> payload) {
    os::for_each_attribute(payload.subspan(std::min(sizeof(nfgenmsg), payload.size())),
                           [&id](std::uint16_t type, std::span<const std::byte> value) {
                             if (type == NFTA_GEN_ID) id = ntohl(os::attribute_value<std::uint32_t>(value));
                           });
  });
  if (!asked) return fail(std::move(asked).error());
  return id;
}

Result<bool> table_exists(os::NetlinkSocket& netfilter, const std::string& table) {
  os::NetlinkBatch batch;
  batch.begin(message_type(NFT_MSG_GETTABLE), 0, family_header(NFPROTO_IPV4), "nftables: look for table ip " + table);
  batch.tolerate(ENOENT);
  batch.put_string(NFTA_TABLE_NAME, table);
  batch.end();
  bool found = false;
  auto asked = netfilter.transact(batch, [&found](std::uint16_t, std::span<const std::byte>) { found = true; });
  if (!asked) return fail(std::move(asked).error());
  return found;
}

}  // namespace berth::network::nft
