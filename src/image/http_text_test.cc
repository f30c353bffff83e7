#include <gtest/gtest.h>

#include "base/base64.h"
#include "image/credentials.h"
#include "image/url.h"
#include "image/www_authenticate.h"

namespace berth::image {
namespace {

TEST(WwwAuthenticate, ReadsBearerAndBasic) {
  const auto got = parse_www_authenticate(R"(Bearer realm="https://auth.example/token?a=b",)"
                                          R"(service="reg \"x\"",scope="repository:a/b:pull,push", Basic realm=plain)");
  ASSERT_TRUE(got) << got.error().text();
  ASSERT_EQ(got->size(), 2U);
  EXPECT_EQ((*got)[0].scheme, "bearer");
  EXPECT_EQ((*got)[0].param("realm"), "https://auth.example/token?a=b");
  EXPECT_EQ((*got)[0].param("service"), "reg \"x\"");
  EXPECT_EQ((*got)[0].param("scope"), "repository:a/b:pull,push");
  EXPECT_EQ((*got)[1].scheme, "basic");
  EXPECT_EQ((*got)[1].param("realm"), "plain");
  EXPECT_EQ((*got)[1].param("none"), "");
}

TEST(WwwAuthenticate, TakesOddForms) {
  for (const char* text : {"Negotiate", "NEGOTIATE abc==", "Basic realm = \"x\"", "Basic , realm=x",
                           ",, Basic realm=\"\"", "Negotiate, Basic realm=x", "Bearer a=1,, b=2"}) {
    EXPECT_TRUE(parse_www_authenticate(text)) << text;
  }
  EXPECT_EQ(parse_www_authenticate("Negotiate, Basic realm=x")->size(), 2U);
}

TEST(WwwAuthenticate, RefusesNonsense) {
  std::string many = "Basic a=1";
  for (int i = 0; i < 40; ++i) many += ",a=1";
  for (const std::string& text : {std::string(), std::string("\"x\""), std::string("Basic realm=\"x"),
                                  std::string("Basic realm=\"x\" b"), std::string("Basic realm=x y=z"),
                                  std::string("Basic=x"), std::string("Basic \x01"), many, std::string(9000, 'a')}) {
    EXPECT_FALSE(parse_www_authenticate(text)) << text;
  }
}

TEST(Url, ResolvesAndChecks) {
  const auto base = parse_url("http://Example.COM/v2/a/blobs/x?y");
  ASSERT_TRUE(base) << base.error().text();
  EXPECT_EQ(base->host, "example.com");
  EXPECT_EQ(base->port, 80U);
  EXPECT_EQ(base->authority(), "example.com");
  const auto next = parse_url("/other?z=1", &*base);
  ASSERT_TRUE(next);
  EXPECT_TRUE(next->same_origin(*base));
  EXPECT_EQ(next->text, "http://example.com/other?z=1");
  const auto away = parse_url("//cdn.example:8443/q", &*base);
  ASSERT_TRUE(away);
  EXPECT_FALSE(away->same_origin(*base));
  EXPECT_EQ(parse_url("https://[::1]:5000/")->host, "::1");
  EXPECT_EQ(parse_url("https://[::1]:5000/")->authority(), "[::1]:5000");
  for (const char* text : {"", "ftp://a/", "file:///etc/passwd", "http://u:p@a/", "http://", "x"})
    EXPECT_FALSE(parse_url(text)) << text;
}

TEST(Url, Escapes) {
  EXPECT_EQ(url_escape("a b/ü&~"), "a%20b%2F%C3%BC%26~");
}

TEST(Credentials, AreForTheirServerAlone) {
  Auth auth;
  auth.auth = base64_encode("me:secret:x");
  auth.server_address = "https://index.docker.io/v1/";
  auto got = credentials_for(auth, "docker.io");
  ASSERT_TRUE(got);
  EXPECT_EQ(got->username, "me");
  EXPECT_EQ(got->password, "secret:x");
  got = credentials_for(auth, "quay.io");
  ASSERT_TRUE(got);
  EXPECT_TRUE(got->empty());
  auth.auth = "???";
  EXPECT_EQ(credentials_for(auth, "docker.io").error().code(), Code::kInvalid);
}

}  // namespace
}  // namespace berth::image
