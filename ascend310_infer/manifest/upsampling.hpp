// What an upsampling of the manifest means: which cells of a coarse grid a cell of a finer one is a
// mean of; the twin of upsampling_matrix in patchcore_runtime/bank/patches.py.
#pragma once

#include <cstddef>

#include "manifest/manifest.hpp"

namespace patchcore {

// The at most two cells along a side that one output looks at.
struct UpsamplingTaps {
  std::size_t lower = 0, upper = 0;
  double share = 0;  // weight of `upper`; `lower` has the rest
};

// Cell `target` of `size` cells, which take the place of `cells` coarse ones; half-pixel centres.
//   mode       kBilinear: edges repeated; kNearest: the cell that covers the output's centre
UpsamplingTaps TapsOf(std::size_t target, std::size_t size, std::size_t cells, Upsampling mode);

}  // namespace patchcore
