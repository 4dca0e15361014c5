// Any bytes are a network that is written again as it was read, or refused by ArtifactError in one
// line.
#include <sys/mman.h>
#include <unistd.h>

#include <cstdint>
#include <cstdlib>
#include <string>

#include "engine/network.hpp"
#include "engine/onnx_model.hpp"
#include "errors.hpp"

extern "C" int LLVMFuzzerTestOneInput(const std::uint8_t* data, std::size_t size) {
  const int file = memfd_create("graph", 0);
  if (file < 0 || write(file, data, size) != static_cast<ssize_t>(size)) std::abort();
  const std::string path = "/dev/fd/" + std::to_string(file);
  try {
    const auto model = patchcore::ReadModel(path);
    const std::string again = patchcore::ModelBytes(model, "graph", size + 1);
    if (again != model.file.bytes()) std::abort();
    patchcore::CheckNetwork(path, model);
  } catch (const patchcore::ArtifactError& error) {
    if (std::string(error.what()).find('\n') != std::string::npos) std::abort();
  }
  close(file);
  return 0;
}
