#include "artifact/engine_files.hpp"

namespace patchcore {

EngineFiles EngineFilesOf(const Artifact& artifact) {
  EngineFiles files;
  files.manifest = artifact.Path(kManifestFile);
  files.memory_bank = artifact.Path(kMemoryBankFile);
  files.features_onnx = artifact.Path(kFeaturesOnnx);
  files.features_mindir = artifact.Path(kFeaturesMindir);
  files.index_onnx = artifact.Path(kIndexOnnx);
  files.index_mindir = artifact.Path(kIndexMindir);
  files.tiling = artifact.manifest().tiling;
  files.features = artifact.manifest().features;
  files.rows = artifact.bank().rows;
  files.mindir_candidates = artifact.manifest().index.mindir_candidates;
  for (const MemoryBank::Section& section : artifact.bank().sections) {
    files.bank_sections.push_back({section.offset, section.size});
  }
  files.verify = [artifact](const std::filesystem::path& path) {
    const std::string name = path.filename().string();
    artifact.Verify({name});
  };
  return files;
}

}  // namespace patchcore
