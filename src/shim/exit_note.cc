#include "shim/exit_note.h"

#include <fcntl.h>

#include "os/file.h"

namespace berth::shim {

Result<> note_exit(const std::string& bundle, std::uint32_t code, std::int64_t at_ns, std::string_view reason) {
  BERTH_ASSIGN(const UniqueFd file, os::open_file(bundle + "/exit", O_WRONLY | O_CREAT | O_TRUNC, 0600),
               "note the end");
  return os::write_all(file.get(),
                       std::to_string(code) + " " + std::to_string(at_ns) + " " + std::string(reason) + "\n");
}

}  // namespace berth::shim
