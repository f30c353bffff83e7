#pragma once
#include <cstdint>
#include <optional>
#include <string>
#include <string_view>
#include <vector>

#include "cri/records.h"

namespace berth::cri {

inline constexpr std::size_t kMaxAccountFile = 1U << 20;

/// A file of an image without mounting it: looked for in the layers' folders, top first, with whiteouts, opaque folders
/// and links between layers as overlayfs sees them. Nothing outside a layer's folder is ever opened. `path`: relative,
/// without "..". Empty when the image has no such regular file. Errors: kExhausted larger than `limit`.
Result<std::string> read_image_file(const std::vector<std::string>& layers, const std::string& path, std::size_t limit);

/// Whom to run as: what the request and the image say.
struct UserRequest {
  std::optional<std::int64_t> uid{};
  std::string username{};             ///< instead of uid
  std::optional<std::int64_t> gid{};  ///< only with one of the two
  std::string image_user{};           ///< used when neither is given: "uid|name[:gid|group]"
  std::vector<std::int64_t> supplemental{};
  bool strict_groups = false;  ///< do not add the groups that /etc/group names
};

struct ResolvedUser {
  ContainerUser ids;
  std::string name;  ///< empty when /etc/passwd does not know the uid
  std::string home;  ///< "/" likewise
};

/// Looks the names up in the image's account files (their content; empty: the file is missing). Pure.
/// Errors: kInvalid a name that is not there, an id out of range, a group without a user. Lines that do not parse are
/// passed over, as libc does. Source: CRI LinuxContainerSecurityContext; Docker USER.
[[nodiscard]] Result<ResolvedUser> resolve_user(const UserRequest& request, std::string_view passwd,
                                                std::string_view group);

/// An image's USER for ImageStatus: a number, or else a name; neither when it names none.
struct ImageUser {
  std::optional<std::int64_t> uid;
  std::string name;
};
[[nodiscard]] ImageUser image_user(std::string_view user);

}  // namespace berth::cri
