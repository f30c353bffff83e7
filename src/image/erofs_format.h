#pragma once
#include <bit>
#include <cstddef>
#include <cstdint>
#include <cstring>
#include <string>
#include <string_view>

/// The parts of the EROFS on-disk format that our images use. All numbers are little-endian. Source: Linux
/// Documentation/filesystems/erofs.rst and the layout of fs/erofs/erofs_fs.h.
namespace berth::image::erofs {

static_assert(std::endian::native == std::endian::little, "numbers are copied as they are");

inline constexpr std::uint32_t kMagic = 0xE0F5E1E2;
inline constexpr std::size_t kSuperOffset = 1024;
inline constexpr std::size_t kSuperSize = 128;
inline constexpr std::size_t kDeviceSlotSize = 128;
inline constexpr std::size_t kSlotSize = 32;   ///< a node id counts these from the start of the metadata
inline constexpr std::size_t kInodeSize = 64;  ///< of an extended inode, the only kind we write
inline constexpr std::size_t kDirentSize = 12;
inline constexpr std::size_t kXattrHeaderSize = 12;
inline constexpr std::size_t kXattrEntrySize = 4;
inline constexpr unsigned kMinBlockBits = 9;
inline constexpr unsigned kMaxBlockBits = 12;
inline constexpr std::size_t kMaxDevices = 256;

inline constexpr std::uint32_t kIncompatDeviceTable = 0x8;

/// Offsets in the superblock.
struct Super {
  enum : std::size_t {
    kMagicAt = 0,
    kBlockBits = 12,
    kRootNid = 14,
    kInodes = 16,
    kBuildTime = 24,
    kBlocks = 36,
    kMetaBlock = 40,
    kXattrBlock = 44,
    kUuid = 48,
    kIncompat = 80,
    kExtraDevices = 86,
    kDeviceSlot = 88,
  };
};
/// Offsets in a device slot.
struct Device {
  enum : std::size_t { kTag = 0, kBlocks = 64, kMappedBlock = 68 };
};
/// Offsets in an extended inode.
struct Inode {
  enum : std::size_t {
    kFormat = 0,
    kXattrCount = 2,
    kMode = 4,
    kSize = 8,
    kBlockOrDevice = 16,
    kNumber = 20,
    kUid = 24,
    kGid = 28,
    kTime = 32,
    kTimeNs = 40,
    kLinks = 44,
  };
};
/// Where an inode's data lie: bits 1 to 3 of its format; bit 0 says that it is extended.
enum class Layout : std::uint8_t { kPlain = 0, kInline = 2 };

[[nodiscard]] constexpr std::uint16_t format_of(Layout layout) {
  return static_cast<std::uint16_t>(1U | static_cast<unsigned>(layout) << 1U);
}

enum class FileType : std::uint8_t {
  kUnknown,
  kRegular,
  kDirectory,
  kCharDevice,
  kBlockDevice,
  kFifo,
  kSocket,
  kSymlink
};

/// Well-known starts of attribute names, which are stored as a number.
struct XattrPrefix {
  std::uint8_t index;
  std::string_view text;
};
inline constexpr XattrPrefix kXattrPrefixes[] = {
    {1, "user."}, {2, "system.posix_acl_access"}, {3, "system.posix_acl_default"}, {4, "trusted."}, {6, "security."},
};
/// A folder that hides what lower layers have there, for overlayfs.
inline constexpr std::string_view kOpaqueXattr = "trusted.overlay.opaque";

template <class T>
void put(char* at, std::size_t offset, T value) {
  std::memcpy(at + offset, &value, sizeof value);
}
template <class T>
[[nodiscard]] T get(std::string_view from, std::size_t offset) {
  T value;
  std::memcpy(&value, from.data() + offset, sizeof value);
  return value;
}

[[nodiscard]] constexpr std::uint64_t round_up(std::uint64_t value, std::uint64_t unit) {
  return (value + unit - 1) / unit * unit;
}
/// How the kernel stores a device number in 32 bits.
[[nodiscard]] constexpr std::uint32_t device_code(std::uint32_t major, std::uint32_t minor) {
  return (minor & 0xff) | (major << 8) | ((minor & ~0xffU) << 12);
}
[[nodiscard]] constexpr std::uint32_t device_major(std::uint32_t code) {
  return (code & 0xfff00) >> 8;
}
[[nodiscard]] constexpr std::uint32_t device_minor(std::uint32_t code) {
  return (code & 0xff) | ((code >> 12) & 0xfff00);
}

}  // namespace berth::image::erofs
