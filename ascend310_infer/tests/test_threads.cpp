// Work in threads: every call happens once, and what a call throws reaches the caller.
#include "threads.hpp"

#include <atomic>
#include <new>
#include <stdexcept>
#include <string>
#include <vector>

#include "tests/support/catch.hpp"
#include "tests/support/scratch.hpp"

using patchcore::InShares;
using patchcore::RunTogether;

TEST_CASE("every part is called once") {
  const std::size_t count = GENERATE(1, 2, 7);
  std::vector<std::atomic<int>> calls(count);
  RunTogether(count, [&](std::size_t part) { ++calls[part]; });
  for (const auto& times : calls) REQUIRE(times == 1);
}

TEST_CASE("shares cover a range once, also where there are more shares than numbers") {
  const std::size_t count = GENERATE(0, 1, 3, 100);
  const std::size_t parts = GENERATE(1, 3, 8);
  std::vector<std::atomic<int>> seen(count), calls(parts);
  InShares(count, parts, [&](std::size_t first, std::size_t last, std::size_t part) {
    ++calls.at(part);
    for (std::size_t i = first; i < last; ++i) ++seen[i];
  });
  for (const auto& times : seen) REQUIRE(times == 1);
  for (const auto& times : calls) REQUIRE(times == 1);
}

TEST_CASE("what one worker throws reaches the caller, once all the others have ended") {
  const std::size_t failing = GENERATE(0, 1, 3);
  std::atomic<int> ended{0};
  const auto work = [&](std::size_t part) {
    if (part == failing) throw std::runtime_error("part " + std::to_string(part));
    ++ended;
  };
  const std::string message = Refusal<std::runtime_error>([&] { RunTogether(4, work); });
  REQUIRE(message == "part " + std::to_string(failing));
  REQUIRE(ended == 3);
}

TEST_CASE("of several failures the caller gets the first part's") {
  const auto work = [](std::size_t part) {
    if (part > 0) throw std::runtime_error("part " + std::to_string(part));
  };
  REQUIRE(Refusal<std::runtime_error>([&] { RunTogether(5, work); }) == "part 1");
}

TEST_CASE("a worker that has no memory is a bad_alloc for the caller") {
  const auto work = [](std::size_t first, std::size_t, std::size_t) {
    if (first > 0) throw std::bad_alloc();
  };
  REQUIRE_THROWS_AS(InShares(10, 3, work), std::bad_alloc);
}
