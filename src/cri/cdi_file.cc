#include "cri/cdi_file.h"

#include <algorithm>
#include <array>
#include <set>
#include <utility>

#include "base/strings.h"
#include "cri/yaml_text.h"
#include "spec/json_reader.h"
#include "spec/own_options.h"

namespace berth::cri::cdi {
namespace {

using spec::JsonReader;

constexpr std::size_t kMaxDevices = 16384;
constexpr std::size_t kMaxNamePart = 253;
constexpr std::int64_t kMaxNumber = 0xffffffffLL;

/// Versions in their order; what a file uses must not be younger than what it names.
enum Version : unsigned { k010, k020, k030, k040, k050, k060, k070, k080, k100, k110 };
constexpr std::array<std::string_view, 10> kVersions = {"0.1.0", "0.2.0", "0.3.0", "0.4.0", "0.5.0",
                                                        "0.6.0", "0.7.0", "0.8.0", "1.0.0", "1.1.0"};

constexpr std::array<std::pair<std::string_view, HookName>, 6> kHooks = {{
    {"prestart", HookName::kPrestart},
    {"createRuntime", HookName::kCreateRuntime},
    {"createContainer", HookName::kCreateContainer},
    {"startContainer", HookName::kStartContainer},
    {"poststart", HookName::kPoststart},
    {"poststop", HookName::kPoststop},
}};

bool is_alphanumeric(char c) {
  return (c >= 'a' && c <= 'z') || (c >= 'A' && c <= 'Z') || (c >= '0' && c <= '9');
}

/// Begins and ends with a letter or digit; between them `others`, too.
bool is_name(std::string_view text, std::string_view others) {
  if (text.empty() || text.size() > kMaxNamePart) return false;
  if (!is_alphanumeric(text.front()) || !is_alphanumeric(text.back())) return false;
  return std::ranges::all_of(text, [&](char c) { return is_alphanumeric(c) || others.contains(c); });
}
bool begins_with_digit(std::string_view text) {
  return !text.empty() && text.front() >= '0' && text.front() <= '9';
}
bool is_kind(std::string_view text) {
  const auto slash = text.find('/');
  if (slash == std::string_view::npos || begins_with_digit(text)) return false;
  const auto name = text.substr(slash + 1);
  return is_name(text.substr(0, slash), "_-.") && is_name(name, "_-.") && !begins_with_digit(name);
}
bool is_device_name(std::string_view text) {
  return is_name(text, "_-.:");
}

/// One member after the other of one document. What it has found wrong stays in the reader.
class Parser final {
 public:
  explicit Parser(JsonReader& reader) : reader_(reader) {}

  bool file(File& out);

 private:
  bool needs(Version version) {
    needed_ = std::max(needed_, version);
    return true;
  }
  bool unknown(std::string_view name) { return reader_.fail_here("\"" + std::string(name) + "\" is no member of it"); }
  /// Every member may be null, which is as if it were not there.
  bool absent() { return reader_.peek() == JsonReader::Kind::kNull && reader_.null(); }

  bool text(std::string& out);
  bool path(std::string& out);
  bool texts(std::vector<std::string>& out);
  bool variables(std::vector<std::string>& out);
  bool number(std::int64_t& out) { return reader_.signed_number(out, 0, kMaxNumber); }
  bool id(std::optional<std::uint32_t>& out);
  bool annotations();
  bool device(Device& out);
  bool devices(std::vector<Device>& out);
  bool edits(Edits& out);
  bool node(DeviceNode& out);
  bool access(std::string& out);
  bool mount(spec::Mount& out);
  bool hook(HookEdit& out);
  bool rdt(spec::IntelRdt& out);
  bool gid(std::vector<std::uint32_t>& out);
  bool net_devices();
  bool check(const File& file);

  /// A list of `Item`s, each read by `read`.
  template <class Item>
  bool list(std::vector<Item>& out, bool (Parser::*read)(Item&)) {
    return reader_.array([&] {
      out.emplace_back();
      return (this->*read)(out.back());
    });
  }

