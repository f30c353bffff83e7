// The NRI library with plugins at its socket and a node that is made up: no container, so that sanitizers can watch it.
// Each plugin must hear of each container exactly once, whenever it joins.
#include <gmock/gmock.h>
#include <gtest/gtest.h>
#include <unistd.h>

#include <algorithm>
#include <atomic>
#include <filesystem>
#include <future>
#include <set>
#include <thread>

#include "nri/nri.h"
#include "nri_plugin.h"
#include "os/file.h"

namespace berth::test {
namespace {

using Names = std::set<std::string>;

/// The containers of a node, made and removed as the daemon does it.
class Node {
 public:
  Node()
      : dir_("/tmp/berth-test-nri-wire-" + std::to_string(::getpid())), reactor_(std::move(*ttrpc::Reactor::create())) {
    EXPECT_TRUE(os::make_dirs(dir_));
    nri::Options options;
    options.socket = dir_ + "/nri.sock";
    options.request_timeout = std::chrono::seconds(20);  // sanitizers are slow
    nri::Host host;
    host.run = [this](std::function<void()> job) {
      MutexLock lock(mutex_);
      threads_.emplace_back(std::move(job));
    };
    host.state = [this](const nri::UnderWay& under_way) { return state(under_way); };
    host.update = [this](const nri_api::ContainerUpdate& update) -> Result<> {
      MutexLock lock(mutex_);
      if (!there_.contains(update.container_id())) return fail(Code::kNotFound, "no such container");
      return {};
    };
    host.evict = [](const nri::Eviction&) { return Result<>(); };
    nri_ = std::make_unique<nri::Nri>(std::move(options), *reactor_, std::move(host));
    nri_->start();
    reactor_->drain();
  }
  ~Node() {
    nri_->stop();
    std::vector<std::thread> threads;
    {
      MutexLock lock(mutex_);
      threads.swap(threads_);
    }
    for (auto& thread : threads) thread.join();
    nri_.reset();
    reactor_.reset();
    EXPECT_TRUE(os::remove_tree(dir_));
  }

  void make(const std::string& id) {
    const auto passage = nri_->making(id);
    nri_api::PodSandbox pod;
    pod.set_id("pod");
    auto made = nri_->create_container(passage, pod, container(id));
    EXPECT_TRUE(made) << made.error().text();
    MutexLock lock(mutex_);
    there_.insert(id);
  }
  void remove(const std::string& id) {
    const auto passage = nri_->going(id);
    const auto gone = container(id);
    nri_->tell(nri_api::REMOVE_CONTAINER, nri_api::PodSandbox(), &gone);
    MutexLock lock(mutex_);
    there_.erase(id);
  }
  [[nodiscard]] Names there() const {
    MutexLock lock(mutex_);
    return there_;
  }
  [[nodiscard]] std::string socket() const { return dir_ + "/nri.sock"; }

 private:
  static nri_api::Container container(const std::string& id) {
    nri_api::Container container;
    container.set_id(id);
    container.set_name(id);
    return container;
  }
  nri::NodeState state(const nri::UnderWay& under_way) const {
    nri::NodeState state;
    Names shown;
    {
      MutexLock lock(mutex_);
      shown = there_;
    }
    shown.insert(under_way.making.begin(), under_way.making.end());
    for (const auto& id : under_way.going) shown.erase(id);
    for (const auto& id : shown) state.containers.push_back(container(id));
    return state;
  }

