#include "shim/mount_trees.h"

#include <fcntl.h>
#include <sched.h>
#include <unistd.h>

#include <algorithm>
#include <optional>
#include <string_view>
#include <utility>
#include <vector>

#include "os/channel.h"
#include "os/clone.h"
#include "os/file.h"
#include "os/mount.h"
#include "os/namespace.h"
#include "os/root_path.h"
#include "os/socket.h"
#include "shim/rootfs.h"
#include "spec/own_options.h"

namespace berth::shim {
namespace {

constexpr std::string_view kImage = "X-berth.image";
constexpr std::string_view kSubPath = "X-berth.sub-path=";
constexpr std::string_view kLowerDir = "lowerdir=";

/// What the options of ours say of one mount.
struct Marks {
  bool host = false;
  bool image = false;
  std::optional<std::string> sub_path;
};

Result<Marks> take_marks(spec::Mount& mount) {
  Marks marks;
  for (const auto& option : mount.options) {
    if (!spec::is_own_option(option)) continue;
    if (option == spec::kHostOption) {
      marks.host = true;
    } else if (option == kImage) {
      marks.image = true;
    } else if (option.starts_with(kSubPath)) {
      marks.sub_path = option.substr(kSubPath.size());
    } else {
      return fail(Code::kInvalid, "unknown option " + option);
    }
  }
  if ((marks.host && marks.image) || (marks.sub_path && !marks.image)) {
    return fail(Code::kInvalid, "options " + std::string(spec::kOwnOption) + " that do not go together");
  }
  std::erase_if(mount.options, spec::is_own_option);
  return marks;
}

struct FromHost {
  std::size_t index = 0;
  std::string source;
  bool recursive = false;
};

os::ChannelMessage message_of(Result<UniqueFd> tree) {
  os::ChannelMessage message;
  if (tree) {
    message.fd = std::move(*tree);
    return message;
  }
  message.code = static_cast<std::int32_t>(tree.error().code());
  message.errno_value = tree.error().errno_value();
  message.text = tree.error().text();
  return message;
}

[[noreturn]] void clone_there(int socket, int host_mounts, const std::vector<FromHost>& wanted) {
  const auto entered = os::join_namespaces(host_mounts, CLONE_NEWNS);
  for (const auto& [index, source, recursive] : wanted) {
    auto tree = entered ? os::clone_tree(AT_FDCWD, source, recursive) : Result<UniqueFd>(fail(entered.error()));
    if (!os::send_message(socket, message_of(std::move(tree)))) break;
  }
  ::_exit(0);
}

/// By a child, so that this process never is in another mount namespace, with another root and working folder.
Result<> clone_in_host(int host_mounts, const std::vector<FromHost>& wanted, const spec::Spec& spec,
                       MountTrees& trees) {
  if (wanted.empty()) return {};
  BERTH_ASSIGN(auto pair, os::unix_socketpair(), "helper");
  BERTH_ASSIGN(const os::Cloned helper, os::clone_process({}), "helper");
  if (helper.pid == 0) {
    pair.first.reset();  // it would else wait for itself
    clone_there(pair.second.get(), host_mounts, wanted);
  }
  pair.second.reset();
  std::optional<Error> failed;
  for (std::size_t i = 0; i < wanted.size() && !failed; ++i) {
    const std::string where = "mount " + spec.mounts[wanted[i].index].destination;
    auto message = os::receive_message(pair.first.get());
    if (!message) {
      failed = std::move(message).error().in(where);
    } else if (!message->fd.valid()) {
      failed = Error(static_cast<Code>(message->code), std::move(message->text), message->errno_value).in(where);
    } else {
      trees[wanted[i].index] = std::move(message->fd);
    }
  }
  pair.first.reset();
  ignore(os::reap_pidfd(helper.pidfd.get()), "a child of ours");
  if (failed) return fail(std::move(*failed));
  return {};
}

/// `tree` is mounted meanwhile: kernels before 6.15 copy no part of a detached mount.
Result<UniqueFd> part_of(int tree, const std::string& path, const std::string& place) {
  BERTH_TRY(os::attach_tree_at(tree, place), "image");
  auto found = os::open_in_root(tree, path);
  auto part = found ? os::clone_tree(found->get(), "", false) : Result<UniqueFd>(fail(std::move(found).error()));
  BERTH_TRY(os::detach_mount(place), "image");
  if (!part) return fail(std::move(part).error().in("path \"" + path + "\" in the image"));
  return part;
}

/// What says which files they are, and whose.
bool is_of_image(std::string_view option) {
  return option.starts_with(kLowerDir) || option.starts_with("uidmap=") || option.starts_with("gidmap=");
}

Result<UniqueFd> make_image(spec::Mount& mount, const Marks& marks, const std::string& place) {
  if (mount.type != "overlay" && mount.type != "bind") return fail(Code::kInvalid, "an image is an overlay or a bind");
  RootMount wanted{mount.type, mount.source, {"ro"}};
  for (const auto& option : mount.options) {
    if (is_of_image(option)) wanted.options.push_back(option);
  }
  std::erase_if(mount.options, is_of_image);
  BERTH_ASSIGN(const RootPlan plan, plan_root(wanted), "image");
  BERTH_ASSIGN(UniqueFd tree, make_root(plan, place), "image");
  if (!marks.sub_path || marks.sub_path->empty()) return tree;
  return part_of(tree.get(), *marks.sub_path, place);
}

}  // namespace

Result<MountTrees> make_mount_trees(spec::Spec& spec, int host_mounts, const std::string& place) {
  MountTrees trees;
  std::vector<FromHost> from_host;
  for (std::size_t i = 0; i < spec.mounts.size(); ++i) {
    auto& mount = spec.mounts[i];
    const std::string where = "mount " + mount.destination;
    BERTH_ASSIGN(const Marks marks, take_marks(mount), where);
    if (marks.host && host_mounts >= 0) {
      const bool recursive = std::ranges::find(mount.options, "rbind") != mount.options.end();
      from_host.push_back({i, mount.source, recursive});
    } else if (marks.image) {
      BERTH_ASSIGN(trees[i], make_image(mount, marks, place), where);
      mount.type = "bind";
    }
  }
  BERTH_TRY(clone_in_host(host_mounts, from_host, spec, trees), "host");
  return trees;
}

}  // namespace berth::shim
