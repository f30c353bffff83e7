#include "pull_usr.h"

#include <algorithm>
#include <filesystem>
#include <set>
#include <string>
#include <vector>

#include "base/strings.h"
#include "os/file.h"
#include "process.h"

namespace berth::bench {
namespace {

namespace fs = std::filesystem;
constexpr const char* kProgram = "/usr/bin/perl";
constexpr std::uint64_t kBlock = 512;

struct Share {
  std::vector<std::string> roots;
  std::vector<std::string> without;  ///< folders below them that belong to another layer
  unsigned percent = 0;
};

/// The folder of this architecture's libraries.
std::string library_folder() {
  const auto names = os::list_dir("/usr/lib");
  if (!names) return "/usr/lib";
  for (const auto& name : *names) {
    if (name.ends_with("-linux-gnu") && os::exists("/usr/lib/" + name + "/libc.so.6")) return "/usr/lib/" + name;
  }
  return "/usr/lib";
}

Share share_of(std::size_t index) {
  const std::string libraries = library_folder();
  const std::vector<std::string> texts = {"/usr/share/doc", "/usr/share/man", "/usr/share/locale"};
  const Share shares[kUsrLayers] = {
      {{"/etc", "/usr/bin"}, {}, 18},
      {{"/usr/sbin", "/usr/libexec", "/usr/local"}, {}, 6},
      {{libraries}, {}, 32},
      {{"/usr/lib"}, {libraries}, 20},
      {{"/usr/share"}, texts, 14},
      {{"/usr/share/doc", "/usr/share/man", "/usr/share/locale", "/usr/include"}, {}, 10},
  };
  return shares[index];
}

class Picker {
 public:
  Picker(TarStream& tar, std::uint64_t budget) : tar_(tar), budget_(budget), largest_(budget / 6) {}

  /// `path` with all above it, as they are.
  Result<> put(const std::string& path) {
    if (done_.contains(path) || path.size() < 2) return {};
    BERTH_TRY(put(fs::path(path).parent_path()), path);
    struct stat status{};
    if (::lstat(path.c_str(), &status) != 0) return fail_errno(errno, path);
    done_.insert(path);
    const std::string name = path.substr(1);
    const std::uint64_t size = S_ISREG(status.st_mode) ? static_cast<std::uint64_t>(status.st_size) : 0;
    const std::uint64_t takes = kBlock + (size + kBlock - 1) / kBlock * kBlock;
    budget_ -= std::min(budget_, takes);
    if (S_ISDIR(status.st_mode)) return tar_.dir(name, status.st_mode);
    if (S_ISREG(status.st_mode)) return tar_.copy(name, path, status);
    std::error_code error;
    const auto target = fs::read_symlink(path, error);
    return error ? fail_errno(error.value(), path) : tar_.symlink(name, target);
  }

  /// A program or library, by whatever links lead to it.
  Result<> put_linked(const std::string& path) {
    std::error_code error;
    fs::path at = path;
    for (int i = 0; i < 16; ++i) {
      const auto folder = fs::canonical(at.parent_path(), error);
      if (error) return fail_errno(error.value(), path);
      at = folder / at.filename();
      BERTH_TRY(put(at), path);
      if (!fs::is_symlink(at, error)) return {};
      at = at.parent_path() / fs::read_symlink(at, error);
    }
    return fail(Code::kInvalid, path + ": too many links");
  }

  Result<> tree(const std::string& path, const std::vector<std::string>& without) {
    const auto names = os::list_dir(path);
    if (!names) return {};  // what this machine has not
    BERTH_TRY(put(path), path);
    for (const auto& name : *names) {
      if (budget_ < 8 * kBlock) return {};
      const std::string child = path + "/" + name;
      struct stat status{};
      if (std::ranges::find(without, child) != without.end() || ::lstat(child.c_str(), &status) != 0) continue;
      if (S_ISDIR(status.st_mode)) {
        BERTH_TRY(tree(child, without), path);
      } else if (S_ISLNK(status.st_mode) || (S_ISREG(status.st_mode) && wanted(status))) {
        BERTH_TRY(put(child), path);
      }
    }
    return {};
  }

 private:
  [[nodiscard]] bool wanted(const struct stat& status) const {
    const auto size = static_cast<std::uint64_t>(status.st_size);
    return (status.st_mode & S_IROTH) != 0 && size <= largest_ && size + 2 * kBlock <= budget_;
  }

  TarStream& tar_;
  std::uint64_t budget_;
  const std::uint64_t largest_;
  std::set<std::string> done_;
};

/// The links in the root of a merged /usr, and the program that a container of the image runs.
Result<> put_program(Picker& picker) {
  for (const char* name : {"/bin", "/lib", "/lib64", "/sbin"}) {
    std::error_code error;
    if (fs::is_symlink(name, error)) BERTH_TRY(picker.put(name), name);
  }
  BERTH_TRY(picker.put_linked(kProgram), kProgram);
  BERTH_ASSIGN(const auto ldd, test::run_program({"ldd", kProgram}), "ldd");
  for (const auto line : split(ldd.out, '\n')) {
    const auto slash = line.find('/');
    if (slash == std::string_view::npos) continue;
    const auto path = line.substr(slash);
    BERTH_TRY(picker.put_linked(std::string(path.substr(0, path.find(' ')))), kProgram);
  }
  return {};
}

}  // namespace

Result<> put_usr_layer(TarStream& tar, std::size_t index, std::uint64_t budget) {
  const Share share = share_of(index);
  Picker picker(tar, budget * share.percent / 100);
  if (index == 0) BERTH_TRY(put_program(picker), "program");
  for (const auto& root : share.roots) BERTH_TRY(picker.tree(root, share.without), root);
  return {};
}

}  // namespace berth::bench
