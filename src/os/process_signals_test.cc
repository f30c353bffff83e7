#include "os/process_signals.h"

#include <unistd.h>

#include <csignal>
#include <string>

#include "gtest/gtest.h"

namespace berth::os {
namespace {

std::string status(const std::string& pids, const std::string& blocked, const std::string& caught) {
  return "Name:\tSigCgt:\nNSpid:\t" + pids + "\nSigPnd:\t0000000000000000\nSigBlk:\t" + blocked +
         "\nSigIgn:\t0000000000000000\nSigCgt:\t" + caught + "\n";
}
constexpr const char* kNone = "0000000000000000";
constexpr const char* kTerm = "0000000000004000";

TEST(ProcessSignals, TheFirstProcessOfANamespaceGetsWhatItHandlesOrBlocks) {
  EXPECT_TRUE(status_drops_signal(status("4711\t1", kNone, kNone), SIGTERM));
  EXPECT_TRUE(status_drops_signal(status("4711\t17\t1", kNone, kNone), SIGTERM));
  EXPECT_FALSE(status_drops_signal(status("4711\t1", kNone, kTerm), SIGTERM));
  EXPECT_FALSE(status_drops_signal(status("4711\t1", kTerm, kNone), SIGTERM));
  EXPECT_TRUE(status_drops_signal(status("4711\t1", kTerm, kTerm), SIGUSR1));
  EXPECT_TRUE(status_drops_signal(status("4711\t1", kNone, "7fffffffffffffff"), 64));
  EXPECT_FALSE(status_drops_signal(status("4711\t1", kNone, "8000000000000000"), 64));
}

TEST(ProcessSignals, AnyOtherProcessGetsAll) {
  EXPECT_FALSE(status_drops_signal(status("4711", kNone, kNone), SIGTERM));
  EXPECT_FALSE(status_drops_signal(status("4711\t11", kNone, kNone), SIGTERM));
  EXPECT_FALSE(status_drops_signal("", SIGTERM));
  EXPECT_FALSE(*drops_signal(::getpid(), SIGTERM));
}

TEST(ProcessSignals, KillAndStopReachEverybody) {
  EXPECT_FALSE(status_drops_signal(status("4711\t1", kNone, kNone), SIGKILL));
  EXPECT_FALSE(status_drops_signal(status("4711\t1", kNone, kNone), SIGSTOP));
}

TEST(ProcessSignals, AGoneProcessIsNotFound) {
  EXPECT_EQ(drops_signal(0x3fffffff, SIGTERM).error().code(), Code::kNotFound);
}

}  // namespace
}  // namespace berth::os
