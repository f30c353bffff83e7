#include "cri/image_user.h"

#include <fcntl.h>
#include <linux/openat2.h>
#include <sys/stat.h>
#include <sys/xattr.h>
#include <unistd.h>

#include <algorithm>
#include <array>
#include <limits>

#include "base/strings.h"
#include "os/file.h"

namespace berth::cri {

namespace {

constexpr unsigned kMaxLinks = 8;
constexpr std::size_t kMaxAccounts = 65536;

enum class Kind { kAbsent, kHidden, kLink, kFile };
struct Found {
  Kind kind = Kind::kAbsent;
  std::string text;  ///< a link's target or a file's content
};

bool whiteout(const struct stat& status) {
  return S_ISCHR(status.st_mode) && status.st_rdev == 0;
}

/// Whether the folder hides those of the layers below.
bool opaque(int layer_fd, const std::string& folder) {
  const auto fd = os::open_in(layer_fd, folder, O_RDONLY | O_DIRECTORY, RESOLVE_IN_ROOT | RESOLVE_NO_MAGICLINKS);
  if (!fd) return false;
  std::array<char, 4> value{};
  return ::fgetxattr(fd->get(), "trusted.overlay.opaque", value.data(), value.size()) == 1 && value[0] == 'y';
}

Result<Found> look_in_layer(int layer_fd, const std::string& path, std::size_t limit) {
  const auto entry = os::open_in(layer_fd, path, O_PATH | O_NOFOLLOW, RESOLVE_IN_ROOT | RESOLVE_NO_MAGICLINKS);
  if (!entry) {
    const auto slash = path.rfind('/');
    if (slash == std::string::npos) return Found{};
    const std::string folder = path.substr(0, slash);
    const auto parent = os::open_in(layer_fd, folder, O_PATH | O_NOFOLLOW, RESOLVE_IN_ROOT | RESOLVE_NO_MAGICLINKS);
    struct stat status{};
    if (parent && ::fstat(parent->get(), &status) == 0 && whiteout(status)) return Found{Kind::kHidden, {}};
    return Found{opaque(layer_fd, folder) ? Kind::kHidden : Kind::kAbsent, {}};
  }
  struct stat status{};
  if (::fstat(entry->get(), &status) != 0) return fail_errno(errno, "stat " + path + " in the image");
  if (S_ISLNK(status.st_mode)) {
    std::array<char, 4096> target{};
    const auto size = ::readlinkat(entry->get(), "", target.data(), target.size());
    if (size <= 0) return Found{Kind::kHidden, {}};
    return Found{Kind::kLink, std::string(target.data(), static_cast<std::size_t>(size))};
  }
  // A whiteout, a folder, a FIFO that would block an open: no account file.
  if (!S_ISREG(status.st_mode)) return Found{Kind::kHidden, {}};
  // The same inode again, through the descriptor, so that nothing can take its place.
  BERTH_ASSIGN(const auto file, os::open_file("/proc/self/fd/" + std::to_string(entry->get()), O_RDONLY | O_NONBLOCK),
               "open " + path + " in the image");
  BERTH_ASSIGN(auto text, os::read_all(file.get(), limit), "read " + path + " in the image");
  return Found{Kind::kFile, std::move(text)};
}

/// Where a link at `path` leads, relative to the image's root. Nothing when it climbs out of sight: ".." stays at the
/// root.
std::string follow(const std::string& path, const std::string& target) {
  std::vector<std::string> parts;
  const auto add = [&parts](std::string_view text) {
    for (const auto part : split(text, '/')) {
      if (part.empty() || part == ".") continue;
      if (part != "..") {
        parts.emplace_back(part);
      } else if (!parts.empty()) {
        parts.pop_back();
      }
    }
  };
  if (!target.starts_with('/')) {
    const auto slash = path.rfind('/');
    if (slash != std::string::npos) add(std::string_view(path).substr(0, slash));
  }
  add(target);
  return join(parts, "/");
}

struct Account {
  std::string_view name;
  std::uint32_t uid = 0;
  std::uint32_t gid = 0;
  std::string_view home;
};

struct Group {
  std::string_view name;
  std::uint32_t gid = 0;
  std::string_view members;
};

std::vector<Account> parse_passwd(std::string_view text) {
  std::vector<Account> accounts;
  for (const auto line : split(text, '\n')) {
    const auto fields = split(line, ':');
    if (fields.size() < 4 || fields[0].empty() || line.starts_with('#')) continue;
    const auto uid = parse_number<std::uint32_t>(fields[2]);
    const auto gid = parse_number<std::uint32_t>(fields[3]);
    if (!uid || !gid) continue;
    accounts.push_back({fields[0], *uid, *gid, fields.size() > 5 ? fields[5] : std::string_view()});
    if (accounts.size() >= kMaxAccounts) break;
  }
  return accounts;
}

std::vector<Group> parse_group(std::string_view text) {
  std::vector<Group> groups;
  for (const auto line : split(text, '\n')) {
    const auto fields = split(line, ':');
    if (fields.size() < 3 || fields[0].empty() || line.starts_with('#')) continue;
    const auto gid = parse_number<std::uint32_t>(fields[2]);
    if (!gid) continue;
    groups.push_back({fields[0], *gid, fields.size() > 3 ? fields[3] : std::string_view()});
    if (groups.size() >= kMaxAccounts) break;
  }
  return groups;
}

Result<std::uint32_t> check_id(std::int64_t id, const char* what) {
  // The last one means "no change" to the kernel.
  if (id < 0 || id >= std::numeric_limits<std::uint32_t>::max()) {
    return fail(Code::kInvalid, std::string(what) + " " + std::to_string(id) + " is out of range");
  }
  return static_cast<std::uint32_t>(id);
}

/// The account that `word` names: a name first, then a number, as Docker resolves USER.
Result<Account> find_account(std::string_view word, const std::vector<Account>& accounts) {
  for (const auto& account : accounts) {
    if (account.name == word) return account;
  }
  const auto uid = parse_number<std::int64_t>(word);
  if (!uid) return fail(Code::kInvalid, "user \"" + std::string(word) + "\" is not in the image's /etc/passwd");
  BERTH_ASSIGN(const auto checked, check_id(*uid, "user id"), "user");
  for (const auto& account : accounts) {
    if (account.uid == checked) return account;
  }
  return Account{{}, checked, 0, {}};
}

Result<std::uint32_t> find_group(std::string_view word, const std::vector<Group>& groups) {
  for (const auto& group : groups) {
    if (group.name == word) return group.gid;
  }
  const auto gid = parse_number<std::int64_t>(word);
  if (!gid) return fail(Code::kInvalid, "group \"" + std::string(word) + "\" is not in the image's /etc/group");
  return check_id(*gid, "group id");
}

void add_group(std::vector<std::uint32_t>& groups, std::uint32_t gid) {
  if (std::ranges::find(groups, gid) == groups.end()) groups.push_back(gid);
}

Result<> add_groups(ContainerUser& user, const UserRequest& request, std::string_view name,
                    const std::vector<Group>& groups) {
  add_group(user.groups, user.gid);
  if (!request.strict_groups && !name.empty()) {
    for (const auto& group : groups) {
      for (const auto member : split(group.members, ',')) {
        if (member == name) add_group(user.groups, group.gid);
      }
    }
  }
  for (const auto extra : request.supplemental) {
    BERTH_ASSIGN(const auto gid, check_id(extra, "supplemental group"), "user");
    add_group(user.groups, gid);
  }
  return {};
}

}  // namespace

Result<std::string> read_image_file(const std::vector<std::string>& layers, const std::string& path,
                                    std::size_t limit) {
  std::string wanted = path;
  for (unsigned links = 0; links < kMaxLinks; ++links) {
    bool followed = false;
    for (const auto& layer : layers) {
      BERTH_ASSIGN(const auto root, os::open_file(layer, O_PATH | O_DIRECTORY), "layer");
      BERTH_ASSIGN(auto found, look_in_layer(root.get(), wanted, limit), "look for " + path);
      if (found.kind == Kind::kAbsent) continue;
      if (found.kind == Kind::kHidden) return std::string();
      if (found.kind == Kind::kFile) return std::move(found.text);
      wanted = follow(wanted, found.text);
      followed = !wanted.empty();
      break;
    }
    if (!followed) return std::string();
  }
  return fail(Code::kInvalid, path + " in the image is a chain of more than 8 links");
}

Result<ResolvedUser> resolve_user(const UserRequest& request, std::string_view passwd, std::string_view group) {
  if (request.uid && !request.username.empty()) {
    return fail(Code::kInvalid, "run_as_user and run_as_username are given both");
  }
  const bool by_request = request.uid || !request.username.empty();
  if (request.gid && !by_request) return fail(Code::kInvalid, "run_as_group is given without a user");
  std::string word = request.uid ? std::to_string(*request.uid) : request.username;
  std::string group_word = request.gid ? std::to_string(*request.gid) : std::string();
  if (!by_request) {
    const auto colon = request.image_user.find(':');
    word = request.image_user.substr(0, colon);
    if (colon != std::string::npos) group_word = request.image_user.substr(colon + 1);
    if (word.empty()) word = "0";
  }
  const auto accounts = parse_passwd(passwd);
  const auto groups = parse_group(group);
  Account account;
  if (request.uid) {
    // A number in the request is never taken for a name.
    BERTH_ASSIGN(account.uid, check_id(*request.uid, "run_as_user"), "user");
    const auto known = std::ranges::find(accounts, account.uid, &Account::uid);
    if (known != accounts.end()) account = *known;
  } else {
    BERTH_ASSIGN(account, find_account(word, accounts), "user");
  }
  ResolvedUser user;
  user.ids.uid = account.uid;
  user.ids.gid = account.gid;
  if (!group_word.empty()) {
    BERTH_ASSIGN(user.ids.gid, find_group(group_word, groups), "user");
  }
  user.name = account.name;
  user.home = account.home.empty() ? "/" : std::string(account.home);
  BERTH_TRY(add_groups(user.ids, request, account.name, groups), "groups");
  return user;
}

ImageUser image_user(std::string_view user) {
  const auto word = user.substr(0, user.find(':'));
  if (word.empty()) return {};
  if (const auto uid = parse_number<std::int64_t>(word)) return {uid, {}};
  return {std::nullopt, std::string(word)};
}

}  // namespace berth::cri
