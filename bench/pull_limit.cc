// What any puller of an unmodified image has to do: receive each layer, hash it, decompress it, hash what comes out,
// and compare both; three layers at a time. Nothing is written. With the buffers and libraries that Berth uses, so that
// the difference to it is what the store costs. One thread a layer: of a single layer, who uses more may be faster.
#include "pull_limit.h"

#include <malloc.h>
#include <sys/resource.h>
#include <unistd.h>

#include <algorithm>
#include <atomic>
#include <chrono>
#include <optional>
#include <thread>

#include "image/decompress.h"
#include "image/registry.h"
#include "os/file.h"
#include "pull_runtime.h"

namespace berth::bench {
namespace {

constexpr unsigned kParallel = 3;

Result<std::unique_ptr<image::Registry>> registry_of(const std::string& image) {
  BERTH_ASSIGN(const auto reference, image::parse_reference(image), "limit");
  return image::Registry::open({}, reference, {});
}

Result<spec::Manifest> read_manifest(image::Registry& registry, const std::string& image) {
  BERTH_ASSIGN(const auto reference, image::parse_reference(image), "manifest");
  BERTH_ASSIGN(const auto session, registry.session(), "manifest");
  BERTH_ASSIGN(const auto document, registry.manifest(*session, reference.tag, {}), "manifest");
  return spec::parse_manifest(document.body);
}

Result<spec::ImageConfig> read_config(image::Registry& registry, const spec::Manifest& manifest) {
  BERTH_ASSIGN(const auto session, registry.session(), "config");
  std::string text;
  const auto keep = [&text](image::Bytes bytes) -> Result<> {
    text.append(reinterpret_cast<const char*>(bytes.data()), bytes.size());
    return {};
  };
  BERTH_TRY(registry.blob(*session, manifest.config, keep, {}), "config");
  return spec::parse_image_config(text);
}

Result<> take_layer(image::Registry& registry, const spec::Descriptor& layer, const std::string& diff_id) {
  BERTH_ASSIGN(const auto session, registry.session(), "layer");
  BERTH_ASSIGN(auto packed, image::Sha256::start(), "layer");
  BERTH_ASSIGN(auto plain, image::Sha256::start(), "layer");
  image::Decompressor decompressor([&plain](image::Bytes bytes) -> Result<> {
    plain.update(bytes);
    return {};
  });
  const auto take = [&](image::Bytes bytes) {
    packed.update(bytes);
    return decompressor.push(bytes);
  };
  BERTH_TRY(registry.blob(*session, layer, take, {}), "layer");
  BERTH_TRY(decompressor.finish(), "layer");
  if (packed.finish() != layer.digest) return fail(Code::kCorrupt, layer.digest + " has another digest");
  if (plain.finish() != diff_id) return fail(Code::kCorrupt, diff_id + " has another digest");
  return {};
}

Result<> take_all(const std::string& image) {
  BERTH_ASSIGN(const auto registry, registry_of(image), "limit");
  BERTH_ASSIGN(const auto manifest, read_manifest(*registry, image), "limit");
  BERTH_ASSIGN(const auto config, read_config(*registry, manifest), "limit");
  if (config.rootfs.diff_ids.size() != manifest.layers.size()) return fail(Code::kCorrupt, "diff_ids do not fit");
  // The largest first, so that no thread ends long after the others.
  std::vector<std::size_t> order(manifest.layers.size());
  for (std::size_t i = 0; i < order.size(); ++i) order[i] = i;
  std::ranges::sort(order,
                    [&](std::size_t a, std::size_t b) { return manifest.layers[a].size > manifest.layers[b].size; });
  std::vector<Result<>> done(order.size());
  std::atomic<std::size_t> next = 0;
  std::vector<std::thread> threads;
  for (unsigned t = 0; t < kParallel; ++t) {
    threads.emplace_back([&] {
      for (std::size_t i = next++; i < order.size(); i = next++) {
        done[i] = take_layer(*registry, manifest.layers[order[i]], config.rootfs.diff_ids[order[i]]);
      }
    });
  }
  for (auto& thread : threads) thread.join();
  for (auto& one : done) {
    if (!one) return fail(std::move(one).error());
  }
  return {};
}

double own_cpu_s() {
  rusage usage{};
  ::getrusage(RUSAGE_SELF, &usage);
  return seconds_of(usage.ru_utime) + seconds_of(usage.ru_stime);
}

class Limit final : public Runtime {
 public:
  [[nodiscard]] std::string name() const override { return "limit"; }
  [[nodiscard]] std::string store() const override { return ""; }
  Result<> prepare() override { return {}; }

  Result<> pull(const std::string& image, Sample& sample) override {
    ::malloc_trim(0);
    BERTH_TRY(reset_peak(::getpid()), "limit");
    BERTH_ASSIGN(const double idle, memory_mib(::getpid(), "VmRSS:"), "limit");
    const double cpu = own_cpu_s();
    const auto begun = std::chrono::steady_clock::now();
    BERTH_TRY(take_all(image), "limit");
    sample.wall_s = std::chrono::duration<double>(std::chrono::steady_clock::now() - begun).count();
    sample.cpu_s = own_cpu_s() - cpu;
    BERTH_ASSIGN(const double peak, memory_mib(::getpid(), "VmHWM:"), "limit");
    sample.peak_mib = peak;
    sample.more_mib = peak - idle;
    return {};
  }

  Result<> start(const std::string& /*image*/, const std::vector<std::string>& /*command*/, Sample& /*s*/) override {
    return {};
  }
  Result<> remove(const std::string& /*image*/, const Ground& /*ground*/, std::uint64_t /*used*/,
                  Sample& /*s*/) override {
    return {};
  }
  Result<> finish() override { return {}; }
};

}  // namespace

std::unique_ptr<Runtime> make_limit() {
  return std::make_unique<Limit>();
}

Result<spec::Manifest> manifest_of(const std::string& image) {
  BERTH_ASSIGN(const auto registry, registry_of(image), image);
  return read_manifest(*registry, image);
}

Result<> read_blobs(const std::string& registry_root, const spec::Manifest& manifest) {
  std::vector<char> buffer(1U << 20);
  for (const auto& layer : manifest.layers) {
    const std::string hex(image::digest_hex(layer.digest));
    const std::string path = registry_root + "/docker/registry/v2/blobs/sha256/" + hex.substr(0, 2) + "/" + hex;
    BERTH_ASSIGN(const auto fd, os::open_file(path + "/data", O_RDONLY), "blob");
    while (::read(fd.get(), buffer.data(), buffer.size()) > 0) {
    }
  }
  return {};
}

}  // namespace berth::bench
