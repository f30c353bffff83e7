// Full and lite interfaces in one program, as in berthd: one runtime, no clash of symbols or descriptors.
#include <google/protobuf/descriptor.h>
#include <google/protobuf/timestamp.pb.h>
#include <gtest/gtest.h>

#include <fstream>
#include <string>

#include "berth/shim/v1/shim.pb.h"
#include "berth/wkt/wkt.pb.h"
#include "containerd/runtime/sandbox/v1/sandbox.pb.h"
#include "containerd/runtime/task/v3/shim.pb.h"
#include "cri/runtime/v1/api.grpc.pb.h"
#include "cri/runtime/v1/api.pb.h"

namespace {

TEST(ApiBoth, CriMessageTravelsInsideLiteAny) {
  runtime::v1::PodSandboxConfig config;
  config.mutable_metadata()->set_name("p");
  containerd::runtime::sandbox::v1::CreateSandboxRequest request;
  request.mutable_options()->set_type_url(config.GetTypeName());
  request.mutable_options()->set_value(config.SerializeAsString());

  containerd::runtime::sandbox::v1::CreateSandboxRequest copy;
  ASSERT_TRUE(copy.ParseFromString(request.SerializeAsString()));
  runtime::v1::PodSandboxConfig inner;
  ASSERT_TRUE(inner.ParseFromString(copy.options().value()));
  EXPECT_EQ(copy.options().type_url(), "runtime.v1.PodSandboxConfig");
  EXPECT_EQ(inner.metadata().name(), "p");
}

TEST(ApiBoth, StandInsEqualTheWellKnownTypesOnTheWire) {
  google::protobuf::Timestamp full;
  full.set_seconds(1'700'000'000);
  full.set_nanos(999'999'999);
  berth::wkt::Timestamp lite;
  lite.set_seconds(full.seconds());
  lite.set_nanos(full.nanos());
  EXPECT_EQ(lite.SerializeAsString(), full.SerializeAsString());
}

TEST(ApiBoth, CriDescriptorsAreRegisteredAndLiteOnesAreNot) {
  const auto* pool = google::protobuf::DescriptorPool::generated_pool();
  const auto* service = pool->FindServiceByName(runtime::v1::RuntimeService::service_full_name());
  ASSERT_NE(service, nullptr);
  EXPECT_EQ(service->method_count(), 37);
  const auto* images = pool->FindServiceByName(runtime::v1::ImageService::service_full_name());
  ASSERT_NE(images, nullptr);
  EXPECT_EQ(images->method_count(), 6);
  EXPECT_EQ(pool->FindMessageTypeByName(berth::shim::v1::ContainerInfo().GetTypeName()), nullptr);
}

TEST(ApiBoth, OneProtobufRuntimeIsLoaded) {
  std::ifstream maps("/proc/self/maps");
  for (std::string line; std::getline(maps, line);) {
    EXPECT_EQ(line.find("libprotobuf-lite"), std::string::npos) << line;
  }
}

TEST(ApiBoth, GrpcStubsLink) {
  runtime::v1::RuntimeService::Service unimplemented;
  runtime::v1::VersionRequest request;
  runtime::v1::VersionResponse response;
  EXPECT_EQ(unimplemented.Version(nullptr, &request, &response).error_code(), grpc::StatusCode::UNIMPLEMENTED);
}

}  // namespace
