// Any file is a memory bank, all of whose arrays can be read, or refused by ArtifactError.
#include <sys/mman.h>
#include <unistd.h>

#include <cstdint>
#include <cstdlib>
#include <string>

#include "bank/memory_bank.hpp"
#include "errors.hpp"

namespace {

// Reads the last value of each array, and every neighbour.
void Touch(const patchcore::MemoryBank& bank) {
  volatile float value = 0;
  for (const auto& layer : bank.layers) value = layer.rows[bank.rows * layer.channels - 1];
  value = bank.norms[bank.rows - 1];
  value = static_cast<float>(bank.origins[bank.rows * 3 - 1]);
  static_cast<void>(value);
  for (std::size_t i = 0; i < bank.rows * bank.neighbour_count; ++i) {
    if (bank.neighbours[i] < 0 || static_cast<std::size_t>(bank.neighbours[i]) >= bank.rows) {
      std::abort();
    }
  }
}

}  // namespace

extern "C" int LLVMFuzzerTestOneInput(const std::uint8_t* data, std::size_t size) {
  const int file = memfd_create("bank", 0);
  if (file < 0 || write(file, data, size) != static_cast<ssize_t>(size)) std::abort();
  try {
    Touch(patchcore::ReadMemoryBank("/proc/self/fd/" + std::to_string(file)));
  } catch (const patchcore::ArtifactError&) {
  }
  close(file);
  return 0;
}
