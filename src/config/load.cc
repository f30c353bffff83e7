#include <fcntl.h>
#include <sys/stat.h>
#include <unistd.h>

#include <algorithm>
#include <cerrno>
#include <filesystem>
#include <set>

#include "base/strings.h"
#include "base/unique_fd.h"
#include "config/config.h"
#include "config/schema.h"
#include "config/toml_file.h"

namespace berth::config {

namespace {

constexpr std::size_t kMaxFaultsShown = 50;
constexpr std::size_t kMaxShown = 64;  // of a foreign word in a message
constexpr std::string_view kHandlers = "handlers";

/// A word from a file as it may stand in a message: bounded, without control characters.
std::string shown(std::string_view word) {
  std::string text(word.substr(0, kMaxShown));
  std::replace_if(
      text.begin(), text.end(), [](char c) { return static_cast<unsigned char>(c) < 0x20 || c == 0x7F; }, '?');
  return text;
}

std::string did_you_mean(std::string_view meant) {
  return meant.empty() ? std::string() : "; did you mean \"" + std::string(meant) + "\"?";
}

/// Gathers values and faults from one file after the other.
class Loader {
 public:
  void text(std::string_view text, const std::string& name);
  void flag(const Flag& flag);
  void fault(const std::string& where, std::string_view what, Code code = Code::kInvalid) {
    faults_.push_back({code, where.empty() ? std::string(what) : where + ": " + std::string(what)});
  }
  Result<Loaded> finish();

  std::vector<std::string> files;

 private:
  void setting(const Setting& setting, const std::string& where);
  void handler(const Setting& setting, const std::string& where);
  void unknown_top(const Setting& setting, const std::string& where);
  void unknown_key(const Setting& setting, const std::string& where, const std::vector<Key>& siblings);
  void assign(const Key& key, const std::string& path, const Value& value, const std::string& where);
  bool check(const Key& key, const std::string& path, std::string_view value, const std::string& where);

