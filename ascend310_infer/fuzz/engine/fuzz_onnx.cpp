// Any bytes are a graph whose weights can be left in place and whose external data is known, or
// refused by ArtifactError in one line.
#include <sys/mman.h>
#include <unistd.h>

#include <cstdint>
#include <cstdlib>
#include <string>

#include "engine/mapped_weights.hpp"
#include "engine/references.hpp"
#include "errors.hpp"

extern "C" int LLVMFuzzerTestOneInput(const std::uint8_t* data, std::size_t size) {
  const int file = memfd_create("graph", 0);
  if (file < 0 || write(file, data, size) != static_cast<ssize_t>(size)) std::abort();
  const std::string path = "/proc/self/fd/" + std::to_string(file);
  try {
    patchcore::GraphInPlace(path, 16);
    patchcore::CheckReferences(path, "memory_bank.bin", {{64, 2432}});
  } catch (const patchcore::ArtifactError& error) {
    if (std::string(error.what()).find('\n') != std::string::npos) std::abort();
  }
  close(file);
  return 0;
}
