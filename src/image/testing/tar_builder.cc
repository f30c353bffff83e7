#include "image/testing/tar_builder.h"

#include <isa-l/igzip_lib.h>
#include <zstd.h>

#include <cstdio>
#include <cstring>

namespace berth::image::testing {
namespace {

void put(std::string& header, std::size_t at, std::size_t size, std::string_view text) {
  header.replace(at, std::min(size, text.size()), text.substr(0, size));
}

void put_octal(std::string& header, std::size_t at, int digits, std::uint64_t value) {
  char text[32];
  std::snprintf(text, sizeof text, "%0*llo", digits, static_cast<unsigned long long>(value));
  put(header, at, static_cast<std::size_t>(digits), text);
}

}  // namespace

TarBuilder& TarBuilder::raw(char type, std::string_view path, std::string_view link, std::uint64_t size,
                            std::string_view data, const TarMeta& meta) {
  if (path.size() > 100 && type != 'L' && type != 'K') gnu_long('L', path);
  if (link.size() > 100) gnu_long('K', link);
  std::string header(512, '\0');
  put(header, 0, 100, path);
  put_octal(header, 100, 7, meta.mode);
  put_octal(header, 108, 7, meta.uid);
  put_octal(header, 116, 7, meta.gid);
  put_octal(header, 124, 11, size);
  put_octal(header, 136, 11, static_cast<std::uint64_t>(meta.mtime));
  header[156] = type;
  put(header, 157, 100, link);
  put(header, 257, 8, std::string_view("ustar\00000", 8));
  put_octal(header, 329, 7, meta.major);
  put_octal(header, 337, 7, meta.minor);
  put(header, 148, 8, "        ");
  unsigned sum = 0;
  for (const char c : header) sum += static_cast<unsigned char>(c);
  put_octal(header, 148, 6, sum);
  header[154] = '\0';
  out_ += header;
  out_ += data;
  out_.append((512 - data.size() % 512) % 512, '\0');
  return *this;
}

TarBuilder& TarBuilder::file(std::string_view path, std::string_view content, const TarMeta& meta) {
  return raw('0', path, {}, content.size(), content, meta);
}
TarBuilder& TarBuilder::dir(std::string_view path, const TarMeta& meta) {
  return raw('5', path, {}, 0, {}, meta);
}
TarBuilder& TarBuilder::symlink(std::string_view path, std::string_view target, const TarMeta& meta) {
  return raw('2', path, target, 0, {}, meta);
}
TarBuilder& TarBuilder::hard_link(std::string_view path, std::string_view target) {
  return raw('1', path, target, 0, {});
}
TarBuilder& TarBuilder::node(std::string_view path, char type, const TarMeta& meta) {
  return raw(type, path, {}, 0, {}, meta);
}

TarBuilder& TarBuilder::pax(const std::vector<std::pair<std::string, std::string>>& records, char type) {
  std::string text;
  for (const auto& [key, value] : records) {
    const std::size_t rest = key.size() + value.size() + 3;
    std::size_t length = rest + 1;
    while (std::to_string(length).size() + rest != length) ++length;
    text += std::to_string(length) + " " + key + "=" + value + "\n";
  }
  return raw(type, "PaxHeaders/x", {}, text.size(), text);
}

TarBuilder& TarBuilder::gnu_long(char type, std::string_view text) {
  const std::string data = std::string(text) + '\0';
  return raw(type, "././@LongLink", {}, data.size(), data);
}

TarBuilder& TarBuilder::bytes(std::string_view data) {
  out_ += data;
  return *this;
}

std::string TarBuilder::finish() const {
  return out_ + std::string(1024, '\0');
}

std::string gzip(std::string_view data) {
  isal_zstream stream;
  isal_deflate_init(&stream);
  std::string level(ISAL_DEF_LVL1_DEFAULT, '\0');
  stream.level = 1;
  stream.level_buf = reinterpret_cast<std::uint8_t*>(level.data());
  stream.level_buf_size = static_cast<std::uint32_t>(level.size());
  stream.gzip_flag = IGZIP_GZIP;
  stream.end_of_stream = 1;
  std::string out(data.size() + data.size() / 8 + 4096, '\0');
  stream.next_in = reinterpret_cast<std::uint8_t*>(const_cast<char*>(data.data()));
  stream.avail_in = static_cast<std::uint32_t>(data.size());
  stream.next_out = reinterpret_cast<std::uint8_t*>(out.data());
  stream.avail_out = static_cast<std::uint32_t>(out.size());
  isal_deflate(&stream);
  out.resize(stream.total_out);
  return out;
}

std::string zstd(std::string_view data) {
  std::string out(ZSTD_compressBound(data.size()), '\0');
  out.resize(ZSTD_compress(out.data(), out.size(), data.data(), data.size(), 3));
  return out;
}

}  // namespace berth::image::testing
