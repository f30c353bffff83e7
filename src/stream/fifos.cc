#include "stream/fifos.h"

#include <fcntl.h>
#include <sys/stat.h>

#include <cerrno>
#include <utility>

#include "base/log.h"
#include "os/file.h"

namespace berth::stream {
namespace {

// What fits is what a reader may lag behind before it is cut off (src/shim/fan_out.h).
constexpr int kWidePipe = 1 << 20;

Result<> make_fifo(const std::string& path) {
  if (::mkfifo(path.c_str(), 0600) != 0) return fail_errno(errno, "make FIFO " + path);
  return {};
}

Result<UniqueFd> make_output(const std::string& path) {
  BERTH_TRY(make_fifo(path), "stream");
  BERTH_ASSIGN(UniqueFd reader, os::open_file(path, O_RDONLY | O_NONBLOCK), "stream");
  // No more memory for pipes: then it stays as it is.
  (void)::fcntl(reader.get(), F_SETPIPE_SZ, kWidePipe);
  return reader;
}

}  // namespace

Result<Fifos> Fifos::make(const std::string& folder, bool in, bool out, bool err) {
  BERTH_TRY(os::make_dirs(folder, 0700), "folder of the session");
  Fifos fifos;
  BERTH_ASSIGN(fifos.lock_, lock_session(folder), "session");
  fifos.folder_ = folder;
  if (in) BERTH_TRY(make_fifo(fifos.folder_ + "/in"), "stdin");
  fifos.has_in_ = in;
  if (out) {
    BERTH_ASSIGN(fifos.out_, make_output(fifos.folder_ + "/out"), "stdout");
  }
  fifos.has_out_ = out;
  if (err) {
    BERTH_ASSIGN(fifos.err_, make_output(fifos.folder_ + "/err"), "stderr");
  }
  fifos.has_err_ = err;
  return fifos;
}

Fifos::Fifos(Fifos&& other) noexcept
    : folder_(std::exchange(other.folder_, {})),
      lock_(std::move(other.lock_)),
      has_in_(other.has_in_),
      has_out_(other.has_out_),
      has_err_(other.has_err_),
      out_(std::move(other.out_)),
      err_(std::move(other.err_)) {}

Fifos::~Fifos() {
  if (folder_.empty()) return;
  if (auto removed = os::remove_tree(folder_); !removed) {
    log_warn("a session's folder stays", {{"folder", folder_}, {"err", removed.error().text()}});
  }
}

Result<UniqueFd> lock_session(const std::string& folder) {
  BERTH_ASSIGN(UniqueFd held, os::open_file(folder, O_RDONLY | O_DIRECTORY), "folder");
  BERTH_ASSIGN(const bool ours, os::try_lock(held.get()), "lock " + folder);
  if (!ours) return fail(Code::kExists, folder + " is in use");
  return held;
}

Result<UniqueFd> open_writer(const std::string& path) {
  auto writer = os::open_file(path, O_WRONLY | O_NONBLOCK | O_NOCTTY);
  if (!writer && writer.error().errno_value() == ENXIO) return fail(std::move(writer).error().as(Code::kUnavailable));
  return writer;
}

}  // namespace berth::stream