  JsonReader& reader_;
  Version needed_ = k030;
  std::string version_;
};

/// A number counts as its text: so do the readers that vendors try their YAML with.
bool Parser::text(std::string& out) {
  if (reader_.peek() != JsonReader::Kind::kNumber) return reader_.string(out);
  std::string_view digits;
  if (!reader_.number_text(digits)) return false;
  out = digits;
  return true;
}

bool Parser::path(std::string& out) {
  if (!text(out)) return false;
  return out.starts_with('/') || reader_.fail_here("must be an absolute path");
}

bool Parser::texts(std::vector<std::string>& out) {
  return list(out, &Parser::text);
}

bool Parser::variables(std::vector<std::string>& out) {
  return reader_.array([&] {
    out.emplace_back();
    if (!text(out.back())) return false;
    const auto equals = out.back().find('=');
    return (equals != std::string::npos && equals > 0) || reader_.fail_here("must be NAME=value");
  });
}

bool Parser::id(std::optional<std::uint32_t>& out) {
  std::int64_t value = 0;
  if (!number(value)) return false;
  out = static_cast<std::uint32_t>(value);
  return true;
}

bool Parser::annotations() {
  bool any = false;
  const bool whole = reader_.object([&](std::string_view) {
    std::string ignored;
    any = true;
    return text(ignored);
  });
  return whole && (!any || needs(k060));
}

bool Parser::access(std::string& out) {
  if (!text(out)) return false;
  if (out.empty()) out = "rwm";
  if (out == "none") out.clear();
  return out.find_first_not_of("rwm") == std::string::npos || reader_.fail_here("must be of r, w and m, or none");
}

bool Parser::node(DeviceNode& out) {
  const bool whole = reader_.object([&](std::string_view name) {
    if (absent()) return true;
    if (name == "path") return path(out.path);
    if (name == "hostPath") return path(out.host_path) && needs(k050);
    if (name == "permissions") return access(out.access);
    if (name == "major") return number(out.major);
    if (name == "minor") return number(out.minor);
    if (name == "fileMode") return id(out.file_mode);
    if (name == "uid") return id(out.uid);
    if (name == "gid") return id(out.gid);
    if (name != "type") return unknown(name);
    if (!text(out.type)) return false;
    if (out.type == "u") out.type = "c";
    const bool known = out.type.empty() || out.type == "b" || out.type == "c" || out.type == "p";
    return known || reader_.fail_here("must be b, c, u or p");
  });
  return whole && (!out.path.empty() || reader_.fail_here("path is missing"));
}

bool Parser::mount(spec::Mount& out) {
  const bool whole = reader_.object([&](std::string_view name) {
    if (absent()) return true;
    if (name == "hostPath") return text(out.source);
    if (name == "containerPath") return path(out.destination);
    if (name == "type") return text(out.type) && (out.type.empty() || needs(k040));
    if (name == "options") return texts(out.options);
    return unknown(name);
  });
  if (!whole) return false;
  if (out.source.empty()) return reader_.fail_here("hostPath is missing");
  if (out.destination.empty()) return reader_.fail_here("containerPath is missing");
  const bool bind =
      std::ranges::any_of(out.options, [](const auto& word) { return word == "bind" || word == "rbind"; });
  // With one of these options the type is a dummy.
  if (bind) out.type = "bind";
  if (out.type.empty()) return reader_.fail_here("neither a type nor the option bind or rbind");
  if (bind && !out.source.starts_with('/')) return reader_.fail_here("hostPath must be an absolute path");
  const bool ours = std::ranges::any_of(out.options, spec::is_own_option);
  return !ours || reader_.fail_here("options that begin with X-berth. are not for files");
}

bool Parser::hook(HookEdit& out) {
  bool named = false;
  const bool whole = reader_.object([&](std::string_view name) {
    if (absent()) return true;
    if (name == "path") return path(out.hook.path);
    if (name == "args") return texts(out.hook.args);
    if (name == "env") return variables(out.hook.env);
    if (name == "timeout") return reader_.signed_number(out.hook.timeout.emplace(), 1, kMaxNumber);
    if (name != "hookName") return unknown(name);
    std::string word;
    if (!text(word)) return false;
    const auto* const found = std::ranges::find(kHooks, word, &std::pair<std::string_view, HookName>::first);
    if (found == kHooks.end()) return reader_.fail_here("is no hook of a container");
    out.name = found->second;
    return named = true;
  });
  if (!whole) return false;
  if (!named) return reader_.fail_here("hookName is missing");
  return !out.hook.path.empty() || reader_.fail_here("path is missing");
}

bool Parser::rdt(spec::IntelRdt& out) {
  return needs(k070) && reader_.object([&](std::string_view name) {
    if (absent()) return true;
    if (name == "closID") return text(out.clos_id);
    if (name == "l3CacheSchema") return text(out.l3_cache_schema);
    if (name == "memBwSchema") return text(out.mem_bw_schema);
    if (name == "schemata") return texts(out.schemata) && needs(k110);
    if (name == "enableMonitoring") return reader_.boolean(out.enable_monitoring) && needs(k110);
    if (name == "enableCMT") return reader_.boolean(out.enable_cmt);
    if (name == "enableMBM") return reader_.boolean(out.enable_mbm);
    return unknown(name);
  });
}

bool Parser::gid(std::vector<std::uint32_t>& out) {
  std::int64_t value = 0;
  if (!number(value) || !needs(k070)) return false;
  if (value != 0) out.push_back(static_cast<std::uint32_t>(value));
  return true;
}

bool Parser::net_devices() {
  bool any = false;
  const bool whole = reader_.array([&] {
    any = true;
    return reader_.skip(nullptr);
  });
  if (!whole || !any) return whole;
  return reader_.fail_here("a container has its pod's network and gets no interface of its own", Code::kUnsupported);
}

bool Parser::edits(Edits& out) {
  return reader_.object([&](std::string_view name) {
    if (absent()) return true;
    if (name == "env") return variables(out.env);
    if (name == "deviceNodes") return list(out.device_nodes, &Parser::node);
    if (name == "mounts") return list(out.mounts, &Parser::mount);
    if (name == "hooks") return list(out.hooks, &Parser::hook);
    if (name == "intelRdt") return rdt(out.intel_rdt.emplace());
    if (name == "netDevices") return net_devices();
    if (name != "additionalGids" && name != "additionalGIDs") return unknown(name);
    return reader_.array([&] { return gid(out.additional_gids); });
  });
}

bool Parser::device(Device& out) {
  const bool whole = reader_.object([&](std::string_view name) {
    if (absent()) return true;
    if (name == "annotations") return annotations();
    if (name == "containerEdits") return edits(out.edits);
    if (name != "name") return unknown(name);
    if (!text(out.name)) return false;
    if (!is_device_name(out.name)) return reader_.fail_here("is no name of a device");
    return !begins_with_digit(out.name) || needs(k050);
  });
  return whole && (!out.name.empty() || reader_.fail_here("name is missing"));
}

bool Parser::devices(std::vector<Device>& out) {
  std::set<std::string, std::less<>> names;
  return reader_.array([&] {
    if (out.size() >= kMaxDevices) return reader_.fail_here("more devices than are taken", Code::kExhausted);
    out.emplace_back();
    if (!device(out.back())) return false;
    return names.insert(out.back().name).second || reader_.fail_here("there is another device of this name");
  });
}

bool Parser::check(const File& file) {
  if (version_.empty()) return reader_.fail_here("cdiVersion is missing");
  if (file.kind.empty()) return reader_.fail_here("kind is missing");
  if (file.devices.empty()) return reader_.fail_here("devices is missing or empty");
  const auto bare = std::string_view(version_).substr(version_.starts_with('v') ? 1 : 0);
  const auto* const found = std::ranges::find(kVersions, bare);
  if (found == kVersions.end()) return reader_.fail_here("cdiVersion: \"" + version_ + "\" is none that is known");
  if (file.kind.find('.', file.kind.find('/')) != std::string::npos) needs(k060);
  if (static_cast<unsigned>(found - kVersions.begin()) >= std::min<unsigned>(needed_, k110)) return true;
  // What is as old as the interface itself is not looked at.
  if (needed_ <= k030) return true;
  return reader_.fail_here("cdiVersion: " + version_ + " has not all that the file uses, " +
                           std::string(kVersions[needed_]) + " has");
}

bool Parser::file(File& out) {
  const bool whole = reader_.object([&](std::string_view name) {
    if (absent()) return true;
    if (name == "cdiVersion") return text(version_);
    if (name == "annotations") return annotations();
    if (name == "devices") return devices(out.devices);
    if (name == "containerEdits") return edits(out.edits);
    if (name != "kind") return unknown(name);
    if (!text(out.kind)) return false;
    return is_kind(out.kind) || reader_.fail_here("must be like vendor.com/class");
  });
  return whole && reader_.finish() && check(out);
}

}  // namespace

Result<File> parse_file(std::string_view text, Format format) {
  spec::Limits limits;
  limits.max_bytes = kMaxFileBytes;
  std::string json;
  if (format == Format::kYaml) {
    BERTH_ASSIGN(json, yaml_to_json(text, limits), "read YAML");
    // What was short as YAML may be longer with its quotes.
    limits.max_bytes = 8 * kMaxFileBytes;
    text = json;
  }
  JsonReader reader(text, limits);
  File file;
  if (!Parser(reader).file(file)) return fail(reader.error());
  return file;
}

Result<Name> parse_name(std::string_view name) {
  const auto equals = name.find('=');
  const std::string quoted = "CDI device \"" + std::string(name.substr(0, kMaxNamePart)) + "\"";
  if (equals == std::string_view::npos) return fail(Code::kInvalid, quoted + " is not like vendor.com/class=name");
  Name out{std::string(name.substr(0, equals)), std::string(name.substr(equals + 1))};
  if (!is_kind(out.kind)) return fail(Code::kInvalid, quoted + " does not begin with a kind like vendor.com/class");
  if (!is_device_name(out.device)) return fail(Code::kInvalid, quoted + " does not end with the name of a device");
  return out;
}

}  // namespace berth::cri::cdi
