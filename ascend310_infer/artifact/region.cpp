#include "artifact/region.hpp"

#include <cstddef>
#include <string>

#include "errors.hpp"
#include "files/regular.hpp"

namespace patchcore {

std::optional<Region> OpenRegion(const Artifact& artifact, const std::filesystem::path& roi) {
  const Manifest& manifest = artifact.manifest();
  std::optional<Region> learned;
  if (manifest.region.kind == RegionKind::kMask) {
    try {
      RefuseLinkOut(artifact.Path(kRoiFile));
    } catch (const FileError& error) {
      throw ArtifactError(artifact.Path(kRoiFile).string() + ": " + error.what() +
                          "; copy the folder again");
    }
    learned =
        StoredRegion(artifact.Path(kRoiFile), manifest.preprocess, manifest.features.patch_px);
  }
  if (roi.empty()) return learned;
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
