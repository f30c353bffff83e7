#include "os/user_namespace.h"

#include <fcntl.h>
#include <gtest/gtest.h>
#include <linux/nsfs.h>
#include <sched.h>
#include <sys/ioctl.h>
#include <unistd.h>

#include <barrier>
#include <thread>

#include "os/clone.h"
#include "os/file.h"
#include "os/namespace.h"

namespace berth::os {
namespace {

constexpr const char* kMap = "0 100000 65536\n";

std::string path_of(const UniqueFd& fd) {
  return "/proc/self/fd/" + std::to_string(fd.get());
}

class UserNamespaceTest : public testing::Test {
 protected:
  void SetUp() override {
    if (::geteuid() != 0) GTEST_SKIP() << "not root";
  }
};

TEST_F(UserNamespaceTest, OwnsWhatWasAskedFor) {
  auto made = make_user_namespace(kMap, kMap, CLONE_NEWNET | CLONE_NEWIPC);
  ASSERT_TRUE(made) << made.error().text();
  EXPECT_TRUE(open_namespace(path_of(made->user), CLONE_NEWUSER));
  EXPECT_TRUE(open_namespace(path_of(made->network), CLONE_NEWNET));
  EXPECT_TRUE(open_namespace(path_of(made->ipc), CLONE_NEWIPC));
  EXPECT_FALSE(made->uts.valid());
  for (const auto* fd : {&made->network, &made->ipc}) {
    const UniqueFd owner(::ioctl(fd->get(), NS_GET_USERNS));
    ASSERT_TRUE(owner.valid());
    EXPECT_TRUE(same_namespace(owner.get(), made->user.get()));
  }
}

TEST_F(UserNamespaceTest, WithOtherThreadsBeside) {
  // Together each time: a keeper must not hold what the other thread has just opened.
  constexpr int kRounds = 1000;
  std::barrier together(2);
  const auto make = [&together](int flags) {
    for (int i = 0; i < kRounds; ++i) {
      together.arrive_and_wait();
      EXPECT_TRUE(make_user_namespace(kMap, kMap, flags));
    }
  };
  std::thread other(make, 0);
  make(CLONE_NEWUTS);
  other.join();
}

TEST_F(UserNamespaceTest, AMapThatCannotBeIsInvalid) {
  for (const char* map : {"0 100000 0\n", "0 100000 10\n5 200000 10\n", "words\n"}) {
    const auto made = make_user_namespace(map, kMap);
    ASSERT_FALSE(made) << map;
    EXPECT_EQ(made.error().code(), Code::kInvalid) << made.error().text();
  }
}

TEST_F(UserNamespaceTest, AnEffectiveUserForAWhile) {
  const auto done = run_as_effective_user(100000, []() -> Result<> {
    EXPECT_EQ(::geteuid(), 100000U);
    return fail(Code::kNotFound, "its error");
  });
  EXPECT_EQ(::geteuid(), 0U);
  ASSERT_FALSE(done);
  EXPECT_EQ(done.error().code(), Code::kNotFound);
}

}  // namespace
}  // namespace berth::os
