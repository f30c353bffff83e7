#include "spec/state.h"

#include <array>

#include "spec/struct_json.h"

namespace berth::spec {

namespace {
constexpr std::array<std::string_view, 5> kStatusNames = {"creating", "created", "running", "stopped", "paused"};
}  // namespace

std::string_view status_name(Status status) {
  return kStatusNames[static_cast<std::size_t>(status)];
}

void write_value(JsonWriter& writer, Status status) {
  writer.string(status_name(status));
}

bool read_value(JsonReader& reader, Status& out) {
  std::string name;
  if (!reader.string(name)) return false;
  for (std::size_t i = 0; i < kStatusNames.size(); ++i) {
    if (kStatusNames[i] != name) continue;
    out = static_cast<Status>(i);
    return true;
  }
  return reader.fail_here("no such status: " + quote(name.substr(0, 64)));
}

template <class V, Is<State> S>
void fields(V& v, S& s) {
  v.always("ociVersion", s.oci_version);
  v.always("id", s.id);
  v.always("status", s.status);
  v.member("pid", s.pid);
  v.always("bundle", s.bundle);
  v.member("annotations", s.annotations);
}

Result<State> parse_state(std::string_view json, const Limits& limits) {
  return parse_document<State>(json, limits);
}
std::string write_state(const State& state) {
  return write_document(state);
}

}  // namespace berth::spec
