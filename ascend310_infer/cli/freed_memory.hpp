// Return freed heap memory to the operating system; the twin of
// patchcore_runtime/cli/freed_memory.py.
//
// Only the command may do this, because it changes the allocator of the whole process.
#pragma once

#include <cstdlib>
#if defined(__GLIBC__)
#include <malloc.h>
#endif

namespace patchcore {

// During its lifetime, large new blocks return to the system as soon as they are freed; its
// destructor returns all other free memory. Loading a graph frees more than it keeps, and glibc
// would hold that back for later allocations.
class HandedBack {
 public:
  HandedBack() {
#if defined(__GLIBC__)
    mallopt(M_MMAP_THRESHOLD, kSmallestBytes);
#endif
  }
  HandedBack(const HandedBack&) = delete;
  HandedBack& operator=(const HandedBack&) = delete;
  ~HandedBack() {
#if defined(__GLIBC__)
    // The limits that glibc itself reaches in a process that frees large blocks.
    mallopt(M_MMAP_THRESHOLD, kLargestBytes);
    mallopt(M_TRIM_THRESHOLD, 2 * kLargestBytes);
    malloc_trim(0);
#endif
  }

 private:
  static constexpr int kSmallestBytes = 128 * 1024;
  static constexpr int kLargestBytes = 32 * 1024 * 1024;
};

}  // namespace patchcore
