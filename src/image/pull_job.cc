#include "image/pull_job.h"

#include <malloc.h>
#include <sched.h>
#include <sys/stat.h>

#include <exception>
#include <system_error>

#include "base/log.h"
#include "image/printable.h"

namespace berth::image {

PullJob::PullJob(StoreImpl& store, Reference reference, Auth auth)
    : store_(store), reference_(std::move(reference)), auth_(std::move(auth)) {}

bool PullJob::join() {
  const MutexLock lock(mutex_);
  if (given_up_) return false;
  ++callers_;
  return true;
}

Result<> PullJob::start(std::function<void()> ended) {
  try {
    thread_ = std::jthread([this, then = std::move(ended)] { run(then); });
  } catch (const std::system_error& error) {
    return fail(Code::kExhausted, std::string("start a pull: ") + error.what());
  }
  return {};
}

Result<ImageInfo> PullJob::wait(const PullOptions& options) {
  unsigned listener = 0;
  {
    const MutexLock lock(progress_mutex_);
    listener = next_listener_++;
    if (options.progress) {
      for (const auto& [digest, progress] : progress_) options.progress(progress);
      listeners_[listener] = options.progress;
    }
  }
  Result<ImageInfo> out = fail(Code::kCancelled, "the pull was cancelled");
  {
    MutexLock lock(mutex_);
    done_.wait(lock, options.stop, [this]() BERTH_REQUIRES(mutex_) { return result_.has_value(); });
    if (--callers_ == 0 && !result_) {
      given_up_ = true;
      stop_.request_stop();
      done_.wait(lock, [this]() BERTH_REQUIRES(mutex_) { return result_.has_value(); });
    }
    if (result_) out = *result_;
  }
  const MutexLock lock(progress_mutex_);
  listeners_.erase(listener);
  return out;
}

void PullJob::abandon(Error error) {
  {
    const MutexLock lock(mutex_);
    given_up_ = true;
  }
  finish(fail(std::move(error)));
}

void PullJob::finish(Result<ImageInfo> result) {
  {
    const MutexLock lock(mutex_);
    result_ = std::move(result);
  }
  done_.notify_all();
}

void PullJob::run(const std::function<void()>& ended) {
  // The layer threads inherit this: files are then made with their final mode in one call. A refusal costs a chmod
  // each.
  if (::unshare(CLONE_FS) == 0) ::umask(0);
  Result<ImageInfo> result = fail(Code::kInternal, "pull ended without a result");
  try {
    result = pull();
  } catch (const std::bad_alloc&) {
    result = fail(Code::kExhausted, "no memory");
  } catch (const std::exception& error) {
    result = fail(Code::kInternal, error.what());
  }
  if (!result) result = fail(std::move(result).error().in("pull " + reference_.to_string()));
  registry_.reset();
  ::malloc_trim(0);  // a pull's buffers are many times what an idle daemon may hold
  ended();
  finish(std::move(result));
}

void PullJob::report(LayerProgress progress) {
  const MutexLock lock(progress_mutex_);
  for (const auto& [id, listener] : listeners_) listener(progress);
  std::string digest = progress.digest;
  progress_.insert_or_assign(std::move(digest), std::move(progress));
}

/// Fetches the manifest for our platform: straight away or through an index (or, once, an index in an index).
Result<Document> PullJob::resolve(HttpSession& session, PulledImage& out) {
  std::string which = reference_.digest.empty() ? reference_.tag : reference_.digest;
  std::uint64_t size = 0;
  for (int depth = 0; depth < 3; ++depth) {
    BERTH_ASSIGN(Document document, registry_->manifest(session, which, stop_.get_token()), "manifest");
    if (depth == 0) {
      out.target_digest = document.digest;
    } else if (document.body.size() != size) {
      return fail(Code::kCorrupt, "manifest " + which + " has " + std::to_string(document.body.size()) +
                                      " bytes, the index says " + std::to_string(size));
    }
    auto parsed = spec::parse_manifest_or_index(document.body, document.content_type);
    if (!parsed) return fail(std::move(parsed).error());
    const auto* index = std::get_if<spec::Index>(&*parsed);
    if (index == nullptr) return document;
    BERTH_ASSIGN(const spec::Descriptor chosen, choose_manifest(*index, store_.platform()), "choose a platform");
    if (!valid_digest(chosen.digest))
      return fail(Code::kUnsupported, "digest " + printable(chosen.digest) + " is no sha256");
    which = chosen.digest;
    size = chosen.size;
  }
  return fail(Code::kUnsupported, "indexes are nested too deeply");
}

Result<ImageInfo> PullJob::pull() {
  const RegistryOptions options{.insecure_registries = store_.options().insecure_registries,
                                .hosts_dir = store_.options().hosts_dir,
                                .auth_file = store_.options().auth_file,
                                .health = &store_.health(),
                                .stall_timeout = std::chrono::seconds(store_.options().progress_timeout_s)};
  BERTH_ASSIGN(registry_, Registry::open(options, reference_, auth_), "registry");
  auth_ = {};
  Result<ImageInfo> result = pull_from_hosts();
  // A layer is verified when all of it has come: too late for another host to go on, so everything is asked for again.
  while (!result && result.error().code() == Code::kCorrupt && registry_->distrust_mirrors()) {
    result = pull_from_hosts();
  }
  return result;
}

Result<ImageInfo> PullJob::pull_from_hosts() {
  BERTH_ASSIGN(std::unique_ptr<HttpSession> session, registry_->session(), "registry");
  PulledImage image;
  image.reference = reference_;
  BERTH_ASSIGN(const Document document, resolve(*session, image), "find the image");
  if (auto known = store_.reuse_image(reference_, image.target_digest, document.digest)) return std::move(*known);
  image.manifest_digest = document.digest;
  image.manifest_body = document.body;
  BERTH_ASSIGN(const spec::Manifest manifest, spec::parse_manifest(document.body), "manifest");
  BERTH_TRY(fetch_config(*session, manifest, image), "configuration");
  std::vector<std::string> held;
  std::vector<std::string> fresh;
  auto layers = fetch_layers(std::move(session), image, held, fresh);
  Result<ImageInfo> result = layers ? store_.commit(image, fresh) : Result<ImageInfo>(fail(std::move(layers).error()));
  const Code code = result ? Code::kInternal : result.error().code();
  const bool keep = code == Code::kUnavailable || code == Code::kTimeout || code == Code::kCancelled ||
                    (code == Code::kCorrupt && registry_->has_mirrors());  // all but one layer are good
  store_.release_layers(held, keep);
  return result;
}

Result<> PullJob::fetch_config(HttpSession& session, const spec::Manifest& manifest, PulledImage& out) {
  const spec::Descriptor& descriptor = manifest.config;
  if (!spec::is_config_type(descriptor.media_type)) {
    return fail(Code::kUnsupported,
                "this is no container image: its configuration is " + printable(descriptor.media_type));
  }
  const spec::ImageLimits limits;
  if (descriptor.size > limits.json.max_bytes) return fail(Code::kExhausted, "larger than 4 MiB");
  if (!valid_digest(descriptor.digest))
    return fail(Code::kUnsupported, "digest " + printable(descriptor.digest) + " is no sha256");
  out.config_digest = descriptor.digest;
  const ByteSink keep = [&out](Bytes bytes) -> Result<> {
    out.config_body.append(reinterpret_cast<const char*>(bytes.data()), bytes.size());
    return {};
  };
  BERTH_TRY(registry_->blob(session, descriptor, keep, stop_.get_token()), "fetch");
  BERTH_ASSIGN(const std::string got, sha256_of(out.config_body), "verify");
  if (got != descriptor.digest) {
    return fail(Code::kCorrupt, "digest mismatch: wanted " + descriptor.digest + ", the registry sent " + got);
  }
  BERTH_ASSIGN(out.config, spec::parse_image_config(out.config_body, limits), "parse");
  if (!runs_on(store_.platform(), out.config.os, out.config.architecture, out.config.variant)) {
    return fail(Code::kNotFound, "the image is for " + printable(out.config.os) + "/" +
                                     printable(out.config.architecture) + ", not for " + store_.platform().text());
  }
  out.diff_ids = out.config.rootfs.diff_ids;
  out.blobs = manifest.layers;
  if (out.diff_ids.size() != out.blobs.size()) {
    return fail(Code::kCorrupt, "it lists " + std::to_string(out.diff_ids.size()) + " layers, the manifest " +
                                    std::to_string(out.blobs.size()));
  }
  for (std::size_t i = 0; i < out.blobs.size(); ++i) {
    if (!valid_digest(out.diff_ids[i]) || !valid_digest(out.blobs[i].digest)) {
      return fail(Code::kUnsupported, "layer " + std::to_string(i) + " has no sha256 digest");
    }
    if (!spec::layer_packing(out.blobs[i].media_type)) {
      return fail(Code::kUnsupported,
                  "layer " + out.blobs[i].digest + " is of type " + printable(out.blobs[i].media_type));
    }
  }
  return {};
}

}  // namespace berth::image
