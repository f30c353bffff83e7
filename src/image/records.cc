#include "image/records.h"

#include "image/digest.h"
#include "spec/json_text.h"

namespace berth::image {
namespace {

constexpr std::int64_t kVersion = 1;
constexpr spec::Limits kLimits{
    .max_bytes = 64U << 20, .max_depth = 8, .max_elements = 1'000'000, .max_string_bytes = 8192};

std::unexpected<Error> corrupt(std::string_view what) {
  return fail(Code::kCorrupt, "store record: " + std::string(what));
}

Result<spec::Json> parse(std::string_view text) {
  auto json = spec::parse_json(text, kLimits);
  if (!json) return fail(std::move(json).error().as(Code::kCorrupt).in("store record"));
  const spec::Json* version = json->get("version");
  if (version == nullptr || version->as_int() != kVersion) return corrupt("unknown version");
  return json;
}

std::uint64_t number(const spec::Json& json, std::string_view name) {
  const spec::Json* member = json.get(name);
  return member == nullptr ? 0 : member->as_uint().value_or(0);
}

bool flag(const spec::Json& json, std::string_view name) {
  const spec::Json* member = json.get(name);
  return member != nullptr && member->as_bool().value_or(false);
}

std::vector<std::string> strings(const spec::Json& json, std::string_view name) {
  std::vector<std::string> out;
  if (const spec::Json* member = json.get(name)) {
    for (const spec::Json& item : member->items()) {
      if (const auto text = item.as_string()) out.emplace_back(*text);
    }
  }
  return out;
}

void write_strings(spec::JsonWriter& writer, std::string_view name, const std::vector<std::string>& list) {
  writer.key(name).begin_array();
  for (const std::string& text : list) writer.string(text);
  writer.end_array();
}

}  // namespace

std::string write_layer_record(const LayerRecord& record) {
  spec::JsonWriter writer;
  writer.begin_object().key("version").number(kVersion);
  writer.key("diffId").string(record.diff_id).key("bytes").unsigned_number(record.bytes);
  writer.key("inodes").unsigned_number(record.inodes).key("rootOpaque").boolean(record.root_opaque);
  writer.key("rootEntry").boolean(record.has_root_entry).key("bootId").string(record.boot_id);
  writer.key("archiveBytes").unsigned_number(record.archive_bytes).key("durable").boolean(record.durable);
  write_strings(writer, "impliedDirs", record.implied_dirs);
  writer.end_object();
  return writer.take() + "\n";
}

Result<LayerRecord> read_layer_record(std::string_view text) {
  BERTH_ASSIGN(const spec::Json json, parse(text), "layer");
  LayerRecord out;
  out.diff_id = json.string_or("diffId");
  if (!valid_digest(out.diff_id)) return corrupt("no diff id");
  out.bytes = number(json, "bytes");
  out.inodes = number(json, "inodes");
  out.archive_bytes = number(json, "archiveBytes");
  out.durable = flag(json, "durable");
  out.root_opaque = flag(json, "rootOpaque");
  out.has_root_entry = flag(json, "rootEntry");
  out.boot_id = json.string_or("bootId");
  out.implied_dirs = strings(json, "impliedDirs");
  return out;
}

std::string write_image_record(const ImageRecord& record) {
  spec::JsonWriter writer;
  writer.begin_object().key("version").number(kVersion);
  writer.key("id").string(record.id).key("manifest").string(record.manifest);
  write_strings(writer, "layers", record.layers);
  writer.key("metaBytes").unsigned_number(record.meta_bytes).key("pulledNs").number(record.pulled_ns);
  writer.key("index")
      .boolean(record.index)
      .key("removed")
      .boolean(record.removed)
      .key("rootMode")
      .unsigned_number(record.root_mode);
  writer.key("rootUid").unsigned_number(record.root_uid).key("rootGid").unsigned_number(record.root_gid);
  writer.end_object();
  return writer.take() + "\n";
}

Result<ImageRecord> read_image_record(std::string_view text) {
  BERTH_ASSIGN(const spec::Json json, parse(text), "image");
  ImageRecord out;
  out.id = json.string_or("id");
  out.manifest = json.string_or("manifest");
  out.layers = strings(json, "layers");
  if (!valid_digest(out.id) || !valid_digest(out.manifest)) return corrupt("no image id or manifest digest");
  for (const std::string& layer : out.layers) {
    if (!valid_digest(layer)) return corrupt("a layer is no digest");
  }
  out.meta_bytes = number(json, "metaBytes");
  const spec::Json* pulled = json.get("pulledNs");
  out.pulled_ns = pulled == nullptr ? 0 : pulled->as_int().value_or(0);
  out.index = flag(json, "index");
  out.removed = flag(json, "removed");
  out.root_mode = static_cast<std::uint32_t>(number(json, "rootMode")) & 07777;
  out.root_uid = static_cast<std::uint32_t>(number(json, "rootUid"));
  out.root_gid = static_cast<std::uint32_t>(number(json, "rootGid"));
  return out;
}

std::string write_ref_record(const RefRecord& record) {
  spec::JsonWriter writer;
  writer.begin_object().key("version").number(kVersion);
  writer.key("name").string(record.name).key("image").string(record.image).end_object();
  return writer.take() + "\n";
}

Result<RefRecord> read_ref_record(std::string_view text) {
  BERTH_ASSIGN(const spec::Json json, parse(text), "name");
  RefRecord out{std::string(json.string_or("name")), std::string(json.string_or("image"))};
  if (out.name.empty() || !valid_digest(out.image)) return corrupt("no name or image id");
  return out;
}

}  // namespace berth::image
