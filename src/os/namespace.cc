#include "os/namespace.h"

#include <fcntl.h>
#include <linux/magic.h>
#include <linux/nsfs.h>
#include <net/if.h>
#include <sched.h>
#include <sys/ioctl.h>
#include <sys/socket.h>
#include <sys/stat.h>
#include <unistd.h>

#include "os/file.h"

#ifndef CLONE_NEWTIME
#define CLONE_NEWTIME 0x00000080
#endif

namespace berth::os {

std::string_view namespace_flag_name(int clone_flag) {
  switch (clone_flag) {
    case CLONE_NEWPID:
      return "pid";
    case CLONE_NEWNET:
      return "network";
    case CLONE_NEWNS:
      return "mount";
    case CLONE_NEWIPC:
      return "ipc";
    case CLONE_NEWUTS:
      return "uts";
    case CLONE_NEWUSER:
      return "user";
    case CLONE_NEWCGROUP:
      return "cgroup";
    case CLONE_NEWTIME:
      return "time";
    default:
      return "several";
  }
}

Result<UniqueFd> open_namespace(const std::string& path, int clone_flag) {
  BERTH_ASSIGN(UniqueFd fd, open_file(path, O_RDONLY), std::string(namespace_flag_name(clone_flag)) + " namespace");
  const int type = ::ioctl(fd.get(), NS_GET_NSTYPE);
  if (type != clone_flag) {
    return fail(Code::kInvalid, path + " is not a " + std::string(namespace_flag_name(clone_flag)) + " namespace");
  }
  return fd;
}

bool same_namespace(int fd_a, int fd_b) {
  struct stat a{};
  struct stat b{};
  return ::fstat(fd_a, &a) == 0 && ::fstat(fd_b, &b) == 0 && a.st_ino == b.st_ino && a.st_dev == b.st_dev;
}

Result<> join_namespaces(int fd, int clone_flags) {
  if (::setns(fd, clone_flags) != 0) {
    const int e = errno;
    return fail_errno(e, "setns (" + std::string(namespace_flag_name(clone_flags)) + ")");
  }
  return {};
}

Result<> unshare_namespaces(int clone_flags) {
  if (::unshare(clone_flags) != 0) {
    const int e = errno;
    return fail_errno(e, "unshare (" + std::string(namespace_flag_name(clone_flags)) + ")");
  }
  return {};
}

Result<> set_hostname(std::string_view name) {
  if (::sethostname(name.data(), name.size()) != 0) {
    const int e = errno;
    return fail_errno(e, "sethostname " + std::string(name));
  }
  return {};
}

Result<> set_domainname(std::string_view name) {
  if (::setdomainname(name.data(), name.size()) != 0) {
    const int e = errno;
    return fail_errno(e, "setdomainname " + std::string(name));
  }
  return {};
}

Result<> set_loopback_up() {
  const int raw = ::socket(AF_INET, SOCK_DGRAM | SOCK_CLOEXEC, 0);
  if (raw < 0) return fail_errno(errno, "socket for the loopback interface");
  const UniqueFd fd(raw);
  ifreq request{};
  request.ifr_name[0] = 'l';
  request.ifr_name[1] = 'o';
  request.ifr_flags = IFF_UP | IFF_RUNNING;
  if (::ioctl(fd.get(), SIOCSIFFLAGS, &request) != 0) return fail_errno(errno, "set lo up");
  return {};
}

}  // namespace berth::os