  Config config_;
  std::vector<Key> keys_ = keys_of(config_);
  std::map<std::string, std::string, std::less<>> origins_;
  std::vector<Fault> faults_;
};

bool is_section(const std::vector<Key>& keys, std::string_view name) {
  return name == kHandlers ||
         std::any_of(keys.begin(), keys.end(), [name](const Key& key) { return key.section == name; });
}

const Key* find_key(const std::vector<Key>& keys, std::string_view section, std::string_view name) {
  for (const Key& key : keys) {
    if (key.section == section && key.name == name) return &key;
  }
  return nullptr;
}

bool Loader::check(const Key& key, const std::string& path, std::string_view value, const std::string& where) {
  Fault found;
  if (value.find('\0') != std::string_view::npos) {
    found.text = "must not hold a NUL byte";
  } else if (key.check != nullptr) {
    found = key.check(value);
  }
  if (found.text.empty()) return true;
  fault(where, path + ": \"" + shown(value) + "\" " + found.text, found.code);
  return false;
}

void Loader::assign(const Key& key, const std::string& path, const Value& value, const std::string& where) {
  const auto wrong_type = [&](std::string_view expected) {
    fault(where, path + ": expected " + std::string(expected) + ", found " + std::string(value.type));
  };
  const auto number = [&](auto* target) {
    if (value.kind != Value::Kind::kInteger) return wrong_type("a whole number");
    const bool in_range = value.number >= 0 && static_cast<std::uint64_t>(value.number) >= key.min &&
                          static_cast<std::uint64_t>(value.number) <= key.max;
    if (!in_range && !(key.zero_too && value.number == 0)) {
      return fault(where, path + ": must be " + (key.zero_too ? "0 or " : "") + "from " + std::to_string(key.min) +
                              " to " + std::to_string(key.max));
    }
    *target = static_cast<std::remove_pointer_t<decltype(target)>>(value.number);
  };
  if (auto* const* text = std::get_if<std::string*>(&key.value)) {
    if (value.kind != Value::Kind::kString) return wrong_type("a string");
    std::string_view chosen = value.text;
    if (path == "listen" && chosen.starts_with("unix://")) chosen.remove_prefix(7);
    if (check(key, path, chosen, where)) **text = chosen;
  } else if (auto* const* flag = std::get_if<bool*>(&key.value)) {
    if (value.kind != Value::Kind::kBool) return wrong_type("true or false");
    **flag = value.flag;
  } else if (auto* const* list = std::get_if<std::vector<std::string>*>(&key.value)) {
    if (value.kind != Value::Kind::kList || !value.list_of_strings) return wrong_type("a list of strings");
    const bool good = std::all_of(value.list.begin(), value.list.end(),
                                  [&](const auto& entry) { return check(key, path, entry, where); });
    if (good) **list = value.list;
  } else if (auto* const* small = std::get_if<unsigned*>(&key.value)) {
    number(*small);
  } else {
    number(std::get<std::uint64_t*>(key.value));
  }
  origins_[path] = where;
}

void Loader::unknown_top(const Setting& setting, const std::string& where) {
  const std::string& name = setting.path.front();
  const bool table = setting.value.kind == Value::Kind::kTable;
  if (!table && is_section(keys_, name) && !name.empty()) {
    return fault(where, name + " is a section, write [" + name + "]");
  }
  if (table && find_key(keys_, "", name) != nullptr) return fault(where, name + " is a key, not a section");
  std::set<std::string_view> known;
  for (const Key& key : keys_) {
    if (!table || !key.section.empty()) known.insert(table ? key.section : key.section.empty() ? key.name : "");
  }
  if (table) known.insert(kHandlers);
  known.erase("");
  std::string meant(nearest(name, {known.begin(), known.end()}));
  for (const Key& key : keys_) {
    // A key of a section, written above the first section.
    if (!table && meant.empty() && key.name == name) meant = key.path();
  }
  fault(where, std::string(table ? "unknown section [" : "unknown key ") + shown(name) + (table ? "]" : "") +
                   did_you_mean(meant));
}

void Loader::unknown_key(const Setting& setting, const std::string& where, const std::vector<Key>& siblings) {
  const std::string& section = setting.path.front();
  const std::string& name = setting.path.back();
  std::vector<std::string_view> known;
  for (const Key& key : siblings) {
    if (key.section == section) known.push_back(key.name);
  }
  std::string meant(nearest(name, known));
  for (const Key& key : keys_) {
    if (meant.empty() && key.name == name) meant = key.path();
  }
  std::string path;
  for (const auto& part : setting.path) path.append(path.empty() ? "" : ".").append(shown(part));
  fault(where, "unknown key " + path + did_you_mean(meant));
}

void Loader::handler(const Setting& setting, const std::string& where) {
  const std::string& name = setting.path.at(1);
  if (setting.path.size() == 2) {
    if (setting.value.kind != Value::Kind::kTable) {
      return fault(where, "handlers." + shown(name) + " is a section, write [handlers." + shown(name) + "]");
    }
    if (!is_handler_name(name)) {
      return fault(where, "[handlers." + shown(name) + "]: a handler's name has 1 to 63 of a-z, 0-9 and \"-\"");
    }
    config_.handlers.try_emplace(name);
    origins_["handlers." + name] = where;
    return;
  }
  const auto entry = config_.handlers.find(name);
  if (entry == config_.handlers.end()) return;  // its name is a fault already
  const auto keys = keys_of(entry->second);
  const Key* key = find_key(keys, kHandlers, setting.path.at(2));
  if (key == nullptr) return unknown_key(setting, where, keys);
  assign(*key, "handlers." + name + "." + std::string(key->name), setting.value, where);
}

void Loader::setting(const Setting& setting, const std::string& where) {
  const std::string& first = setting.path.front();
  const bool table = setting.value.kind == Value::Kind::kTable;
  if (setting.path.size() == 1) {
    const Key* key = find_key(keys_, "", first);
    if (table ? is_section(keys_, first) && !first.empty() : key != nullptr) {
      if (!table) assign(*key, first, setting.value, where);
      return;
    }
    return unknown_top(setting, where);
  }
  if (first == kHandlers) return handler(setting, where);
  if (!is_section(keys_, first) || first.empty() || setting.path.size() > 2) return;  // reported with the table above
  const Key* key = find_key(keys_, first, setting.path.at(1));
  if (key == nullptr) return unknown_key(setting, where, keys_);
  assign(*key, key->path(), setting.value, where);
}

void Loader::text(std::string_view text, const std::string& name) {
  auto settings = read_toml(text);
  if (!settings) return faults_.push_back({settings.error().code(), name + ":" + settings.error().text()});
  for (const auto& entry : *settings) setting(entry, name + ":" + std::to_string(entry.line));
}

void Loader::flag(const Flag& flag) {
  const std::string where = "flag " + flag.name;
  const auto key = std::find_if(keys_.begin(), keys_.end(), [&](const Key& k) { return k.path() == flag.key; });
  if (key == keys_.end()) return fault(where, "unknown key " + shown(flag.key));
  Value value;
  value.type = "a string";
  value.kind = Value::Kind::kString;
  value.text = flag.value;
  if (std::holds_alternative<bool*>(key->value) && (flag.value == "true" || flag.value == "false")) {
    value.kind = Value::Kind::kBool;
    value.flag = flag.value == "true";
  } else if (std::holds_alternative<std::vector<std::string>*>(key->value)) {
    value.kind = Value::Kind::kList;
    if (!flag.value.empty()) {
      for (const auto part : split(flag.value, ',')) value.list.emplace_back(part);
    }
  } else if (!std::holds_alternative<std::string*>(key->value)) {
    if (const auto parsed = parse_number<std::int64_t>(flag.value)) {
      value.kind = Value::Kind::kInteger;
      value.number = *parsed;
    }
  }
  assign(*key, key->path(), value, where);
}

Result<Loaded> Loader::finish() {
  for (auto& [name, handler] : config_.handlers) {
    // The default handler's engine is ours; a file that gives it a shim of its own takes that back.
    if (!handler.shim.empty() && !origins_.contains("handlers." + name + ".engine")) handler.engine.clear();
  }
  for (auto& found : check_together(config_, origins_)) faults_.push_back(std::move(found));
  if (faults_.empty()) return Loaded{std::move(config_), std::move(files), std::move(origins_)};
  Code code = faults_.front().code;
  std::string message;
  for (std::size_t i = 0; i < faults_.size(); ++i) {
    if (faults_[i].code != code) code = Code::kInvalid;
    if (i < kMaxFaultsShown) message.append(i == 0 ? "" : "\n").append(faults_[i].text);
  }
  if (faults_.size() > kMaxFaultsShown) {
    message.append("\nand " + std::to_string(faults_.size() - kMaxFaultsShown) + " more");
  }
  return fail(code, std::move(message));
}

Result<std::string> read_file(const std::string& path) {
  // Non-blocking, so that a FIFO in the folder cannot hold the daemon.
  const UniqueFd fd(::open(path.c_str(), O_RDONLY | O_CLOEXEC | O_NOCTTY | O_NONBLOCK));
  if (!fd.valid()) return fail_errno(errno, "open");
  struct stat info{};
  if (::fstat(fd.get(), &info) != 0) return fail_errno(errno, "stat");
  if (!S_ISREG(info.st_mode)) return fail(Code::kInvalid, "is not a regular file");
  std::string text;
  char buffer[8192];
  while (text.size() <= kMaxFileBytes) {
    const auto count = ::read(fd.get(), buffer, sizeof buffer);
    if (count < 0 && errno == EINTR) continue;
    if (count < 0) return fail_errno(errno, "read");
    if (count == 0) break;
    text.append(buffer, static_cast<std::size_t>(count));
  }
  return text;
}

void load_file(Loader& loader, const std::string& path, bool may_be_absent) {
  const auto text = read_file(path);
  if (!text) {
    if (text.error().code() == Code::kNotFound && may_be_absent) return;
    return loader.fault(path, text.error().text(), text.error().code());
  }
  loader.files.push_back(path);
  loader.text(*text, path);
}

std::string drop_in_folder(std::string_view path) {
  static constexpr std::string_view kSuffix = ".toml";
  if (path.ends_with(kSuffix)) path.remove_suffix(kSuffix.size());
  return std::string(path) + ".d";
}

void load_drop_ins(Loader& loader, const std::string& folder) {
  std::error_code error;
  std::vector<std::string> names;
  std::filesystem::directory_iterator entry(folder, error);
  for (; !error && entry != std::filesystem::directory_iterator(); entry.increment(error)) {
    const std::string name = entry->path().filename().string();
    if (name.ends_with(".toml") && !name.starts_with('.')) names.push_back(name);
  }
  const bool absent = error == std::errc::no_such_file_or_directory || error == std::errc::not_a_directory;
  if (error && !absent) {
    const Error failed = errno_error(error.value(), "read the folder");
    loader.fault(folder, failed.text(), failed.code());
  }
  std::sort(names.begin(), names.end());
  for (const auto& name : names) load_file(loader, std::filesystem::path(folder) / name, false);
}

}  // namespace

Result<Loaded> load(const LoadOptions& options) {
  Loader loader;
  load_file(loader, options.path, !options.path_is_explicit);
  load_drop_ins(loader, drop_in_folder(options.path));
  for (const auto& flag : options.flags) loader.flag(flag);
  return loader.finish();
}

Result<Loaded> load_text(std::string_view text, std::string_view name) {
  Loader loader;
  loader.files.emplace_back(name);
  loader.text(text, std::string(name));
  return loader.finish();
}

}  // namespace berth::config
