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
  files.mindir_candidates = artifact.manifest().index.mindir_candidates;
  const MemoryBank& bank = artifact.bank();
  const auto place = [&](std::size_t section) {
    return ByteRange{bank.sections[section].offset, bank.sections[section].size};
  };
  files.bank = {static_cast<std::int64_t>(bank.rows), bank.precision, place(0), place(1), place(2)};
  files.verify = [artifact](const std::filesystem::path& path) {
    const std::string name = path.filename().string();
    artifact.Verify({name});
  };
  return files;
}

}  // namespace patchcore
