#pragma once
#include <string>

#include "base/result.h"
#include "base/unique_fd.h"

namespace berth::stream {

/// The FIFOs of one session, in a folder of its own, which goes with this object and is locked (flock(2)) as long as it
/// lives. What a dead server left is removed at the next one's start; a server that drains may still be using its own.
class Fifos final {
 public:
  /// Makes `folder` (mode 0700) and in it the FIFOs that are wanted; those for output are open then for reading, and as
  /// wide as the kernel allows. Errors: kExists somebody holds the folder; else by errno.
  [[nodiscard]] static Result<Fifos> make(const std::string& folder, bool in, bool out, bool err);
  Fifos(Fifos&&) noexcept;
  Fifos& operator=(Fifos&&) = delete;
  Fifos(const Fifos&) = delete;
  Fifos& operator=(const Fifos&) = delete;
  ~Fifos();

  /// Absolute paths, "" for what is not wanted.
  [[nodiscard]] std::string in_path() const { return path_of("in", has_in_); }
  [[nodiscard]] std::string out_path() const { return path_of("out", has_out_); }
  [[nodiscard]] std::string err_path() const { return path_of("err", has_err_); }
  /// Non-blocking read ends, once; invalid for what is not wanted.
  [[nodiscard]] UniqueFd take_out() { return std::move(out_); }
  [[nodiscard]] UniqueFd take_err() { return std::move(err_); }

 private:
  Fifos() = default;
  [[nodiscard]] std::string path_of(const char* name, bool there) const {
    return there ? folder_ + "/" + name : std::string();
  }

  std::string folder_;
  UniqueFd lock_;
  bool has_in_ = false;
  bool has_out_ = false;
  bool has_err_ = false;
  UniqueFd out_;
  UniqueFd err_;
};

/// The lock of a session's folder. kExists: a server holds it; kNotFound: it is gone.
[[nodiscard]] Result<UniqueFd> lock_session(const std::string& folder);

/// The write end of a FIFO whose reader is there, non-blocking. kUnavailable without a reader.
[[nodiscard]] Result<UniqueFd> open_writer(const std::string& path);

}  // namespace berth::stream
