#pragma once
#include <chrono>
#include <cstdint>
#include <memory>
#include <optional>
#include <stop_token>
#include <string>
#include <vector>

#include "base/result.h"
#include "image/auth.h"
#include "image/decompress.h"
#include "image/endpoint.h"
#include "image/endpoint_health.h"
#include "image/http.h"
#include "image/reference.h"
#include "spec/image.h"

namespace berth::image {

struct RegistryOptions {
  std::vector<std::string> insecure_registries{};
  std::string hosts_dir{};           ///< hosts.toml and certificates, a folder for each registry; or empty
  std::string auth_file{};           ///< Docker's config.json; or empty
  EndpointHealth* health = nullptr;  ///< shared by pulls; may be absent
  std::chrono::seconds stall_timeout{60};
  std::chrono::milliseconds first_retry_delay{250};  ///< doubled each time
};

/// A manifest or index as a registry sent it; its digest has been computed from the bytes.
struct Document {
  std::string body;
  std::string content_type;
  std::string digest;
};

/// Reads one repository of one registry by way of its hosts: the mirrors of hosts.toml in their order, then the
/// registry (or its `server`). Each request goes from one host to the next until one gives what was asked for; those
/// that did not answer lately come last. When all have failed and the last of them only for now (broken connections,
/// 429, 5xx), all is tried again a few times. A broken blob goes on where it broke (Range), with the next host, too.
/// Thread-safe: each thread brings its own session. How one host is spoken to: endpoint.h. Source: OCI
/// distribution-spec 1.1.
class Registry final {
 public:
  /// Reads hosts.toml. The caller's login is for the registry itself, or for the host that auth.server_address names.
  /// kInvalid: bad credentials, or hosts.toml, with its line.
  static Result<std::unique_ptr<Registry>> open(const RegistryOptions& options, const Reference& reference,
                                                const Auth& auth);
  Registry(const Registry&) = delete;
  Registry& operator=(const Registry&) = delete;
  Registry(Registry&&) = delete;
  Registry& operator=(Registry&&) = delete;
  ~Registry();

  /// A session with this registry's timeouts.
  [[nodiscard]] Result<std::unique_ptr<HttpSession>> session() const;

  /// Fetches "manifests/<which>" (a tag or digest). At most 4 MiB.
  /// Errors: kNotFound; kDenied; kCorrupt digest mismatch; kUnavailable; kTimeout; kCancelled; kExhausted too large.
  Result<Document> manifest(HttpSession& session, const std::string& which, std::stop_token stop);
  /// Streams a blob of exactly descriptor.size bytes in order into `sink`, which checks the digest. Errors as
  /// manifest().
  Result<> blob(HttpSession& session, const spec::Descriptor& descriptor, const ByteSink& sink, std::stop_token stop);

  /// After bytes that did not verify: leaves out the mirrors that have given any. False: there were none, and the bytes
  /// are the registry's.
  bool distrust_mirrors();
  [[nodiscard]] bool has_mirrors() const { return hosts_.size() > 1; }

 private:
  using Outcome = Endpoint::Outcome;
  struct Host;
  struct Candidate;
  struct Request;
  Registry(const RegistryOptions& options, const Reference& reference);

  [[nodiscard]] std::vector<Candidate> candidates(bool resolve) const;
  [[nodiscard]] std::vector<Candidate*> in_order(std::vector<Candidate>& all) const;
  Result<> fetch(HttpSession& session, Request& request);
  Outcome ask_host(HttpSession& session, Request& request, Host& host, bool has_others);
  void note(Host& host, const Outcome& outcome) const;
  [[nodiscard]] Error failure(const std::vector<Candidate>& all, Error last) const;
  /// Waits before another round; an error when it is no use to try (`tries` so far without progress).
  Result<> before_retry(const Outcome& outcome, const Host& host, const Request& request) const;

  const RegistryOptions options_;
  const std::string repository_;
  const std::string registry_;                ///< as in names
  std::vector<std::unique_ptr<Host>> hosts_;  ///< the registry, or its server, last
};

}  // namespace berth::image
