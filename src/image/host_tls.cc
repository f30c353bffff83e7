#include "image/host_tls.h"

#include <curl/curl.h>
#include <openssl/err.h>
#include <openssl/pem.h>
#include <openssl/ssl.h>
#include <openssl/x509.h>

#include <algorithm>

#include "image/hosts_config.h"
#include "os/file.h"

namespace berth::image {
namespace {

struct X509Deleter {
  void operator()(X509* certificate) const { X509_free(certificate); }
};
struct BioDeleter {
  void operator()(BIO* bio) const { BIO_free(bio); }
};

const std::string& key_file(const ClientPair& pair) {
  return pair.key.empty() ? pair.certificate : pair.key;
}

/// Whether `file`'s first certificate is by one of `issuers`.
bool issued_by(const std::string& file, const STACK_OF(X509_NAME) * issuers) {
  const std::unique_ptr<BIO, BioDeleter> bio(BIO_new_file(file.c_str(), "r"));
  if (!bio) return false;
  const std::unique_ptr<X509, X509Deleter> certificate(PEM_read_bio_X509(bio.get(), nullptr, nullptr, nullptr));
  if (!certificate) return false;
  for (int i = 0; i < sk_X509_NAME_num(issuers); ++i) {
    if (X509_NAME_cmp(sk_X509_NAME_value(issuers, i), X509_get_issuer_name(certificate.get())) == 0) return true;
  }
  return false;
}

/// OpenSSL asks when the server wants a certificate: 1 goes on.
int choose_client(SSL* ssl, void* user) {
  const auto& clients = static_cast<const TlsSetup::Use*>(user)->files.clients;
  const STACK_OF(X509_NAME)* issuers = SSL_get0_peer_CA_list(ssl);
  auto chosen = std::find_if(clients.begin(), clients.end(), [issuers](const ClientPair& pair) {
    return issuers != nullptr && issued_by(pair.certificate, issuers);
  });
  if (chosen == clients.end()) chosen = clients.begin();
  SSL_certs_clear(ssl);
  return SSL_use_certificate_chain_file(ssl, chosen->certificate.c_str()) == 1 &&
                 SSL_use_PrivateKey_file(ssl, key_file(*chosen).c_str(), SSL_FILETYPE_PEM) == 1
             ? 1
             : 0;
}

CURLcode bad_file(TlsSetup::Use& use, CURLcode code, const std::string& what, const std::string& file) {
  const char* reason = ERR_reason_error_string(ERR_peek_last_error());
  use.problem = what + " " + file + " cannot be used" + (reason == nullptr ? "" : std::string(": ") + reason);
  ERR_clear_error();
  return code;
}

CURLcode on_context(CURL* /*easy*/, void* context, void* user) {
  auto* ssl = static_cast<SSL_CTX*>(context);
  auto& use = *static_cast<TlsSetup::Use*>(user);
  ERR_clear_error();
  for (const std::string& file : use.files.authorities) {
    if (SSL_CTX_load_verify_file(ssl, file.c_str()) == 1) continue;
    return bad_file(use, CURLE_SSL_CACERT_BADFILE, "the authorities' file", file);
  }
  for (const ClientPair& pair : use.files.clients) {
    if (SSL_CTX_use_certificate_chain_file(ssl, pair.certificate.c_str()) != 1) {
      return bad_file(use, CURLE_SSL_CERTPROBLEM, "the client certificate", pair.certificate);
    }
    if (SSL_CTX_use_PrivateKey_file(ssl, key_file(pair).c_str(), SSL_FILETYPE_PEM) != 1) {
      return bad_file(use, CURLE_SSL_CERTPROBLEM, "the client key", key_file(pair));
    }
  }
  if (use.files.clients.size() > 1) SSL_CTX_set_cert_cb(ssl, choose_client, user);
  return CURLE_OK;
}

}  // namespace

TlsFiles tls_files_for(const std::string& hosts_dir, const Url& url) {
  TlsFiles out;
  if (hosts_dir.empty() || url.scheme != "https") return out;
  for (const std::string& dir : host_folders(hosts_dir, url.authority())) {
    const auto names = os::list_dir(dir);
    if (!names) continue;
    for (const std::string& name : *names) {
      if (name.ends_with(".crt")) out.authorities.push_back(dir + "/" + name);
      if (!name.ends_with(".cert")) continue;
      const std::string key = name.substr(0, name.size() - 4) + "key";
      if (std::find(names->begin(), names->end(), key) == names->end()) continue;
      out.clients.push_back({dir + "/" + name, dir + "/" + key});
    }
    break;
  }
  return out;
}

void TlsSetup::apply(void* easy, const TlsFiles& files) {
  last_ = nullptr;
  if (files.empty()) return;
  const auto known =
      std::find_if(uses_.begin(), uses_.end(), [&files](const auto& use) { return use->files == files; });
  if (known != uses_.end()) {
    last_ = known->get();
  } else {
    last_ = uses_.emplace_back(std::make_unique<Use>(Use{files})).get();
  }
  last_->problem.clear();
  if (files.skip_verify) {
    curl_easy_setopt(easy, CURLOPT_SSL_VERIFYPEER, 0L);
    curl_easy_setopt(easy, CURLOPT_SSL_VERIFYHOST, 0L);
  }
  curl_easy_setopt(easy, CURLOPT_SSL_CTX_FUNCTION, on_context);
  curl_easy_setopt(easy, CURLOPT_SSL_CTX_DATA, last_);
}

}  // namespace berth::image
