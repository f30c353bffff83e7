// A static program with the lite interfaces alone, as berth-shim is: it must link without the full libprotobuf.
#include <cstdio>
#include <string>

#include "berth/shim/v1/shim.pb.h"
#include "containerd/events/task.pb.h"
#include "containerd/runtime/sandbox/v1/sandbox.pb.h"
#include "containerd/runtime/task/v2/shim.pb.h"
#include "containerd/runtime/task/v3/shim.pb.h"
#include "containerd/services/ttrpc/events/v1/events.pb.h"
#include "containerd/types/introspection.pb.h"
#include "containerd/types/runc/options/oci.pb.h"
#include "containerd/types/runtimeoptions/v1/api.pb.h"
#include "containerd/types/sandbox.pb.h"

namespace {

int failures = 0;

// A message with something in it must come back equal from its bytes.
template <typename Message>
void RoundTrip(const Message& message) {
  const std::string bytes = message.SerializeAsString();
  Message copy;
  if (bytes.empty() || !copy.ParseFromString(bytes) || copy.SerializeAsString() != bytes) {
    std::fprintf(stderr, "%s does not survive the wire\n", message.GetTypeName().c_str());
    ++failures;
  }
}

}  // namespace

int main() {
  GOOGLE_PROTOBUF_VERIFY_VERSION;

  containerd::events::TaskExit exit;
  exit.set_container_id("c1");
  exit.mutable_exited_at()->set_seconds(-1);
  containerd::services::events::ttrpc::v1::ForwardRequest forward;
  forward.mutable_envelope()->mutable_event()->set_type_url(exit.GetTypeName());
  forward.mutable_envelope()->mutable_event()->set_value(exit.SerializeAsString());
  RoundTrip(forward);

  containerd::task::v2::CreateTaskRequest create2;
  create2.add_rootfs()->add_options("lowerdir=/a");
  RoundTrip(create2);
  containerd::task::v3::StateResponse state3;
  state3.set_status(containerd::v1::types::PAUSING);
  RoundTrip(state3);
  containerd::runtime::sandbox::v1::CreateSandboxRequest sandbox;
  (*sandbox.mutable_annotations())["k"] = "v";
  RoundTrip(sandbox);
  containerd::types::Sandbox record;
  (*record.mutable_extensions())["k"].set_value("v");
  RoundTrip(record);
  containerd::types::RuntimeInfo info;
  info.mutable_version()->set_version("1");
  RoundTrip(info);
  containerd::runc::v1::Options runc;
  runc.set_systemd_cgroup(true);
  RoundTrip(runc);
  runtimeoptions::v1::Options other;
  other.set_config_body("x");
  RoundTrip(other);
  berth::shim::v1::WaitEventResponse changed;
  changed.add_changed()->set_state(berth::shim::v1::CONTAINER_STATE_RUNNING);
  RoundTrip(changed);
  return failures == 0 ? 0 : 1;
}
