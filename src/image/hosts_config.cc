#include "image/hosts_config.h"

#include <algorithm>
#include <array>
#include <charconv>

#include "base/strings.h"
#include "image/printable.h"
#include "image/url.h"
#include "os/file.h"
#include "toml/toml.h"

namespace berth::image {
namespace {

constexpr std::size_t kMaxFile = 256U << 10;
constexpr std::size_t kMaxHosts = 64;
constexpr std::size_t kMaxHeaderBytes = 16U << 10;  // of one host; larger requests are refused by servers
constexpr std::size_t kMaxWarnings = 16;

using toml::Member;
using toml::Node;
using Kind = toml::Node::Kind;

/// Reads one file: where a fault is, and what only deserves a warning.
class Reader final {
 public:
  explicit Reader(const std::string& path) : path_(path), folder_(path.substr(0, path.rfind('/') + 1)) {}
  Result<HostsConfig> read(const Node& root);

 private:
  [[nodiscard]] std::string place(const Member& member) const { return path_ + ":" + std::to_string(member.line); }
  [[nodiscard]] std::unexpected<Error> bad(const Member& member, const std::string& what) const {
    return fail(Code::kInvalid, place(member) + ": " + printable(member.key, 80) + ": " + what);
  }
  void warn(const Member& member, const std::string& what);
  [[nodiscard]] std::string absolute(const std::string& file) const {
    return file.starts_with('/') ? file : folder_ + file;
  }

  Result<> read_hosts(const Member& hosts);
  Result<HostConfig> read_host(const Member& host, const std::string& url, const Node& table);
  Result<bool> read_key(const Member& member, HostConfig& host);
  Result<> read_url(const Member& where, const std::string& text, bool override_path, HostConfig& host) const;
  Result<> read_capabilities(const Member& member, HostConfig& host);
  Result<> read_authorities(const Member& member, HostConfig& host) const;
  Result<> read_clients(const Member& member, HostConfig& host) const;
  Result<> read_headers(const Member& member, HostConfig& host) const;
  Result<> add_header(const Member& member, const Node& value, HostConfig& host) const;
  [[nodiscard]] Result<std::string> file_name(const Member& member, const Node& value) const;

