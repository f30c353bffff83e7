#pragma once
#include <chrono>
#include <cstdint>
#include <memory>
#include <optional>
#include <stop_token>
#include <string>
#include <vector>

#include "base/result.h"
#include "base/thread_annotations.h"
#include "image/credentials.h"
#include "image/decompress.h"
#include "image/http.h"
#include "image/reference.h"
#include "spec/image.h"

namespace berth::image {

struct RegistryOptions {
  std::vector<std::string> insecure_registries;
  std::string certs_dir;
  std::chrono::seconds stall_timeout{60};
  std::chrono::milliseconds first_retry_delay{250};  ///< doubled each time
};

/// A manifest or index as a registry sent it; its digest has been computed from the bytes.
struct Document {
  std::string body;
  std::string content_type;
  std::string digest;
};

/// Reads one repository of one registry. Thread-safe: each thread brings its own session; the token and the choice
/// between http and https are shared. Source: OCI distribution-spec 1.1; distribution spec/auth/token.md.
///
/// https always, except: this machine is spoken to over http first and over https when it does not answer http; hosts
/// in insecure_registries over https first and over http when there is no TLS. An untrusted certificate is never a
/// reason for http. Redirects: at most 10, none twice, none from https to http, and the Authorization header goes to
/// the registry alone. Broken connections, 429 and 5xx are tried again a few times; a broken blob goes on where it
/// broke (Range).
class Registry final {
 public:
  /// kInvalid: bad credentials.
  static Result<std::unique_ptr<Registry>> open(RegistryOptions options, const Reference& reference, const Auth& auth);

  /// A session with this registry's timeouts.
  [[nodiscard]] Result<std::unique_ptr<HttpSession>> session() const;

  /// Fetches "manifests/<which>" (a tag or digest). At most 4 MiB.
  /// Errors: kNotFound; kDenied; kCorrupt digest mismatch; kUnavailable; kTimeout; kCancelled; kExhausted too large.
  Result<Document> manifest(HttpSession& session, const std::string& which, std::stop_token stop);
  /// Streams a blob of exactly descriptor.size bytes in order into `sink`, which checks the digest. Errors as
  /// manifest().
  Result<> blob(HttpSession& session, const spec::Descriptor& descriptor, const ByteSink& sink, std::stop_token stop);

 private:
  using Outcome = std::expected<HttpResponse, HttpFailure>;
  Registry(RegistryOptions options, const Reference& reference, Credentials credentials);

  [[nodiscard]] bool plain_allowed(const std::string& host, unsigned port) const;
  Result<Url> address(const std::string& path);
  bool switch_scheme(const Outcome& outcome);
  Outcome attempt(HttpSession& session, HttpRequest& request);
  Outcome follow(HttpSession& session, const HttpRequest& request, const std::string& authorization, bool& at_registry);
  Result<> authenticate(HttpSession& session, const HttpResponse& response, const std::string& used,
                        std::stop_token stop);
  /// Waits before another try; an error when it is no use to try (`tries` so far without progress).
  Result<> before_retry(const Outcome& outcome, unsigned tries, std::stop_token stop, const std::string& what) const;
  Error failure_of(const HttpResponse& response, const std::string& what) const;

  const RegistryOptions options_;
  const std::string repository_;
  const std::string registry_;  ///< as in names
  std::string host_;            ///< as spoken to, with the port if one was given
  const Credentials credentials_;
  Mutex mutex_;
  std::string scheme_ BERTH_GUARDED_BY(mutex_);
  std::string other_scheme_ BERTH_GUARDED_BY(mutex_);  ///< may be tried instead while nothing has answered
  bool broke_once_ BERTH_GUARDED_BY(mutex_) = false;
  std::string authorization_ BERTH_GUARDED_BY(mutex_);
  Mutex login_mutex_;  ///< one login at a time; taken before mutex_
};

}  // namespace berth::image
