// Any file beside a small bank is a graph over it, whose every link leads to an element, or refused
// by ArtifactError in one line.
#include <sys/mman.h>
#include <unistd.h>

#include <cstdint>
#include <cstdlib>
#include <string>

#include "errors.hpp"
#include "search/hnsw_file.hpp"
#include "tests/support/small_bank.hpp"

namespace {

// Counts and links of the lowest level once more, by hand: what hnswlib would follow.
void Follow(const std::uint8_t* data, std::size_t size) {
  const auto word = [&](std::size_t at) {
    if (at + 4 > size) std::abort();
    return std::uint32_t{data[at]} | std::uint32_t{data[at + 1]} << 8 |
           std::uint32_t{data[at + 2]} << 16 | std::uint32_t{data[at + 3]} << 24;
  };
  const std::size_t element_bytes = word(24), links = word(72);
  for (std::size_t row = 0; row < kRows; ++row) {
    const std::size_t start = 96 + row * element_bytes;
    if (word(start) > 2 * links) std::abort();
    for (std::size_t i = 0; i < word(start); ++i) {
      if (word(start + 4 + 4 * i) >= kRows) std::abort();
    }
  }
}

}  // namespace

extern "C" int LLVMFuzzerTestOneInput(const std::uint8_t* data, std::size_t size) {
  static const SmallBank small;
  const int file = memfd_create("graph", 0);
  if (file < 0 || write(file, data, size) != static_cast<ssize_t>(size)) std::abort();
  try {
    patchcore::CheckHnswFile("/proc/self/fd/" + std::to_string(file), small.bank);
    Follow(data, size);
  } catch (const patchcore::ArtifactError& error) {
    if (std::string(error.what()).find('\n') != std::string::npos) std::abort();
  }
  close(file);
  return 0;
}
