// The region of interest: which pixels and patches of the input are inspected; the twin of
// patchcore_runtime/image/region.py.
//
// Mask image of a photograph, or roi.png of an artifact -> Region. artifacts/FORMAT.md, section
// Region of interest, defines every step in whole numbers.
#pragma once

#include <cstddef>
#include <cstdint>
#include <filesystem>
#include <vector>

#include "manifest/manifest.hpp"

namespace patchcore {

// 1 where the input is inspected, 0 elsewhere.
struct Region {
  std::vector<std::uint8_t> pixels;   // row-major (H, W); 0 outside of inspected patches
  std::vector<std::uint8_t> patches;  // row-major (h, w)
};

// Brings a mask of the photograph to the input's geometry.
//   path       an image with the aspect ratio of the artifact's photographs, white where to
//              inspect
//   patch_px   p, the side of a patch
// Throws ImageError: unreadable, no mask, of another aspect ratio, or no patch is left.
Region ReadRegion(const std::filesystem::path& path, const Preprocessing& settings,
                  const RegionOfInterest& photo, std::size_t patch_px);

// Reads a mask that is in the input's geometry already: roi.png of an artifact.
// Throws ArtifactError: unreadable, no mask, of another size, or white outside of inspected
// patches.
Region StoredRegion(const std::filesystem::path& path, const Preprocessing& settings,
                    std::size_t patch_px);

}  // namespace patchcore
