#include "shim/foreign/bootstrap.h"

#include "base/strings.h"
#include "spec/json_text.h"

namespace berth::shim::foreign {
namespace {

constexpr std::size_t kMaxPath = 4096;

Result<std::string> socket_of(std::string_view address) {
  constexpr std::string_view kScheme = "unix://";
  if (address.starts_with(kScheme)) address.remove_prefix(kScheme.size());
  if (address.find("://") != address.npos) return fail(Code::kUnsupported, "address: only unix sockets are spoken to");
  if (!address.starts_with('/') || address.size() > kMaxPath) {
    return fail(Code::kUnsupported, "address: no absolute path of a socket");
  }
  for (const char c : address) {
    if (static_cast<unsigned char>(c) <= ' ')
      return fail(Code::kCorrupt, "address: holds a byte that no path here has");
  }
  return std::string(address);
}

}  // namespace

Result<Bootstrap> parse_bootstrap(std::string_view said) {
  if (said.size() > kMaxBootstrapBytes) return fail(Code::kCorrupt, "the answer of start is too long");
  said = trim(said);
  if (said.empty()) return fail(Code::kCorrupt, "start has answered nothing");
  Bootstrap result;
  if (said.front() != '{') {
    BERTH_ASSIGN(result.socket, socket_of(said), "answer of start");
    return result;
  }
  auto json = spec::parse_json(said);
  if (!json) return fail(std::move(json).error().as(Code::kCorrupt).in("answer of start"));
  const spec::Json* const version = json->get("version");
  const auto number = version == nullptr ? std::nullopt : version->as_int();
  if (!number) return fail(Code::kCorrupt, "answer of start: version: missing or no number");
  if (*number != 2 && *number != 3) {
    return fail(Code::kUnsupported, "answer of start: version " + std::to_string(*number) + " of the task API");
  }
  result.task_api = static_cast<int>(*number);
  if (json->string_or("protocol", "ttrpc") != "ttrpc") {
    return fail(Code::kUnsupported, "answer of start: only the protocol ttrpc is spoken");
  }
  BERTH_ASSIGN(result.socket, socket_of(json->string_or("address")), "answer of start");
  return result;
}

}  // namespace berth::shim::foreign
