#include "cli/ordered_work.hpp"

#include <algorithm>
#include <exception>
#include <limits>
#include <map>
#include <mutex>

#include "threads.hpp"

namespace patchcore {
namespace {

constexpr std::size_t kMaxWorkers = 4;

// Reports, which come in any order, written in the order of their batches.
class OrderedReports {
 public:
  explicit OrderedReports(const Write& write) : write_(write) {}

  void Add(std::size_t number, Report report) {
    const std::lock_guard<std::mutex> lock(mutex_);
    waiting_.emplace(number, std::move(report));
    for (auto next = waiting_.begin(); next != waiting_.end() && next->first == written_;
         next = waiting_.erase(next), ++written_) {
      write_(next->second);
    }
  }

  // Nothing after this batch will be written.
  void Fail(std::size_t number, std::exception_ptr failure) {
    const std::lock_guard<std::mutex> lock(mutex_);
    if (number >= failed_) return;
    failed_ = number;
    failure_ = std::move(failure);
  }

  bool Failed() {
    const std::lock_guard<std::mutex> lock(mutex_);
    return failure_ != nullptr;
  }

  // Once all workers have ended.
  void Finish() const {
    if (failure_) std::rethrow_exception(failure_);
  }

 private:
  const Write& write_;
  std::mutex mutex_;
  std::map<std::size_t, Report> waiting_;
  std::size_t written_ = 0;
  std::size_t failed_ = std::numeric_limits<std::size_t>::max();
  std::exception_ptr failure_;
};

}  // namespace

std::size_t WorkersFor(std::size_t threads, std::size_t batches) {
  return std::max<std::size_t>(1, std::min({threads, batches, kMaxWorkers}));
}

void WorkInOrder(ImageReader& reader, std::size_t workers, const Work& work, const Write& write) {
  OrderedReports reports(write);
  const auto run = [&] {
    while (!reports.Failed()) {
      const ImageBatch batch = reader.Next();
      if (batch.images.empty()) return;
      try {
        reports.Add(batch.number, work(batch));
      } catch (...) {  // whatever it is, it is thrown again below
        reports.Fail(batch.number, std::current_exception());
      }
    }
  };
  RunTogether(workers, [&](std::size_t) { run(); });
  reports.Finish();
}

}  // namespace patchcore
