// The entry of a static program that guards its own executable (CVE-2019-5736) before the C library is set up: where
// the file lies on a writable mount, the process comes to run from a detached read-only mount of it. Nothing is
// executed for that: the file is mapped again over itself through that mount, and prctl(2) PR_SET_MM_MAP names it as
// what /proc/PID/exe leads to. Who may not do that (CAP_CHECKPOINT_RESTORE) executes the file again by that mount; done
// in main(), this would cost the set-up of the library a second time, which asks the processor some hundred questions
// (cpuid), each of them an exit to the hypervisor in a virtual machine: 0.3 ms. Whatever fails here is left to
// engine::process::protect_own_executable(), which looks again and reports. A program chooses it by the linker's
// `-e berth_guarded_start`. Nothing of the C or C++ library can be used: not even memcpy is bound yet, and there is no
// thread pointer for a stack protector or errno.
#include "os/early_guard.h"

namespace {
// NOLINTNEXTLINE(cppcoreguidelines-avoid-non-const-global-variables): written before there is anybody to hand it to
int guarded_view = -1;
}  // namespace

namespace berth::os {
int early_guard_view() {
  return guarded_view;
}
}  // namespace berth::os

#if defined(__x86_64__)
#include <elf.h>
#include <fcntl.h>
#include <linux/mount.h>
#include <sys/mman.h>
#include <sys/prctl.h>
#include <sys/statfs.h>
#include <sys/statvfs.h>
#include <sys/syscall.h>
#include <unistd.h>

#include <cerrno>
#include <cstdint>

// The program's own ELF header, by the linker.
extern "C" const Elf64_Ehdr __ehdr_start;  // NOLINT(bugprone-reserved-identifier)

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

long call(long number, long a, long b, long c = 0, long d = 0, long e = 0, long f = 0) {
  long result = number;
  register long r10 asm("r10") = d;
  register long r8 asm("r8") = e;
  register long r9 asm("r9") = f;
  asm volatile("syscall" : "+a"(result) : "D"(a), "S"(b), "d"(c), "r"(r10), "r"(r8), "r"(r9) : "rcx", "r11", "memory");
  return result;
}

bool same(const char* left, const char* right) {
  while (*left != '\0' && *left == *right) {
    ++left;
    ++right;
  }
  return *left == *right;
}

// The same file for reading, by the mount that `view` (O_PATH) is of.
long open_view(long view) {
  char path[] = "/proc/self/fd/\0\0\0";
  char* end = path + sizeof "/proc/self/fd/" - 1;
  if (view >= 100) *end++ = static_cast<char>('0' + view / 100 % 10);
  if (view >= 10) *end++ = static_cast<char>('0' + view / 10 % 10);
  *end = static_cast<char>('0' + view % 10);
  return view < 1000 ? call(SYS_open, word(path), O_RDONLY | O_CLOEXEC) : -1;
}

template <class Visit>
void for_each_segment(Visit visit) {
  const auto* const header = reinterpret_cast<const Elf64_Phdr*>(word(&__ehdr_start) + word(__ehdr_start.e_phoff));
  for (int i = 0; i < __ehdr_start.e_phnum; ++i) {
    if (header[i].p_type == PT_LOAD && header[i].p_filesz != 0) visit(header[i]);
  }
}

// A segment once more from `file`: the same bytes at the same place, this very code among them. Nothing has been
// written to the data yet. What lies behind the file's part in its last page must be zero; the rest of such a segment
// is no file's and stays. Source: elf(5).
bool map_again(const Elf64_Phdr& segment, long file) {
  constexpr std::uintptr_t kPage = 4096;
  const int access = ((segment.p_flags & PF_R) != 0 ? PROT_READ : 0) |
                     ((segment.p_flags & PF_W) != 0 ? PROT_WRITE : 0) | ((segment.p_flags & PF_X) != 0 ? PROT_EXEC : 0);
  const std::uintptr_t in_page = segment.p_vaddr % kPage;
  const std::uintptr_t start = segment.p_vaddr - in_page;
  const std::uintptr_t end = segment.p_vaddr + segment.p_filesz;
  if (call(SYS_mmap, word(start), word(end - start), access, MAP_PRIVATE | MAP_FIXED, file,
           word(segment.p_offset - in_page)) != word(start)) {
    return false;
  }
  if (segment.p_memsz == segment.p_filesz) return true;
  for (auto* byte = reinterpret_cast<volatile char*>(end); word(byte) % static_cast<long>(kPage) != 0; ++byte)
    *byte = 0;
  return true;
}

