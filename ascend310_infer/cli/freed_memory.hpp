// Hands memory that was freed back to the system; twin of freed_memory.py.
#pragma once

#include <cstdlib>
#if defined(__GLIBC__)
#include <malloc.h>
#endif

namespace patchcore {

// While it lives, large blocks of new memory go back once they are freed; at its end, all that is
// free. Loading a graph frees more than it keeps, and glibc would keep that for its own next use.
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
    // What glibc would come to by itself in a process that frees large blocks.
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
