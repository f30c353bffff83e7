#pragma once
#include <condition_variable>
#include <functional>
#include <map>
#include <memory>
#include <optional>
#include <string>
#include <thread>
#include <vector>

#include "base/thread_annotations.h"
#include "image/registry.h"
#include "image/store_impl.h"

namespace berth::image {

/// One pull under way: a thread of its own, so that callers come and go. Every caller of the same image waits for the
/// same job; when the last one leaves, it is cancelled. Thread-safe.
class PullJob final {
 public:
  PullJob(StoreImpl& store, Reference reference, Auth auth);
  PullJob(const PullJob&) = delete;
  PullJob& operator=(const PullJob&) = delete;
  PullJob(PullJob&&) = delete;
  PullJob& operator=(PullJob&&) = delete;
  ~PullJob() = default;

  /// Counts the caller in. False: the job is being given up; make another.
  bool join();
  /// Starts the thread; `ended` runs on it before any caller gets the result. kExhausted: no thread.
  Result<> start(std::function<void()> ended);
  /// Instead of start(): gives every caller `error`.
  void abandon(Error error);
  /// After join(): waits for the result. A caller that stops leaves at once, unless it is the last: then it waits for
  /// the job to clean up behind itself.
  Result<ImageInfo> wait(const PullOptions& options);

 private:
  struct Work;  ///< what the layer threads share

  void run(const std::function<void()>& ended);
  void finish(Result<ImageInfo> result);
  Result<ImageInfo> pull();
  Result<ImageInfo> pull_from_hosts();
  Result<Document> resolve(HttpSession& session, PulledImage& out);
  Result<> fetch_config(HttpSession& session, const spec::Manifest& manifest, PulledImage& out);
  Result<> fetch_layers(std::unique_ptr<HttpSession> session, const PulledImage& image, std::vector<std::string>& held,
                        std::vector<std::string>& fresh);
  void work(Work& work, std::unique_ptr<HttpSession> session);
  Result<> obtain_layer(Work& work, std::size_t index, std::unique_ptr<HttpSession>& session);
  /// One layer to fetch.
  struct Wanted {
    const spec::Descriptor& blob;
    const std::string& diff_id;
    bool dominates = false;  ///< it is most of what there is to fetch
  };
  Result<LayerRecord> fetch_layer(HttpSession& session, const Wanted& layer, std::stop_token stop);
  Result<LayerRecord> unpack_layer(HttpSession& session, const Wanted& layer, const std::string& dir,
                                   std::stop_token stop);
  void report(LayerProgress progress);

  using ProgressFunction = std::function<void(const LayerProgress&)>;

  StoreImpl& store_;
  const Reference reference_;
  Auth auth_;
  std::unique_ptr<Registry> registry_;
  std::stop_source stop_;

  Mutex progress_mutex_;
  std::map<std::string, LayerProgress> progress_ BERTH_GUARDED_BY(progress_mutex_);
  std::map<unsigned, ProgressFunction> listeners_ BERTH_GUARDED_BY(progress_mutex_);
  unsigned next_listener_ BERTH_GUARDED_BY(progress_mutex_) = 0;

  Mutex mutex_;
  std::condition_variable_any done_;
  unsigned callers_ BERTH_GUARDED_BY(mutex_) = 0;
  bool given_up_ BERTH_GUARDED_BY(mutex_) = false;
  std::optional<Result<ImageInfo>> result_ BERTH_GUARDED_BY(mutex_);
  std::jthread thread_;  // last: joined before the rest goes
};

}  // namespace berth::image
