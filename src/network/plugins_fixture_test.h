#pragma once
#include <gtest/gtest.h>
#include <signal.h>
#include <sys/stat.h>

#include <string>

#include "base/ids.h"
#include "os/file.h"

namespace berth::network {

/// For tests: a folder of CNI plugins that are shell scripts, and what they left beside them. Gone with the object.
class TestPlugins {
 public:
  TestPlugins() {
    // As every program of ours does: a plugin need not read its input.
    ::signal(SIGPIPE, SIG_IGN);
    EXPECT_TRUE(os::make_dirs(dir_));
  }
  TestPlugins(const TestPlugins&) = delete;
  TestPlugins& operator=(const TestPlugins&) = delete;
  ~TestPlugins() { EXPECT_TRUE(os::remove_tree(dir_)); }

  [[nodiscard]] const std::string& dir() const { return dir_; }
  void add(const std::string& name, const std::string& script) const {
    const std::string path = dir_ + "/" + name;
    ASSERT_TRUE(os::write_file_atomic(path, "#!/bin/sh\ncd " + dir_ + "\n" + script, 0755));
    ASSERT_EQ(::chmod(path.c_str(), 0755), 0);
  }
  void put(const std::string& name, const std::string& text) const {
    ASSERT_TRUE(os::write_file_atomic(dir_ + "/" + name, text));
  }
  void erase(const std::string& name) const { ASSERT_TRUE(os::remove_file(dir_ + "/" + name)); }
  [[nodiscard]] std::string read(const std::string& name) const {
    auto text = os::read_file(dir_ + "/" + name, 1U << 20);
    return text ? *text : "";
  }

 private:
  const std::string dir_ = testing::TempDir() + "berth-plugins-" + random_hex(8);
};

}  // namespace berth::network
