// Nearest rows of an image's patches, for comparing with Python row by row.
//
//   dump_rows ARTIFACT IMAGE auto|exact|portable
//
// Writes P lines `row distance`, in row-major order of the patches.
#include <cstdio>
#include <iostream>
#include <string>

#include "artifact/engine_files.hpp"
#include "artifact/folder.hpp"
#include "engine/backend.hpp"
#include "errors.hpp"
#include "image/decode.hpp"
#include "image/preprocess.hpp"
#include "search/exact.hpp"
#include "search/hnsw_index.hpp"

int main(int argc, char** argv) {
  if (argc != 4) return 2;
  const std::string search = argv[3];
  try {
    const auto artifact = patchcore::Artifact::Open(argv[1]);
    const auto backend = patchcore::MakeBackend(EngineFilesOf(artifact), {});
    const auto input =
        patchcore::FitToInput(patchcore::ReadImage(argv[2]), artifact.manifest().preprocess);
    const auto layers = backend->Features(input.pixels.data(), 1);
    const patchcore::PortableIndex portable(artifact.bank(), artifact.manifest().layout(), 2);
    const auto nearest = search == "auto"    ? OpenHnswIndex(artifact, 2)->Nearest(layers)
                         : search == "exact" ? backend->Nearest(layers)
                                             : portable.Nearest(layers);
    for (std::size_t patch = 0; patch < nearest.rows.size(); ++patch) {
      std::printf("%lld %.9g\n", static_cast<long long>(nearest.rows[patch]),
                  static_cast<double>(nearest.distances[patch]));
    }
  } catch (const patchcore::Error& error) {
    std::cerr << error.what() << "\n";
    return 1;
  }
  return 0;
}
