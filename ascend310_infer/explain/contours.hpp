// Outlines of regions, from their runs; the twin of patchcore_runtime/explain/contours.py, which
// explains the steps.
//
// runs -> one polygon for each region, clockwise as shown, over pixel corners.
#pragma once

#include <array>
#include <cstddef>
#include <vector>

namespace patchcore {

// Connected pixels of one row.
struct Run {
  std::size_t row = 0;
  std::size_t start = 0;  // first column
  std::size_t stop = 0;   // the column after the last
};

using Polygon = std::vector<std::array<std::size_t, 2>>;  // y, x; the last is joined to the first

// The outer contour of each region, without its holes, from its first run's upper left corner.
//   runs       of all regions, in reading order
//   firsts     the first run of each region
std::vector<Polygon> OuterContours(const std::vector<Run>& runs,
                                   const std::vector<std::size_t>& firsts);

// Removes corners as long as the outline moves by at most `tolerance_px`, which is above 0; at
// least three remain. Douglas and Peucker 1973.
Polygon Simplified(Polygon polygon, double tolerance_px);

}  // namespace patchcore
