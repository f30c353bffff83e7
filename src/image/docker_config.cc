#include "image/docker_config.h"

#include <unistd.h>

#include <algorithm>

#include "base/strings.h"
#include "image/credentials.h"
#include "image/printable.h"
#include "os/file.h"
#include "os/spawn.h"
#include "spec/json_text.h"

namespace berth::image {
namespace {

constexpr std::size_t kMaxFile = 1U << 20;
constexpr std::size_t kMaxEntries = 1000;
constexpr std::size_t kMaxAnswer = 64U << 10;
constexpr std::size_t kMaxName = 128;

/// Docker's own key for its registry, which helpers and files have instead of a host.
constexpr std::string_view kDockerKey = "https://index.docker.io/v1/";

bool helper_name(std::string_view name) {
  return !name.empty() && name.size() <= kMaxName && std::all_of(name.begin(), name.end(), [](char c) {
    return (c >= '0' && c <= '9') || (c >= 'a' && c <= 'z') || (c >= 'A' && c <= 'Z') || c == '-' || c == '_' ||
           c == '.';
  });
}

/// How well `key` means `repository` of `registry`: 0 not at all, else one more than the length of its path.
std::size_t fit(std::string_view key, std::string_view registry, std::string_view repository) {
  if (server_host(key) != server_host(registry)) return 0;
  if (key.find("://") != std::string_view::npos) return 1;  // the path of an address is that of the API
  const std::size_t slash = key.find('/');
  std::string_view path = slash == std::string_view::npos ? std::string_view() : key.substr(slash + 1);
  while (path.ends_with('/')) path.remove_suffix(1);
  if (path.empty() || path == "v1" || path == "v2") return 1;
  const bool leads =
      repository.starts_with(path) && (repository.size() == path.size() || repository[path.size()] == '/');
  return leads ? path.size() + 1 : 0;
}

Result<Auth> read_auth(const spec::Json& json) {
  Auth out;
  for (const auto& [name, member] : {std::pair{"username", &out.username},
                                     {"password", &out.password},
                                     {"auth", &out.auth},
                                     {"identitytoken", &out.identity_token},
                                     {"registrytoken", &out.registry_token}}) {
    const spec::Json* value = json.get(name);
    if (value == nullptr || value->is_null()) continue;
    const auto text = value->as_string();
    if (!text) return fail(Code::kInvalid, std::string(name) + " must be a string");
    *member = *text;
  }
  return out;
}

std::vector<std::string> own_environment() {
  std::vector<std::string> out;
  for (char** entry = environ; entry != nullptr && *entry != nullptr; ++entry) out.emplace_back(*entry);
  return out;
}

/// Empty when the helper knows nothing of `registry`.
Result<Auth> ask_helper(const std::string& helper, std::string_view registry, std::stop_token stop,
                        std::chrono::milliseconds time) {
  const std::string program = "docker-credential-" + helper;
  os::RunOptions options;
  options.spawn.argv = {program, "get"};
  options.spawn.env = own_environment();
  options.input = server_host(registry) == "docker.io" ? std::string(kDockerKey) : std::string(registry);
  options.output_limit = kMaxAnswer;
  options.timeout = time;
  options.stop = std::move(stop);
  auto ran = os::run(std::move(options));
  if (!ran) {
    const Code code = ran.error().code();
    const bool own = code == Code::kTimeout || code == Code::kExhausted || code == Code::kCancelled;
    return fail(own ? std::move(ran).error() : std::move(ran).error().as(Code::kUnavailable));
  }
  if (ran->exit_code == 0) {
    auto answer = parse_helper_answer(ran->out);
    if (!answer) return fail(std::move(answer).error().in(program));
    return answer;
  }
  // The protocol has no code for "I have none": it is said in words, on stdout.
  if (ran->out.find("credentials not found") != std::string::npos) return Auth{};
  const std::string& words = trim(ran->err).empty() ? ran->out : ran->err;
  return fail(Code::kUnavailable,
              program + " exits with " + std::to_string(ran->exit_code) + ": " + printable(trim(words), 200));
}

}  // namespace

Result<DockerConfig> parse_docker_config(std::string_view text) {
  auto json = spec::parse_json(text, {.max_bytes = kMaxFile, .max_depth = 32});
  if (!json) return fail(std::move(json).error());
  if (!json->is_object()) return fail(Code::kInvalid, "must be an object");
  DockerConfig out;
  if (const spec::Json* auths = json->get("auths"); auths != nullptr && !auths->is_null()) {
    if (!auths->is_object()) return fail(Code::kInvalid, "auths must be an object");
    if (auths->members().size() > kMaxEntries) return fail(Code::kExhausted, "auths has more than 1000 members");
    for (const auto& [key, value] : auths->members()) {
      auto auth = read_auth(value);
      if (!auth) return fail(std::move(auth).error().in("auths." + printable(key, 80)));
      out.auths.emplace_back(key, std::move(*auth));
    }
  }
  out.creds_store = json->string_or("credsStore");
  if (!out.creds_store.empty() && !helper_name(out.creds_store)) {
    return fail(Code::kInvalid, "credsStore: \"" + printable(out.creds_store, 80) + "\" is no name of a helper");
  }
  if (const spec::Json* helpers = json->get("credHelpers"); helpers != nullptr && !helpers->is_null()) {
    if (!helpers->is_object()) return fail(Code::kInvalid, "credHelpers must be an object");
    if (helpers->members().size() > kMaxEntries)
      return fail(Code::kExhausted, "credHelpers has more than 1000 members");
    for (const auto& [key, value] : helpers->members()) {
      const std::string name(value.as_string().value_or(""));
      if (!name.empty() && !helper_name(name)) {
        return fail(Code::kInvalid, "credHelpers: \"" + printable(name, 80) + "\" is no name of a helper");
      }
      out.cred_helpers.emplace_back(key, name);
    }
  }
  return out;
}

Auth login_from_file(const DockerConfig& config, std::string_view registry, std::string_view repository) {
  Auth out;
  std::size_t best = 0;
  for (const auto& [key, auth] : config.auths) {
    const std::size_t found = fit(key, registry, repository);
    if (found <= best) continue;
    best = found;
    out = auth;
  }
  return out;
}

std::string helper_for(const DockerConfig& config, std::string_view registry) {
  for (const auto& [key, name] : config.cred_helpers) {
    if (server_host(key) == server_host(registry)) return name;
  }
  return config.creds_store;
}

Result<Auth> parse_helper_answer(std::string_view text) {
  auto json = spec::parse_json(text, {.max_bytes = kMaxAnswer, .max_depth = 8});
  if (!json || !json->is_object()) return fail(Code::kCorrupt, "its answer is no JSON object");
  const std::string_view user = json->string_or("Username");
  const std::string_view secret = json->string_or("Secret");
  Auth out;
  if (user == "<token>") {
    out.identity_token = secret;
  } else {
    out.username = user;
    out.password = secret;
  }
  return out;
}

Result<Auth> docker_login(const std::string& path, const std::string& registry, const std::string& repository,
                          std::stop_token stop, std::chrono::milliseconds time) {
  auto text = os::read_regular_file(path, kMaxFile);
  if (!text) return fail(std::move(text).error());
  auto config = parse_docker_config(*text);
  if (!config) return fail(std::move(config).error().in(path));
  if (const std::string helper = helper_for(*config, registry); !helper.empty()) {
    auto login = ask_helper(helper, registry, std::move(stop), time);
    if (!login) return login;
    if (!login->username.empty() || !login->identity_token.empty()) return login;
  }
  return login_from_file(*config, registry, repository);
}

}  // namespace berth::image
