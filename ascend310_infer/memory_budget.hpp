// Bytes that threads share: each waits until those of its image are free; the twin of MemoryBudget
// in patchcore_runtime/ordered_work.py.
#pragma once

#include <condition_variable>
#include <cstddef>
#include <mutex>

namespace patchcore {

class MemoryBudget {
 public:
  // FORMAT.md, section Memory: of all images in work, unless there is only one.
  static constexpr std::size_t kMost = std::size_t{1} << 31;

  explicit MemoryBudget(std::size_t most = kMost) : most_(most) {}

  // Bytes of one image, which return at the end of its scope. A thread holds one share at a time,
  // so none waits for another for ever.
  class Share {
   public:
    explicit Share(MemoryBudget& budget) : budget_(budget) {}
    ~Share() { budget_.Release(bytes_); }
    Share(const Share&) = delete;
    Share& operator=(const Share&) = delete;

    // Waits for the bytes; call it once. What needs more than there is waits until it is alone.
    void Take(std::size_t bytes) {
      budget_.Wait(bytes);
      bytes_ = bytes;
    }

   private:
    MemoryBudget& budget_;
    std::size_t bytes_ = 0;
  };

 private:
  void Wait(std::size_t bytes) {
    std::unique_lock<std::mutex> lock(mutex_);
    freed_.wait(lock, [&] { return used_ == 0 || used_ + bytes <= most_; });
    used_ += bytes;
  }

  void Release(std::size_t bytes) {
    {
      const std::lock_guard<std::mutex> lock(mutex_);
      used_ -= bytes;
    }
    freed_.notify_all();
  }

  const std::size_t most_;
  std::size_t used_ = 0;
  std::mutex mutex_;
  std::condition_variable freed_;
};

}  // namespace patchcore
