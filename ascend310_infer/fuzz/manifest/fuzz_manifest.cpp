// Any text is a manifest or refused by ArtifactError in one line.
#include <cstdint>
#include <cstdlib>
#include <string>

#include "errors.hpp"
#include "manifest/manifest.hpp"

extern "C" int LLVMFuzzerTestOneInput(const std::uint8_t* data, std::size_t size) {
  try {
    patchcore::ParseManifest({reinterpret_cast<const char*>(data), size}, "fuzz");
  } catch (const patchcore::ArtifactError& error) {
    if (std::string(error.what()).find('\n') != std::string::npos) std::abort();
  }
  return 0;
}
