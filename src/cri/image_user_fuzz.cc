// An image's /etc/passwd and /etc/group and its USER: three parts, cut at the first two NULs.
#include <cstddef>
#include <cstdint>
#include <cstdlib>

#include "cri/image_user.h"
#include "cri/spec_builder.h"

extern "C" int LLVMFuzzerTestOneInput(const std::uint8_t* data, std::size_t size);

int LLVMFuzzerTestOneInput(const std::uint8_t* data, std::size_t size) {
  std::string_view rest(reinterpret_cast<const char*>(data), size);
  const auto take = [&rest] {
    const auto part = rest.substr(0, rest.find('\0'));
    rest.remove_prefix(part.size() == rest.size() ? part.size() : part.size() + 1);
    return part;
  };
  berth::cri::UserRequest request;
  request.image_user = take();
  const auto passwd = take();
  const auto user = berth::cri::resolve_user(request, passwd, rest);
  if (user && user->ids.groups.empty()) std::abort();
  static_cast<void>(berth::cri::image_user(request.image_user));
  static_cast<void>(berth::cri::parse_seccomp_profile(passwd));
  static_cast<void>(berth::cri::cgroup_parent_path(request.image_user));
  static_cast<void>(berth::cri::signal_number(std::string_view(request.image_user)));
  return 0;
}
