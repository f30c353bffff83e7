#include "cri/pod_checkpoint.h"

#include "base/strings.h"
#include "cri/blob.h"

namespace berth::cri {

namespace {

constexpr std::int64_t kVersion = 1;
constexpr std::size_t kMaxFileName = 1024;
constexpr std::size_t kMaxFiles = 100'000;

// Never used again for something else.
enum Tag : std::uint16_t {
  kTagVersion = 1,
  kKernel = 2,
  kMachine = 3,
  kCreatedAt = 4,
  kSandbox = 5,
  kContainer = 6,
  kFile = 7,  ///< "SIZE NAME", of the container before it
};

/// Of at most two parts, none of which leads elsewhere.
bool is_file_name(std::string_view name) {
  const auto parts = split(name, '/');
  if (name.empty() || name.size() > kMaxFileName || parts.size() > 2) return false;
  for (const auto part : parts) {
    if (part.empty() || part == "." || part == "..") return false;
  }
  return name.find('\0') == std::string_view::npos;
}

Result<> add_file(PodCheckpoint& checkpoint, std::string_view text) {
  if (checkpoint.containers.empty()) return fail(Code::kCorrupt, "a file of no container");
  auto& files = checkpoint.containers.back().files;
  if (files.size() >= kMaxFiles) return fail(Code::kExhausted, "more than 100,000 files");
  const auto space = text.find(' ');
  const auto size = parse_number<std::uint64_t>(text.substr(0, space));
  if (space == std::string_view::npos || !size || !is_file_name(text.substr(space + 1))) {
    return fail(Code::kCorrupt, "a file's entry is malformed");
  }
  files.emplace_back(std::string(text.substr(space + 1)), *size);
  return {};
}

Result<> add_field(PodCheckpoint& checkpoint, const BlobField& field) {
  switch (field.tag) {
    case kKernel:
      checkpoint.kernel = field.bytes;
      return {};
    case kMachine:
      checkpoint.machine = field.bytes;
      return {};
    case kCreatedAt: {
      BERTH_ASSIGN(checkpoint.created_at_ns, field.integer(), "time");
      return {};
    }
    case kSandbox: {
      BERTH_ASSIGN(checkpoint.sandbox, decode_sandbox(field.bytes), "sandbox");
      return {};
    }
    case kContainer: {
      if (checkpoint.containers.size() >= kMaxCheckpointed) return fail(Code::kExhausted, "more than 1024 containers");
      BERTH_ASSIGN(auto record, decode_container(field.bytes), "container");
      checkpoint.containers.push_back({std::move(record), {}});
      return {};
    }
    case kFile:
      return add_file(checkpoint, field.bytes);
    default:
      return {};
  }
}

}  // namespace

std::string encode(const PodCheckpoint& checkpoint) {
  BlobWriter out;
  out.put_int(kTagVersion, kVersion);
  out.put(kKernel, checkpoint.kernel);
  out.put(kMachine, checkpoint.machine);
  out.put_int(kCreatedAt, checkpoint.created_at_ns);
  out.put(kSandbox, encode(checkpoint.sandbox));
  for (const auto& container : checkpoint.containers) {
    out.put(kContainer, encode(container.record));
    for (const auto& [name, size] : container.files) out.put(kFile, std::to_string(size) + " " + name);
  }
  return out.take();
}

Result<PodCheckpoint> decode_pod_checkpoint(std::string_view bytes) {
  BERTH_ASSIGN(const auto fields, read_blob(bytes), "checkpoint");
  if (fields.empty() || fields.front().tag != kTagVersion) return fail(Code::kCorrupt, "it begins with no version");
  BERTH_ASSIGN(const auto version, fields.front().integer(), "version");
  if (version != kVersion) {
    return fail(Code::kUnsupported, "version " + std::to_string(version) + " of the form is not known here");
  }
  PodCheckpoint checkpoint;
  for (const auto& field : fields) BERTH_TRY(add_field(checkpoint, field), "checkpoint");
  if (checkpoint.sandbox.id.empty()) return fail(Code::kCorrupt, "it is of no pod");
  if (checkpoint.containers.empty()) return fail(Code::kCorrupt, "it has no containers");
  return checkpoint;
}

}  // namespace berth::cri
