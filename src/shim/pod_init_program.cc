// The first process of a pod's pid namespace: as long as it lives the namespace does, and the kernel gives it the
// orphans of the pod's containers. It reaps them and does nothing else, in an empty root, without privileges, and
// without a system call that it does not need: whoever in the pod may trace it gains nothing by it. No part of the C
// library is in it, so that it costs a pod a few pages (pod_init.h starts it).
#include <linux/audit.h>
#include <linux/filter.h>
#include <linux/prctl.h>
#include <linux/seccomp.h>
#include <sys/syscall.h>

#include <cstddef>
#include <cstdint>

namespace {

#if defined(__x86_64__)
constexpr std::uint32_t kArch = AUDIT_ARCH_X86_64;
constexpr std::uint32_t kPause = SYS_pause;

/// The fifth argument is 0: prctl looks at it.
long call(long number, long a, long b, long c, long d) {
  long result = number;
  register long r10 asm("r10") = d;
  register long r8 asm("r8") = 0;
  asm volatile("syscall" : "+a"(result) : "D"(a), "S"(b), "d"(c), "r"(r10), "r"(r8) : "rcx", "r11", "memory");
  return result;
}
#elif defined(__aarch64__)
constexpr std::uint32_t kArch = AUDIT_ARCH_AARCH64;
constexpr std::uint32_t kPause = SYS_ppoll;  // there is no pause; ppoll of nothing without a time waits as well

long call(long number, long a, long b, long c, long d) {
  register long x8 asm("x8") = number;
  register long x0 asm("x0") = a;
  register long x1 asm("x1") = b;
  register long x2 asm("x2") = c;
  register long x3 asm("x3") = d;
  register long x4 asm("x4") = 0;
  asm volatile("svc 0" : "+r"(x0) : "r"(x8), "r"(x1), "r"(x2), "r"(x3), "r"(x4) : "memory");
  return x0;
}
#else
#error "the pod's init is not written for this architecture"
#endif

template <class T>
long word(const T* pointer) {
  return reinterpret_cast<long>(pointer);
}

/// The kernel's, not the C library's.
struct SignalAction {
  void (*handler)(int);
  unsigned long flags;
  void (*restorer)();
  std::uint64_t mask;
};

constexpr int kChildEnded = 17;  // SIGCHLD; signal.h is the C library's
constexpr std::uint16_t kLoad = BPF_LD | BPF_W | BPF_ABS;
constexpr std::uint16_t kIfEqual = BPF_JMP | BPF_JEQ | BPF_K;
constexpr std::uint16_t kReturn = BPF_RET | BPF_K;
constexpr std::uint32_t kNotPermitted = 1;

constexpr sock_filter kFilter[] = {
    {kLoad, 0, 0, offsetof(seccomp_data, arch)},
    {kIfEqual, 0, 6, kArch},
    {kLoad, 0, 0, offsetof(seccomp_data, nr)},
    {kIfEqual, 3, 0, kPause},
    {kIfEqual, 2, 0, SYS_restart_syscall},
    {kIfEqual, 1, 0, SYS_rt_sigreturn},
    {kIfEqual, 0, 1, SYS_exit_group},
    {kReturn, 0, 0, SECCOMP_RET_ALLOW},
    {kReturn, 0, 0, SECCOMP_RET_ERRNO | kNotPermitted},
};
constexpr sock_fprog kProgram = {sizeof(kFilter) / sizeof(kFilter[0]), const_cast<sock_filter*>(kFilter)};

}  // namespace

/// Where the kernel begins: the linker is told so.
extern "C" [[noreturn]] void pod_init_start();

extern "C" [[noreturn]] void pod_init_start() {
  call(SYS_prctl, PR_SET_NAME, word("berth-pod-init"), 0, 0);
  // To ignore the signal is to have the kernel reap, those included that were zombies before they became ours.
  SignalAction ignore{reinterpret_cast<void (*)(int)>(1), 0, nullptr, 0};
  call(SYS_rt_sigaction, kChildEnded, word(&ignore), 0, sizeof(ignore.mask));
  call(SYS_prctl, PR_SET_DUMPABLE, 0, 0, 0);
  call(SYS_prctl, PR_SET_NO_NEW_PRIVS, 1, 0, 0);
  call(SYS_prctl, PR_SET_SECCOMP, SECCOMP_MODE_FILTER, word(&kProgram), 0);
  // A first process is not ended by a signal that it has no handler for: only SIGKILL from outside ends this one.
  for (;;) call(kPause, 0, 0, 0, 0);
}
