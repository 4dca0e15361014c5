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
  files.has_mindir = artifact.manifest().features.has_mindir;
  files.layout = artifact.manifest().layout();
  files.mindir_candidates = artifact.manifest().index.mindir_candidates;
  const MemoryBank& bank = artifact.bank();
  const auto place = [&](std::size_t section) {
    return ByteRange{bank.sections[section].offset, bank.sections[section].size};
  };
  files.bank.rows = static_cast<std::int64_t>(bank.rows);
  files.bank.precision = bank.precision;
  for (std::size_t layer = 0; layer < bank.layers.size(); ++layer) {
    files.bank.layers.push_back(place(layer));
  }
  files.bank.norms = place(bank.layers.size());
  files.verify = [artifact](const std::filesystem::path& path) {
    const std::string name = path.filename().string();
    artifact.Verify({name});
  };
  return files;
}

}  // namespace patchcore
