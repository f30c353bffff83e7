#pragma once
#include <condition_variable>
#include <mutex>

/// Clang's thread-safety annotations (checked by `./dev lint`, empty under g++). Prefixed: abseil has the plain names.
#if defined(__clang__)
#define BERTH_THREAD_ATTR(x) __attribute__((x))
#else
#define BERTH_THREAD_ATTR(x)
#endif
#define BERTH_GUARDED_BY(x) BERTH_THREAD_ATTR(guarded_by(x))
#define BERTH_REQUIRES(...) BERTH_THREAD_ATTR(requires_capability(__VA_ARGS__))
#define BERTH_EXCLUDES(...) BERTH_THREAD_ATTR(locks_excluded(__VA_ARGS__))

namespace berth {

/// std::mutex that the analysis knows. Stands before the members it guards.
class BERTH_THREAD_ATTR(capability("mutex")) Mutex final {
 public:
  void lock() BERTH_THREAD_ATTR(acquire_capability()) { mutex_.lock(); }
  void unlock() BERTH_THREAD_ATTR(release_capability()) { mutex_.unlock(); }

 private:
  std::mutex mutex_;
};

/// Holds a Mutex for its scope; also BasicLockable, so that a std::condition_variable_any can wait on it.
class BERTH_THREAD_ATTR(scoped_lockable) MutexLock final {
 public:
  explicit MutexLock(Mutex& mutex) BERTH_THREAD_ATTR(acquire_capability(mutex)) : mutex_(mutex) { mutex_.lock(); }
  ~MutexLock() BERTH_THREAD_ATTR(release_capability()) { mutex_.unlock(); }
  MutexLock(const MutexLock&) = delete;
  MutexLock& operator=(const MutexLock&) = delete;
  void lock() BERTH_THREAD_ATTR(acquire_capability()) { mutex_.lock(); }
  void unlock() BERTH_THREAD_ATTR(release_capability()) { mutex_.unlock(); }

 private:
  Mutex& mutex_;
};

}  // namespace berth
