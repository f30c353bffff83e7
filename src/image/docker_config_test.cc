#include "image/docker_config.h"

#include <gmock/gmock.h>
#include <gtest/gtest.h>
#include <signal.h>
#include <sys/stat.h>

#include <cstdlib>
#include <filesystem>
#include <fstream>

#include "image/credentials.h"

namespace berth::image {
namespace {

using ::testing::AllOf;
using ::testing::HasSubstr;
using ::testing::Not;

constexpr std::string_view kConfig = R"({
  "auths": {
    "https://index.docker.io/v1/": {"auth": "aHViOnB3"},
    "quay.io": {"username": "any", "password": "pw"},
    "quay.io/team": {"username": "team", "password": "pw"},
    "https://Reg.lan:5000/v2/": {"identitytoken": "id"},
    "empty.lan": {}
  },
  "HttpHeaders": {"x": "y"},
  "credHelpers": {"ecr.lan": "ecr-login", "quay.io": ""}
})";

TEST(DockerConfig, FindsTheLoginOfARegistry) {
  const auto config = parse_docker_config(kConfig);
  ASSERT_TRUE(config) << config.error().text();
  const auto user = [&config](std::string_view registry, std::string_view repository) {
    const auto found = credentials_for(login_from_file(*config, registry, repository), registry);
    return found ? found->username + found->identity_token : found.error().text();
  };
  EXPECT_EQ(user("docker.io", "library/busybox"), "hub");
  EXPECT_EQ(user("quay.io", "a/b"), "any");
  EXPECT_EQ(user("quay.io", "team/b"), "team");
  EXPECT_EQ(user("quay.io", "team"), "team");
  EXPECT_EQ(user("quay.io", "teams/b"), "any");
  EXPECT_EQ(user("reg.lan:5000", "a"), "id");
  EXPECT_EQ(user("reg.lan", "a"), "");
  EXPECT_EQ(user("empty.lan", "a"), "");
  EXPECT_EQ(user("quay.io.evil.lan", "a"), "");
  EXPECT_EQ(helper_for(*config, "ecr.lan"), "ecr-login");
  EXPECT_EQ(helper_for(*config, "reg.lan"), "");
}

TEST(DockerConfig, SaysWhatIsWrong) {
  const auto error = [](std::string_view text) {
    const auto config = parse_docker_config(text);
    return config ? std::string() : config.error().text();
  };
  EXPECT_EQ(error("{}"), "");
  EXPECT_EQ(error(R"({"auths": null, "credHelpers": null})"), "");
  EXPECT_NE(error("{"), "");
  EXPECT_THAT(error("[]"), HasSubstr("must be an object"));
  EXPECT_THAT(error(R"({"auths": []})"), HasSubstr("auths must be an object"));
  EXPECT_THAT(error(R"({"auths": {"a": {"auth": 1}}})"), HasSubstr("auths.a: auth must be a string"));
  EXPECT_THAT(error(R"({"credsStore": "../sh"})"), HasSubstr("is no name of a helper"));
  EXPECT_THAT(error(R"({"credHelpers": {"a": "b/c"}})"), HasSubstr("is no name of a helper"));
  std::string many = R"({"auths": {)";
  for (int i = 0; i < 1001; ++i) many += (i == 0 ? "\"a" : ",\"a") + std::to_string(i) + "\":{}";
  EXPECT_THAT(error(many + "}}"), HasSubstr("more than 1000 members"));
}

TEST(DockerConfig, ReadsAHelpersAnswer) {
  const auto plain = parse_helper_answer(R"({"ServerURL": "r", "Username": "u", "Secret": "s"})");
  ASSERT_TRUE(plain);
  EXPECT_EQ(plain->username + plain->password, "us");
  const auto token = parse_helper_answer(R"({"Username": "<token>", "Secret": "s"})");
  ASSERT_TRUE(token);
  EXPECT_EQ(token->username + token->identity_token, "s");
  EXPECT_FALSE(parse_helper_answer("s3cret in words"));
}

