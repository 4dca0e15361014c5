// Connected regions of an anomaly map above a threshold; the twin of
// patchcore_runtime/explain/regions.py.
//
// map (H, W) + threshold -> regions: box, area, peak and contour. Pixels that touch at a side or a
// corner are connected.
#pragma once

#include <array>
#include <cstddef>
#include <vector>

#include "explain/contours.hpp"

namespace patchcore {

// One connected region; all lengths are in pixels of the map given.
struct AnomalyRegion {
  std::array<std::size_t, 4> box{};  // top, left, bottom, right; the last two excluded
  std::size_t area = 0;
  std::array<std::size_t, 2> peak{};  // y, x of the largest value
  float peak_value = 0;               // in map units
  Polygon contour;                    // the outer one, moved by at most one pixel
};

// Every region above the threshold, the highest peak first; of equal ones the upper left one.
//   map        row-major (height, width), finite
//   threshold  pixels strictly above it count; it is rounded to float32, as NumPy rounds it
std::vector<AnomalyRegion> FindRegions(const std::vector<float>& map, std::size_t height,
                                       std::size_t width, double threshold);

}  // namespace patchcore
