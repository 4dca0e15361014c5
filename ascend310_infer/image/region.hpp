// The region of interest: which pixels and patches of the input count; twin of region.py.
//
// Mask picture of a photograph, or roi.png of an artifact -> Region. artifacts/FORMAT.md, section
// Region of interest, defines every step in whole numbers.
#pragma once

#include <cstddef>
#include <cstdint>
#include <filesystem>
#include <vector>

#include "manifest/manifest.hpp"

namespace patchcore {

// What counts is 1, all else 0.
struct Region {
  std::vector<std::uint8_t> pixels;   // row-major (H, W), none outside of a patch that counts
  std::vector<std::uint8_t> patches;  // row-major (h, w)
};

// Brings a mask of the photograph to the input's geometry.
//   path       a picture with the aspect ratio of the artifact's photographs, white where to look
// Throws ImageError: unreadable, no mask, of another aspect ratio, or nothing of it counts.
Region ReadRegion(const std::filesystem::path& path, const Preprocessing& settings,
                  const RegionOfInterest& photo);

// Reads a mask that is in the input's geometry already: roi.png of an artifact.
// Throws ArtifactError: unreadable, no mask, of another size, or white outside of what counts.
Region StoredRegion(const std::filesystem::path& path, const Preprocessing& settings);

}  // namespace patchcore
