#pragma once
#include <memory>
#include <string>
#include <vector>

#include "image/url.h"

namespace berth::image {

/// A client certificate: PEM files, absolute. `key` may be empty: then it is in the same file.
struct ClientPair {
  std::string certificate;
  std::string key;
  bool operator==(const ClientPair&) const = default;
};

/// Whom TLS trusts and who it says we are. Names of files, which are read at each handshake. Values copy.
struct TlsFiles {
  std::vector<std::string> authorities{};  ///< PEM files, beside the system's
  std::vector<ClientPair> clients{};       ///< the one that the server's list of issuers fits, else the first
  bool skip_verify = false;                ///< trust any certificate

  [[nodiscard]] bool empty() const { return authorities.empty() && clients.empty() && !skip_verify; }
  bool operator==(const TlsFiles&) const = default;
};

/// What the folder of `url`'s host below `hosts_dir` holds: `*.crt` authorities, NAME.cert with NAME.key. Nothing for
/// http and where there is no folder. Blocks on disk. Source: docs.docker.com "certificates for repository client".
[[nodiscard]] TlsFiles tls_files_for(const std::string& hosts_dir, const Url& url);

/// The TLS settings of one session's requests. libcurl's connections keep pointers into it: it must outlive them.
/// Not thread-safe.
class TlsSetup final {
 public:
  /// Sets the options of `easy` (a CURL*, freshly reset) for a handshake with `files`.
  void apply(void* easy, const TlsFiles& files);
  /// What was wrong with a file in the last handshake, naming it; empty when nothing was.
  [[nodiscard]] std::string problem() const { return last_ == nullptr ? std::string() : last_->problem; }

  struct Use {
    TlsFiles files;
    std::string problem{};
  };

 private:
  std::vector<std::unique_ptr<Use>> uses_;  ///< one for each set of files that was ever used
  Use* last_ = nullptr;
};

}  // namespace berth::image
