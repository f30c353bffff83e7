// The entry of a static program that guards its own executable (CVE-2019-5736) before the C library is set up: where
// the file lies on a writable mount, it is executed again from a detached read-only mount of itself. Done in main(),
// this costs the set-up of the library a second time, which asks the processor some hundred questions (cpuid), each of
// them an exit to the hypervisor in a virtual machine: 0.3 ms. Whatever fails here is left to
// engine::process::protect_own_executable(), which looks again and reports. A program chooses it by the linker's
// `-e berth_guarded_start`. Nothing of the C or C++ library can be used: not even memcpy is bound yet, and there is no
// thread pointer for a stack protector or errno.
#if defined(__x86_64__)
#include <fcntl.h>
#include <linux/mount.h>
#include <sys/statfs.h>
#include <sys/statvfs.h>
#include <sys/syscall.h>

#include <cstdint>

// As the psABI hands a new process over: the arguments at the stack pointer, and in rdx what _start has to see.
asm(R"(
.text
.globl berth_guarded_start
.type berth_guarded_start, @function
berth_guarded_start:
  xorl %ebp, %ebp
  movq %rdx, %rbx
  movq %rsp, %rdi
  call berth_guard_executable
  movq %rbx, %rdx
  jmp _start
.size berth_guarded_start, . - berth_guarded_start
)");

namespace {

constexpr const char* kOwnExe = "/proc/self/exe";

template <class T>
long word(T value) {
  return (long)value;  // NOLINT(google-readability-casting): a pointer or a number, as the kernel takes both
}

long call(long number, long a, long b, long c = 0, long d = 0, long e = 0) {
  long result = number;
  register long r10 asm("r10") = d;
  register long r8 asm("r8") = e;
  asm volatile("syscall" : "+a"(result) : "D"(a), "S"(b), "d"(c), "r"(r10), "r"(r8) : "rcx", "r11", "memory");
  return result;
}

bool same(const char* left, const char* right) {
  while (*left != '\0' && *left == *right) {
    ++left;
    ++right;
  }
  return *left == *right;
}

}  // namespace

/// `stack`: argc, argv, nullptr, envp, nullptr.
extern "C" void berth_guard_executable(long* stack);
extern "C" void berth_guard_executable(long* stack) {
  const long count = stack[0];
  const auto* const argv = reinterpret_cast<const char* const*>(stack + 1);
  // The commands that enter a container. A flag's value of the same name costs an exec and changes nothing.
  bool enters = false;
  for (long i = 1; i < count; ++i)
    enters = enters || same(argv[i], "run") || same(argv[i], "create") || same(argv[i], "exec");
  if (!enters) return;
  struct statfs fs;
  if (call(SYS_statfs, word(kOwnExe), word(&fs)) != 0 || (fs.f_flags & ST_RDONLY) != 0) return;
  // It stays open over the exec: engine::process::park_own_view() says why.
  const long view = call(SYS_open_tree, AT_FDCWD, word(kOwnExe), OPEN_TREE_CLONE);
  if (view < 0) return;
  mount_attr attributes;
  attributes.attr_set = MOUNT_ATTR_RDONLY;
  attributes.attr_clr = 0;
  attributes.propagation = 0;
  attributes.userns_fd = 0;
  if (call(SYS_mount_setattr, view, word(""), AT_EMPTY_PATH, word(&attributes), sizeof attributes) == 0) {
    call(SYS_execveat, view, word(""), word(argv), word(argv + count + 1), AT_EMPTY_PATH);
  }
  call(SYS_close, view, 0);
}
#endif
