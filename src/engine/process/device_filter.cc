#include "engine/process/device_filter.h"

#include <linux/bpf.h>

#include <array>
#include <bit>
#include <ranges>

namespace berth::engine::process {

namespace {

constexpr std::uint8_t kContext = 1;
constexpr std::uint8_t kType = 2;
constexpr std::uint8_t kAccess = 3;
constexpr std::uint8_t kMajor = 4;
constexpr std::uint8_t kMinor = 5;
constexpr std::uint8_t kScratch = 6;

constexpr std::int32_t kAllAccess = BPF_DEVCG_ACC_MKNOD | BPF_DEVCG_ACC_READ | BPF_DEVCG_ACC_WRITE;

std::uint64_t instruction(int code, std::uint8_t to, std::uint8_t from, std::int16_t offset, std::int32_t value) {
  bpf_insn out{};
  out.code = static_cast<std::uint8_t>(code);
  out.dst_reg = to & 0xfU;
  out.src_reg = from & 0xfU;
  out.off = offset;
  out.imm = value;
  return std::bit_cast<std::uint64_t>(out);
}

std::int32_t access_bits(const std::string& access) {
  if (access.empty()) return kAllAccess;
  std::int32_t bits = 0;
  for (const char c : access) {
    if (c == 'r') bits |= BPF_DEVCG_ACC_READ;
    if (c == 'w') bits |= BPF_DEVCG_ACC_WRITE;
    if (c == 'm') bits |= BPF_DEVCG_ACC_MKNOD;
  }
  return bits;
}

/// One rule: tests that jump over the verdict when they fail.
class Block {
 public:
  void add(std::uint64_t code) { code_.push_back(code); }
  /// A conditional jump (`code` with its operands) to the end of the block.
  void skip_if(int code, std::uint8_t reg, std::int32_t value) {
    jumps_.push_back(code_.size());
    code_.push_back(instruction(BPF_JMP32 | code | BPF_K, reg, 0, 0, value));
  }
  void append_to(std::vector<std::uint64_t>& program) {
    for (const std::size_t at : jumps_) {
      auto jump = std::bit_cast<bpf_insn>(code_[at]);
      jump.off = static_cast<std::int16_t>(code_.size() - at - 1);
      code_[at] = std::bit_cast<std::uint64_t>(jump);
    }
    program.insert(program.end(), code_.begin(), code_.end());
  }

 private:
  std::vector<std::uint64_t> code_;
  std::vector<std::size_t> jumps_;
};

void add_verdict(Block& block, bool allow) {
  block.add(instruction(BPF_ALU64 | BPF_MOV | BPF_K, BPF_REG_0, 0, 0, allow ? 1 : 0));
  block.add(instruction(BPF_JMP | BPF_EXIT, 0, 0, 0, 0));
}

}  // namespace

std::vector<spec::DeviceRule> with_default_rules(const std::vector<spec::DeviceRule>& rules) {
  std::vector<spec::DeviceRule> all = rules;
  if (rules.empty()) return all;
  const auto add = [&all](const char* type, std::int64_t major, std::int64_t minor, const char* access) {
    all.push_back({.allow = true, .type = type, .major = major, .minor = minor, .access = access, .extra = {}});
  };
  constexpr std::int64_t kAny = -1;
  add("c", kAny, kAny, "m");
  add("b", kAny, kAny, "m");
  for (const std::int64_t minor : {3, 5, 7, 8, 9}) add("c", 1, minor, "rwm");
  add("c", 5, 0, "rwm");
  add("c", 5, 2, "rwm");
  add("c", 136, kAny, "rwm");
  return all;
}

std::vector<std::uint64_t> device_program(const std::vector<spec::DeviceRule>& rules) {
  std::vector<std::uint64_t> program{
      // access_type: the type in the low half, the access in the high one.
      instruction(BPF_LDX | BPF_MEM | BPF_W, kType, kContext, 0, 0),
      instruction(BPF_ALU | BPF_MOV | BPF_X, kAccess, kType, 0, 0),
      instruction(BPF_ALU | BPF_AND | BPF_K, kType, 0, 0, 0xffff),
      instruction(BPF_ALU | BPF_RSH | BPF_K, kAccess, 0, 0, 16),
      instruction(BPF_LDX | BPF_MEM | BPF_W, kMajor, kContext, 4, 0),
      instruction(BPF_LDX | BPF_MEM | BPF_W, kMinor, kContext, 8, 0),
  };
  for (const auto& rule : rules | std::views::reverse) {
    Block block;
    const std::int32_t access = access_bits(rule.access);
    const bool any_type = rule.type.empty() || rule.type == "a";
    const bool any_number = (!rule.major || *rule.major < 0) && (!rule.minor || *rule.minor < 0);
    if (!any_type) block.skip_if(BPF_JNE, kType, rule.type == "b" ? BPF_DEVCG_DEV_BLOCK : BPF_DEVCG_DEV_CHAR);
    if (rule.major && *rule.major >= 0) block.skip_if(BPF_JNE, kMajor, static_cast<std::int32_t>(*rule.major));
    if (rule.minor && *rule.minor >= 0) block.skip_if(BPF_JNE, kMinor, static_cast<std::int32_t>(*rule.minor));
    if (access != kAllAccess) {
      block.add(instruction(BPF_ALU | BPF_MOV | BPF_X, kScratch, kAccess, 0, 0));
      block.add(instruction(BPF_ALU | BPF_AND | BPF_K, kScratch, 0, 0, rule.allow ? kAllAccess & ~access : access));
      block.skip_if(rule.allow ? BPF_JNE : BPF_JEQ, kScratch, 0);
    }
    add_verdict(block, rule.allow);
    block.append_to(program);
    // Nothing before a rule for everything counts, and the verifier refuses code that cannot be reached.
    if (any_type && any_number && access == kAllAccess) return program;
  }
  Block last;
  add_verdict(last, true);
  last.append_to(program);
  return program;
}

}  // namespace berth::engine::process