  const std::string path_;
  const std::string folder_;  ///< with a slash at the end
  HostsConfig out_;
};

void Reader::warn(const Member& member, const std::string& what) {
  if (out_.warnings.size() < kMaxWarnings) {
    out_.warnings.push_back(place(member) + ": " + printable(member.key, 80) + ": " + what);
  }
}

Result<std::string> Reader::file_name(const Member& member, const Node& value) const {
  if (value.kind != Kind::kString) return bad(member, "must be the name of a file, not " + std::string(value.type));
  if (value.text.empty() || value.text.find('\0') != std::string::npos) return bad(member, "is no name of a file");
  return absolute(value.text);
}

Result<> Reader::read_url(const Member& where, const std::string& text, bool override_path, HostConfig& host) const {
  auto url = parse_url(text.find("://") == std::string::npos ? "https://" + text : text);
  if (!url) return fail(std::move(url).error().in(place(where)));
  host.scheme = url->scheme;
  host.authority = url->authority();
  // As containerd's own example has it; there is no API under the name itself.
  if (host.authority == "docker.io" || host.authority == "index.docker.io") host.authority = "registry-1.docker.io";
  std::string path = url->text.substr(url->text.find('/', url->scheme.size() + 3));
  if (path.find('?') != std::string::npos) return bad(where, "an address with a query is refused");
  path = clean_path(path);
  while (path.ends_with('/')) path.pop_back();
  if (!override_path && !path.ends_with("/v2")) path += "/v2";
  host.path = path;
  return {};
}

Result<> Reader::read_capabilities(const Member& member, HostConfig& host) {
  if (member.value.kind != Kind::kList) return bad(member, "must be a list, not " + std::string(member.value.type));
  if (member.value.items.empty()) return {};
  host.can_pull = false;
  host.can_resolve = false;
  for (const Node& item : member.value.items) {
    const std::string word = to_lower(item.text);
    if (item.kind != Kind::kString) return bad(member, "must hold strings, not " + std::string(item.type));
    if (word == "pull") {
      host.can_pull = true;
    } else if (word == "resolve") {
      host.can_resolve = true;
    } else if (word != "push") {  // nothing is pushed from here
      warn(member, "there is no capability \"" + printable(item.text, 40) + "\"");
    }
  }
  return {};
}

Result<> Reader::read_authorities(const Member& member, HostConfig& host) const {
  const Node& value = member.value;
  if (value.kind != Kind::kList) {
    auto file = file_name(member, value);
    if (!file) return fail(std::move(file).error());
    host.tls.authorities.push_back(std::move(*file));
    return {};
  }
  for (const Node& item : value.items) {
    auto file = file_name(member, item);
    if (!file) return fail(std::move(file).error());
    host.tls.authorities.push_back(std::move(*file));
  }
  return {};
}

/// A file that holds both, a list of these, or a list of pairs of certificate and key.
Result<> Reader::read_clients(const Member& member, HostConfig& host) const {
  const Node& value = member.value;
  const std::vector<Node> alone = {value};
  for (const Node& item : value.kind == Kind::kList ? value.items : alone) {
    const bool is_pair = item.kind == Kind::kList;
    if (is_pair && item.items.size() != 2) return bad(member, "a pair is a certificate and its key");
    auto certificate = file_name(member, is_pair ? item.items[0] : item);
    if (!certificate) return fail(std::move(certificate).error());
    ClientPair pair{std::move(*certificate), {}};
    const bool other_file = is_pair && !(item.items[1].kind == Kind::kString && item.items[1].text.empty());
    if (other_file) {
      auto key = file_name(member, item.items[1]);
      if (!key) return fail(std::move(key).error());
      pair.key = std::move(*key);
    }
    host.tls.clients.push_back(std::move(pair));
  }
  return {};
}

Result<> Reader::add_header(const Member& member, const Node& value, HostConfig& host) const {
  static constexpr std::string_view kMarks = "!#$%&'*+-.^_`|~";
  const bool good_name = !member.key.empty() && std::all_of(member.key.begin(), member.key.end(), [](char c) {
    return (c >= '0' && c <= '9') || (c >= 'a' && c <= 'z') || (c >= 'A' && c <= 'Z') || kMarks.find(c) != kMarks.npos;
  });
  if (!good_name) return bad(member, "is no name of a header");
  if (value.kind != Kind::kString) return bad(member, "must be a string, not " + std::string(value.type));
  for (const char c : value.text) {
    if (static_cast<unsigned char>(c) < 0x20 && c != '\t') return bad(member, "a header holds no control characters");
  }
  host.headers.push_back(member.key + ": " + value.text);
  return {};
}

Result<> Reader::read_headers(const Member& member, HostConfig& host) const {
  if (member.value.kind != Kind::kTable) return bad(member, "must be a table, not " + std::string(member.value.type));
  for (const Member& header : member.value.members) {
    if (header.value.kind != Kind::kList) {
      if (auto added = add_header(header, header.value, host); !added) return added;
      continue;
    }
    for (const Node& item : header.value.items) {
      if (auto added = add_header(header, item, host); !added) return added;
    }
  }
  std::size_t bytes = 0;
  for (const std::string& line : host.headers) bytes += line.size() + 2;
  if (bytes > kMaxHeaderBytes) return bad(member, "more than " + std::to_string(kMaxHeaderBytes) + " bytes of headers");
  return {};
}

/// False: it is none of a host's keys.
Result<bool> Reader::read_key(const Member& member, HostConfig& host) {
  const Node& value = member.value;
  Result<> done;
  if (member.key == "capabilities") {
    done = read_capabilities(member, host);
  } else if (member.key == "ca") {
    done = read_authorities(member, host);
  } else if (member.key == "client") {
    done = read_clients(member, host);
  } else if (member.key == "header") {
    done = read_headers(member, host);
  } else if (member.key == "skip_verify") {
    if (value.kind != Kind::kBool) return bad(member, "must be true or false, not " + std::string(value.type));
    host.tls.skip_verify = value.flag;
  } else if (member.key == "dial_timeout") {
    const auto time = value.kind == Kind::kString ? parse_go_duration(value.text) : std::nullopt;
    if (!time) return bad(member, "must be a duration like \"1s\" or \"500ms\"");
    host.dial_timeout = *time;
  } else if (member.key == "override_path") {  // read with the address
    if (value.kind != Kind::kBool) return bad(member, "must be true or false, not " + std::string(value.type));
  } else {
    return false;
  }
  if (!done) return fail(std::move(done).error());
  return true;
}

Result<HostConfig> Reader::read_host(const Member& host, const std::string& url, const Node& table) {
  HostConfig out;
  for (const Member& member : table.members) {
    auto known = read_key(member, out);
    if (!known) return fail(std::move(known).error());
    const bool is_root = &table != &host.value;
    if (!*known && !(is_root && (member.key == "server" || member.key == "host"))) {
      warn(member, "is not a key that is known here");
    }
  }
  if (url.empty()) return out;
  const Member* override_path = table.find("override_path");
  if (auto read = read_url(host, url, override_path != nullptr && override_path->value.flag, out); !read) {
    return fail(std::move(read).error());
  }
  return out;
}

Result<> Reader::read_hosts(const Member& hosts) {
  if (hosts.value.kind != Kind::kTable) return bad(hosts, "must be tables, [host.\"https://...\"]");
  if (hosts.value.members.size() > kMaxHosts) return bad(hosts, "more than " + std::to_string(kMaxHosts) + " hosts");
  for (const Member& host : hosts.value.members) {
    if (host.value.kind != Kind::kTable) return bad(host, "must be a table, not " + std::string(host.value.type));
    if (host.key.empty()) return bad(host, "an address is missing");
    auto read = read_host(host, host.key, host.value);
    if (!read) return fail(std::move(read).error());
    out_.mirrors.push_back(std::move(*read));
  }
  return {};
}

Result<HostsConfig> Reader::read(const Node& root) {
  const Member nothing{"server", 1, 1, {}};
  const Member* server = root.find("server");
  if (server == nullptr) server = &nothing;
  if (server != &nothing && server->value.kind != Kind::kString) {
    return bad(*server, "must be a string, not " + std::string(server->value.type));
  }
  auto read_server = read_host(*server, server->value.text, root);
  if (!read_server) return fail(std::move(read_server).error());
  out_.server = std::move(*read_server);
  if (out_.server.scheme.empty()) {  // the registry itself can do everything
    out_.server.can_pull = true;
    out_.server.can_resolve = true;
  }
  if (const Member* hosts = root.find("host")) {
    if (auto done = read_hosts(*hosts); !done) return fail(std::move(done).error());
  }
  return std::move(out_);
}

}  // namespace

std::vector<std::string> host_folders(const std::string& hosts_dir, const std::string& authority) {
  std::vector<std::string> names;
  const std::size_t colon = authority.rfind(':');
  const bool has_port = colon != std::string::npos && authority.find(']', colon) == std::string::npos;
  if (has_port) names.push_back(authority.substr(0, colon) + "_" + authority.substr(colon + 1) + "_");
  names.push_back(authority);
  // The host behind the name docker.io has its files in that name's folder, too.
  if (authority == "registry-1.docker.io") names.emplace_back("docker.io");
  names.emplace_back("_default");
  for (std::string& name : names) name = hosts_dir + "/" + name;
  return names;
}

std::optional<std::chrono::milliseconds> parse_go_duration(std::string_view text) {
  static constexpr std::array<std::pair<std::string_view, double>, 8> kUnits = {{{"ns", 1e-6},
                                                                                 {"us", 1e-3},
                                                                                 {"\xC2\xB5s", 1e-3},
                                                                                 {"\xCE\xBCs", 1e-3},
                                                                                 {"ms", 1.0},
                                                                                 {"s", 1e3},
                                                                                 {"m", 60e3},
                                                                                 {"h", 3600e3}}};
  constexpr double kDay = 24 * 3600e3;
  if (text == "0") return std::chrono::milliseconds(0);
  if (text.empty() || text.size() > 64) return std::nullopt;
  double total = 0;
  while (!text.empty()) {
    const std::size_t digits = std::min(text.find_first_not_of("0123456789."), text.size());
    const std::string part(text.substr(0, digits));
    double number = 0;
    const char* const behind = part.data() + part.size();
    const auto [end, error] = std::from_chars(part.data(), behind, number, std::chars_format::fixed);
    if (part.empty() || error != std::errc{} || end != behind) return std::nullopt;
    text.remove_prefix(digits);
    const std::size_t length = std::min(text.find_first_of("0123456789."), text.size());
    const auto unit = std::find_if(kUnits.begin(), kUnits.end(),
                                   [&](const auto& entry) { return entry.first == text.substr(0, length); });
    if (unit == kUnits.end()) return std::nullopt;
    text.remove_prefix(length);
    total += number * unit->second;
    if (total > kDay) return std::nullopt;
  }
  // What is below a millisecond is still a limit, and 0 is none.
  return std::chrono::milliseconds(total > 0 && total < 1 ? 1 : static_cast<std::int64_t>(total));
}

Result<HostsConfig> parse_hosts(std::string_view text, const std::string& path) {
  auto root = toml::parse(text, kMaxFile);
  if (!root) return fail(Error(root.error().code(), path + ":" + root.error().text()));
  return Reader(path).read(*root);
}

Result<HostsConfig> load_hosts(const std::string& hosts_dir, const std::string& registry) {
  if (hosts_dir.empty()) return HostsConfig{};
  for (const std::string& folder : host_folders(hosts_dir, registry)) {
    if (!os::exists(folder)) continue;
    // Only the first folder counts: one with certificates alone says that there are no mirrors.
    const std::string path = folder + "/hosts.toml";
    auto text = os::read_regular_file(path, kMaxFile);
    if (!text && text.error().code() == Code::kNotFound) break;
    if (!text) return fail(std::move(text).error().in("mirrors"));
    auto hosts = parse_hosts(*text, path);
    if (!hosts) return fail(std::move(hosts).error().in("mirrors"));
    return hosts;
  }
  return HostsConfig{};
}

}  // namespace berth::image
