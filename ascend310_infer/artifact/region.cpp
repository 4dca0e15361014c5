#include "artifact/region.hpp"

#include <cstddef>
#include <string>

#include "errors.hpp"
#include "files/regular.hpp"

namespace patchcore {

std::optional<Region> LearnedRegion(const Artifact& artifact) {
  const Manifest& manifest = artifact.manifest();
  if (manifest.region.kind != RegionKind::kMask) return std::nullopt;
  try {
    RefuseLinkOut(artifact.Path(kRoiFile));
  } catch (const FileError& error) {
    throw ArtifactError(artifact.Path(kRoiFile).string() + ": " + error.what() +
                        "; copy the folder again");
  }
  return StoredRegion(artifact.Path(kRoiFile), manifest.preprocess, manifest.features.patch_px);
}

std::optional<Region> InspectedRegion(const Artifact& artifact,
                                      const std::optional<Region>& learned,
                                      const std::filesystem::path& roi) {
  if (roi.empty()) return learned;
  const Manifest& manifest = artifact.manifest();
  Region asked = ReadRegion(roi, manifest.preprocess, manifest.region, manifest.features.patch_px);
  std::size_t beyond = 0;
  for (std::size_t i = 0; learned && i < asked.pixels.size(); ++i) {
    if (asked.pixels[i] != 0 && learned->pixels[i] == 0) ++beyond;
  }
  if (beyond > 0) {
    throw ImageError(roi.string() +
                     ": expected a region inside the artifact's own (roi.png), got " +
                     std::to_string(beyond) +
                     " input pixels outside, where nothing was learned; draw it smaller, or fit "
                     "again");
  }
  return asked;
}

}  // namespace patchcore