/// A folder in PATH for helper programs, and a config.json that names them.
class Helpers : public ::testing::Test {
 protected:
  Helpers() {
    char name[] = "/tmp/berth-helper-test-XXXXXX";
    EXPECT_NE(::mkdtemp(name), nullptr);
    dir_ = name;
    ::signal(SIGPIPE, SIG_IGN);  // a helper may end before it has read its input
    path_ = ::getenv("PATH");
    ::setenv("PATH", (dir_ + ":" + path_).c_str(), 1);
  }
  ~Helpers() override {
    ::setenv("PATH", path_.c_str(), 1);
    std::filesystem::remove_all(dir_);
  }
  Result<Auth> login(const std::string& script, const std::string& registry = "reg.lan", std::stop_token stop = {},
                     std::chrono::milliseconds time = std::chrono::seconds(60)) {
    const std::string helper = dir_ + "/docker-credential-test";
    std::ofstream(helper) << "#!/bin/sh\n" << script;
    ::chmod(helper.c_str(), 0755);
    std::ofstream(dir_ + "/config.json") << R"({"credsStore": "test", "auths": {"reg.lan": {"auth": "ZmlsZTpwdw=="}}})";
    return docker_login(dir_ + "/config.json", registry, "app", std::move(stop), time);
  }
  std::string dir_;
  std::string path_;
};

TEST_F(Helpers, AreAskedAsDockerAsksThem) {
  const std::string script =
      "echo \"$1 $(cat)\" > " + dir_ + "/asked\necho '{\"Username\": \"u\", \"Secret\": \"s\"}'\n";
  const auto asked = [this] {
    std::ifstream in(dir_ + "/asked");
    return std::string(std::istreambuf_iterator<char>(in), {});
  };
  auto auth = login(script);
  ASSERT_TRUE(auth) << auth.error().text();
  EXPECT_EQ(auth->username + auth->password, "us");
  EXPECT_EQ(asked(), "get reg.lan\n");
  ASSERT_TRUE(login(script, "docker.io"));
  EXPECT_EQ(asked(), "get https://index.docker.io/v1/\n");
}

TEST_F(Helpers, ThatKnowNothingLeaveItToTheFile) {
  const std::string script = "echo 'credentials not found in native keychain'\nexit 1\n";
  const auto auth = login(script);
  ASSERT_TRUE(auth) << auth.error().text();
  EXPECT_EQ(auth->auth, "ZmlsZTpwdw==");
  const auto other = login(script, "other.lan");
  ASSERT_TRUE(other);
  EXPECT_EQ(other->auth + other->username, "");
}

TEST_F(Helpers, ThatFailAreNamed) {
  auto auth = login("echo 'no key ring' >&2\nexit 3\n");
  ASSERT_FALSE(auth);
  EXPECT_EQ(auth.error().code(), Code::kUnavailable);
  EXPECT_THAT(auth.error().text(), HasSubstr("docker-credential-test exits with 3: no key ring"));
  auth = login("echo 's3cret'\n");
  ASSERT_FALSE(auth);
  EXPECT_THAT(auth.error().text(),
              AllOf(HasSubstr("docker-credential-test: its answer is no JSON object"), Not(HasSubstr("s3cret"))));
  auth = login("head -c 1000000 /dev/zero\n");
  ASSERT_FALSE(auth);
  EXPECT_EQ(auth.error().code(), Code::kExhausted);
  std::filesystem::remove(dir_ + "/docker-credential-test");
  std::ofstream(dir_ + "/config.json") << R"({"credsStore": "absent"})";
  auth = docker_login(dir_ + "/config.json", "reg.lan", "app", {});
  ASSERT_FALSE(auth);
  EXPECT_THAT(auth.error().text(), HasSubstr("docker-credential-absent"));
}

TEST_F(Helpers, AreLeftWhenThePullIsCancelled) {
  std::stop_source stop;
  stop.request_stop();
  const auto auth = login("sleep 600\n", "reg.lan", stop.get_token());
  ASSERT_FALSE(auth);
  EXPECT_EQ(auth.error().code(), Code::kCancelled);
}

TEST_F(Helpers, ThatHangAreEnded) {
  const auto auth = login("sleep 600\n", "reg.lan", {}, std::chrono::milliseconds(200));
  ASSERT_FALSE(auth);
  EXPECT_EQ(auth.error().code(), Code::kTimeout);
  EXPECT_THAT(auth.error().text(), HasSubstr("docker-credential-test"));
}

}  // namespace
}  // namespace berth::image
