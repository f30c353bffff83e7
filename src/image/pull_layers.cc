#include <algorithm>
#include <atomic>
#include <exception>
#include <set>
#include <system_error>

#include "base/log.h"
#include "image/layer_unpacker.h"
#include "image/pull_job.h"
#include "image/tree.h"

namespace berth::image {
namespace {

/// Below this a second thread for a layer is not worth its start.
constexpr std::uint64_t kLarge = 32U << 20;

}  // namespace

struct PullJob::Work {
  const PulledImage* image = nullptr;
  std::vector<std::size_t> order;  ///< indexes into image->blobs, largest first, no layer twice
  std::uint64_t bytes = 0;         ///< of all blobs in `order`
  std::atomic<std::size_t> next{0};
  std::stop_source stop;  ///< the job's, or a layer that failed
  Mutex mutex;
  std::optional<Error> failure BERTH_GUARDED_BY(mutex);
  std::vector<std::string> held BERTH_GUARDED_BY(mutex);
  std::vector<std::string> fresh BERTH_GUARDED_BY(mutex);
};

Result<> PullJob::fetch_layers(std::unique_ptr<HttpSession> session, const PulledImage& image,
                               std::vector<std::string>& held, std::vector<std::string>& fresh) {
  Work shared;
  shared.image = &image;
  std::set<std::string> seen;
  for (std::size_t i = 0; i < image.blobs.size(); ++i) {
    if (!seen.insert(image.diff_ids[i]).second) continue;
    shared.order.push_back(i);
    shared.bytes += image.blobs[i].size;
    report({image.blobs[i].digest, LayerState::kWaiting, 0, image.blobs[i].size});
  }
  // The largest first: it decides when the last thread is done.
  std::sort(shared.order.begin(), shared.order.end(), [&](std::size_t a, std::size_t b) {
    return image.blobs[a].size != image.blobs[b].size ? image.blobs[a].size > image.blobs[b].size : a < b;
  });
  const std::stop_callback forward(stop_.get_token(), [&shared] { shared.stop.request_stop(); });
  {
    std::vector<std::jthread> threads;
    const std::size_t count =
        std::min<std::size_t>(std::max(1U, store_.options().max_parallel_layers), shared.order.size());
    try {
      for (std::size_t i = 1; i < count; ++i) threads.emplace_back([this, &shared] { work(shared, nullptr); });
    } catch (const std::system_error& error) {
      log_warn("pull: fewer layer threads than wanted", {{"error", error.what()}});
    }
    work(shared, std::move(session));
  }
  const MutexLock lock(shared.mutex);
  held = std::move(shared.held);
  fresh = std::move(shared.fresh);
  if (stop_.stop_requested()) return fail(Code::kCancelled, "the pull was cancelled");
  if (shared.failure) return fail(std::move(*shared.failure));
  return {};
}

void PullJob::work(Work& work, std::unique_ptr<HttpSession> session) {
  for (;;) {
    const std::size_t turn = work.next.fetch_add(1);
    if (turn >= work.order.size() || work.stop.stop_requested()) return;
    const std::size_t index = work.order[turn];
    Result<> done;
    try {
      done = obtain_layer(work, index, session);
    } catch (const std::exception& error) {
      done = fail(Code::kExhausted, error.what());
    }
    if (done) continue;
    {
      const MutexLock lock(work.mutex);
      // Layers that were stopped because of the first failure are not the cause.
      if (!work.failure) work.failure = std::move(done).error().in("layer " + work.image->blobs[index].digest);
    }
    work.stop.request_stop();
    return;
  }
}

Result<> PullJob::obtain_layer(Work& work, std::size_t index, std::unique_ptr<HttpSession>& session) {
  const spec::Descriptor& blob = work.image->blobs[index];
  const std::string& diff_id = work.image->diff_ids[index];
  BERTH_ASSIGN(const StoreImpl::Claim claim, store_.claim_layer(diff_id, work.stop.get_token()),
               "wait for another pull");
  if (claim == StoreImpl::Claim::kPresent) {
    report({blob.digest, LayerState::kPresent, blob.size, blob.size});
    const MutexLock lock(work.mutex);
    work.held.push_back(diff_id);
    return {};
  }
  Result<LayerRecord> record = fail(Code::kInternal, "not fetched");
  try {
    if (!session) {
      if (auto opened = registry_->session()) {
        session = std::move(*opened);
      } else {
        record = fail(std::move(opened).error());
      }
    }
    const Wanted wanted{blob, diff_id, blob.size >= kLarge && blob.size > work.bytes / 2};
    if (session) record = fetch_layer(*session, wanted, work.stop.get_token());
  } catch (const std::exception& error) {  // the claim must end whatever happens
    record = fail(Code::kExhausted, error.what());
  }
  store_.settle_layer(diff_id, record ? &*record : nullptr);
  if (!record) return fail(std::move(record).error());
  report({blob.digest, LayerState::kDone, blob.size, blob.size});
  const MutexLock lock(work.mutex);
  work.held.push_back(diff_id);
  if (!record->durable) work.fresh.push_back(diff_id);
  return {};
}

Result<LayerRecord> PullJob::fetch_layer(HttpSession& session, const Wanted& layer, std::stop_token stop) {
  BERTH_ASSIGN(const std::string dir, store_.disk().make_temporary(), "unpack");
  auto record = unpack_layer(session, layer, dir, std::move(stop));
  if (record) {
    auto published = store_.disk().publish_layer(dir, *record);
    if (published) return record;
    record = fail(std::move(published).error());
  }
  if (auto removed = remove_any_tree(dir, store_.disk().tmp_dir()); !removed) {
    log_warn("pull: a part of a failed layer stays until the next start",
             {{"path", dir}, {"error", removed.error().text()}});
  }
  return record;
}

Result<LayerRecord> PullJob::unpack_layer(HttpSession& session, const Wanted& layer, const std::string& dir,
                                          std::stop_token stop) {
  const auto& [blob, diff_id, dominates] = layer;
  constexpr std::chrono::milliseconds kReportEvery{250};
  ExpectedLayer expected{.digest = blob.digest,
                         .size = blob.size,
                         .diff_id = diff_id,
                         .max_bytes = store_.options().max_layer_bytes,
                         .two_threads = dominates};
  BERTH_ASSIGN(std::unique_ptr<LayerForm> form, store_.start_layer(dir), "unpack");
  BERTH_ASSIGN(const std::unique_ptr<LayerUnpacker> unpacker,
               LayerUnpacker::start(std::move(expected), std::move(form)), "unpack");
  LayerProgress progress{blob.digest, LayerState::kFetching, 0, blob.size};
  report(progress);
  SteadyTime reported = std::chrono::steady_clock::now();
  const ByteSink sink = [&](Bytes bytes) -> Result<> {
    if (auto done = unpacker->push(bytes); !done) return done;
    progress.done_bytes += bytes.size();
    const SteadyTime now = std::chrono::steady_clock::now();
    if (now - reported >= kReportEvery) {
      reported = now;
      report(progress);
    }
    return {};
  };
  BERTH_TRY(registry_->blob(session, blob, sink, std::move(stop)), "fetch");
  progress.state = LayerState::kUnpacking;
  report(progress);
  BERTH_ASSIGN(LayerStats stats, unpacker->finish(), "verify");
  if (stats.dropped_xattrs != 0) {
    log_debug("pull: attributes that a container may not have were left out",
              {{"layer", diff_id}, {"count", stats.dropped_xattrs}});
  }
  return LayerRecord{.diff_id = diff_id,
                     .bytes = stats.bytes,
                     .inodes = stats.inodes,
                     .archive_bytes = stats.archive_bytes,
                     .root_opaque = stats.root_opaque,
                     .has_root_entry = stats.has_root_entry,
                     .durable = stats.durable,
                     .implied_dirs = std::move(stats.implied_dirs)};
}

}  // namespace berth::image