bool map_again(long file) {
  bool done = true;
  for_each_segment([&](const Elf64_Phdr& segment) { done = done && map_again(segment, file); });
  return done;
}

const char* behind(const char* text) {
  while (*text != '\0') ++text;
  return text + 1;
}

// What the kernel knows of the process is told it once more as it is, with another executable file. It takes that only
// when nothing is mapped of the old one any more.
bool name_executable(long file, const long* stack) {
  const long count = stack[0];
  const auto* const argv = reinterpret_cast<const char* const*>(stack + 1);
  const auto* const envp = argv + count + 1;
  prctl_mm_map map;
  map.start_code = map.end_code = map.start_data = map.end_data = 0;
  for_each_segment([&](const Elf64_Phdr& segment) {
    const bool code = (segment.p_flags & PF_X) != 0;
    (code ? map.start_code : map.start_data) = segment.p_vaddr;
    (code ? map.end_code : map.end_data) = segment.p_vaddr + segment.p_filesz;
  });
  map.start_brk = map.brk = static_cast<__u64>(call(SYS_brk, 0, 0));
  map.start_stack = static_cast<__u64>(word(stack));
  map.arg_start = static_cast<__u64>(word(argv[0]));
  map.arg_end = map.env_start = map.env_end = static_cast<__u64>(word(behind(argv[count - 1])));
  for (const auto* one = envp; *one != nullptr; ++one) map.env_end = static_cast<__u64>(word(behind(*one)));
  map.auxv = nullptr;
  map.auxv_size = 0;
  map.exe_fd = static_cast<__u32>(file);
  return call(SYS_prctl, PR_SET_MM, PR_SET_MM_MAP, word(&map), sizeof map) == 0;
}

// After a failure the process runs as before.
bool run_from(long view, const long* stack) {
  const long file = open_view(view);
  if (file < 0) return false;
  const bool done = map_again(file) && name_executable(file, stack);
  call(SYS_close, file, 0);
  return done;
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
  // Tells the mount for who may write the file, at a tenth of statfs's price: that a file is executed matters to
  // open(2) alone. For others it tells the file's permissions first, also of the view that this executes.
  const long access = call(SYS_access, word(kOwnExe), W_OK);
  if (access == -EROFS) return;
  struct statfs fs;
  if (access != 0 && (call(SYS_statfs, word(kOwnExe), word(&fs)) != 0 || (fs.f_flags & ST_RDONLY) != 0)) return;
  // It stays open, over the exec too: engine::process::park_own_view() says why.
  const long view = call(SYS_open_tree, AT_FDCWD, word(kOwnExe), OPEN_TREE_CLONE);
  if (view < 0) return;
  mount_attr attributes;
  attributes.attr_set = MOUNT_ATTR_RDONLY;
  attributes.attr_clr = 0;
  attributes.propagation = 0;
  attributes.userns_fd = 0;
  if (call(SYS_mount_setattr, view, word(""), AT_EMPTY_PATH, word(&attributes), sizeof attributes) == 0) {
    if (run_from(view, stack)) {
      call(SYS_fcntl, view, F_SETFD, FD_CLOEXEC);
      guarded_view = static_cast<int>(view);
      return;
    }
    call(SYS_execveat, view, word(""), word(argv), word(argv + count + 1), AT_EMPTY_PATH);
  }
  call(SYS_close, view, 0);
}
#endif
