// The region of interest of an artifact, and a narrower one that a user draws.
#pragma once

#include <filesystem>
#include <optional>

#include "artifact/folder.hpp"
#include "image/region.hpp"

namespace patchcore {

// What an artifact inspects: its roi.png, or the mask `roi` inside of that; none: the whole input.
//   roi        path of a mask image; empty: the artifact's own region
// Throws ArtifactError: roi.png is damaged; ImageError: the mask does not fit the artifact.
std::optional<Region> OpenRegion(const Artifact& artifact, const std::filesystem::path& roi);

}  // namespace patchcore
