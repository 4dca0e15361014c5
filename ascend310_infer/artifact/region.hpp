// The region of interest of an artifact, and a narrower one that a user draws.
#pragma once

#include <filesystem>
#include <optional>

#include "artifact/folder.hpp"
#include "image/region.hpp"

namespace patchcore {

// The region that an artifact was fitted on, from its roi.png; none: the whole input.
// Throws ArtifactError: roi.png is damaged.
std::optional<Region> LearnedRegion(const Artifact& artifact);

// What is inspected: the mask `roi` inside of what was learned; none: the whole input.
//   learned    of the same artifact
//   roi        path of a mask image; empty: all that was learned
// Throws ImageError: the mask does not fit the artifact.
std::optional<Region> InspectedRegion(const Artifact& artifact,
                                      const std::optional<Region>& learned,
                                      const std::filesystem::path& roi);

}  // namespace patchcore