  const std::string dir_;
  std::unique_ptr<ttrpc::Reactor> reactor_;
  mutable Mutex mutex_;
  Names there_ BERTH_GUARDED_BY(mutex_);
  std::vector<std::thread> threads_ BERTH_GUARDED_BY(mutex_);
  std::unique_ptr<nri::Nri> nri_;
};

/// What a plugin believes to be there, from what it was told.
Names believed(const NriPlugin& plugin) {
  Names names;
  const auto at_first = plugin.synchronized();
  for (const auto& container : at_first.containers()) {
    EXPECT_TRUE(names.insert(container.name()).second) << container.name();
  }
  for (const auto& call : plugin.calls()) {
    const auto space = call.find(' ');
    const std::string name = space == std::string::npos ? std::string() : call.substr(space + 1);
    if (call.starts_with("CreateContainer ")) {
      EXPECT_TRUE(names.insert(name).second) << name << " came twice";
    }
    if (call.starts_with("RemoveContainer ")) {
      EXPECT_EQ(names.erase(name), 1U) << name << " was not known";
    }
  }
  return names;
}

TEST(NriWire, APluginHearsOfEachContainerOnceWheneverItJoins) {
  constexpr int kMakers = 3;
  constexpr int kEach = 60;
  constexpr int kPlugins = 8;
  Node node;
  std::atomic<bool> joined{false};
  std::vector<std::thread> makers;
  for (int maker = 0; maker < kMakers; ++maker) {
    makers.emplace_back([&node, &joined, maker] {
      // As long as plugins come, and some more.
      for (int i = 0; i < kEach || !joined; ++i) {
        std::this_thread::yield();
        const std::string id = std::to_string(maker) + "-" + std::to_string(i);
        node.make(id);
        if (i % 3 != 0) node.remove(id);
      }
    });
  }
  std::vector<std::unique_ptr<NriPlugin>> plugins;
  for (int i = 0; i < kPlugins; ++i) {
    plugins.push_back(std::make_unique<NriPlugin>(NriPluginOptions{.index = "1" + std::to_string(i)}));
    const auto started = plugins.back()->start(node.socket());
    ASSERT_TRUE(started) << started.error().text();
    // Some leave again, in the midst of it.
    if (i % 4 == 3) plugins[plugins.size() - 2]->disconnect();
  }
  joined = true;
  for (auto& maker : makers) maker.join();
  for (const auto& plugin : plugins) {
    if (plugin->connected()) {
      EXPECT_EQ(believed(*plugin), node.there());
    }
  }
}

TEST(NriWire, AStartDoesNotWaitForWhatAPluginWantsUpdated) {
  const std::string dir = "/tmp/berth-test-nri-start-" + std::to_string(::getpid());
  ASSERT_TRUE(os::make_dirs(dir));
  std::filesystem::copy_file(BERTH_NRI_TEST_PLUGIN, dir + "/10-update");
  const auto reactor = std::move(*ttrpc::Reactor::create());
  nri::Options options;
  options.plugin_dir = dir;
  options.registration_timeout = options.request_timeout = std::chrono::seconds(20);
  std::promise<void> started;
  std::promise<bool> updated;  // whether the start was over by then
  std::vector<std::thread> threads;
  nri::Host host;
  host.run = [&threads](std::function<void()> job) { threads.emplace_back(std::move(job)); };
  host.state = [](const nri::UnderWay&) { return nri::NodeState(); };
  host.update = [&, ready = started.get_future().share()](const nri_api::ContainerUpdate&) -> Result<> {
    updated.set_value(ready.wait_for(std::chrono::seconds(10)) == std::future_status::ready);
    return {};
  };
  host.evict = [](const nri::Eviction&) { return Result<>(); };
  nri::Nri nri(std::move(options), *reactor, std::move(host));
  nri.start();
  started.set_value();
  EXPECT_TRUE(updated.get_future().get());
  nri.stop();
  reactor->drain();
  for (auto& thread : threads) thread.join();
  EXPECT_TRUE(os::remove_tree(dir));
}

TEST(NriWire, UpdatesFromManyPluginsAtOnce) {
  Node node;
  node.make("a");
  std::vector<std::unique_ptr<NriPlugin>> plugins;
  for (int i = 0; i < 4; ++i) {
    plugins.push_back(std::make_unique<NriPlugin>(NriPluginOptions{.index = "0" + std::to_string(i)}));
    ASSERT_TRUE(plugins.back()->start(node.socket()));
  }
  std::vector<std::thread> threads;
  for (const auto& plugin : plugins) {
    threads.emplace_back([&plugin] {
      for (int i = 0; i < 20; ++i) {
        nri_api::UpdateContainersRequest request;
        request.add_update()->set_container_id("a");
        request.add_update()->set_container_id("b");
        const auto reply = plugin->update(request);
        EXPECT_TRUE(reply && reply->failed_size() == 1 && reply->failed(0).container_id() == "b");
      }
    });
  }
  for (auto& thread : threads) thread.join();
}

}  // namespace
}  // namespace berth::test
