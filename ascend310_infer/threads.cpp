#include "threads.hpp"

#include <exception>
#include <future>
#include <thread>
#include <vector>

namespace patchcore {

void RunTogether(std::size_t count, const std::function<void(std::size_t)>& work) {
  std::vector<std::exception_ptr> failures(count);
  const auto run = [&](std::size_t part) {
    try {
      work(part);
    } catch (...) {  // whatever it is, it is thrown again below
      failures[part] = std::current_exception();
    }
  };
  std::promise<bool> all_started;
  const std::shared_future<bool> begin = all_started.get_future().share();
  std::vector<std::thread> others;
  try {
    others.reserve(count - 1);
    for (std::size_t part = 1; part < count; ++part) {
      others.emplace_back([&run, begin, part] {
        if (begin.get()) run(part);
      });
    }
  } catch (...) {  // no thread or no memory for it: those that wait must still be joined
    failures[0] = std::current_exception();
  }
  const bool complete = failures[0] == nullptr;
  all_started.set_value(complete);
  if (complete) run(0);
  for (std::thread& thread : others) thread.join();
  for (const std::exception_ptr& failure : failures) {
    if (failure) std::rethrow_exception(failure);
  }
}

void InShares(std::size_t count, std::size_t parts,
              const std::function<void(std::size_t, std::size_t, std::size_t)>& work) {
  RunTogether(parts, [&](std::size_t part) {
    work(count * part / parts, count * (part + 1) / parts, part);
  });
}

}  // namespace patchcore
