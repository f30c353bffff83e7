#pragma once
#include <chrono>
#include <stop_token>
#include <string>
#include <string_view>
#include <utility>
#include <vector>

#include "base/result.h"
#include "image/auth.h"

/// Docker's config.json: the node's own logins. Source: docs.docker.com "docker login", section Credential stores;
/// containers-auth.json(5) for keys with a path.
namespace berth::image {

/// What the file says, as far as logins go. Never formatted or logged.
struct DockerConfig {
  std::vector<std::pair<std::string, Auth>> auths{};                ///< key as written and its login, in order
  std::string creds_store{};                                        ///< NAME of docker-credential-NAME, or empty
  std::vector<std::pair<std::string, std::string>> cred_helpers{};  ///< key as written and NAME
};

/// At most 1 MiB, 1000 entries each. Other members are passed over. Errors: kInvalid no JSON of that shape, or the name
/// of a helper that could be a path; kExhausted.
[[nodiscard]] Result<DockerConfig> parse_docker_config(std::string_view text);

/// The login of `auths` for `repository` of `registry`: of the keys that name the registry the one with the longest
/// path that leads to the repository ("quay.io/team" goes before "quay.io"). Empty when there is none.
[[nodiscard]] Auth login_from_file(const DockerConfig& config, std::string_view registry, std::string_view repository);
/// The helper that is asked for `registry`, or empty.
[[nodiscard]] std::string helper_for(const DockerConfig& config, std::string_view registry);

/// A helper's answer to `get`. Errors: kCorrupt.
[[nodiscard]] Result<Auth> parse_helper_answer(std::string_view text);

/// What a helper may take: people wait for the pull.
inline constexpr std::chrono::milliseconds kHelperTime{10'000};

/// The login that the file at `path` has for `repository` of `registry`, from its helper where it names one. Empty when
/// there is none. Blocks: on disk, and up to `time` on the helper, which gets the daemon's environment.
/// Errors: kNotFound no such file; those of parse_docker_config(); of the helper: kUnavailable, kTimeout, kCorrupt,
/// kExhausted, kCancelled.
[[nodiscard]] Result<Auth> docker_login(const std::string& path, const std::string& registry,
                                        const std::string& repository, std::stop_token stop,
                                        std::chrono::milliseconds time = kHelperTime);

}  // namespace berth::image
