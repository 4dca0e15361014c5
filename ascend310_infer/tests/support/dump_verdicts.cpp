// Verdicts about many files in one process, for comparing with Python file by file.
//
//   dump_verdicts manifest|sums|network < paths
//
// Reads one path a line and writes one line for each: "ok", or the refusal.
#include <cstdint>
#include <iostream>
#include <string>

#include "artifact/sums.hpp"
#include "engine/network.hpp"
#include "engine/onnx_model.hpp"
#include "errors.hpp"
#include "files/regular.hpp"
#include "manifest/manifest.hpp"

namespace {

constexpr std::uint64_t kMostBytes = std::uint64_t{1} << 26;

void Read(const std::string& kind, const std::string& path) {
  if (kind == "manifest") {
    patchcore::ParseManifest(patchcore::ReadRegular(path, kMostBytes), path);
  } else if (kind == "sums") {
    patchcore::ParseSums(patchcore::ReadRegular(path, kMostBytes), path);
  } else {
    patchcore::CheckNetwork(path, patchcore::ReadModel(path));
  }
}

}  // namespace

int main(int argc, char** argv) {
  if (argc != 2) return 2;
  for (std::string path; std::getline(std::cin, path);) {
    try {
      Read(argv[1], path);
      std::cout << "ok" << std::endl;
    } catch (const patchcore::Error& error) {
      std::cout << error.what() << std::endl;
    }
  }
  return 0;
}
