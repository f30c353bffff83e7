#include "cri/blob.h"

namespace berth::cri {

namespace {

constexpr std::string_view kMagic = "bR";
constexpr std::size_t kHeaderBytes = 4;
constexpr std::size_t kFieldHeaderBytes = 6;

void append_number(std::string& out, std::uint64_t value, unsigned bytes) {
  for (unsigned i = 0; i < bytes; ++i) out.push_back(static_cast<char>(static_cast<unsigned char>(value >> (8 * i))));
}

std::uint64_t take_number(std::string_view bytes) {
  std::uint64_t value = 0;
  for (std::size_t i = bytes.size(); i > 0; --i) value = value << 8 | static_cast<unsigned char>(bytes[i - 1]);
  return value;
}

}  // namespace

BlobWriter::BlobWriter() : bytes_(kMagic) {
  append_number(bytes_, kBlobVersion, 2);
}

void BlobWriter::put(std::uint16_t tag, std::string_view bytes) {
  append_number(bytes_, tag, 2);
  append_number(bytes_, bytes.size(), 4);
  bytes_.append(bytes);
}

void BlobWriter::put_int(std::uint16_t tag, std::int64_t value) {
  append_number(bytes_, tag, 2);
  append_number(bytes_, 8, 4);
  append_number(bytes_, static_cast<std::uint64_t>(value), 8);
}

Result<std::int64_t> BlobField::integer() const {
  if (bytes.size() != 8) return fail(Code::kCorrupt, "field " + std::to_string(tag) + " is no number");
  return static_cast<std::int64_t>(take_number(bytes));
}

Result<std::vector<BlobField>> read_blob(std::string_view blob) {
  if (blob.size() > kMaxBlobBytes) return fail(Code::kExhausted, "record larger than 32 MiB");
  if (blob.size() < kHeaderBytes || blob.substr(0, 2) != kMagic) return fail(Code::kCorrupt, "not a record");
  const auto version = take_number(blob.substr(2, 2));
  if (version != kBlobVersion) {
    return fail(Code::kUnsupported, "record of version " + std::to_string(version) + ", this program reads 1");
  }
  blob.remove_prefix(kHeaderBytes);
  std::vector<BlobField> fields;
  while (!blob.empty()) {
    if (blob.size() < kFieldHeaderBytes) return fail(Code::kCorrupt, "record ends inside a field");
    const auto tag = static_cast<std::uint16_t>(take_number(blob.substr(0, 2)));
    const auto length = take_number(blob.substr(2, 4));
    blob.remove_prefix(kFieldHeaderBytes);
    if (length > blob.size()) return fail(Code::kCorrupt, "field " + std::to_string(tag) + " ends beyond the record");
    fields.push_back({tag, blob.substr(0, length)});
    blob.remove_prefix(length);
  }
  return fields;
}

}  // namespace berth::cri
