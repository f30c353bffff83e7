#include "cri/hook_dirs.h"

#include <unistd.h>

#include <filesystem>

#include "gmock/gmock.h"
#include "gtest/gtest.h"
#include "os/file.h"

namespace berth::cri {
namespace {

using testing::ElementsAre;
using testing::HasSubstr;

std::string file_text(const std::string& when, const std::string& stages = R"(["prestart"])",
                      const std::string& path = "/bin/true") {
  return R"({"version": "1.0.0", "hook": {"path": ")" + path + R"(", "args": ["true", "x"]}, "when": )" + when +
         R"(, "stages": )" + stages + "}";
}

bool asked(const std::string& when, const HookQuestion& question) {
  const auto file = parse_hook_file(file_text(when));
  EXPECT_TRUE(file) << when << ": " << file.error().text();
  return file && matches(*file, question);
}

TEST(HookFile, Always) {
  EXPECT_TRUE(asked(R"({"always": true})", {}));
  EXPECT_FALSE(asked(R"({"always": false})", {}));
}

TEST(HookFile, AnnotationsMustAllMatch) {
  const HookQuestion question{.annotations = {{"com.example.department", "fluid-dynamics"}, {"other", "x"}}};
  EXPECT_TRUE(asked(R"({"annotations": {"^com\\.example\\.department$": ".*fluid-dynamics$"}})", question));
  EXPECT_TRUE(asked(R"({"annotations": {"department": "fluid", "^other$": "x"}})", question));
  EXPECT_FALSE(asked(R"({"annotations": {"department": "fluid", "^other$": "y"}})", question));
  EXPECT_FALSE(asked(R"({"annotations": {"department": "^x$"}})", question));
}

TEST(HookFile, OneOfTheCommandsMustMatch) {
  const HookQuestion question{.command = "/sbin/init"};
  EXPECT_TRUE(asked(R"({"commands": [".*/init$" , ".*/systemd$"]})", question));
  EXPECT_FALSE(asked(R"({"commands": ["^init$"]})", question));
}

TEST(HookFile, BindMountsAndAllConditionsTogether) {
  HookQuestion question{.command = "/bin/sh", .has_bind_mounts = true};
  EXPECT_TRUE(asked(R"({"hasBindMounts": true})", question));
  EXPECT_FALSE(asked(R"({"hasBindMounts": false})", question));
  EXPECT_TRUE(asked(R"({"always": true, "hasBindMounts": true, "commands": ["sh"]})", question));
  EXPECT_FALSE(asked(R"({"always": true, "hasBindMounts": true, "commands": ["bash"]})", question));
  question.has_bind_mounts = false;
  EXPECT_FALSE(asked(R"({"always": true, "hasBindMounts": true})", question));
}

TEST(HookFile, LongAnnotationsCostLittle) {
  const HookQuestion question{.annotations = {{"k", std::string(256 << 10, 'a')}}};
  EXPECT_FALSE(asked(R"({"annotations": {"k": "^(a+)+$b"}})", question));
}

TEST(HookFile, FaultsNameTheMember) {
  const auto fault = [](const std::string& text) {
    const auto file = parse_hook_file(text);
    return file ? std::string("it is right") : file.error().text();
  };
  EXPECT_THAT(fault("["), HasSubstr("hook file"));
  EXPECT_THAT(fault(R"({"hook": "/h", "stages": ["prestart"]})"), HasSubstr("version: \"\" is not \"1.0.0\""));
  EXPECT_THAT(fault(R"({"version": "1.0.0", "when": {"always": true}, "stages": []})"), HasSubstr("hook: expected"));
  EXPECT_THAT(fault(file_text(R"({"always": true})", R"(["prestart"])", "true")), HasSubstr("hook.path: must be"));
  EXPECT_THAT(fault(file_text("{}")), HasSubstr("when: needs"));
  EXPECT_THAT(fault(file_text(R"({"always": 1})")), HasSubstr("when.always: expected true or false"));
  EXPECT_THAT(fault(file_text(R"({"alwais": true})")), HasSubstr("when.alwais: there is no such condition"));
  EXPECT_THAT(fault(file_text(R"({"annotations": {"[": "x"}})")), HasSubstr("when.annotations: \"[\" is no regular"));
  EXPECT_THAT(fault(file_text(R"({"commands": ["a("]})")), HasSubstr("when.commands: \"a(\" is no regular"));
  EXPECT_THAT(fault(file_text(R"({"always": true})", "[]")), HasSubstr("stages: names none"));
  EXPECT_THAT(fault(file_text(R"({"always": true})", R"(["later"])")), HasSubstr("stages: there is no \"later\""));
  EXPECT_THAT(fault(file_text(R"({"always": true})", R"(["precreate"])")), HasSubstr("stages: \"precreate\""));
}

class HookDirs : public testing::Test {
 protected:
  HookDirs() : dir_("/tmp/berth-test-hooks-" + std::to_string(::getpid())) {
    EXPECT_TRUE(os::make_dirs(dir_ + "/a"));
    EXPECT_TRUE(os::make_dirs(dir_ + "/b"));
  }
  ~HookDirs() override { EXPECT_TRUE(os::remove_tree(dir_)); }
  void put(const std::string& name, const std::string& text) const {
    EXPECT_TRUE(os::write_file_atomic(dir_ + "/" + name, text));
  }
  Result<> add() { return add_hooks_of_dirs({dir_ + "/a", dir_ + "/b", dir_ + "/absent"}, {}, spec_); }

  const std::string dir_;
  spec::Spec spec_;
};

TEST_F(HookDirs, ALaterFolderCoversAnEarlierAndNamesGiveTheOrder) {
  put("a/02.json", file_text(R"({"always": true})", R"(["poststop"])", "/bin/true"));
  put("a/01-X.json", file_text(R"({"always": true})", R"(["prestart", "poststop"])", "/bin/sh"));
  put("b/02.json", file_text(R"({"always": true})", R"(["poststop"])", "/bin/false"));
  put("b/readme.txt", "no hook");
  ASSERT_TRUE(add());
  ASSERT_TRUE(spec_.hooks);
  ASSERT_EQ(spec_.hooks->prestart.size(), 1U);
  EXPECT_THAT(spec_.hooks->prestart[0].args, ElementsAre("true", "x"));
  ASSERT_EQ(spec_.hooks->poststop.size(), 2U);
  EXPECT_EQ(spec_.hooks->poststop[0].path, "/bin/sh");
  EXPECT_EQ(spec_.hooks->poststop[1].path, "/bin/false");
}

TEST_F(HookDirs, WithoutFilesThereIsNothing) {
  ASSERT_TRUE(add());
  EXPECT_FALSE(spec_.hooks);
}

TEST_F(HookDirs, FaultsNameTheFile) {
  put("a/bad.json", "{");
  auto added = add();
  ASSERT_FALSE(added);
  EXPECT_THAT(added.error().text(), HasSubstr("hook file " + dir_ + "/a/bad.json"));
  put("a/bad.json", file_text(R"({"always": true})", R"(["prestart"])", "/no/such/hook"));
  added = add();
  ASSERT_FALSE(added);
  EXPECT_EQ(added.error().code(), Code::kNotFound);
  EXPECT_THAT(added.error().text(), HasSubstr("bad.json: hook.path: there is no /no/such/hook"));
}

}  // namespace
}  // namespace berth::cri
