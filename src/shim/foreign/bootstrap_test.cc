#include "shim/foreign/bootstrap.h"

#include <gtest/gtest.h>

namespace berth::shim::foreign {
namespace {

TEST(Bootstrap, TheOldFormIsTheAddressAlone) {
  const auto answer = parse_bootstrap("unix:///run/containerd/s/0123abcd\n");
  ASSERT_TRUE(answer) << answer.error().text();
  EXPECT_EQ(answer->socket, "/run/containerd/s/0123abcd");
  EXPECT_EQ(answer->task_api, 2);
  EXPECT_EQ(parse_bootstrap("/run/s")->socket, "/run/s");
}

TEST(Bootstrap, TheNewFormTellsTheVersion) {
  const auto answer = parse_bootstrap(R"( {"version":3,"address":"unix:///run/s","protocol":"ttrpc","more":[1]} )");
  ASSERT_TRUE(answer) << answer.error().text();
  EXPECT_EQ(answer->socket, "/run/s");
  EXPECT_EQ(answer->task_api, 3);
  EXPECT_EQ(parse_bootstrap(R"({"version":2,"address":"unix:///run/s"})")->task_api, 2);
}

TEST(Bootstrap, WhatIsNoAnswerIsRefused) {
  const auto code = [](std::string_view said) {
    const auto answer = parse_bootstrap(said);
    return answer ? Code::kExists : answer.error().code();
  };
  EXPECT_EQ(code(""), Code::kCorrupt);
  EXPECT_EQ(code(" \n"), Code::kCorrupt);
  EXPECT_EQ(code("{"), Code::kCorrupt);
  EXPECT_EQ(code(R"({"address":"unix:///run/s"})"), Code::kCorrupt);
  EXPECT_EQ(code("unix:///run/a b"), Code::kCorrupt);
  EXPECT_EQ(code(std::string(20'000, 'x')), Code::kCorrupt);
  EXPECT_EQ(code("warning: something"), Code::kUnsupported);
  EXPECT_EQ(code("unix://@abstract"), Code::kUnsupported);
  EXPECT_EQ(code("tcp://127.0.0.1:1"), Code::kUnsupported);
  EXPECT_EQ(code(R"({"version":4,"address":"unix:///run/s","protocol":"ttrpc"})"), Code::kUnsupported);
  EXPECT_EQ(code(R"({"version":3,"address":"unix:///run/s","protocol":"grpc"})"), Code::kUnsupported);
}

}  // namespace
}  // namespace berth::shim::foreign
