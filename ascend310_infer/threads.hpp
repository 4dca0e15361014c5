// Work in several threads whose failures reach the caller.
//
// An exception that leaves a std::thread ends the whole program, so no other file starts threads
// for a computation.
#pragma once

#include <cstddef>
#include <functional>

namespace patchcore {

// Calls work(0) on this thread and work(1) to work(count - 1) on one further thread each, and
// returns when all calls have ended. Either all calls begin, or none does.
//   count      1 or more
// Throws what the call with the lowest number threw; std::system_error: a thread cannot be started.
void RunTogether(std::size_t count, const std::function<void(std::size_t)>& work);

// Calls work(first, last, part) for `parts` equal shares of [0, count), one thread each.
// Throws as RunTogether.
void InShares(std::size_t count, std::size_t parts,
              const std::function<void(std::size_t, std::size_t, std::size_t)>& work);

}  // namespace patchcore
