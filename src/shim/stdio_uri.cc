#include "shim/stdio_uri.h"

namespace berth::shim {

Result<StdioUri> parse_stdio_uri(std::string_view text) {
  StdioUri uri;
  if (text.empty()) return uri;
  if (text == "watched://") {
    uri.kind = StdioUri::Kind::kWatched;
    return uri;
  }
  uri.kind = StdioUri::Kind::kPath;
  std::string_view path = text;
  if (const std::size_t colon = text.find("://"); !text.starts_with('/') && colon != std::string_view::npos) {
    const std::string_view scheme = text.substr(0, colon);
    path.remove_prefix(colon + 3);
    if (scheme == "file") {
      uri.kind = StdioUri::Kind::kFile;
    } else if (scheme == "cri-log") {
      uri.kind = StdioUri::Kind::kCriLog;
    } else if (scheme != "fifo") {
      return fail(Code::kUnsupported, "stdio scheme " + std::string(scheme.substr(0, 32)) + " is not supported");
    }
  }
  if (!path.starts_with('/') || path.find('\0') != std::string_view::npos) {
    return fail(Code::kInvalid, "stdio path is not absolute: " + std::string(text.substr(0, 256)));
  }
  uri.path = path;
  return uri;
}

}  // namespace berth::shim
