#include "engine/process/criu_wire.h"

#include <algorithm>
#include <limits>

#include "base/proto_wire.h"
#include "base/strings.h"

namespace berth::engine::process {

namespace {

using proto::each_field;
using proto::Field;
using proto::kBytes;
using proto::kVarint;
using proto::put_bytes;
using proto::put_number;

constexpr std::size_t kMaxText = 512;
constexpr int kLogLevelDebug = 4;

/// Paths of a container's stand in criu's texts: nothing of them may steer a terminal.
std::string printable(std::string_view text, std::size_t limit) {
  std::string out(text.substr(0, limit));
  for (char& c : out) {
    if (static_cast<unsigned char>(c) < ' ' || static_cast<unsigned char>(c) >= 0x7f) c = '?';
  }
  return out;
}

void put_text(std::string& out, unsigned field, const std::string& text) {
  if (!text.empty()) put_bytes(out, field, text);
}

void put_flag(std::string& out, unsigned field, bool on) {
  if (on) put_number(out, field, 1);
}

/// Both members of the message have the numbers 1 and 2 and must be there, also when they are empty.
void put_pairs(std::string& out, unsigned field, const std::vector<CriuPair>& pairs) {
  for (const auto& [first, second] : pairs) {
    std::string message;
    put_bytes(message, 1, first);
    put_bytes(message, 2, second);
    put_bytes(out, field, message);
  }
}

std::string encode_lists(const CriuSettings& settings) {
  std::string out;
  put_pairs(out, 23, settings.ext_mounts);
  put_pairs(out, 25, settings.cgroup_roots);
  for (const auto& [key, fd] : settings.inherit_fds) {
    std::string message;
    put_bytes(message, 1, key);
    put_number(message, 2, fd);
    put_bytes(out, 27, message);
  }
  for (const auto& entry : settings.external) put_bytes(out, 37, entry);
  put_pairs(out, 39, settings.join_namespaces);
  if (settings.page_server_port != 0) {
    std::string server;
    put_text(server, 1, settings.page_server_address);
    put_number(server, 2, settings.page_server_port);
    put_bytes(out, 11, server);
  }
  return out;
}

std::string encode_settings(const CriuSettings& settings) {
  std::string out;
  put_number(out, 1, settings.images_dir_fd);
  if (settings.pid != 0) put_number(out, 2, settings.pid);
  put_flag(out, 3, settings.leave_running);
  put_flag(out, 4, settings.ext_unix_sk);
  put_flag(out, 5, settings.tcp_established);
  put_flag(out, 6, settings.evasive_devices);
  put_flag(out, 7, settings.shell_job);
  put_flag(out, 8, settings.file_locks);
  put_number(out, 9, kLogLevelDebug);
  put_text(out, 10, settings.log_file);
  put_flag(out, 12, true);  // notifications
  put_text(out, 13, settings.root);
  put_text(out, 14, settings.parent_img);
  put_flag(out, 15, settings.track_mem);
  put_flag(out, 16, settings.auto_dedup);
  if (settings.work_dir_fd >= 0) put_number(out, 17, settings.work_dir_fd);
  put_flag(out, 18, settings.link_remap);
  put_flag(out, 26, settings.rst_sibling);
  put_number(out, 34, settings.cgroups_mode);
  if (settings.empty_ns != 0) put_number(out, 38, settings.empty_ns);
  put_text(out, 44, settings.freeze_cgroup);
  put_flag(out, 46, settings.tcp_skip_in_flight);
  put_flag(out, 48, settings.lazy_pages);
  put_flag(out, 50, settings.orphan_pts_master);
  put_text(out, 51, settings.config_file);
  put_text(out, 53, settings.lsm_profile);
  put_text(out, 63, settings.lsm_mount_context);
  return out + encode_lists(settings);
}

pid_t pid_of_field(const Field& field) {
  return field.varint <= std::numeric_limits<pid_t>::max() ? static_cast<pid_t>(field.varint) : 0;
}

bool decode_notify(std::string_view bytes, CriuResponse& response) {
  return each_field(bytes, [&response](const Field& field) {
    if (field.is(1, kBytes)) response.script = printable(field.bytes, kMaxText);
    if (field.is(2, kVarint)) response.notify_pid = pid_of_field(field);
    return true;
  });
}

bool decode_version(std::string_view bytes, CriuResponse& response) {
  constexpr std::uint64_t kPart = 100;
  std::uint64_t parts[3] = {0, 0, 0};
  const bool good = each_field(bytes, [&parts](const Field& field) {
    if (field.is(1, kVarint)) parts[0] = field.varint;
    if (field.is(2, kVarint)) parts[1] = field.varint;
    if (field.is(4, kVarint)) parts[2] = field.varint;
    return true;
  });
  if (!good || std::ranges::any_of(parts, [](std::uint64_t part) { return part >= kPart; })) return false;
  response.version = static_cast<int>((parts[0] * kPart + parts[1]) * kPart + parts[2]);
  return true;
}

bool decode_features(std::string_view bytes, CriuFeatures& features) {
  return each_field(bytes, [&features](const Field& field) {
    if (field.is(1, kVarint)) features.mem_track = field.varint != 0;
    if (field.is(2, kVarint)) features.lazy_pages = field.varint != 0;
    return true;
  });
}

/// Takes "(00.238214) Error (criu/files-reg.c:1710): " off.
std::string_view log_message(std::string_view line) {
  const auto mark = line.find("Error (");
  if (mark == std::string_view::npos) return {};
  const auto end = line.find("): ", mark);
  return trim(end == std::string_view::npos ? line.substr(mark) : line.substr(end + 3));
}

}  // namespace

std::string encode_criu_request(const CriuRequest& request) {
  std::string out;
  put_number(out, 1, static_cast<std::int64_t>(request.type));
  if (request.settings) put_bytes(out, 2, encode_settings(*request.settings));
  if (request.notify_success) put_number(out, 3, *request.notify_success ? 1 : 0);
  if (request.features) {
    std::string features;
    put_flag(features, 1, request.features->mem_track);
    put_flag(features, 2, request.features->lazy_pages);
    put_bytes(out, 5, features);
  }
  return out;
}

Result<CriuResponse> decode_criu_response(std::string_view bytes) {
  CriuResponse response;
  const bool good = each_field(bytes, [&response](const Field& field) {
    if (field.is(1, kVarint)) response.type = field.varint;
    if (field.is(2, kVarint)) response.success = field.varint != 0;
    if (field.is(4, kBytes)) {
      return each_field(field.bytes, [&response](const Field& inner) {
        if (inner.is(1, kVarint)) response.restored_pid = pid_of_field(inner);
        return true;
      });
    }
    if (field.is(5, kBytes)) return decode_notify(field.bytes, response);
    if (field.is(7, kVarint)) response.criu_errno = static_cast<int>(field.varint & 0xffff);
    if (field.is(8, kBytes)) return decode_features(field.bytes, response.features);
    if (field.is(9, kBytes)) response.error_text = printable(trim(field.bytes), kMaxText);
    if (field.is(10, kBytes)) return decode_version(field.bytes, response);
    return true;
  });
  if (!good) return fail(Code::kCorrupt, "criu answered with something that is no message of its protocol");
  return response;
}

std::string criu_log_errors(std::string_view log) {
  constexpr std::size_t kLines = 4;
  std::vector<std::string> found;
  for (const auto line : split(log, '\n')) {
    const auto message = log_message(line);
    if (message.empty()) continue;
    found.push_back(printable(message, kMaxText / kLines));
    if (found.size() > kLines) found.erase(found.begin());
  }
  std::string text;
  for (const auto& line : found) text += (text.empty() ? "" : "; ") + line;
  return text;
}

}  // namespace berth::engine::process
